//! What the examples share. Run each as `cargo run --release --example palindromes`. Those that need a large dependency
//! are packages of their own, in folders beside this file; the others are files beside it.
//!
//! `palindromes`, `fibonacci`, `pipeline`, `arith` and `traces` start their master, nodes and local cluster themselves. The others leave that to [`run`], and
//! contain their subject only.

use std::{error::Error, io::IsTerminal, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use distribution::{
    Certificates, Cluster, ClusterBuilder, LocalCluster, Master, MasterBuilder, Node, NodeBuilder, Service,
    progress::LogWriter,
};
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// Where the work runs: in this process, or on nodes in other processes.
#[derive(Args, Debug)]
pub struct Place {
    /// Nodes of the local cluster.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1000))]
    nodes: u16,

    #[command(subcommand)]
    role: Option<Role>,
}

/// How a master and its nodes or callers check each other. On loopback no security is needed.
#[derive(Args, Debug)]
pub struct Security {
    /// Join token. A master creates this file if it does not exist, and prints the line that a node needs. A node or a
    /// caller reads its line from this file, from the file in DISTRIBUTION_TOKEN_FILE, or from DISTRIBUTION_TOKEN.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["authority", "insecure"])]
    token_file: Option<PathBuf>,
    /// Certificates of your own, in PEM: the authority that issued the other side's certificate.
    #[arg(long, value_name = "FILE", requires_all = ["certificate", "key"], conflicts_with = "insecure")]
    authority: Option<PathBuf>,
    /// This side's certificate.
    #[arg(long, value_name = "FILE", requires = "authority")]
    certificate: Option<PathBuf>,
    /// The key of this side's certificate.
    #[arg(long, value_name = "FILE", requires = "authority")]
    key: Option<PathBuf>,
    /// No security, for a network that only you use.
    #[arg(long)]
    insecure: bool,
}

impl Security {
    fn certificates(&self) -> Option<Certificates> {
        Some(Certificates::new(self.authority.clone()?, self.certificate.clone()?, self.key.clone()?))
    }

    /// A builder of a master with these settings.
    pub fn master(&self) -> MasterBuilder {
        let master = Master::builder();
        match (&self.token_file, self.certificates()) {
            (Some(file), _) => master.token_file(file),
            (None, Some(certificates)) => master.certificates(certificates),
            (None, None) if self.insecure => master.insecure(),
            (None, None) => master,
        }
    }

    /// A builder of a node with these settings.
    pub fn node(&self) -> NodeBuilder {
        let node = Node::builder();
        match (&self.token_file, self.certificates()) {
            (Some(file), _) => node.token_file(file),
            (None, Some(certificates)) => node.certificates(certificates),
            (None, None) if self.insecure => node.insecure(),
            (None, None) => node,
        }
    }

    /// A builder of a caller with these settings.
    pub fn cluster(&self) -> ClusterBuilder {
        let cluster = Cluster::builder();
        match (&self.token_file, self.certificates()) {
            (Some(file), _) => cluster.token_file(file),
            (None, Some(certificates)) => cluster.certificates(certificates),
            (None, None) if self.insecure => cluster.insecure(),
            (None, None) => cluster,
        }
    }
}

/// Options of a master that does one job and ends.
#[derive(Args, Debug)]
pub struct MasterOptions {
    /// Where nodes register.
    #[arg(long, default_value = "127.0.0.1:3000")]
    pub listen: String,
    /// How many nodes to wait for before the work begins.
    #[arg(long, default_value_t = 1)]
    pub wait: usize,
    /// How master and nodes check each other.
    #[command(flatten)]
    pub security: Security,
}

/// Options of a node.
#[derive(Args, Debug)]
pub struct NodeOptions {
    /// The master's address. The master may be started later.
    #[arg(long, default_value = "127.0.0.1:3000")]
    pub master: String,
    /// The node's name; host name and process number by default.
    #[arg(long)]
    pub name: Option<String>,
    /// How master and nodes check each other.
    #[command(flatten)]
    pub security: Security,
}

impl NodeOptions {
    /// A builder of a node with these settings.
    pub fn node(&self) -> NodeBuilder {
        let node = self.security.node();
        self.name.iter().fold(node, NodeBuilder::name)
    }
}

#[derive(Subcommand, Debug)]
enum Role {
    /// Waits for nodes, distributes the work over them, and ends.
    Master(MasterOptions),
    /// Registers at a master and works for it until SIGTERM or ctrl-c.
    Node(NodeOptions),
}

/// Runs a program as its options say: as a node that serves this service, or as a master that does the job on such nodes.
/// Prints the error if the job fails.
pub async fn run<S: Service>(
    place: Place,
    service: impl Fn() -> S + Send + Sync + 'static,
    job: impl AsyncFnOnce(&Master) -> Result<(), Box<dyn Error>>,
) -> ExitCode {
    // In one process, messages that nodes join and leave would be noise.
    start_logs(if place.role.is_none() { "warn" } else { "warn,distribution=info" });
    match run_at(place, service, job).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&*error);
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stdout, reason = "a program talks to its user on standard output")]
async fn run_at<S: Service>(
    place: Place,
    service: impl Fn() -> S + Send + Sync + 'static,
    job: impl AsyncFnOnce(&Master) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    match place.role {
        None => {
            let cluster = LocalCluster::builder().nodes(usize::from(place.nodes)).serve(service).start().await?;
            let done = job(cluster.master()).await;
            // Also after an error, so that the nodes end in order and log no warnings.
            cluster.shutdown().await;
            done?;
        }
        Some(Role::Master(MasterOptions { listen, wait, security })) => {
            let master = security.master().bind(&listen).await?;
            println!("Waiting for {} at {}", counted(wait as u64, "node"), master.local_addr());
            master.wait_for_nodes(wait).await;
            let done = job(&master).await;
            master.shutdown().await;
            done?;
        }
        Some(Role::Node(options)) => options.node().serve(service()).run(options.master).await?,
    }
    Ok(())
}

/// Writes logs to standard error, beside the bars of `.progress()`: those that `RUST_LOG` selects, or else those that
/// `default` selects. Both have the form `warn,distribution=info`.
///
/// # Panics
///
/// If `default` is not valid.
#[allow(clippy::print_stderr, reason = "there are no logs yet")]
pub fn start_logs(default: &str) {
    let default: Targets = default.parse().expect("the default filter is valid");
    let filter = match std::env::var("RUST_LOG").map(|text| text.parse::<Targets>()) {
        Ok(Ok(filter)) => filter,
        Ok(Err(error)) => {
            eprintln!("warning: RUST_LOG is ignored, because it is not valid: {error}");
            default
        }
        Err(_) => default,
    };
    let colours = std::io::stderr().is_terminal();
    let layer = tracing_subscriber::fmt::layer().with_writer(LogWriter::new).with_ansi(colours);
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
}

/// Prints an error with its causes.
#[allow(clippy::print_stderr, reason = "the place for errors of a program")]
pub fn report(error: &(dyn Error + 'static)) {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    eprintln!("error: {text}");
    if let Some(distribution::Error::Insecure { .. }) = error.downcast_ref() {
        eprintln!("Here these are --token-file, --authority with --certificate and --key, and --insecure");
    }
}

/// Reads an option that must be a number above zero.
///
/// # Errors
///
/// The reason, for clap to print.
pub fn above_zero(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        Ok(_) => Err("it must be above zero, and finite".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A number of things, in words: `1 node`, `4 nodes`.
pub fn counted(number: u64, thing: &str) -> String {
    if number == 1 { format!("{number} {thing}") } else { format!("{number} {thing}s") }
}

/// A time in words, to a tenth of a millisecond.
pub fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// How many nodes a master has, in words.
pub fn nodes_of(master: &Master) -> String {
    counted(master.nodes().len() as u64, "node")
}
