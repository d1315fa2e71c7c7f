//! The run in one line of JSON.

use std::time::Duration;

use serde::Serialize;

use super::{Options, driver::Count, rules::Findings};

#[derive(Serialize)]
struct Report {
    /// Calls that were made and awaited: `answered + failed + lost`.
    calls: u64,
    /// Ended with what the handler returned, a value or its own error.
    answered: u64,
    /// Ended with another error, or died with their master or caller.
    failed: u64,
    lost: usize,
    unexpected: usize,
    duplicates: usize,
    /// Made on top, and dropped by their callers.
    given_up: u64,
    kills: u32,
    freezes: u32,
    terminates: u32,
    master_kills: u32,
    caller_kills: u32,
    /// Of connections of nodes and callers.
    resets: u32,
    /// How often a node came back with its calls after its connection had broken.
    resumed: u64,
    /// Nodes that the master declared gone for their silence.
    silenced: u32,
    /// Failed as `MayHaveRun`.
    may_have_run: u64,
    node_lost: u64,
    timed_out: u64,
    /// As their handlers were to.
    panicked: u64,
    poisoned: u64,
    no_node: u64,
    master_lost: u64,
    died_with_master: u64,
    /// Without an answer when their caller was killed: nobody knows how they ended.
    died_with_caller: u64,
    /// Idempotent calls that were answered by a second or third attempt.
    answered_by_retry: u64,
    /// Answered calls that had been sent before and certainly not run: taken back, refused or not written.
    resent: u64,
    /// Starts in all ledgers of nodes.
    starts: u64,
    /// From submission to end, over all that were answered.
    longest_answered_seconds: f64,
    nodes: u32,
    callers: u32,
    heartbeat_ms: u64,
    seed: u64,
    seconds: f64,
}

#[allow(clippy::print_stdout, reason = "it is what the program is for")]
pub(super) fn print(options: &Options, seed: u64, count: Count, findings: &Findings, elapsed: Duration) {
    let tally = findings.tally;
    let report = Report {
        calls: tally.calls,
        answered: tally.answered,
        failed: tally.failed,
        lost: findings.lost.len(),
        unexpected: findings.unexpected.len(),
        duplicates: findings.duplicates.len(),
        given_up: tally.given_up,
        kills: count.kills,
        freezes: count.freezes,
        terminates: count.terminates,
        master_kills: count.master_kills,
        caller_kills: count.caller_kills,
        resets: count.resets,
        resumed: tally.resumed,
        silenced: count.silenced,
        may_have_run: tally.may_have_run,
        node_lost: tally.node_lost,
        timed_out: tally.timed_out,
        panicked: tally.panicked,
        poisoned: tally.poisoned,
        no_node: tally.no_node,
        master_lost: tally.master_lost,
        died_with_master: tally.died_with_master,
        died_with_caller: tally.died_with_caller,
        answered_by_retry: tally.answered_by_retry,
        resent: tally.resent,
        starts: tally.starts,
        longest_answered_seconds: tally.longest.as_secs_f64(),
        nodes: options.nodes,
        callers: options.callers,
        heartbeat_ms: options.heartbeat_ms,
        seed,
        seconds: (elapsed.as_secs_f64() * 10.0).round() / 10.0,
    };
    println!("{}", serde_json::to_string(&report).expect("plain data"));
}
