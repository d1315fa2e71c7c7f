//! A master that serves HTTP, any number of nodes that calculate, and callers in processes of their own.
//!
//! ```text
//! arith master --listen 127.0.0.1:3000 --http 127.0.0.1:3001
//! arith node --master 127.0.0.1:3000          # as often as you like, before or after the master
//! curl localhost:3001/sum
//! curl 'localhost:3001/sum?values=1,2,3'
//! curl 'localhost:3001/palindromes?n=2000'
//! curl localhost:3001/nodes
//! arith call --cluster 127.0.0.1:3000 1 2 3   # the same as `/sum?values=1,2,3`, without HTTP
//! arith http --cluster 127.0.0.1:3000 --http 127.0.0.1:3002   # HTTP apart from the master, as often as you like
//! ```
//!
//! On two machines, the first command prints the token that the second one needs:
//!
//! ```text
//! arith master --listen 10.0.0.1:3000 --token-file cluster.token
//! DISTRIBUTION_TOKEN=dtok1_node_… arith node --master 10.0.0.1:3000
//! ```
//!
//! HTTP has no password, so it is served on loopback only, unless `--http` gives another address. A request must name this
//! machine in its `Host` header. Otherwise a web page whose own name resolves to this machine's address could send requests
//! through the browser of a user (DNS rebinding). Behind a proxy, `--http-name` adds the name in the proxy's requests.
//!
//! `arith token --token-file cluster.token` changes the token: it prints a new token, which nodes can use at once. The
//! token before it stays valid until the next change. With `--role caller` the token is for `arith call` and `arith http`, and
//! not for nodes.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its user")]

mod http;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use distribution::{Access, Token};
use distribution_examples::{NodeOptions, Security};

use http::{HttpOptions, HttpServer};

/// What the nodes calculate.
#[distribution::service]
pub trait Arith {
    /// Sum of `values`, or an error if it overflows. Takes a second, as an example of long work.
    #[rpc(idempotent)]
    fn sum(&self, values: Vec<i64>) -> Result<i64, String>;

    /// How many numbers from 0 to `n` read the same in both directions in binary.
    #[rpc(idempotent)]
    fn palindromes(&self, n: u64) -> u64;
}

struct Calculator;

impl Arith for Calculator {
    fn sum(&self, values: Vec<i64>) -> Result<i64, String> {
        std::thread::sleep(Duration::from_secs(1));
        let sum = values.iter().try_fold(0i64, |sum, value| sum.checked_add(*value));
        sum.ok_or_else(|| "the sum does not fit into 64 bits".to_owned())
    }

    fn palindromes(&self, n: u64) -> u64 {
        (0..=n).filter(|n| *n == 0 || *n == n.reverse_bits() >> n.leading_zeros()).count() as u64
    }
}

/// Adds numbers up on nodes that register themselves.
#[derive(Parser)]
#[command(version)]
struct Options {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Accepts nodes on one port and HTTP on another.
    Master {
        /// Where nodes register.
        #[arg(long, default_value = "127.0.0.1:3000")]
        listen: String,
        #[command(flatten)]
        http: HttpOptions,
        #[command(flatten)]
        security: Security,
    },
    /// Serves the same HTTP in a process of its own, and calls a cluster for it.
    Http {
        /// The master's address.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000")]
        cluster: String,
        #[command(flatten)]
        http: HttpOptions,
        #[command(flatten)]
        security: Security,
    },
    /// Registers at a master and calculates for it until SIGTERM or ctrl-c.
    Node {
        #[command(flatten)]
        options: NodeOptions,
        /// How many calls it runs at once.
        #[arg(long, default_value_t = 1)]
        slots: usize,
    },
    /// Calls the cluster from a process of its own: adds numbers up, and prints which node has answered.
    Call {
        /// The master's address.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000")]
        cluster: String,
        /// The numbers.
        #[arg(default_values_t = [2, 4, 6], allow_negative_numbers = true)]
        values: Vec<i64>,
        #[command(flatten)]
        security: Security,
    },
    /// Makes a new join token, and prints the line that a node or a caller needs. The token before it stays valid.
    Token {
        /// The master's token file.
        #[arg(long, default_value = "cluster.token")]
        token_file: PathBuf,
        /// What the token is for.
        #[arg(long, default_value = "node")]
        role: Holder,
    },
}

/// Who a token is for.
#[derive(Clone, Copy, ValueEnum)]
enum Holder {
    Node,
    Caller,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    distribution_examples::start_logs("warn,distribution=info");
    match run(options.role).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            distribution_examples::report(&*error);
            ExitCode::FAILURE
        }
    }
}

async fn run(role: Role) -> Result<(), Box<dyn std::error::Error>> {
    match role {
        Role::Master { listen, http, security } => {
            let master = security.master().bind(&listen).await?;
            let server = HttpServer::bind(http).await?;
            println!("Nodes: {}; HTTP: http://{}", master.local_addr(), server.addr());
            server.run(&master, interrupted()).await?;
            master.shutdown().await;
        }
        Role::Http { cluster, http, security } => {
            let cluster = security.cluster().connect(cluster).await?;
            let server = HttpServer::bind(http).await?;
            println!("HTTP: http://{}", server.addr());
            server.run(&cluster, interrupted()).await?;
            cluster.close().await;
        }
        Role::Node { options, slots } => {
            options.node().serve(ArithServer::new(Calculator)).slots(slots).run(options.master).await?;
        }
        Role::Call { cluster, values, security } => {
            let cluster = security.cluster().connect(cluster).await?;
            let answer = ArithClient::new(&cluster).sum(values).answer().await?;
            println!("Reply from node {}: {}", answer.node.name, answer.value);
            cluster.close().await;
        }
        Role::Token { token_file, role } => {
            let access = match role {
                Holder::Node => Access::Nodes,
                Holder::Caller => Access::Callers,
            };
            let token = Token::issue(token_file, access)?;
            println!("DISTRIBUTION_TOKEN={}", token.expose());
        }
    }
    Ok(())
}

/// Waits for ctrl-c or SIGTERM.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
