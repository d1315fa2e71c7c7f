//! A rolling restart, in a short form of the instrument.

use std::path::Path;

use distribution_tests::process::Process;

#[tokio::test]
async fn a_rolling_restart_under_load_loses_no_call() {
    let rolling = Path::new(env!("CARGO_BIN_EXE_rolling"));
    let mut run =
        Process::start(rolling, &["--rate", "500", "--rounds", "1", "--pause-ms", "50", "--handler-seconds", "0"]);
    let line = run.rest().await.pop().expect("a line");
    assert!(run.ended().await.success(), "{line}");
    assert!(line.contains("\"restarts\": 4,") && line.contains("\"failed\": 0,"), "{line}");
}
