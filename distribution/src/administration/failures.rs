//! Calls that failed, grouped by what happened to them.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    id::{CallId, MethodName},
    seconds,
};

/// Calls of one method that have failed in the same way: with the same kind of error and, of a panic, the same message.
///
/// A master remembers 256 groups, those that had a failure last. Errors of methods themselves are the callers' matter and are
/// not among them, nor are calls that somebody has cancelled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FailureGroup {
    /// The method.
    pub method: MethodName,
    /// The kind of error, in words: `panicked`, `node lost`, `timed out`.
    pub kind: String,
    /// The whole error of one of the last such calls, as its caller got it.
    pub message: String,
    /// The call that had it.
    pub call: Option<CallId>,
    /// Who made it: the name of the caller; `None` for the master's own process.
    pub caller: Option<Arc<str>>,
    /// How many calls. Each call of a batch counts.
    pub count: u64,
    /// Time since the first of them.
    #[serde(with = "seconds")]
    pub first: Duration,
    /// Time since the last of them.
    #[serde(with = "seconds")]
    pub last: Duration,
}
