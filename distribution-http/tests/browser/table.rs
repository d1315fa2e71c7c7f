//! The table that panels are made of: what stays where it is while rows come, go and change places.

use distribution_tests::browser::Browser;
use serde_json::json;

use crate::cluster::Running;

#[tokio::test(flavor = "multi_thread")]
async fn a_row_keeps_the_focus_and_what_is_open_while_others_change_places() {
    let Some(browser) = Browser::start().await else { return };
    let cluster = Running::start(|page| page).await;
    browser.show(&cluster.url, "overview").await;
    browser.sees("Live").await;
    let script = "const { Table } = await import('/js/table.js'); \
        const row = (key, text = key) => ({ key, text }); \
        const table = new Table({ caption: 'c', empty: 'e', key: (row) => row.key, facts: (row) => [['Fact', row.text]], columns: [{ title: 'T', text: (row) => row.text }] }); \
        document.body.append(table.element); \
        const shown = () => [...table.element.querySelectorAll('tr.row')].map((row) => row.textContent).join(''); \
        table.update(['a', 'b', 'c', 'd'].map((key) => row(key))); \
        const button = [...table.element.querySelectorAll('button.open')].find((button) => button.textContent === 'c'); \
        button.click(); button.focus(); \
        const seen = [shown()]; \
        for (const keys of ['dcba', 'cabd', 'abdc', 'xcy', 'yxc']) { \
            table.update([...keys].map((key) => row(key))); \
            seen.push(shown(), document.activeElement === button, table.element.querySelector('tr.detail')?.previousSibling?.textContent); \
        } \
        table.update([row('same', 'one'), row('same', 'two')]); \
        seen.push(shown()); \
        return seen;";
    let seen = browser.eval(script).await;
    let expected = json!([
        "abcd", "dcba", true, "c", "cabd", true, "c", "abdc", true, "c", "xcy", true, "c", "yxc", true, "c", "onetwo"
    ]);
    assert_eq!(seen, expected);
    browser.close().await;
}
