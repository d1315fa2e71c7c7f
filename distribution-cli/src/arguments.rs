//! The program's arguments.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use distribution::{CallId, Certificates};

use crate::{
    look::When,
    master::MasterOptions,
    tokens::TokenCommand,
    units::{parse_age, parse_seconds, parse_time},
};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  another failure
  2  wrong arguments, or a setting, address, file or token that cannot be used, such as a port in use
  3  the master cannot be reached, was lost, or is not the one that the credential is for
  4  not allowed: the master does not accept the credential, or there is none
  5  no such node, call or token";

/// Runs a master of `distribution`, and looks at a cluster and changes it.
#[derive(Debug, Parser)]
#[command(name = "distribution", version, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Whether tables and events have colours.
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value = "auto")]
    pub(crate) color: When,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a master until SIGTERM or ctrl-c.
    #[command(after_help = EXIT_CODES)]
    Master(Box<MasterOptions>),
    #[command(flatten)]
    Administer(AdminCommand),
    /// Issue, list and revoke the tokens of a master's token file.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Print the completions of a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// List the nodes.
    #[command(after_help = EXIT_CODES)]
    Nodes {
        #[command(flatten)]
        master: Connection,
        #[command(flatten)]
        view: View,
    },
    /// List the calls that have not ended, the oldest first, with what each waits for or where it runs.
    #[command(after_help = EXIT_CODES)]
    Calls {
        #[command(flatten)]
        master: Connection,
        #[command(flatten)]
        view: View,
        #[command(flatten)]
        which: WhichCalls,
    },
    /// Show the cluster in the terminal, live: nodes, calls and methods, with keys to sort, filter, cancel and drain.
    #[command(after_help = EXIT_CODES)]
    Top {
        #[command(flatten)]
        master: Connection,
        /// Print it once as text, without a terminal. Rates are counted over one interval.
        #[arg(long)]
        once: bool,
        /// How often the master is asked; at most ten times a second.
        #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "1s")]
        interval: Duration,
    },
    /// List the methods that nodes serve or that calls wait for.
    #[command(after_help = EXIT_CODES)]
    Methods {
        #[command(flatten)]
        master: Connection,
        #[command(flatten)]
        view: View,
    },
    /// List the services that nodes serve or that calls wait for.
    #[command(after_help = EXIT_CODES)]
    Services {
        #[command(flatten)]
        master: Connection,
        #[command(flatten)]
        view: View,
    },
    /// List the callers in other processes, this command too, with the credential that each came with.
    #[command(after_help = EXIT_CODES)]
    Callers {
        #[command(flatten)]
        master: Connection,
        #[command(flatten)]
        view: View,
    },
    /// List the runs of many calls that have a name, with their progress: those under way, and the last that have ended.
    #[command(after_help = EXIT_CODES)]
    Runs {
        #[command(flatten)]
        master: Connection,
        #[command(flatten)]
        view: View,
    },
    /// Show what the master is, and its totals.
    #[command(after_help = EXIT_CODES)]
    Status {
        #[command(flatten)]
        master: Connection,
        #[command(flatten)]
        view: View,
    },
    /// Say what looks wrong: silent nodes, calls that nobody serves, handlers that are stuck, and more.
    #[command(after_help = EXIT_CODES)]
    Warnings {
        #[command(flatten)]
        master: Connection,
        #[command(flatten)]
        view: View,
    },
    /// List the calls that have failed, grouped by method and by what happened.
    #[command(after_help = EXIT_CODES)]
    Failures {
        #[command(flatten)]
        master: Connection,
        #[command(flatten)]
        view: View,
    },
    /// Write the page with all that it shows and its history as one HTML file, which opens from disk without a network.
    ///
    /// It has at most 40 MiB, and says what was left out. It names hosts, and has what callers send along as metadata and what
    /// handlers log: look into it before you pass it on.
    #[command(after_help = EXIT_CODES)]
    Report {
        #[command(flatten)]
        master: Connection,
        /// The file to write. A file of this name is replaced once the new one is complete.
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Show where a node spends its processor time, and what its handlers do: which code its process runs, for some seconds.
    ///
    /// The node's program has to be built with the feature `profiling`, and to run on Linux.
    #[command(after_help = EXIT_CODES)]
    Profile {
        #[command(flatten)]
        node: OneNode,
        /// For how long samples are taken; from 1 to 30.
        #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = parse_seconds)]
        seconds: u64,
        /// The file to write instead of a summary: FILE.html is a page that draws a flame graph, and FILE.folded has stacks
        /// for other programs. A file of this name is replaced once the new one is complete.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Print the nodes that are registered and then what happens to nodes, one line each, until ctrl-c.
    #[command(after_help = EXIT_CODES)]
    Events {
        #[command(flatten)]
        master: Connection,
        /// Begin with what has happened before, at most this many events, in place of the nodes that are registered. A master keeps
        /// 1,024.
        #[arg(long, short = 'n', value_name = "EVENTS", num_args = 0..=1, default_missing_value = "1024")]
        past: Option<u64>,
        /// End after the events of the past.
        #[arg(long, requires = "past")]
        once: bool,
        /// Print one object of JSON on each line.
        #[arg(long)]
        json: bool,
    },
    /// Print what nodes and their handlers have logged, one record on each line, and the first lines of the backtrace of a panic
    /// behind it.
    #[command(after_help = EXIT_CODES)]
    Logs {
        #[command(flatten)]
        master: Connection,
        #[command(flatten)]
        which: WhichLogs,
        /// Print one object of JSON on each line.
        #[arg(long)]
        json: bool,
    },
    /// Cancel a call of any caller. Its caller gets an error that names your credential.
    #[command(after_help = EXIT_CODES)]
    Cancel {
        /// Its id, as `distribution calls` shows it. That of a batch cancels the whole batch.
        call: CallId,
        #[command(flatten)]
        master: Connection,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Tell a node to finish its calls and to end.
    #[command(after_help = EXIT_CODES)]
    Drain(OneNode),
    /// Give a node no new calls.
    #[command(after_help = EXIT_CODES)]
    Cordon(OneNode),
    /// Give a cordoned node new calls again.
    #[command(after_help = EXIT_CODES)]
    Uncordon(OneNode),
    /// End the registration of a node at once. Its calls are lost, or go to other nodes if their method is idempotent. Its process
    /// and handlers that are stuck go on: to end these, drain the node and restart its process.
    #[command(after_help = EXIT_CODES)]
    Kick(OneNode),
}

/// A node to act on.
#[derive(Args, Debug)]
pub(crate) struct OneNode {
    /// Its id, its name, or the beginning of one of them, if that is the only such node.
    pub(crate) node: String,
    #[command(flatten)]
    pub(crate) master: Connection,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// How the master is reached.
#[derive(Args, Clone, Debug)]
pub(crate) struct Connection {
    /// The master's address.
    #[arg(long, value_name = "HOST:PORT", env = "DISTRIBUTION_MASTER", default_value = "127.0.0.1:3000")]
    pub(crate) master: String,
    /// A file with a token for admins. DISTRIBUTION_TOKEN may have the token itself.
    #[arg(long, value_name = "FILE", env = "DISTRIBUTION_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) certificates: CertificateFiles,
    /// Connect to a master on another machine without any security.
    #[arg(long, env = "DISTRIBUTION_INSECURE")]
    pub(crate) insecure: bool,
    /// How long to try to connect.
    #[arg(long, value_name = "TIME", env = "DISTRIBUTION_CONNECT_TIMEOUT", value_parser = parse_time, default_value = "5s")]
    pub(crate) connect_timeout: Duration,
}

/// Certificates of one's own authority.
#[derive(Args, Clone, Debug)]
pub(crate) struct CertificateFiles {
    /// The authority that issued the other side's certificate, in PEM.
    #[arg(long, value_name = "FILE", env = "DISTRIBUTION_AUTHORITY", requires_all = ["certificate", "key"])]
    authority: Option<PathBuf>,
    /// This side's certificate, in PEM.
    #[arg(long, value_name = "FILE", env = "DISTRIBUTION_CERTIFICATE", requires = "authority")]
    certificate: Option<PathBuf>,
    /// The key of this side's certificate, in PEM.
    #[arg(long, value_name = "FILE", env = "DISTRIBUTION_KEY", requires = "authority")]
    key: Option<PathBuf>,
    /// The name that the other side's certificate must be for.
    #[arg(long, value_name = "NAME", env = "DISTRIBUTION_PEER_NAME", requires = "authority")]
    peer_name: Option<String>,
}

impl CertificateFiles {
    pub(crate) fn is_set(&self) -> bool {
        self.authority.is_some()
    }

    /// This side's certificate and its key.
    pub(crate) fn own_pair(&self) -> Option<(PathBuf, PathBuf)> {
        self.certificate.clone().zip(self.key.clone())
    }

    pub(crate) fn into_certificates(self) -> Option<Certificates> {
        let certificates = Certificates::new(self.authority?, self.certificate?, self.key?);
        Some(match self.peer_name {
            Some(name) => certificates.peer_name(name),
            None => certificates,
        })
    }
}

/// How a list is shown.
#[derive(Args, Clone, Debug)]
pub(crate) struct View {
    /// Print JSON with all that is known, on one line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Show it again and again, until ctrl-c; every 2 s unless a time is given.
    #[arg(long, value_name = "TIME", value_parser = parse_time, num_args = 0..=1, require_equals = true, default_missing_value = "2s")]
    pub(crate) watch: Option<Duration>,
}

/// Which calls are listed.
#[derive(Args, Clone, Debug)]
pub(crate) struct WhichCalls {
    /// Only calls of this method (`Arith.sum`) or service (`Arith`).
    #[arg(long, value_name = "NAME")]
    pub(crate) method: Option<String>,
    /// Only calls that this node has, or that have to run there.
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// Only calls that do this.
    #[arg(long, value_enum)]
    pub(crate) status: Option<Status>,
    /// Only calls that were made at least this long ago.
    #[arg(long, value_name = "TIME", value_parser = parse_age)]
    pub(crate) older_than: Option<Duration>,
    /// The most calls to list; 100 by default, and all with --json.
    #[arg(long, value_name = "CALLS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
}

/// Which records are printed.
#[derive(Args, Clone, Debug)]
pub(crate) struct WhichLogs {
    /// Print backtraces to their end.
    #[arg(long)]
    pub(crate) backtrace: bool,
    /// Go on with what is logged from now on, until ctrl-c.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Only records of the node with this name or id. It may be gone.
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// Only records of handlers of this method (`Arith.sum`) or service (`Arith`).
    #[arg(long, value_name = "NAME")]
    pub(crate) method: Option<String>,
    /// Only records of the handler of this call.
    #[arg(long, value_name = "CALL")]
    pub(crate) call: Option<CallId>,
    /// Only records of this level, and more serious ones.
    #[arg(long, value_enum)]
    pub(crate) level: Option<Level>,
    /// Only records whose message or fields contain this text.
    #[arg(long, value_name = "TEXT")]
    pub(crate) contains: Option<String>,
    /// Only records that the master received at most this long ago.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) since: Option<Duration>,
    /// How many of the newest records to begin with; 1,000 by default. A master keeps 50,000 at most.
    #[arg(short = 'n', long, value_name = "RECORDS")]
    pub(crate) lines: Option<u64>,
}

/// How serious a record is.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Level {
    /// Each step.
    Trace,
    /// For those who look for a fault.
    Debug,
    /// What happens.
    Info,
    /// Something is wrong, and the work goes on.
    Warn,
    /// Something has failed.
    Error,
}

/// What a call does.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Status {
    /// It waits at the master.
    Waiting,
    /// A node has it.
    Running,
    /// It has ended, and its handler goes on.
    Stopping,
}
