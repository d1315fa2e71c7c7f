//! The two instruments that take long, in a short form: ledger under chaos (calls made by the master, and by callers
//! elsewhere), and soak.

use std::{path::Path, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::process::Command;

/// Runs a program to its end, and reads the last line of its output. Fails with all that it printed.
async fn run(program: &str, arguments: &[&str]) -> Value {
    let output = Command::new(Path::new(program)).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    // Many times what it takes: this is for a run that hangs.
    let output = tokio::time::timeout(Duration::from_secs(300), output).await.expect("ends").expect("runs");
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{said}\n{printed}", output.status);
    let last = printed.lines().last().expect("a last line");
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"))
}

#[tokio::test]
async fn no_call_is_lost_while_nodes_and_master_are_killed_and_frozen() {
    let arguments = ["--calls", "5000", "--kills", "10", "--freezes", "4", "--master-kills", "1"];
    let report = run(env!("CARGO_BIN_EXE_chaos"), &arguments).await;
    let number = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("no {name} in {report}"));
    assert_eq!(["lost", "unexpected", "duplicates"].map(number), [0, 0, 0], "{report}");
    assert_eq!(["calls", "kills", "freezes", "master_kills"].map(number), [5000, 10, 4, 1], "{report}");
    assert_eq!(number("answered") + number("failed"), 5000, "{report}");
    assert!(number("answered") > 4000, "{report}");
}

#[tokio::test]
async fn no_call_is_lost_or_run_twice_while_callers_are_killed_too_and_connections_reset() {
    let faults = ["--kills", "4", "--freezes", "2", "--terminates", "2", "--master-kills", "1", "--caller-kills", "2"];
    let cluster = ["--callers", "2", "--nodes", "3", "--calls", "4000", "--resets", "16"];
    let report = run(env!("CARGO_BIN_EXE_chaos"), &[&cluster[..], &faults[..]].concat()).await;
    let number = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("no {name} in {report}"));
    assert_eq!(["lost", "unexpected", "duplicates"].map(number), [0, 0, 0], "{report}");
    assert_eq!(["calls", "master_kills", "caller_kills", "resets"].map(number), [4000, 1, 2, 16], "{report}");
    assert_eq!(number("answered") + number("failed"), 4000, "{report}");
    assert!(number("answered") > 2500, "{report}");
    assert!(number("resumed") > 0, "{report}");
}

#[tokio::test]
async fn nothing_is_left_behind_by_a_load_of_all_kinds() {
    // Too short to judge memory by, which the program therefore does not.
    let report = run(env!("CARGO_BIN_EXE_soak"), &["--seconds", "8"]).await;
    assert_eq!(report["start"], report["quiet"], "{report}");
    assert_eq!(report["wrong"], 0, "{report}");
    assert_eq!(report["quarters"].as_array().map(Vec::len), Some(4), "{report}");
}
