//! `Node`: what the owner of a node holds.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use super::state::{DesiredState, Status};
use crate::{error::Error, id::NodeId};

/// A running node: a member of a master's cluster that serves calls.
///
/// It stays registered until it is drained, refused for good, or dropped. When the connection breaks, the node dials
/// again for as long as it takes, unless [`NodeBuilder::end_with_master`](crate::NodeBuilder::end_with_master) is set.
/// Dropping the node ends it at once, and calls that were running on it are lost to their callers. To let them finish,
/// [`drain`](Node::drain) it first.
///
/// ```
/// # use distribution::{Master, Node, service};
/// # #[service]
/// # pub trait Arith { fn sum(&self, values: Vec<i64>) -> i64; }
/// # struct Calculator;
/// # impl Arith for Calculator { fn sum(&self, values: Vec<i64>) -> i64 { values.iter().sum() } }
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let master = Master::bind("127.0.0.1:0").await?;
/// let node = Node::spawn(master.local_addr(), ArithServer::new(Calculator)).await?;
/// assert_eq!(ArithClient::new(&master).sum(vec![2, 4, 6]).await?, 12);
/// node.drain().await;
/// # Ok(()) }
/// ```
#[must_use = "dropping a node ends it; keep it, or `wait` for its end"]
pub struct Node {
    name: String,
    master: String,
    desired: watch::Sender<DesiredState>,
    status: watch::Receiver<Status>,
    id: Arc<AtomicU64>,
}

impl Node {
    pub(super) fn new(
        name: String,
        master: String,
        desired: watch::Sender<DesiredState>,
        status: watch::Receiver<Status>,
        id: Arc<AtomicU64>,
    ) -> Self {
        Self { name, master, desired, status, id }
    }

    /// The id of the newest registration. It changes when the node registers again.
    pub fn id(&self) -> NodeId {
        NodeId::from_bits(self.id.load(Ordering::Acquire))
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the node is registered at this moment.
    pub fn is_registered(&self) -> bool {
        *self.status.borrow() == Status::Registered
    }

    /// Drains the node and waits until it has ended: it takes no new calls, lets the running ones finish (for 30 s unless
    /// [`NodeBuilder::drain_timeout`](crate::NodeBuilder::drain_timeout) says otherwise), sends their replies, and says
    /// goodbye to the master.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the node goes on draining.
    pub async fn drain(&self) {
        self.desired.send_if_modified(|desired| {
            let changes = *desired == DesiredState::Serve;
            if changes {
                *desired = DesiredState::Drain;
            }
            changes
        });
        // Why it ended is what `wait` returns.
        let _ = self.wait().await;
    }

    /// Waits until the node has ended: it was drained, refused for good, or ended with its master.
    ///
    /// # Errors
    ///
    /// - [`Error::Refused`], [`Error::NoCredential`] or [`Error::Protocol`]: the master turned the node away for good.
    /// - [`Error::Untrusted`]: before the first registration, the master could not prove its identity. A node that was
    ///   registered goes on trying.
    /// - [`Error::ConnectTimeout`]: the first registration took longer than
    ///   [`connect_timeout`](crate::NodeBuilder::connect_timeout).
    /// - [`Error::MasterLost`]: with [`end_with_master`](crate::NodeBuilder::end_with_master), the master was away for too
    ///   long.
    /// - [`Error::RuntimeEnded`]: the runtime that the node was started from has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not change the node.
    pub async fn wait(&self) -> Result<(), Error> {
        self.wait_until(|status| matches!(status, Status::Ended(_))).await
    }

    /// Waits until the node is registered, or has ended.
    pub(crate) async fn wait_until_registered(&self) -> Result<(), Error> {
        self.wait_until(|status| *status == Status::Registered).await
    }

    async fn wait_until(&self, reached: impl Fn(&Status) -> bool) -> Result<(), Error> {
        let mut status = self.status.clone();
        let reached = status.wait_for(|status| reached(status) || matches!(status, Status::Ended(_))).await;
        match reached.as_deref() {
            Ok(Status::Ended(Some(reason))) => Err(reason.clone().into_error(&self.master)),
            Ok(_) => Ok(()),
            Err(_) => {
                let source = io::Error::other("they ended unexpectedly; the panic is on standard error");
                Err(Error::Thread { what: "threads", source })
            }
        }
    }

    /// Waits until the node has ended; drains it when `shutdown` ends.
    pub(super) async fn drain_after(&self, shutdown: impl Future) -> Result<(), Error> {
        tokio::select! {
            ended = self.wait() => return ended,
            _ = shutdown => {}
        }
        self.drain().await;
        self.wait().await
    }

    /// Ends the node without waiting for running calls.
    pub(super) fn stop(&self) {
        self.desired.send_replace(DesiredState::Stop);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("name", &self.name).field("master", &self.master).finish_non_exhaustive()
    }
}
