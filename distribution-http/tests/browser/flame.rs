//! A flame graph: what is drawn, how it is zoomed by mouse and keys, and that names stay text.

use distribution_tests::{browser::Browser, soon};
use serde_json::{Value, json};

use crate::cluster::Running;

fn sample() -> Value {
    let stack = |frames: &[&str], samples: u32| json!({ "frames": frames, "samples": samples });
    let hostile = "<img src=x onerror=alert(1)>";
    json!({
        "node": "5f3a91c2-1", "name": "fir-1", "length": 5.0, "frequency": 99, "samples": 100, "left_out": 3,
        "stacks": [
            stack(&["main", "work::crunch", "work::inner"], 60),
            stack(&["main", "work::crunch"], 10),
            stack(&["main", "tokio::park"], 20),
            stack(&["main", hostile], 10),
        ],
        "handlers": [{
            "call": "91c2a7-12", "attempt": 1, "method": "Work.crunch", "thread": "slot 0", "running": 3.2,
            "state": "sleeping", "cpu": null, "frames": ["main", "work::crunch", "std::sync::Condvar::wait"],
        }],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flame_graph_is_zoomed_by_mouse_and_keys_and_names_stay_text() {
    let Some(browser) = Browser::start().await else { return };
    let cluster = Running::start(|page| page).await;
    for (width, scheme) in [(1280, "light"), (1280, "dark"), (400, "light")] {
        browser.look(width, 800, scheme).await;
        browser.show(&cluster.url, "logs").await;
        browser.sees("Live").await;
        let show = format!(
            "const {{ Flame }} = await import('./js/flame.js'); \
             document.getElementById('panel').replaceChildren(new Flame({}).element); \
             return document.documentElement.scrollWidth - innerWidth",
            sample()
        );
        let overflow = browser.eval(&show).await;
        browser.screenshot(&format!("flame-{width}-{scheme}")).await;
        assert!(overflow.as_i64().is_some_and(|pixels| pixels <= 0), "too wide by {overflow}");
    }
    browser.sees("100 samples, and 3 that were left out").await;
    browser.sees("std::sync::Condvar::wait").await;
    browser.sees("<img src=x onerror=alert(1)>").await;
    assert_eq!(browser.eval("return document.querySelectorAll('#panel img').length").await, 0);

    // One is as wide as its part of the samples.
    let width = |name: &str| {
        let script = format!(
            "const box = [...document.querySelectorAll('.flame button')].find((box) => box.textContent === {}); \
             return box ? Math.round(parseFloat(box.style.width)) : null",
            json!(name)
        );
        let browser = &browser;
        async move { browser.eval(&script).await }
    };
    assert_eq!((width("work::crunch").await, width("tokio::park").await), (json!(70), json!(20)));
    browser.press("work::crunch").await;
    assert_eq!((width("work::crunch").await, width("main").await), (json!(100), json!(100)));
    assert_eq!((width("tokio::park").await, width("work::inner").await), (Value::Null, json!(86)));
    browser.sees("work::crunch: 70 samples (70.0 %), 10 of them in itself (10.0 %)").await;

    // By keys: down to the widest, in, and out again.
    let key = |name: &str| {
        let script = format!(
            "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {{ key: '{name}', bubbles: true }})); \
             return document.activeElement.textContent"
        );
        let browser = &browser;
        async move { browser.eval(&script).await }
    };
    assert_eq!(key("ArrowDown").await, "work::inner");
    assert_eq!(key("ArrowUp").await, "work::crunch");
    assert_eq!(key("Escape").await, "main");
    assert_eq!(key("ArrowDown").await, "work::crunch");
    assert_eq!(key("ArrowRight").await, "tokio::park");

    browser.fill("#panel input[type=search]", "CRUNCH").await;
    browser.sees("on the stack in 70.0 % of the samples").await;
    browser.press("Whole profile").await;
    browser.has_no_errors(&[]).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_takes_a_profile_of_a_node_from_the_page() {
    let Some(browser) = Browser::start().await else { return };
    let cluster = Running::start(|page| page).await;
    let node = cluster.node("fir-1").await;
    let busy = cluster.work.crunch(60_000).send();
    browser.show(&cluster.url, "nodes").await;
    browser.press("Profile").await;
    browser.sees("Profile of fir-1").await;
    browser.eval("document.querySelector('dialog input').value = 1").await;
    browser.press("Start").await;
    browser.sees("at 99 Hz").await;
    browser.sees("Work.crunch").await;
    browser.press("Close").await;
    // The browser says that a dialog was closed a moment later.
    let is_open = || browser.eval("return document.querySelectorAll('dialog.wide').length");
    soon("the dialog to close", async { while is_open().await != 0 {} }).await;
    browser.has_no_errors(&[]).await;

    // The same as a file.
    let profile = cluster.master.profile(node.id(), std::time::Duration::from_secs(1)).await.expect("is taken");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("profile.html");
    std::fs::write(&file, distribution_http::profile_page(&profile)).expect("can be written");
    let url = format!("file://{}", file.display());
    browser.show(&url, "").await;
    browser.sees("Nothing here is live").await;
    browser.sees("Work.crunch").await;
    browser.has_no_errors(&[]).await;
    browser.screenshot("profile-file").await;
    drop(busy);
    browser.close().await;
    // Its thread sleeps on, and a test does not wait for it.
    drop(node);
}
