//! What is drawn on screens of several sizes, and what keys do.

use std::time::{Duration, Instant};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use distribution::{
    CallId, NodeId,
    administration::{CallMetrics, RefusedCalls},
};
use ratatui::{Terminal, backend::TestBackend, style::Modifier};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    keys::Step,
    once,
    rates::Rates,
    rows::Panel,
    screen::draw,
    snapshot::Snapshot,
    state::{Action, App, Mode},
};
use crate::look::Look;

fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("is what it says")
}

fn node(number: u32, name: &str) -> Value {
    json!({
        "id": format!("5f3a91c2-{number}"), "name": name, "addr": "10.0.0.1:4000", "labels": {"zone": "b"},
        "services": [{"name": "Arith", "version": 1, "methods": []}], "principal": {"kind": "open", "credential": "", "names": []},
        "version": "0.1.0", "slots": 4, "held_slots": 0, "state": "alive", "is_cordoned": number == 2, "share": 1.0, "in_flight": number, "answered": 100,
        "uncallable": [], "blocked_async": 0, "registered_for": 192.0, "silent_for": 0.1,
    })
}

fn call(number: u32, method: &str, age: f64, status: Value) -> Value {
    json!({
        "id": format!("91c2a7-{number}"), "method": method, "caller": "batch-job", "parent": null, "age": age, "size": 2048,
        "metadata": {"tenant": "north"}, "count": 1, "failed_attempts": 0, "status": status,
    })
}

fn method(name: &str, waiting: u32) -> Value {
    json!({
        "service": "Arith", "name": name, "version": 1, "signature": "fn(i64) -> i64", "kind": "compute", "idempotent": true,
        "nodes": 2, "waiting": waiting, "running": 1,
    })
}

fn snapshot(at: f64, answered: u64) -> Snapshot {
    let on = json!({"id": "5f3a91c2-1", "name": "n1", "addr": "10.0.0.1:4000"});
    Snapshot {
        status: read(json!({
            "version": "0.1.0", "addr": "127.0.0.1:3000", "security": "none", "running_for": at, "nodes": 3, "alive": 2,
            "callers": 1, "is_shutting_down": false,
        })),
        stats: read(json!({
            "queued": 1, "in_flight": 2, "answered": answered, "failed": 0, "cancelled": 0, "overdue": 0, "late": 0,
            "turned_away": 0, "registration_bytes": 0,
        })),
        nodes: vec![read(node(1, "n1")), read(node(2, "n2")), read(node(3, "evil\u{1b}[2J"))],
        calls: vec![
            read(call(1, "Arith.sum", 60.0, json!({"running": {"node": on, "attempt": 1, "running_for": 59.0}}))),
            read(call(2, "Arith.sum", 5.0, json!({"waiting": {"why": {"all_busy": {"nodes": 2}}}}))),
            read(call(3, "Arith.mean", 90.0, json!({"stopping": {"node": on, "stopping_for": 1.0}}))),
        ],
        has_more: false,
        methods: vec![read(method("mean", 0)), read(method("sum", 1))],
        metrics: read(metrics(at, answered)),
        runs: vec![read(json!({
            "name": "sweep", "caller": "batch-job", "status": "running", "done": 500, "failed": 1, "running": 3, "waiting": 1,
            "total": 2000, "rate": 125.0, "time_left": 12.0, "elapsed": 4.0, "told_for": 0.5,
            "stragglers": [call(1, "Arith.sum", 60.0, json!({"running": {"node": on, "attempt": 1, "running_for": 59.0}}))],
        }))],
        warnings: vec![read(json!({
            "kind": "nobody_serves", "text": "no node serves Arith.median", "node": null, "node_name": null,
            "method": "Arith.median",
        }))],
    }
}

/// What was counted by then: half of the calls were of `Arith.sum`, and one of them has failed.
fn metrics(at: f64, answered: u64) -> Value {
    let mut calls = serde_json::to_value(CallMetrics::default()).expect("is written");
    let none = calls.clone();
    calls["outcomes"]["answered"] = (answered / 2).into();
    calls["outcomes"]["lost"] = 1.into();
    // 1024 to 1280 microseconds.
    calls["in_handler"] = json!({"count": answered / 2, "sum": 1.0, "buckets": [[36, answered / 2]]});
    let node = json!({
        "id": "5f3a91c2-1", "name": "n1", "state": "alive", "slots": 4, "held_slots": 0, "computing": 3, "asynchronous": 0, "lent": 0,
        "ejections": 0, "calls": none,
        "vitals": {
            "cpu": 2.5, "memory": 1_288_490_188_u64, "threads": 12, "lag": 0.0012, "busy_slots": 3, "waiting": 0,
            "asynchronous": 0, "clock_skew": 0.0,
        },
    });
    let sum = json!({
        "service": "Arith", "name": "sum", "version": 1, "kind": "compute", "waiting": 1, "running": 1,
        "has_streams": false, "calls": calls,
    });
    json!({
        "running_for": at, "methods": [sum], "forgotten_methods": none, "nodes": [node], "gone_nodes": none, "callers": [], "gone_callers": none,
        "refused_calls": RefusedCalls::default(), "refused_connections": 0,
    })
}

fn app() -> App {
    let mut app = App::new("127.0.0.1:3000", true);
    app.on_snapshot(snapshot(10.0, 1000));
    app.on_snapshot(snapshot(12.0, 3500));
    app
}

/// The lines of a screen of this size.
fn drawn(app: &mut App, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("has a screen");
    terminal.draw(|frame| draw(frame, app, Instant::now())).expect("draws");
    let buffer = terminal.backend().buffer().clone();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

fn press(app: &mut App, keys: &str) -> Step {
    let mut step = Step::Stay;
    for letter in keys.chars() {
        let code = match letter {
            '\t' => KeyCode::Tab,
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            '↓' => KeyCode::Down,
            '↑' => KeyCode::Up,
            letter => KeyCode::Char(letter),
        };
        step = app.on_key(KeyEvent::new(code, KeyModifiers::NONE));
    }
    step
}

#[track_caller]
fn assert_shows(lines: &[String], parts: &[&str]) {
    let all = lines.join("\n");
    for part in parts {
        assert!(all.contains(part), "`{part}` is not in:\n{all}");
    }
}

#[test]
fn a_wide_screen_has_all_of_it() {
    let mut app = app();
    let lines = drawn(&mut app, 180, 24);
    assert_eq!(lines[0], "master 127.0.0.1:3000, version 0.1.0");
    let facts = "1 warning  1250 calls/s  1 waiting  2 running  0 failed  3 nodes (1 without new calls)  12 slots  1 caller  up 12 s";
    assert_eq!(lines[1], facts);
    assert_eq!(lines[2], "sweep: 500 of 2,000 calls (25 %), 125/s, 12 s left, 1 failed");
    assert_eq!(lines[3], " 1 nodes 3  2 calls  3 methods  4 runs  5 warnings");
    let headings: Vec<_> = lines[4].split_whitespace().collect();
    assert_eq!(headings, Panel::Nodes.columns().iter().map(|column| column.name).collect::<Vec<_>>());
    assert_shows(
        &lines,
        &[
            "cordoned",
            "5f3a91c2-2",
            "10.0.0.1:4000",
            "3 m 12 s",
            "zone=b",
            "serves Arith",
            "3/4",
            "250 %",
            "1.2 GiB",
            "12 threads",
        ],
    );
    press(&mut app, "2");
    let lines = drawn(&mut app, 160, 24);
    assert_shows(
        &lines,
        &["91c2a7-1", "batch-job", "runs on n1 (5f3a91c2-1) for 59 s", "all 2 nodes that may run it are busy"],
    );
    assert_shows(&lines, &["has ended, and its handler has gone on for 1.0 s", "tenant=north"]);
    press(&mut app, "3");
    let lines = drawn(&mut app, 180, 24);
    assert_shows(&lines, &["Arith.mean", "fn(i64) -> i64", "compute"]);
    let sum = lines.iter().find(|line| line.starts_with("Arith.sum")).expect("is listed");
    let cells: Vec<_> = sum.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    assert_eq!(cells[..9], ["Arith.sum", "2", "1", "1", "625", "1", "1.2 ms", "1.2 ms", "-"]);
    press(&mut app, "4");
    assert_shows(&drawn(&mut app, 180, 24), &["500 of 2,000", "25 %", "12 s", "91c2a7-1 on n1 (5f3a91c2-1) for 59 s"]);
    press(&mut app, "5");
    assert_shows(&drawn(&mut app, 160, 24), &["Arith.median", "no node serves Arith.median"]);
}

#[test]
fn on_a_narrow_screen_the_columns_that_matter_most_stay() {
    let mut app = app();
    for width in [40, 20, 10, 3, 1] {
        for height in [24, 12, 6, 3, 1] {
            for panel in ["1", "2", "3", "4", "5"] {
                press(&mut app, panel);
                drawn(&mut app, width, height);
            }
            press(&mut app, "?");
            drawn(&mut app, width, height);
            press(&mut app, "x");
        }
    }
    press(&mut app, "1");
    let lines = drawn(&mut app, 40, 20);
    let headings: Vec<_> =
        lines.iter().find(|line| line.starts_with("NAME")).expect("a heading").split_whitespace().collect();
    assert_eq!(headings, ["NAME", "STATE", "CALLS", "BUSY"]);
    assert_shows(&lines, &["1250 calls/s", "cordoned", "? help  q quit"]);
    press(&mut app, "2");
    let lines = drawn(&mut app, 40, 20);
    assert_shows(&lines, &["METHOD", "AGE", "Arith.sum", "1 m  runs on n1", "91c2a7-1 of Arith.sum: runs on n1"]);
}

#[test]
fn the_text_of_a_peer_cannot_change_the_terminal() {
    let mut app = app();
    let lines = drawn(&mut app, 120, 24);
    assert_shows(&lines, &["evil\\u{1b}[2J"]);
    press(&mut app, "↓↓d");
    let lines = drawn(&mut app, 120, 24);
    assert_shows(&lines, &["drain evil\\u{1b}[2J (5f3a91c2-3)? (y/n)"]);
    app.on_done("cannot cancel: \u{1b}c said so".to_owned(), true);
    press(&mut app, "");
    app.mode = Mode::Looking;
    assert!(!drawn(&mut app, 120, 24).concat().contains('\u{1b}'));
}

#[test]
fn the_selected_line_stays_the_same_when_lines_move_and_actions_are_about_it() {
    let mut app = app();
    press(&mut app, "2");
    drawn(&mut app, 120, 24);
    press(&mut app, "↓");
    drawn(&mut app, 120, 24);
    // The first call has ended: the line that was the second is the first now.
    let mut later = snapshot(13.0, 3500);
    later.calls.remove(0);
    app.on_snapshot(later);
    drawn(&mut app, 120, 24);
    press(&mut app, "c");
    let lines = drawn(&mut app, 120, 24);
    assert_eq!(lines.last().map(String::as_str), Some("cancel call 91c2a7-2 of Arith.sum? (y/n)"));
    // What is asked stays what it was, whatever is listed meanwhile.
    let mut later = snapshot(14.0, 3500);
    later.calls.clear();
    app.on_snapshot(later);
    drawn(&mut app, 120, 24);
    let Step::Do(question) = press(&mut app, "y") else { panic!("it was confirmed") };
    assert_eq!(question.action, Action::Cancel(read::<CallId>(json!("91c2a7-2"))));
}

#[test]
fn nothing_is_done_without_a_yes() {
    let mut app = app();
    let node = |number: u32| read::<NodeId>(json!(format!("5f3a91c2-{number}")));
    drawn(&mut app, 80, 24);
    assert_eq!(press(&mut app, "dn"), Step::Stay);
    assert_shows(&drawn(&mut app, 80, 24), &["did not drain n1 (5f3a91c2-1)"]);
    assert_eq!(press(&mut app, "o\u{1b}"), Step::Stay);
    for (keys, action) in
        [("oy", Action::Cordon(node(1))), ("↓oy", Action::Uncordon(node(2))), ("dY", Action::Drain(node(2)))]
    {
        let Step::Do(question) = press(&mut app, keys) else { panic!("{keys} was confirmed") };
        assert_eq!(question.action, action);
    }
    assert_eq!(press(&mut app, "cy"), Step::Stay, "a node is not a call");
    press(&mut app, "c");
    assert_shows(&drawn(&mut app, 80, 24), &["key 2 lists the calls"]);
    press(&mut app, "3d");
    assert_shows(&drawn(&mut app, 80, 24), &["key 1 lists the nodes"]);
    press(&mut app, "2↓↓");
    drawn(&mut app, 80, 24);
    press(&mut app, "c");
    assert_eq!(app.mode, Mode::Looking, "it has ended already");
}

#[test]
fn lines_are_sorted_reversed_and_filtered() {
    let mut app = app();
    press(&mut app, "2");
    let ids = |app: &mut App| -> Vec<String> {
        let lines = drawn(app, 160, 24);
        lines.iter().filter(|line| line.contains("batch-job")).map(|line| line[..8].to_owned()).collect()
    };
    assert_eq!(ids(&mut app), ["91c2a7-1", "91c2a7-2", "91c2a7-3"]);
    press(&mut app, "sss");
    assert_eq!(ids(&mut app), ["91c2a7-3", "91c2a7-1", "91c2a7-2"], "the oldest first");
    assert_shows(&drawn(&mut app, 160, 24), &["AGE▼"]);
    press(&mut app, "r");
    assert_eq!(ids(&mut app), ["91c2a7-2", "91c2a7-1", "91c2a7-3"]);
    assert_shows(&drawn(&mut app, 160, 24), &["AGE▲"]);
    press(&mut app, "/MEAN");
    assert_eq!(ids(&mut app), ["91c2a7-3"]);
    assert_shows(&drawn(&mut app, 160, 24), &["only lines with: MEAN_"]);
    press(&mut app, "\n");
    assert_shows(&drawn(&mut app, 160, 24), &["2 calls 1 ", "only with `MEAN`"]);
    assert_eq!(press(&mut app, "\u{1b}"), Step::Stay, "it ends the filter first");
    assert_eq!(ids(&mut app).len(), 3);
    assert_eq!(press(&mut app, "\u{1b}"), Step::Quit);
}

#[test]
fn a_list_that_is_longer_than_the_screen_is_scrolled_to_the_selected_line() {
    let mut app = app();
    let mut long = snapshot(13.0, 3500);
    long.nodes = (1..=100).map(|number| read(node(number, &format!("node-{number:03}")))).collect();
    app.on_snapshot(long);
    drawn(&mut app, 80, 24);
    app.on_key(KeyEvent::new(KeyCode::PageDown, KeyModifiers::NONE));
    let page = app.view().height;
    assert!(page > 10 && page < 24, "{page}");
    let lines = drawn(&mut app, 80, 24);
    assert_shows(&lines, &[&format!("node-{:03}", page + 1)]);
    app.on_key(KeyEvent::new(KeyCode::End, KeyModifiers::NONE));
    // The screen becomes smaller, and then larger than the list.
    for height in [24, 10, 24, 150] {
        assert_shows(&drawn(&mut app, 80, height), &["node-100"]);
    }
    app.on_key(KeyEvent::new(KeyCode::Home, KeyModifiers::NONE));
    assert_shows(&drawn(&mut app, 80, 24), &["node-001"]);
}

#[test]
fn a_lost_master_is_shown_until_it_answers() {
    let mut app = app();
    let lost = Instant::now();
    app.on_lost("the connection is lost".to_owned(), lost);
    app.on_lost("connection refused".to_owned(), lost + Duration::from_secs(3));
    let mut terminal = Terminal::new(TestBackend::new(100, 20)).expect("has a screen");
    terminal.draw(|frame| draw(frame, &mut app, lost + Duration::from_secs(70))).expect("draws");
    let buffer = terminal.backend().buffer();
    let first: String = (0..100).map(|x| buffer[(x, 0)].symbol().to_owned()).collect();
    assert_eq!(first.trim_end(), "NO ANSWER for 1 m 10 s from 127.0.0.1:3000: connection refused");
    assert_shows(&drawn(&mut app, 100, 20), &["n1", "n2"]);
    app.on_snapshot(snapshot(1.0, 5));
    assert_eq!(app.rates.answered, 0.0, "the counts of another run are not compared");
    assert!(app.rates.nodes.values().all(|rate| *rate == 0.0));
    assert!(drawn(&mut app, 100, 20)[0].starts_with("master "));
}

#[test]
fn while_paused_nothing_moves() {
    let mut app = app();
    press(&mut app, "p");
    let mut later = snapshot(13.0, 9000);
    later.nodes.clear();
    app.on_snapshot(later.clone());
    assert_shows(&drawn(&mut app, 120, 20), &["PAUSED, p goes on", "n1", "1250 calls/s"]);
    press(&mut app, "p");
    app.on_snapshot(later);
    assert_shows(&drawn(&mut app, 120, 20), &["no nodes are registered"]);
}

#[test]
fn the_selected_line_is_seen_without_colours_too() {
    let mut app = app();
    app.is_coloured = false;
    let mut terminal = Terminal::new(TestBackend::new(80, 20)).expect("has a screen");
    terminal.draw(|frame| draw(frame, &mut app, Instant::now())).expect("draws");
    let buffer = terminal.backend().buffer();
    let selected: Vec<u16> = (5..20).filter(|y| buffer[(0, *y)].modifier.contains(Modifier::REVERSED)).collect();
    assert_eq!(selected.len(), 1);
    assert!(buffer.content().iter().all(|cell| cell.fg == ratatui::style::Color::Reset));
}

#[test]
fn as_text_it_has_all_columns_of_all_panels() {
    let look = Look { is_coloured: false, width: None };
    let text = once::text("127.0.0.1:3000", &snapshot(10.0, 5), &Rates::default(), look);
    for panel in Panel::ALL {
        for column in panel.columns() {
            assert!(text.contains(column.name), "{} is not in:\n{text}", column.name);
        }
    }
    assert!(text.starts_with("master 127.0.0.1:3000, version 0.1.0\n1 warning, 0 calls/s, 1 waiting, "), "{text}");
    assert!(text.contains("waits: all 2 nodes that may run it are busy"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}
