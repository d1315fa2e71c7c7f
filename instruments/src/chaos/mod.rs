//! Ledger under chaos: real processes are killed, frozen, terminated and restarted, and connections reset, while calls run;
//! afterwards the ledgers they kept are compared with what was done to them.
//!
//! # Processes
//!
//! All are processes of one program, `chaos`. The **driver** is the one that a person starts. It starts
//! **nodes**, which serve [`service`]'s methods and append every start and end of a call to a ledger file
//! of their own, a **master**, and if it is told to, **callers** in processes of their own. Callers make the calls, and append
//! every submission and end; without any, the master does. The driver releases the calls in portions, one for each fault, and injects the fault amid each
//! portion; so faults are spread over the run, and each meets running calls.
//!
//! For resets, each node and each caller dials a proxy in the driver's process, which passes bytes on to the master. The driver
//! has it reset a connection at once, or after a number of bytes, so amid a message.
//!
//! A ledger's line is one `write` to a file opened for appending, so it survives `kill -9` of its
//! process. A line is written before what it announces is done and after what it reports was done; a
//! line that was cut off by the kill counts as not written, which is right in both cases.
//!
//! # Calls
//!
//! A call has a key, and all about it follows from the seed and the key ([`call_plan`]): at most once or
//! idempotent, quick, compute or async, how long it takes, how much it carries, whether its handler is to
//! return a value, an error of its own or to panic, whether it has a timeout. `calls` of them are awaited
//! to their end. One in twenty is made on top of these and dropped by its caller after a while; those are
//! under all rules too, but are counted as `given_up` alone, so that `calls = answered + failed + lost`.
//!
//! A call that was unanswered when its master was killed died with it. It counts as `failed` (and
//! `died_with_master`), not as lost, and is not made again: a new call with a new key would be no
//! different from the calls that follow anyway. But one that had been on its way for longer than
//! [`rules::longest_life`] by then had been hanging, and is lost. The same holds for a caller that was killed: it takes with it
//! what it knew of its calls (`died_with_caller`). They may have run, and at most once like any other.
//!
//! If its master is killed and its caller lives, a call ends as `MasterLost`, or the caller sends it to the next master, where it
//! has another id.
//!
//! # Rules
//!
//! **Lost** is a call that never ended: of a master that was not killed, or hanging as above.
//!
//! **Duplicates** are calls of at-most-once methods that have more than one start in all ledgers together.
//! One that timed out, was dropped or died with its master may have one start like any other.
//!
//! **Unexpected** is each of these:
//!
//! - an answer that is not what the handler was to return, or that no ledger of the node it names shows
//!   with both start and end;
//! - `NotRun` for a call that has a start; `Ran` for one that has not, or has no end;
//! - `MayHaveRun` for a call that cannot have been hit: `NodeLost` names a node that was neither killed
//!   nor frozen while it was registered under that id, before the call ended. Having been terminated does
//!   not explain it, because draining loses nothing;
//! - `MasterLost` of a call, if no master was killed while it was under way or in the second before; or of an idempotent one,
//!   unless three were;
//! - `TimedOut` for a call without a timeout, before it, or long after it;
//! - `NoNode`, if any node was registered while the call waited for one;
//! - `NodeLost` of an idempotent call with attempts left (of three, or of what the call was given by
//!   `.attempts()`), unless there was no node to go to;
//! - `Poisoned` without three nodes that were killed or frozen, or of a method that is at most once;
//! - any other error, since nothing here can cause it: `Overloaded`, `Shutdown`, `TooLarge` and so on;
//! - more starts at one master than the call had attempts, or was to have; two starts of one attempt; starts for another master
//!   though none was killed;
//! - an at-most-once call that was answered by a second attempt;
//! - a start of a call that was never made; an end of a call that had ended;
//! - a node that was declared gone and had not been harmed, or for a reason that does not match the harm
//!   (silent though not frozen, gone without a goodbye though only terminated). A reset explains it only if the node had no
//!   calls: one that has calls comes back with them;
//! - a process that ended by itself, or not in order when terminated; calls still in the master's books
//!   when all have ended; a run that stands still.
//!
//! Each rule has a test that breaks it in a made-up history (`rules_tests`).

mod call_maker;
mod call_plan;
mod call_record;
mod caller;
pub mod child;
mod driver;
mod fault_plan;
mod history;
mod ledger;
mod master;
mod member_list;
mod node;
mod node_process;
mod post;
mod report;
mod rules;
#[cfg(test)]
mod rules_tests;
mod service;

use std::{path::PathBuf, process::ExitCode};

/// What a run is to do.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Calls that are made and awaited to their end, by all callers together; those that callers drop come on top. 5,000
    /// unless given, and with `--callers` 100,000 for each of them
    #[arg(long)]
    pub calls: Option<u64>,
    /// Nodes to kill (SIGKILL)
    #[arg(long, default_value_t = 10)]
    pub kills: u32,
    /// Nodes to freeze for longer than the silence limit (SIGSTOP, later SIGCONT)
    #[arg(long, default_value_t = 4)]
    pub freezes: u32,
    /// Nodes to end in order (SIGTERM) and to start anew
    #[arg(long, default_value_t = 20)]
    pub terminates: u32,
    /// How often to kill the master (SIGKILL) and to start it anew on the same port
    #[arg(long, default_value_t = 1)]
    pub master_kills: u32,
    /// Callers in processes of their own; with 0, the master's process makes the calls
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=16))]
    pub callers: u32,
    /// How often to kill a caller (SIGKILL) and to start another one
    #[arg(long, default_value_t = 0, requires = "callers")]
    pub caller_kills: u32,
    /// How often to reset the connection of a node or a caller, half of them amid a message
    #[arg(long, default_value_t = 0)]
    pub resets: u32,
    /// Node processes at a time
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub nodes: u32,
    /// The most slots that a node has; others have fewer, down to one
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub slots: u32,
    /// Calls that the master, or each caller, has under way at a time
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub window: u32,
    /// The master's heartbeat; a node that is silent for six of these is gone
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(10..=10_000))]
    pub heartbeat_ms: u64,
    /// Seed of calls and faults; drawn and printed unless given. Which call meets which fault still depends on timing
    #[arg(long)]
    pub seed: Option<u64>,
    /// Where ledgers and logs go, and stay; unless given, a temporary folder that stays only if something is wrong
    #[arg(long)]
    pub folder: Option<PathBuf>,
}

/// What a process that the driver started is to be.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Role {
    /// Serves calls and writes down which
    #[command(hide = true)]
    Node(node::Arguments),
    /// Schedules calls, and without callers makes them; writes down how they end
    #[command(hide = true)]
    Master(master::Arguments),
    /// Makes calls from a process of its own and writes down how they end
    #[command(hide = true)]
    Caller(caller::Arguments),
}

impl Options {
    fn all_calls(&self) -> u64 {
        self.calls.unwrap_or(if self.callers == 0 { 5_000 } else { 100_000 * u64::from(self.callers) })
    }
}

/// Runs a role to its end, or without one the whole.
#[allow(clippy::print_stderr, reason = "it is a program's only way to say what is wrong")]
pub async fn main(options: Options, role: Option<Role>) -> ExitCode {
    let ended = match role {
        Some(Role::Node(arguments)) => node::run(arguments).await.map(|()| ExitCode::SUCCESS),
        Some(Role::Master(arguments)) => master::run(arguments).await.map(|()| ExitCode::SUCCESS),
        Some(Role::Caller(arguments)) => caller::run(arguments).await.map(|()| ExitCode::SUCCESS),
        None => driver::run(options).await,
    };
    ended.unwrap_or_else(|error| {
        eprintln!("chaos: {error}");
        ExitCode::from(2)
    })
}
