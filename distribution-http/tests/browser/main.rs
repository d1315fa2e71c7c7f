//! The page in a real browser, against a real cluster: what an operator sees and does, and what the page must not do.
//!
//! Without chromedriver these tests are skipped, with a sentence, unless `CI` is set.

mod cluster;
mod flame;
mod over_time;
mod report;
mod screens;
mod table;

use distribution::CallError;
use distribution_tests::{browser::Browser, soon};
use serde_json::json;

use self::cluster::Running;

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_nodes_and_calls_and_steps_in() {
    let Some(browser) = Browser::start().await else { return };
    let cluster = Running::start(|page| page).await;
    browser.show(&cluster.url, "overview").await;
    browser.sees("no node is registered").await;

    // Nodes join.
    let (first, second) = (cluster.node("first").await, cluster.node("second").await);
    browser.show(&cluster.url, "nodes").await;
    browser.sees("first").await;
    browser.sees("second").await;

    // An opened one shows how it was loaded.
    browser.click("tbody tr.row button.open").await;
    browser.sees("Busy slots").await;
    browser.sees("busy 0.0").await;
    browser.press("1 d").await;
    browser.sees("Nothing was measured yet").await;

    // A call runs, and ages.
    let hostile = "<script>document.title = 'taken over'</script>";
    let stuck = cluster.work.stuck().metadata("note", hostile).on(cluster.id_of("first")).send();
    browser.show(&cluster.url, "calls").await;
    browser.sees("Work.stuck").await;
    browser.sees("runs on first").await;
    let age = || browser.eval("return document.querySelector('tbody tr.row td.number').textContent");
    let young = age().await;
    soon("the call ages", async { while age().await == young {} }).await;

    // It is opened, and what its caller sent along stays text.
    browser.click("tbody tr.row button.open").await;
    browser.sees(hostile).await;
    browser.sees("Its handler has logged nothing").await;
    assert_eq!(browser.eval("return document.title").await, json!("Calls – cluster"));

    // It is cancelled.
    browser.press("Cancel").await;
    browser.sees("Its caller gets an error").await;
    browser.click("#confirm-yes").await;
    let error = soon("the call ends", stuck).await.expect_err("it was cancelled");
    assert!(matches!(error, CallError::Cancelled { .. }), "{error}");
    browser.sees("was cancelled").await;

    // A call waits, and the page says for what.
    let waiting = cluster.work.stuck().label("gpu", "a100").send();
    browser.sees("none of the 2 nodes that serve it has the label gpu=a100").await;
    browser.show(&cluster.url, "overview").await;
    browser.sees("a call of `Work.stuck` waits: none of the 2 nodes").await;
    drop(waiting);

    // A handler panics, and what it says stays text.
    let hostile = "<script>document.title = 'taken over'</script><img src=x onerror=alert(1)>";
    cluster.work.fail(hostile.to_owned()).await.expect_err("panics");
    browser.show(&cluster.url, "failures").await;
    browser.sees("panicked").await;
    browser.sees(hostile).await;
    assert_eq!(
        browser.eval("return [document.title, document.querySelectorAll('#panel img').length]").await,
        json!(["Failures – cluster", 0])
    );

    // What ran is in the task stream.
    cluster.work.crunch(200).await.expect("answers");
    browser.show(&cluster.url, "tasks").await;
    browser.sees("Work.crunch").await;

    // A node is cordoned, uncordoned, and drained.
    browser.show(&cluster.url, "nodes").await;
    browser.fill("input[type=search]", "second").await;
    browser.sees_no_more("first").await;
    browser.press("Cordon").await;
    browser.click("#confirm-yes").await;
    browser.sees("second is cordoned").await;
    browser.press("Uncordon").await;
    browser.sees("second gets new calls again").await;
    browser.press("Drain").await;
    browser.click("#confirm-no").await;
    assert!(second.is_registered(), "nobody has confirmed it");
    // Asked again before the browser says that the dialog was closed: the first answer is not taken for the second.
    let again = "const drain = [...document.querySelectorAll('#panel button')].find((button) => button.textContent === 'Drain'); \
                 const click = (id) => document.getElementById(id).click(); \
                 const closed = new Promise((resolve) => document.getElementById('confirm').addEventListener('close', resolve)); \
                 drain.click(); click('confirm-no'); drain.click(); await closed; click('confirm-yes')";
    browser.eval(again).await;
    soon("the node ends", second.wait()).await.expect("it was drained");
    browser.show(&cluster.url, "events").await;
    browser.sees("is gone").await;

    browser.has_no_errors(&[]).await;
    assert!(browser.asked_only(&cluster.url).await > 10);
    drop(first);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_loopback_people_log_in_and_a_viewer_changes_nothing() {
    let Some(browser) = Browser::start().await else { return };
    let (cluster, admin, viewer) = Running::start_beyond_loopback().await;
    let _node = cluster.node("first").await;
    browser.show(&cluster.url, "nodes").await;

    browser.sees("Token for admins or viewers").await;
    browser.fill("#token", &"x".repeat(40)).await;
    browser.press("Log in").await;
    browser.sees("This token is not accepted").await;

    browser.fill("#token", &viewer).await;
    browser.press("Log in").await;
    browser.sees("the viewer token: may look, and change nothing").await;
    browser.sees("first").await;
    browser.sees("alive").await;
    assert!(!browser.text().await.contains("Cordon"), "a viewer is offered nothing to change");
    // Not even by the API.
    let id = cluster.id_of("first");
    let refused = browser
        .eval(&format!(
            "const answer = await fetch('api/nodes/{id}/cordon', {{ method: 'POST', headers: {{ Authorization: 'Bearer ' + \
             sessionStorage.getItem('distribution.token') }} }}); return [answer.status, (await answer.json()).error]"
        ))
        .await;
    assert_eq!(refused[0], json!(403), "{refused}");
    assert!(refused[1].as_str().is_some_and(|sentence| sentence.contains("is for viewers")), "{refused}");

    // The token is where it belongs, and nowhere else.
    let places = browser.eval("return [document.cookie, location.href, JSON.stringify(localStorage)].join()").await;
    assert!(!places.as_str().is_some_and(|places| places.contains(&viewer)), "{places}");

    browser.press("Log out").await;
    browser.sees("Token for admins or viewers").await;
    assert_eq!(browser.eval("return sessionStorage.length").await, json!(0));
    browser.fill("#token", &admin).await;
    browser.press("Log in").await;
    browser.press("Cordon").await;
    browser.click("#confirm-yes").await;
    browser.sees("first is cordoned").await;
    assert!(cluster.master.nodes()[0].is_cordoned);

    // What is refused is told as an error by the browser itself.
    browser.has_no_errors(&["401", "403"]).await;
    browser.asked_only(&cluster.url).await;
    browser.close().await;
}
