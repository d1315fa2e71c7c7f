//! How a call is to be made: what its caller asks for, and what `.distribute()` adds.

use std::{sync::Arc, time::Duration};

use super::metadata::Metadata;
use crate::{
    failed_attempt::FailedAttempt,
    id::{CallId, NodeId},
};

/// Labels that a node must have, each with its value; `None` for any node.
pub(crate) type Labels = Option<Arc<[(String, String)]>>;

/// The most labels that a call may ask for, and the bytes of all of them: a node can have no more.
pub(crate) const MOST_LABELS: usize = 64;
pub(crate) const MOST_LABEL_BYTES: usize = 4 * 1024;

/// Whether a node can have all these labels.
pub(crate) fn are_possible(labels: &[(String, String)]) -> bool {
    let bytes: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    labels.len() <= MOST_LABELS && bytes <= MOST_LABEL_BYTES
}

/// What the caller of a call asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[doc(hidden)]
pub struct CallOptions {
    pub(crate) timeout: Option<Duration>,
    pub(crate) node: Option<NodeId>,
    pub(crate) attempts: Option<u32>,
    pub(crate) labels: Labels,
    pub(crate) affinity: Option<u64>,
    pub(crate) retry_panics: bool,
    pub(crate) metadata: Metadata,
    /// Whether it is a part of a `.broadcast()`, which is a right of its own.
    pub(crate) is_broadcast: bool,
}

/// What `.distribute()` adds to a call that it submits.
#[derive(Clone, Debug)]
pub(crate) struct SubmitOptions {
    /// How many calls the payload holds: more than one is a batch.
    pub(crate) count: u32,
    /// Whether the call may wait although the queue is full.
    pub(crate) exempt_from_limits: bool,
    /// The call that this one is a hedge of.
    pub(crate) hedge_of: Option<Hedged>,
    /// The attempts that failed while it was part of a batch.
    pub(crate) failed_attempts: Vec<FailedAttempt>,
    /// The id that it had as a part of that batch. A caller elsewhere does not know the attempts, but its master does.
    pub(crate) continues: Option<CallId>,
}

/// A call that is sent a second time, as another call. For its caller both are one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hedged {
    pub(crate) id: CallId,
    /// How long ago it was submitted. The timeout of the second one counts from there too.
    pub(crate) elapsed: Duration,
}

impl Default for SubmitOptions {
    fn default() -> Self {
        Self { count: 1, exempt_from_limits: false, hedge_of: None, failed_attempts: Vec::new(), continues: None }
    }
}
