//! A page in the browser that shows what a [`distribution`] cluster does and lets its operator step in, and the same as an
//! API in JSON.
//!
//! [`router`] makes an [`axum::Router`] of any [`Caller`]: a [`Master`](distribution::Master) in the same process, or a
//! [`Cluster`](distribution::Cluster) that may administer. A program mounts it in its own axum application, also below a
//! prefix. The program `distribution` serves it with `distribution master --http ADDR`, by the [`Server`] of this crate.
//!
//! The page needs no other host: its scripts and styles are part of the program. One event stream brings it what the
//! cluster does, once a second. All viewers share one reader of the master, which does not run while nobody looks.
//!
//! ```
//! use std::net::SocketAddr;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let master = distribution::Master::bind("127.0.0.1:0").await?;
//! let app = axum::Router::new().nest_service("/cluster", distribution_http::router(&master));
//!
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! println!("the page: http://{}/cluster/", listener.local_addr()?);
//! // The router has to know who asks: without tokens it answers this machine only.
//! let server = axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>());
//! # drop(server);
//! # Ok(()) }
//! ```
//!
//! # Who may look, and who may change
//!
//! Without tokens, only requests from this machine are answered, and they may do everything. With tokens
//! ([`PageBuilder::token_file`], [`PageBuilder::admin_token`], [`PageBuilder::viewer_token`]) each request of the API has to
//! carry one as `Authorization: Bearer ..`: an administrator's may do everything, and a viewer's may look and change nothing.
//! The page asks for the token, and forgets it with the browser's tab.
//!
//! [`Server`] refuses to listen beyond loopback without TLS and tokens. A program that mounts the router itself has to see to
//! TLS itself.
//!
//! # The API
//!
//! | request | answer |
//! |---|---|
//! | `GET api/me` | who the request comes from, and what it may do |
//! | `GET api/status` | what the master is, and its totals |
//! | `GET api/nodes?q=&limit=` | nodes whose name, id, address or state has this text |
//! | `GET api/nodes/{id}` | one node with all that is known of it |
//! | `GET api/calls?method=&node=&status=&older_than=&after=&limit=` | calls that have not ended, as [`CallFilter`](distribution::CallFilter) chooses them, each with a sentence that says what it does |
//! | `GET api/methods?q=&limit=`, `GET api/services?q=&limit=`, `GET api/callers?q=&limit=` | those whose name has this text |
//! | `GET api/warnings` | what looks wrong, the most urgent first, as `distribution warnings` prints it |
//! | `GET api/runs` | runs of many calls that have a name, with their progress |
//! | `GET api/failures`, `GET api/history?resolution=&from=&nodes=&methods=&node=`, `GET api/timeline?after=&node=&within=` | what has been |
//! | `GET api/logs?node=&method=&call=&level=&contains=&newer_than=&limit=` | what nodes have logged, as [`LogFilter`](distribution::LogFilter) chooses it: the newest records, 200 unless said otherwise |
//! | `GET api/events` | what has happened to nodes, the newest first |
//! | `GET api/report` | the page with all that it shows and its history in one HTML file: see [`report`] |
//! | `GET metrics` | what the master counts, in the text format of Prometheus; with tokens it needs one, too |
//! | `GET api/stream` | server-sent events: each part of what the page shows, and then, as `change`, the fields and rows of it that have changed |
//! | `POST api/calls/{id}/cancel` | cancels a call |
//! | `POST api/nodes/{id}/profile` with `{"seconds":5}`, from 1 to 30 | a [`Profile`](distribution::administration::Profile) of the node's process; only for admins |
//! | `POST api/nodes/{id}/drain`, `/cordon`, `/uncordon`, `/kick` | steps in at a node |
//!
//! Errors are JSON too: `{"error":"a sentence"}`.

mod access;
mod api;
mod app;
mod assets;
mod builder;
mod error;
mod failures;
mod limits;
mod live;
mod metrics;
mod origin;
mod past;
mod refusal;
mod report;
mod server;
mod tokens;

pub use builder::PageBuilder;
pub use error::Error;
pub use report::{profile_page, report};
pub use server::Server;

use distribution::Caller;

/// The page and its API for the cluster behind this caller, with default settings: requests from this machine are answered,
/// and they may do everything. See [`PageBuilder`] for tokens, names and limits.
///
/// The caller must be one that may administer. Serve the router with
/// [`into_make_service_with_connect_info::<SocketAddr>()`](axum::Router::into_make_service_with_connect_info): a request whose
/// origin is not known is refused.
///
/// Nothing is read from the master while nobody looks at the page.
pub fn router(caller: &impl Caller) -> axum::Router {
    PageBuilder::new(caller).open_router()
}
