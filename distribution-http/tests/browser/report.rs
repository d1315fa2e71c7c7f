//! A report as people open it: from disk, without a master and without a network.

use std::path::Path;

use distribution::{
    AdminClient, MethodName,
    administration::{HistoryFilter, TimelineFilter},
    prelude::*,
};
use distribution_tests::{browser::Browser, soon, until};
use serde_json::json;

use crate::cluster::Running;

/// The page of a cluster in which something has happened, written to a file. The cluster is gone then.
async fn write(file: &Path) {
    let cluster = Running::start(|page| page).await;
    let node = cluster.node("fir-1").await;
    let work = (0..40).map(|at| cluster.work.crunch(1 + at % 9)).collect::<Vec<_>>();
    let answers: Vec<u64> = work.into_iter().distribute().name("nightly sweep").try_collect().await.expect("answers");
    assert_eq!(answers.len(), 40);
    cluster.work.fail("<script>alert(1)</script><!--".to_owned()).await.expect_err("panics");
    let waiting = cluster.work.stuck().label("gpu", "a100").send();
    until("the call waits", || cluster.master.stats().queued == 1).await;
    // Short calls are put together for a second before they are in the task stream.
    let timeline = || cluster.master.timeline(&TimelineFilter::default());
    let is_drawn = |method: &MethodName| method.to_string() == "Work.crunch";
    until("they are in the task stream", || timeline().methods.iter().any(is_drawn)).await;
    let history = || cluster.master.history(&HistoryFilter::default());
    until("there is something for the charts", || !history().cluster.is_empty()).await;
    let html = distribution_http::report(&AdminClient::new(&cluster.master)).await.expect("can be made");
    std::fs::write(file, html).expect("can be written");
    drop((waiting, node));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_opens_from_disk_without_a_master_and_asks_nobody() {
    let Some(browser) = Browser::start().await else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("run.html");
    write(&file).await;
    let url = format!("file://{}", file.display());

    browser.show(&url, "overview").await;
    browser.sees("Nothing here is live").await;
    browser.sees("a call of `Work.stuck` waits: ").await;
    browser.press("1 d").await;
    browser.show(&url, "nodes").await;
    browser.sees("fir-1").await;
    assert!(!browser.text().await.contains("Drain"), "nothing can be changed");
    browser.show(&url, "methods").await;
    browser.sees("Work.crunch").await;
    browser.show(&url, "runs").await;
    browser.sees("nightly sweep").await;
    browser.show(&url, "events").await;
    browser.sees("fir-1").await;
    browser.show(&url, "logs").await;
    browser.sees("panicked").await;

    // What ran is in the task stream, and can be pointed at.
    browser.show(&url, "tasks").await;
    browser.sees("Work.crunch").await;

    // What a handler says stays text.
    browser.show(&url, "failures").await;
    browser.sees("<script>alert(1)</script><!--").await;
    let scripts = browser.eval("return [document.querySelectorAll('#panel script').length, typeof modules]").await;
    assert_eq!(scripts, json!([0, "undefined"]));

    // Searches and filters look into the file.
    browser.show(&url, "calls").await;
    browser.sees("Work.stuck").await;
    browser.fill("input[type=search]", "Other").await;
    browser.sees("No call fits").await;
    browser.show(&url, "methods").await;
    browser.fill("input[type=search]", "crunch").await;
    browser.sees_no_more("Work.fail").await;

    assert_eq!(browser.eval("return document.querySelectorAll('form.login, input[type=password]').length").await, 0);
    browser.has_no_errors(&[]).await;
    browser.asked_only(&url).await;
    for (width, scheme) in [(1280, "light"), (400, "dark")] {
        browser.look(width, 800, scheme).await;
        browser.show(&url, "overview").await;
        // Charts are canvases, which do not follow a style sheet: this is a point of a line across one.
        let line = "const canvas = document.querySelector('.chart canvas'); \
                    return [...canvas.getContext('2d').getImageData(5, 14, 1, 1).data, canvas.clientWidth <= innerWidth]";
        let colour = if scheme == "dark" { json!([44, 56, 63, 255, true]) } else { json!([216, 223, 226, 255, true]) };
        soon("the charts are drawn again", async { while browser.eval(line).await != colour {} }).await;
        let overflow = browser.eval("return document.documentElement.scrollWidth - innerWidth").await;
        browser.screenshot(&format!("report-{width}-{scheme}")).await;
        assert!(overflow.as_i64().is_some_and(|pixels| pixels <= 0), "too wide by {overflow}");
    }
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_saved_from_the_page() {
    let Some(browser) = Browser::start().await else { return };
    let cluster = Running::start(|page| page).await;
    let folder = tempfile::tempdir().expect("a folder");
    let there = json!({ "behavior": "allow", "downloadPath": folder.path() });
    browser.devtools("Browser.setDownloadBehavior", there).await;
    browser.show(&cluster.url, "overview").await;
    browser.press("Save report").await;
    browser.sees("The report was saved").await;
    let saved = || {
        let files = std::fs::read_dir(folder.path()).expect("is there").filter_map(Result::ok);
        let mut names = files.filter(|file| file.path().extension().is_some_and(|ending| ending == "html"));
        names.next().and_then(|file| std::fs::read_to_string(file.path()).ok()).unwrap_or_default()
    };
    until("the file is complete", || saved().ends_with("</html>\n")).await;
    browser.has_no_errors(&[]).await;
    browser.close().await;
}
