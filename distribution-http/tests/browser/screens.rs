//! What each panel looks like: light and dark, wide and narrow. The pictures are in `target/screenshots`.

use distribution::prelude::*;
use distribution_tests::browser::Browser;
use serde_json::json;

use crate::cluster::Running;

/// The panels, by the names in their addresses.
const PANELS: [&str; 11] =
    ["overview", "nodes", "calls", "runs", "tasks", "methods", "failures", "logs", "services", "callers", "events"];

#[tokio::test(flavor = "multi_thread")]
async fn each_panel_fits_into_wide_and_narrow_windows_light_and_dark() {
    let Some(browser) = Browser::start().await else { return };
    let cluster = Running::start(|page| page).await;
    let mut nodes = Vec::new();
    for name in ["fir-1", "fir-2", "fir-3", "oak-1", "oak-2"] {
        nodes.push(cluster.node(name).await);
    }
    cluster.master.cordon(cluster.id_of("oak-2")).expect("is there");
    // Something to look back at.
    let work = (0..300).map(|at| cluster.work.crunch(5 + at * 7 % 90)).collect::<Vec<_>>();
    let answers: Vec<u64> = work.into_iter().distribute().name("nightly sweep").try_collect().await.expect("answers");
    assert_eq!(answers.len(), 300);
    for message in ["index out of bounds: the len is 3 but the index is 7", "no such file: rows.csv"] {
        cluster.work.fail(message.to_owned()).await.expect_err("panics");
    }
    let elsewhere = distribution::Cluster::builder().name("nightly-report");
    let elsewhere = elsewhere.connect(cluster.master.local_addr()).await.expect("connects");
    let busy: Vec<_> = (0..12).map(|_| cluster.work.crunch(600_000).metadata("request", "8f2c-41").send()).collect();
    let stuck = [cluster.work.stuck().send(), cluster.work.stuck().label("gpu", "a100").send()];
    let on_oak = cluster.work.stuck().on(cluster.id_of("oak-1")).send();
    nodes.remove(2).drain().await;

    for panel in PANELS {
        for (width, height, scheme) in
            [(1280, 800, "light"), (1280, 800, "dark"), (400, 800, "light"), (400, 800, "dark")]
        {
            browser.look(width, height, scheme).await;
            browser.show(&cluster.url, panel).await;
            browser.sees("Live").await;
            browser.sees_no_more("Reading…").await;
            if matches!(panel, "nodes" | "calls") {
                browser.click("tbody tr.row button.open").await;
            }
            let overflow = browser.eval("return document.documentElement.scrollWidth - innerWidth").await;
            browser.screenshot(&format!("{panel}-{width}-{scheme}")).await;
            assert!(
                overflow.as_i64().is_some_and(|pixels| pixels <= 0),
                "{panel} at {width} is too wide by {overflow}"
            );
            let dark = browser.eval("return matchMedia('(prefers-color-scheme: dark)').matches").await;
            assert_eq!(dark, json!(scheme == "dark"));
        }
    }
    browser.has_no_errors(&[]).await;
    drop((busy, stuck, on_oak, elsewhere));
    browser.close().await;
    // Their threads sleep on, and a test does not wait for them.
    drop(nodes);
}
