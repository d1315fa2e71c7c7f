//! The handle of a caller that programs hold.

use std::{fmt, sync::Arc};

use tokio::sync::watch;

use super::{shared::ClusterShared, status::Status};
use crate::service::dispatcher::{Caller, Dispatcher};

/// A cluster that is called from another process than its master's.
///
/// Everything that can be called through a [`Master`](crate::Master) can be called through a `Cluster`: clients,
/// `.distribute()`, `.broadcast()`, options, and cancelling. The master queues and balances its calls like all others, and
/// passes arguments and results on without decoding them, so it needs none of the program's types.
///
/// ```
/// # use distribution::{Cluster, Master, Node, service};
/// # #[service]
/// # pub trait Arith { fn sum(&self, values: Vec<i64>) -> i64; }
/// # struct Calculator;
/// # impl Arith for Calculator { fn sum(&self, values: Vec<i64>) -> i64 { values.iter().sum() } }
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let master = Master::bind("127.0.0.1:0").await?;
/// # let _node = Node::spawn(master.local_addr(), ArithServer::new(Calculator)).await?;
/// # let addr = master.local_addr();
/// let cluster = Cluster::connect(addr).await?;
/// let arith = ArithClient::new(&cluster);
/// assert_eq!(arith.sum(vec![2, 4, 6]).await?, 12);
/// # Ok(()) }
/// ```
///
/// A cheap handle: clones share one connection. The connection ends when the last handle is dropped; its calls are then
/// cancelled, apart from those that were [detached](crate::CallHandle::detach). Clients do not keep it alive: their calls
/// then end as [`CallError::MasterLost`](crate::CallError::MasterLost).
///
/// # When the master is lost
///
/// The caller dials again by itself. Calls that were made meanwhile wait, and are sent when the master is back. Calls that
/// were not sent completely, and those of methods that are declared `#[rpc(idempotent)]`, are sent again. Others end as
/// `CallError::MasterLost`, because they may have run. If the master is away for longer than
/// [`reconnect_timeout`](crate::ClusterBuilder::reconnect_timeout), all calls that wait end so, and those that are made from then
/// on end at once, until the master is back.
#[derive(Clone)]
#[must_use = "the connection ends when the last handle is dropped"]
pub struct Cluster {
    shared: Arc<ClusterShared>,
    /// Ends the connection when the last handle is dropped.
    _last: Arc<LastHandle>,
}

struct LastHandle(Arc<ClusterShared>);

impl Drop for LastHandle {
    fn drop(&mut self) {
        self.0.closed.cancel();
    }
}

impl Cluster {
    pub(super) fn new(shared: Arc<ClusterShared>) -> Self {
        Self { _last: Arc::new(LastHandle(Arc::clone(&shared))), shared }
    }

    /// The name of this caller at the master.
    pub fn name(&self) -> &str {
        &self.shared.hello.name
    }

    /// The master's address as it was given.
    pub fn master(&self) -> &str {
        &self.shared.master
    }

    /// Whether there is a connection to the master at the moment.
    pub fn is_connected(&self) -> bool {
        matches!(*self.shared.status.borrow(), Status::Connected)
    }

    pub(super) fn status(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// Ends the connection, and returns when the master has been told. Calls that have not ended are cancelled, apart from
    /// those that were [detached](crate::CallHandle::detach).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the connection ends all the same.
    pub async fn close(self) {
        let mut status = self.status();
        self.shared.closed.cancel();
        let _ = status.wait_for(|status| matches!(status, Status::Ended(_))).await;
    }
}

impl Caller for Cluster {
    fn dispatcher(&self) -> Arc<dyn Dispatcher> {
        Arc::clone(&self.shared) as Arc<dyn Dispatcher>
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("master", &self.shared.master).finish_non_exhaustive()
    }
}
