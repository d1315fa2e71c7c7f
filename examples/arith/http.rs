//! The HTTP server of this program: in the master's process, or in one of its own.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::{Query, Request, State},
    http::{HeaderMap, StatusCode, header, uri::Authority},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use clap::Args;
use distribution::{AdminClient, CallError, Caller};
use serde::Deserialize;
use tokio::net::TcpListener;

use crate::ArithClient;

/// The largest `n` that `/palindromes` takes: some seconds of work.
const LARGEST_N: u64 = 1_000_000_000;

/// Where HTTP is served, and for whom.
#[derive(Args)]
pub(crate) struct HttpOptions {
    /// Where HTTP is served: /sum, /palindromes and /nodes. Anybody who can connect to it can run calls on the nodes.
    #[arg(long, default_value = "127.0.0.1:3001")]
    http: String,
    /// A host name that HTTP requests may have, besides the address that it is served on and localhost. May be repeated.
    #[arg(long, value_name = "NAME")]
    http_name: Vec<String>,
}

/// A server that listens.
pub(crate) struct HttpServer {
    listener: TcpListener,
    hosts: Arc<Hosts>,
}

impl HttpServer {
    /// Listens, and warns if other machines can connect.
    ///
    /// # Errors
    ///
    /// If it cannot listen there.
    pub(crate) async fn bind(HttpOptions { http, http_name }: HttpOptions) -> Result<Self, String> {
        let failed = |error: io::Error| format!("cannot serve HTTP on {http}: {error}");
        let listener = TcpListener::bind(&http).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        if !addr.ip().to_canonical().is_loopback() {
            eprintln!(
                "warning: HTTP on {addr} can be reached from other machines, and asks for no password: anybody who reaches \
                 it can have the nodes work. Serve it on 127.0.0.1, behind a proxy that knows who may ask"
            );
        }
        Ok(Self { listener, hosts: Arc::new(Hosts { addr, names: http_name }) })
    }

    /// The address that it listens on.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.hosts.addr
    }

    /// Answers requests by calls of this caller, until `end`.
    ///
    /// # Errors
    ///
    /// If no more connections can be accepted.
    pub(crate) async fn run(
        self,
        caller: &impl Caller,
        end: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        axum::serve(self.listener, routes(caller, self.hosts)).with_graceful_shutdown(end).await
    }
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
    let sentence = "The `Host` of this request is not the address of this server. To allow another name, start this program \
                    with --http-name and that name.\n";
    (StatusCode::FORBIDDEN, sentence).into_response()
}

/// What requests are answered with.
#[derive(Clone)]
struct App {
    arith: ArithClient,
    admin: AdminClient,
}

fn routes(caller: &impl Caller, hosts: Arc<Hosts>) -> Router {
    let app = App { arith: ArithClient::new(caller), admin: AdminClient::new(caller) };
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

/// Lists the nodes, if this program may: a token for callers is not one for administrators.
async fn nodes(State(app): State<App>) -> Response {
    match app.admin.nodes().await {
        Ok(nodes) => Json(nodes).into_response(),
        Err(error) => failed(&error),
    }
}

fn bad_request(sentence: &str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{sentence}\n")).into_response()
}

/// 503 if a later request may succeed, 403 if the cluster does not allow it, else 500.
fn failed<E: std::fmt::Display>(error: &CallError<E>) -> Response {
    let status = match error {
        CallError::NoNode { .. }
        | CallError::Overloaded { .. }
        | CallError::NodeLost { .. }
        | CallError::MasterLost { .. }
        | CallError::Shutdown { .. } => StatusCode::SERVICE_UNAVAILABLE,
        CallError::Denied { .. } => StatusCode::FORBIDDEN,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, format!("{error}\n")).into_response()
}
