//! Write a Rust trait, get a cluster: typed RPC for distributed calculation.
//!
//! Annotate a trait with [`#[service]`](service). Its implementations run on [nodes](Node), which dial
//! a [`Master`] and register themselves. Its generated client is called where the master is, through a
//! [`Cluster`] in any other process, and in handlers: each call goes to the least loaded node that serves
//! it, waits at the master while all are busy, and ends with a value or a [`CallError`], whatever happens
//! to nodes and connections.
//!
//! ```
//! use distribution::{LocalCluster, service};
//!
//! #[service]
//! pub trait Arith {
//!     /// Sum of `values`.
//!     fn sum(&self, values: Vec<i64>) -> i64;
//! }
//!
//! struct Calculator;
//!
//! impl Arith for Calculator {
//!     fn sum(&self, values: Vec<i64>) -> i64 {
//!         values.iter().sum()
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = LocalCluster::builder().nodes(2).serve(|| ArithServer::new(Calculator)).start().await?;
//! let arith = ArithClient::new(&cluster);
//! assert_eq!(arith.sum(vec![2, 4, 6]).await?, 12);
//! # Ok(()) }
//! ```
//!
//! Over several machines the same service needs two programs: one with [`Master::bind`], one with
//! [`Node::spawn`] or [`NodeBuilder::run`].
//!
//! The [guide] has a page for each question that comes next, from the first cluster to troubleshooting.
//!
//! # Compute and async methods
//!
//! A `fn` of the trait is *compute*: it keeps a core busy, runs on a thread of the node's own, and takes one
//! of its slots. What it does with rayon runs on rayon's global pool, as in any program. An `async fn` waits
//! for something: it runs on the tokio runtime that the node was started from, and many run at once. Neither
//! can hold up the node's heartbeats, which have threads of their own.
//!
//! An `async fn` must not block or calculate for long: it would keep a thread from others that wait. A node
//! logs a warning and counts it if one blocks before it first waits, and if the whole runtime stands still
//! for a second. One of several threads that is blocked later goes unnoticed.
//!
//! The runtime that a node was started from has to last as long as the node. If it ends earlier, async calls
//! that were not started go elsewhere, those that were end as [`CallError::NodeLost`], and the node leaves
//! with [`Error::RuntimeEnded`].
//!
//! # What happens when things break
//!
//! A node whose connection closes is gone at once; one that is silent for six heartbeats is gone then. A
//! call that was certainly not started goes to another node. One that may have been started does so only
//! if its method is `#[rpc(idempotent)]`; else it ends as [`CallError::NodeLost`]. A panic in a handler
//! is caught and comes back as [`CallError::Panicked`] (which needs the default `panic = "unwind"` in the
//! node's profile). [`CallError::execution`] says in each case whether the handler ran.
//!
//! # Programs of different age
//!
//! A call reaches only nodes whose method has the same name, version and signature, and the same structure of all types
//! in it; else it ends as [`CallError::Incompatible`], which says what differs. What that covers is said at
//! [`#[service]`](service#old-and-new-programs).
//!
//! # Bytes in other types
//!
//! `Vec<u8>` and [`Bytes`](https://docs.rs/bytes) are fast as whole arguments and values. Within another type
//! (`Vec<Vec<u8>>`, a field) a `Vec<u8>` goes element by element, and such a call costs 8 to 11 times one of `Bytes`: use
//! `Bytes`, `serde_bytes::ByteBuf`, or `#[serde(with = "serde_bytes")]`.

// The macro's code names this crate as a user's program does.
extern crate self as distribution;

mod admin;
pub mod administration;
mod cluster;
mod config;
mod core;
pub mod error;
mod failed_attempt;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod guide;
mod hash;
mod id;
mod in_process;
mod local;
mod log_queue;
mod many;
mod master;
mod node;
mod process_name;
mod seconds;
mod security;
mod service;
#[cfg(feature = "simulation")]
#[doc(hidden)]
pub mod simulation;
mod source;
mod sync;
mod text;
mod view;
mod wire;

pub use admin::AdminClient;
pub use administration::{CallFilter, CallInfo, LogFilter};
pub use cluster::{Cluster, ClusterBuilder};
pub use distribution_macros::service;
pub use error::{CallError, Error};
pub use id::{CallId, MethodName, NodeId, NodeIdentity};
pub use in_process::InProcess;
pub use local::{LocalCluster, LocalClusterBuilder};
pub use many::Distributed;
pub use master::{Events, Master, MasterBuilder};
pub use node::{
    Node, NodeBuilder,
    current::{CurrentCall, current},
};
pub use security::{Access, CallerRights, Principal, PrincipalKind};
#[cfg(feature = "tls")]
pub use security::{Certificates, Token};
pub use service::{Answer, Call, CallHandle, Caller, Service, StreamCall, StreamIter, Streaming, StreamingIter};
pub use view::{NodeEvent, NodeInfo, NodeState, ServiceInfo, Stats};

/// The traits that bring `.distribute()` to iterators and streams: `use distribution::prelude::*;`
pub mod prelude {
    pub use crate::many::{DistributeIterator, DistributeStream};
}

/// The types behind `.distribute()`, for signatures that name them.
pub mod distribute {
    pub use crate::many::{Answers, Distributable, Values, Yields};
}

/// What handlers log, sent to the master.
#[cfg(feature = "logs")]
pub mod logs {
    pub use crate::node::log_layer::{LogLayer, layer};
}

/// The progress of many calls: the argument of `.on_progress()` hooks, and a writer for log lines beside the bar of
/// `.progress()`.
pub mod progress {
    #[cfg(feature = "progress")]
    pub use crate::many::LogWriter;
    pub use crate::many::Progress;
}

/// Not public API: what generated code names.
#[doc(hidden)]
pub mod __private {
    pub use crate::service::{
        AnyTypes, ClientMethods, FallibleTypes, Method, PlainTypes, RawClient, Routes, Service, ServiceClient,
        stream::{Items, Produced},
        streamed_arguments::{ReceivedArguments, SentArguments},
    };
}
