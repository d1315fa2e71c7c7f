//! What the page keeps while time passes: what ran before, and the history where its connection breaks.

use distribution::administration::HistoryFilter;
use distribution_tests::{
    browser::Browser,
    proxy::{Proxy, Way},
    soon, until,
};

use crate::cluster::Running;

#[tokio::test(flavor = "multi_thread")]
async fn the_task_stream_keeps_what_ran_before_until_the_master_is_another_one() {
    let Some(browser) = Browser::start().await else { return };
    let cluster = Running::start(|page| page).await;
    let _node = cluster.node("first").await;
    cluster.work.crunch(200).await.expect("answers");
    browser.show(&cluster.url, "tasks").await;
    browser.sees("5 m 0 s: 1 call on slots ended").await;
    // The third is asked for when the answer to the second was read.
    for _ in 0..3 {
        asks_for(&browser, "/api/timeline").await;
    }
    assert!(browser.text().await.contains("5 m 0 s: 1 call on slots ended"), "{}", browser.text().await);

    let addr = cluster.addr().to_owned();
    cluster.stop().await;
    let cluster = Running::start_on(&addr, |page| page).await;
    browser.sees("5 m 0 s: 0 calls on slots ended").await;
    let _node = cluster.node("second").await;
    cluster.work.crunch(200).await.expect("answers");
    browser.sees("5 m 0 s: 1 call on slots ended").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_asks_for_the_history_once_and_for_what_it_has_missed() {
    let Some(browser) = Browser::start().await else { return };
    let cluster = Running::start(|page| page).await;
    let proxy = shown_through_a_proxy(&browser, &cluster).await;
    asks_for(&browser, "/api/history").await;

    let passed = || cluster.master.history(&HistoryFilter::default()).next;
    let seconds = async |seconds| {
        let end = passed() + seconds;
        until("seconds pass", || passed() >= end).await;
    };
    seconds(4).await;
    let asked = browser.asked().await;
    assert!(!asked.iter().any(|url| url.ends_with("/api/history")), "what comes is added to it: {asked:?}");

    // The server reads on meanwhile: its next event brings the newest seconds only.
    proxy.cut_and_refuse();
    browser.sees("Trying again").await;
    seconds(8).await;
    proxy.refuse(false);
    browser.sees("Live").await;
    asks_for(&browser, "/api/history").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_hangs_is_noticed_and_a_hidden_tab_gives_its_connection_up() {
    let Some(browser) = Browser::start().await else { return };
    let cluster = Running::start(|page| page).await;
    let proxy = shown_through_a_proxy(&browser, &cluster).await;

    let hide = async |is_hidden: bool| {
        let script = format!(
            "Object.defineProperty(document, 'hidden', {{ value: {is_hidden}, configurable: true }}); \
             document.dispatchEvent(new Event('visibilitychange'))"
        );
        browser.eval(&script).await;
    };
    hide(true).await;
    browser.sees("Paused while this tab is hidden").await;
    hide(false).await;
    browser.sees("Live").await;

    proxy.swallow(Way::ToPeer);
    browser.sees("Nothing has come from the server for 25 s").await;
    browser.sees("What is shown is from").await;
    proxy.cut();
    browser.sees("Live").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_for_before_somebody_has_logged_in() {
    let Some(browser) = Browser::start().await else { return };
    let (cluster, _, viewer) = Running::start_beyond_loopback().await;
    browser.show(&cluster.url, "tasks").await;
    browser.sees("Token for admins or viewers").await;
    browser.fill("#token", &viewer).await;
    browser.press("Log in").await;
    browser.sees("on slots ended").await;
    let asked = browser.asked().await;
    let first = asked.iter().position(|url| url.contains("/api/timeline")).expect("it was asked for");
    assert_eq!(asked[..first].iter().filter(|url| url.ends_with("/api/me")).count(), 2, "{asked:?}");

    // After the log-out neither.
    browser.press("Log out").await;
    browser.sees("Token for admins or viewers").await;
    assert_eq!(browser.eval("return document.getElementById('panel').childElementCount").await, 0);
    browser.has_no_errors(&["401"]).await;
    browser.close().await;
}

/// Shows the page by way of a proxy, which can break its connection.
async fn shown_through_a_proxy(browser: &Browser, cluster: &Running) -> Proxy {
    let proxy = Proxy::to(cluster.addr().parse().expect("an address")).await;
    browser.show(&format!("http://{}/", proxy.addr()), "overview").await;
    browser.sees("Live").await;
    proxy
}

async fn asks_for(browser: &Browser, path: &str) {
    let asked = async {
        while !browser.asked().await.iter().any(|url| url.split('?').next().is_some_and(|url| url.ends_with(path))) {}
    };
    soon("the page asks for it", asked).await;
}
