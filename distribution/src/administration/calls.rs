//! Calls as administrators see them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{filter::CallCursor, wait_reason::WaitReason};
use crate::{
    id::{CallId, MethodName, NodeIdentity},
    seconds,
};

/// Some calls of all callers, the oldest first, and where to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CallPage {
    /// The calls.
    pub calls: Vec<CallInfo>,
    /// Where the next page begins: give it to [`CallFilter::after`](super::CallFilter::after). `None` if there are no more
    /// calls. A page may have few calls, or none, although there are more: a master looks at no more than 100,000 calls
    /// for one page.
    pub next: Option<CallCursor>,
}

/// A call that has not ended, or whose handler has not been stopped yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CallInfo {
    /// Its number at the master. That of a batch is the number of its first call.
    pub id: CallId,
    /// Which method it calls.
    pub method: MethodName,
    /// The name of the caller that made it, or of the node if a handler made it. `None` if it was made in the master's
    /// process, or by a caller that has detached it and is gone.
    pub caller: Option<Arc<str>>,
    /// The call whose handler made it. Not told of a call that [stops](CallStatus::Stopping).
    pub parent: Option<CallId>,
    /// Time since it was made.
    #[serde(with = "seconds")]
    pub age: Duration,
    /// Bytes of its arguments.
    pub size: usize,
    /// What its caller sent along with [`Call::metadata`](crate::Call::metadata), and what it inherited.
    pub metadata: BTreeMap<String, String>,
    /// The id of the trace that it belongs to, as 32 hexadecimal digits. `None` if its caller sends no traces: see
    /// [traces](crate::guide::traces).
    pub trace: Option<String>,
    /// How many calls it is: more than one if it is a batch, which `.distribute()` makes of calls that travel together.
    pub count: u32,
    /// How many attempts at it have failed.
    pub failed_attempts: u32,
    /// What it does now.
    pub status: CallStatus,
}

/// What a call does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CallStatus {
    /// It waits at the master.
    #[non_exhaustive]
    Waiting {
        /// What it waits for.
        why: WaitReason,
    },
    /// It was sent to a node and is not answered yet.
    #[non_exhaustive]
    Running {
        /// The node that has it.
        node: NodeIdentity,
        /// The number of this attempt, from 1.
        attempt: u32,
        /// Time since it was sent there. If the call is a short one, it may have waited on the node for a part of this.
        #[serde(with = "seconds")]
        running_for: Duration,
    },
    /// It has ended: it was cancelled, or its time was up. Its handler was told and goes on, and holds its slot.
    #[non_exhaustive]
    Stopping {
        /// The node where the handler runs.
        node: NodeIdentity,
        /// Time since the handler was told to stop.
        #[serde(with = "seconds")]
        stopping_for: Duration,
    },
}
