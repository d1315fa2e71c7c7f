//! What the page keeps while time passes: what ran before, and the history where its connection breaks.

use distribution::administration::HistoryFilter;
use distribution_tests::{browser::Browser, proxy::Proxy, soon, until};

use crate::cluster::Running;

#[tokio::test(flavor = "multi_thread")]
async fn the_task_stream_keeps_what_ran_before_until_the_master_is_another_one() {
    let Some(browser) = Browser::start().await else { return };
    let cluster = Running::start(|page| page).await;
    let _node = cluster.node("first").await;
    cluster.work.crunch(200).await.expect("answers");
    browser.show(&cluster.url, "tasks").await;
    browser.sees("5 m 0 s: 1 call that ended").await;
    // The third is asked for when the answer to the second was read.
    for _ in 0..3 {
        asks_for(&browser, "/api/timeline").await;
    }
    assert!(browser.text().await.contains("5 m 0 s: 1 call that ended"), "{}", browser.text().await);

    let addr = cluster.url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    cluster.stop().await;
    let cluster = Running::start_on(&addr, |page| page).await;
    browser.sees("5 m 0 s: 0 calls that ended").await;
    let _node = cluster.node("second").await;
    cluster.work.crunch(200).await.expect("answers");
    browser.sees("5 m 0 s: 1 call that ended").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_asks_for_the_history_once_and_for_what_it_has_missed() {
    let Some(browser) = Browser::start().await else { return };
    let cluster = Running::start(|page| page).await;
    let page = cluster.url.trim_start_matches("http://").trim_end_matches('/');
    let proxy = Proxy::to(page.parse().expect("an address")).await;
    browser.show(&format!("http://{}/", proxy.addr()), "overview").await;
    browser.sees("Live").await;
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

async fn asks_for(browser: &Browser, path: &str) {
    let asked = async {
        while !browser.asked().await.iter().any(|url| url.split('?').next().is_some_and(|url| url.ends_with(path))) {}
    };
    soon("the page asks for it", asked).await;
}
