//! Which calls are listed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{MethodName, NodeId};

/// Which calls [`Master::calls`](crate::Master::calls) lists, and how many at a time. The default is all calls, 1,000 at a
/// time.
///
/// ```
/// # use std::time::Duration;
/// # use distribution::{CallFilter, administration::StatusFilter};
/// let stuck = CallFilter::default().method("Arith").status(StatusFilter::Waiting).older_than(Duration::from_secs(60));
/// # assert_eq!(stuck.limit, 1000);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct CallFilter {
    /// Only calls of this method (`Arith.sum`) or service (`Arith`).
    pub method: Option<String>,
    /// Only calls that this node has, or that have to run there.
    pub node: Option<NodeId>,
    /// Only calls that wait, run, or are being stopped.
    pub status: Option<StatusFilter>,
    /// Only calls that were made at least this long ago.
    #[serde(with = "crate::seconds")]
    pub older_than: Duration,
    /// Only calls that come after this place in the list: [`CallPage::next`](super::CallPage::next) of the page before.
    pub after: Option<CallCursor>,
    /// The most calls on a page. A page has no more than 10,000, whatever this says.
    pub limit: usize,
}

/// A place in the list of a master's calls: how many calls were submitted before the last one of a page. It stays valid when
/// that call has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallCursor(pub(crate) u64);

/// What a call has to be doing to be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StatusFilter {
    /// It waits at the master.
    Waiting,
    /// It was sent to a node.
    Running,
    /// It has ended, and a node has not stopped its handler yet.
    Stopping,
}

impl Default for CallFilter {
    fn default() -> Self {
        Self { method: None, node: None, status: None, older_than: Duration::ZERO, after: None, limit: 1000 }
    }
}

impl CallFilter {
    /// Only calls of this method (`Arith.sum`) or service (`Arith`).
    pub fn method(self, name: impl Into<String>) -> Self {
        Self { method: Some(name.into()), ..self }
    }

    /// Only calls that this node has, or that have to run there.
    pub fn node(self, node: impl Into<NodeId>) -> Self {
        Self { node: Some(node.into()), ..self }
    }

    /// Only calls that wait, run, or are being stopped.
    pub fn status(self, status: StatusFilter) -> Self {
        Self { status: Some(status), ..self }
    }

    /// Only calls that were made at least this long ago.
    pub fn older_than(self, age: Duration) -> Self {
        Self { older_than: age, ..self }
    }

    /// Only calls that come after this place in the list, where the page before ended.
    pub fn after(self, place: CallCursor) -> Self {
        Self { after: Some(place), ..self }
    }

    /// The most calls on a page.
    pub fn limit(self, calls: usize) -> Self {
        Self { limit: calls, ..self }
    }

    /// Whether calls of this method are listed.
    pub(crate) fn lists_method(&self, method: &MethodName) -> bool {
        self.method.as_deref().is_none_or(|wanted| wanted == method.as_str() || wanted == method.service())
    }
}
