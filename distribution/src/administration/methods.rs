//! Methods as administrators see them.

use serde::{Deserialize, Serialize};

/// A method that a registered node serves, or that is called. If nodes or callers have it with other structures of its
/// types, each of these forms is listed by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MethodSummary {
    /// The name of its service on the wire.
    pub service: String,
    /// Its name.
    pub name: String,
    /// The version of its service.
    pub version: u32,
    /// Its signature: `fn(Vec<i64>) -> i64`.
    pub signature: String,
    /// How nodes run it; `None` if no registered node serves it.
    pub kind: Option<MethodKind>,
    /// How many nodes serve it, busy, suspect and cordoned ones included, and draining ones not.
    pub nodes: usize,
    /// How many calls of it wait at the master. Each call of a batch counts.
    pub waiting: usize,
    /// How many calls of it were sent to a node and are not answered yet.
    pub running: usize,
}

/// How nodes run a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MethodKind {
    /// It is a `fn`: each call takes a slot.
    Compute,
    /// It is an `async fn`: calls wait on the node's runtime.
    Async,
}
