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
//! token before it stays valid until the next change. With `--role caller` the token is for `arith call`, and not for nodes.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its user")]

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Query, Request, State},
    http::{HeaderMap, StatusCode, header, uri::Authority},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use clap::{Parser, Subcommand, ValueEnum};
use distribution::{Access, CallError, Master, NodeInfo, Token};
use distribution_examples::{NodeOptions, Security};
use serde::Deserialize;

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

/// The largest `n` that `/palindromes` takes: some seconds of work.
const LARGEST_N: u64 = 1_000_000_000;

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
        /// Where HTTP is served: /sum, /palindromes and /nodes. Anybody who can connect to it can run calls on the nodes.
        #[arg(long, default_value = "127.0.0.1:3001")]
        http: String,
        /// A host name that HTTP requests may have, besides the address that it is served on and localhost. May be repeated.
        #[arg(long, value_name = "NAME")]
        http_name: Vec<String>,
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
        Role::Master { listen, http, http_name, security } => {
            let master = security.master().bind(&listen).await?;
            let listener = tokio::net::TcpListener::bind(&http)
                .await
                .map_err(|error| format!("cannot serve HTTP on {http}: {error}"))?;
            let addr = listener.local_addr()?;
            if !addr.ip().to_canonical().is_loopback() {
                eprintln!(
                    "warning: HTTP on {addr} can be reached from other machines, and asks for no password: anybody who reaches \
                     it can have the nodes work. Serve it on 127.0.0.1, behind a proxy that knows who may ask"
                );
            }
            println!("Nodes: {}; HTTP: http://{addr}", master.local_addr());
            let hosts = Arc::new(Hosts { addr, names: http_name });
            axum::serve(listener, routes(&master, hosts)).with_graceful_shutdown(interrupted()).await?;
            master.shutdown().await;
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

#[derive(Clone)]
struct App {
    master: Master,
    arith: ArithClient,
}

/// The hosts that a request may name. A web page can have its name resolve to this machine, but the browser still sends
/// that name.
struct Hosts {
    addr: SocketAddr,
    names: Vec<String>,
}

impl Hosts {
    /// Whether the `Host` header names this machine.
    fn mean(&self, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(header::HOST).iter();
        match (hosts.next(), hosts.next()) {
            (Some(host), None) => Authority::try_from(host.as_bytes()).is_ok_and(|host| self.is_own(host.host())),
            _ => false,
        }
    }

    fn is_own(&self, host: &str) -> bool {
        let served = self.addr.ip().to_canonical();
        if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            let ip = ip.to_canonical();
            return ip == served || served.is_unspecified() || served.is_loopback() && ip.is_loopback();
        }
        let host = host.trim_end_matches('.');
        let is_here = served.is_loopback() || served.is_unspecified();
        is_here && host.eq_ignore_ascii_case("localhost")
            || self.names.iter().any(|name| host.eq_ignore_ascii_case(name))
    }
}

async fn check_host(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    if hosts.mean(request.headers()) {
        return next.run(request).await;
    }
    let sentence = "The `Host` of this request is not the address of this server. To allow another name, start the master \
                    with --http-name and that name.\n";
    (StatusCode::FORBIDDEN, sentence).into_response()
}

fn routes(master: &Master, hosts: Arc<Hosts>) -> Router {
    let app = App { master: master.clone(), arith: ArithClient::new(master) };
    Router::new()
        .route("/sum", get(sum))
        .route("/palindromes", get(palindromes))
        .route("/nodes", get(nodes))
        .fallback(|| async { (StatusCode::NOT_FOUND, "The paths are /sum, /palindromes and /nodes.\n") })
        .with_state(app)
        .layer(middleware::from_fn_with_state(hosts, check_host))
}

#[derive(Deserialize)]
struct SumQuery {
    values: Option<String>,
}

async fn sum(State(app): State<App>, Query(query): Query<SumQuery>) -> Response {
    let values = match query.values.as_deref().map_or_else(|| Ok(vec![2, 4, 6]), parse_values) {
        Ok(values) => values,
        Err(sentence) => return bad_request(&sentence),
    };
    match app.arith.sum(values).answer().await {
        Ok(answer) => format!("Reply from node {}: {}\n", answer.node.name, answer.value).into_response(),
        Err(CallError::Handler(sentence)) => bad_request(&sentence),
        Err(error) => failed(&error),
    }
}

/// Whole numbers between commas.
fn parse_values(text: &str) -> Result<Vec<i64>, String> {
    let parse =
        |value: &str| value.trim().parse().map_err(|error| format!("`{value}` is not a 64-bit integer: {error}"));
    text.split(',').map(parse).collect()
}

#[derive(Deserialize)]
struct PalindromesQuery {
    n: Option<String>,
}

async fn palindromes(State(app): State<App>, Query(query): Query<PalindromesQuery>) -> Response {
    let Some(text) = query.n else { return bad_request("`n` is missing: /palindromes?n=2000") };
    let n = match text.trim().parse() {
        Ok(n) if n <= LARGEST_N => n,
        Ok(_) => return bad_request(&format!("n may be {LARGEST_N} at most")),
        Err(error) => return bad_request(&format!("`{text}` is not an integer from 0: {error}")),
    };
    match app.arith.palindromes(n).await {
        Ok(count) => format!("Binary palindromes up to {n}: {count}\n").into_response(),
        Err(error) => failed(&error),
    }
}

async fn nodes(State(app): State<App>) -> Json<Vec<NodeInfo>> {
    Json(app.master.nodes())
}

fn bad_request(sentence: &str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{sentence}\n")).into_response()
}

/// 503 if a later request may succeed, else 500.
fn failed<E: std::fmt::Display>(error: &CallError<E>) -> Response {
    let status = match error {
        CallError::NoNode { .. }
        | CallError::Overloaded { .. }
        | CallError::NodeLost { .. }
        | CallError::Shutdown { .. } => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, format!("{error}\n")).into_response()
}
