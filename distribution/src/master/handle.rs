//! The handle of a master that programs hold.

use std::{fmt, net::SocketAddr, sync::Arc};

use futures::Stream;

#[cfg(feature = "simulation")]
use super::simulated;
use super::{administrator::Administrator, events::Events, logs, shared::Shared};
#[cfg(feature = "tls")]
use crate::security::Token;
use crate::{
    administration::{
        CallFilter, CallPage, CallerInfo, LogFilter, LogRecord, MasterStatus, MethodSummary, ServiceSummary,
    },
    error::AdminError,
    id::{CallId, NodeId},
    security::SecurityConfig,
    service::{
        ServiceClient,
        dispatcher::{Caller, Dispatcher},
    },
    view::{NodeInfo, Stats},
};

/// Accepts nodes, keeps the registry, and sends calls to nodes.
///
/// A cheap handle: clones share one master. The master ends when the last handle is dropped, or by
/// [`shutdown`](Master::shutdown). Clients do not keep it alive: their calls then end as
/// [`CallError::Shutdown`](crate::CallError::Shutdown).
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let master = distribution::Master::bind("127.0.0.1:0").await?;
/// println!("nodes can connect to {}", master.local_addr());
/// assert!(master.nodes().is_empty());
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "a master ends when its last handle is dropped"]
pub struct Master {
    pub(super) shared: Arc<Shared>,
    local_addr: SocketAddr,
    security: Arc<SecurityConfig>,
    /// Ends the master when the last handle is dropped.
    _last: Arc<LastHandle>,
}

struct LastHandle(Arc<Shared>);

impl Drop for LastHandle {
    fn drop(&mut self) {
        self.0.abandon();
        self.0.events.end();
    }
}

impl Master {
    /// The first handle of a master that is running.
    pub(super) fn new(shared: Arc<Shared>, local_addr: SocketAddr, security: SecurityConfig) -> Self {
        Self { local_addr, security: Arc::new(security), _last: Arc::new(LastHandle(Arc::clone(&shared))), shared }
    }

    /// The address that the master listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The registered nodes, in the order in which they registered.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        self.shared.nodes()
    }

    /// The nodes that are registered, and then each change.
    ///
    /// The stream first yields a [`NodeEvent::Present`](crate::NodeEvent::Present) for each node that is registered when
    /// this is called, in the order in which they registered, and then the changes in the order in which they happen. No
    /// change is missing between the two and none is told twice. A stream that is read too slowly yields
    /// [`NodeEvent::Missed`](crate::NodeEvent::Missed) and then begins again with the nodes that are registered by then.
    ///
    /// ```
    /// # use distribution::{LocalCluster, NodeEvent};
    /// use futures::StreamExt;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = LocalCluster::builder().nodes(1).start().await?;
    /// let mut events = cluster.master().events();
    /// let first = events.next().await;
    /// assert!(matches!(first, Some(NodeEvent::Present { node, .. }) if &*node.name == "local-1"));
    /// # Ok(()) }
    /// ```
    pub fn events(&self) -> Events {
        Events::new(&self.shared)
    }

    /// What nodes and their handlers have logged, oldest first: the newest that the master has kept, and then, if the filter
    /// [follows](LogFilter::follow), each that comes, until the master ends.
    ///
    /// A master keeps the newest 50,000 records, of 16 MiB at most. Where there is no room, the oldest one of the node that has
    /// most goes, so that one node cannot push out what others have logged. See
    /// [`AdminClient::logs`](crate::AdminClient::logs) for what nodes send.
    ///
    /// ```
    /// # use distribution::{LocalCluster, LogFilter};
    /// use futures::StreamExt;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = LocalCluster::builder().nodes(1).start().await?;
    /// let mut logs = cluster.master().logs(LogFilter::default().node("local-1"));
    /// while let Some(record) = logs.next().await {
    ///     println!("{record}");
    /// }
    /// # Ok(()) }
    /// ```
    pub fn logs(&self, filter: LogFilter) -> impl Stream<Item = LogRecord> + Send + Unpin + use<> {
        logs::records(Arc::clone(&self.shared), filter)
    }

    /// Waits until at least this many nodes are alive: registered, and neither suspect, draining nor cordoned. Also returns when the
    /// master is shut down.
    ///
    /// Counts all nodes, whichever services they serve. To wait for nodes that can serve the calls of a client, use
    /// [`wait_for_service`](Self::wait_for_service).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future changes nothing.
    pub async fn wait_for_nodes(&self, count: usize) {
        let mut alive = self.shared.alive();
        tokio::select! {
            // The sender is in `self.shared`, so this cannot fail.
            _ = alive.wait_for(|alive| *alive >= count) => {}
            // No node can register any more.
            () = self.shared.closing.cancelled() => {}
        }
    }

    /// Waits until at least this many nodes can serve all calls of a client: nodes that are registered, are neither draining nor cordoned,
    /// and serve each method of the client with the same version, signature and structure of types. Also returns when the
    /// master is shut down.
    ///
    /// [`wait_for_nodes`](Self::wait_for_nodes) counts nodes that serve other services, or other versions of this one, as
    /// well. After 5 s, and then once a minute, a warning in the log says how many nodes serve the client, and how the
    /// methods of other nodes differ.
    ///
    /// ```
    /// # use distribution::{Master, Node, service};
    /// # #[service]
    /// # pub trait Arith {
    /// #     fn sum(&self, values: Vec<i64>) -> i64;
    /// # }
    /// # struct Calculator;
    /// # impl Arith for Calculator {
    /// #     fn sum(&self, values: Vec<i64>) -> i64 {
    /// #         values.iter().sum()
    /// #     }
    /// # }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let master = Master::bind("127.0.0.1:0").await?;
    /// # let _node = Node::spawn(master.local_addr(), ArithServer::new(Calculator)).await?;
    /// master.wait_for_service::<ArithClient>(1).await;
    /// let arith = ArithClient::new(&master);
    /// assert_eq!(arith.sum(vec![2, 4, 6]).await?, 12);
    /// # Ok(()) }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future changes nothing.
    pub async fn wait_for_service<C: ServiceClient>(&self, count: usize) {
        let methods = C::methods().into_vec();
        self.shared.wait_for_methods(&methods, count).await;
    }

    /// The newest token with which nodes can register; `None` if the master has no
    /// [token file](crate::MasterBuilder::token_file). Reads that file again if it has changed.
    #[cfg(feature = "tls")]
    pub fn token(&self) -> Option<Token> {
        self.shared.admission.authenticator.token()
    }

    /// Disconnects a node, and returns whether it was registered. Its calls end or are sent to other nodes, as those of
    /// any node that is lost; see [`GoneReason::DisconnectedByMaster`](crate::error::GoneReason::DisconnectedByMaster). The
    /// node connects again and is let in: to keep it out, revoke its credential.
    pub fn disconnect(&self, node: impl Into<NodeId>) -> bool {
        self.shared.disconnect(node.into())
    }

    /// Lists calls that have not ended, or whose handlers have not been stopped yet, the oldest first: what each does, and
    /// what it waits for. One page of them; [`CallPage::next`] says where to go on.
    ///
    /// ```
    /// # use distribution::{CallFilter, LocalCluster, administration::StatusFilter};
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = LocalCluster::builder().nodes(1).start().await?;
    /// let master = cluster.master();
    /// let mut filter = CallFilter::default().status(StatusFilter::Waiting);
    /// loop {
    ///     let page = master.calls(filter.clone());
    ///     for call in &page.calls {
    ///         println!("{} {} for {:.1} s", call.id, call.method, call.age.as_secs_f64());
    ///     }
    ///     let Some(next) = page.next else { break };
    ///     filter = filter.after(next);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn calls(&self, filter: CallFilter) -> CallPage {
        self.shared.calls(filter)
    }

    /// The methods that registered nodes serve or that calls wait for, by service, name and version: how each runs, whether
    /// it is idempotent, how many nodes serve it, and how many calls of it wait and run.
    pub fn methods(&self) -> Vec<MethodSummary> {
        self.shared.methods()
    }

    /// The services that registered nodes serve or that calls wait for, by name and version: the methods of each, how many
    /// nodes serve it, and how many of its calls wait and run.
    pub fn services(&self) -> Vec<ServiceSummary> {
        self.shared.services()
    }

    /// The callers in other processes that are connected, those first that have been connected longest: by which credential
    /// each came, and how many of its calls are not answered yet.
    ///
    /// With [`nodes`](Self::nodes) it shows when a credential is not in use any more, as when a token was replaced by a new
    /// one: no [`principal`](crate::administration::CallerInfo::principal) has its id.
    ///
    /// ```
    /// # use distribution::{Cluster, Master};
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let master = Master::bind("127.0.0.1:0").await?;
    /// let cluster = Cluster::builder().name("report").connect(master.local_addr()).await?;
    /// assert_eq!(&*master.callers()[0].name, "report");
    /// # Ok(()) }
    /// ```
    pub fn callers(&self) -> Vec<CallerInfo> {
        self.shared.list_callers()
    }

    /// What this master is, and how many nodes and callers are connected to it.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let master = distribution::Master::bind("127.0.0.1:0").await?;
    /// let status = master.status();
    /// assert_eq!((status.addr, status.nodes, status.callers), (master.local_addr(), 0, 0));
    /// # Ok(()) }
    /// ```
    pub fn status(&self) -> MasterStatus {
        self.shared.status()
    }

    /// Cancels a call of any caller. It ends as [`CallError::Cancelled`](crate::CallError::Cancelled) and is not
    /// repeated. If a node has it, its handler is told, as when a caller drops its call. A handler that goes on holds its
    /// slot; [`calls`](Self::calls) lists it, and after 10 s a warning in the log names it.
    ///
    /// The calls of a batch, which `.distribute()` makes, can only be cancelled together, with the id of the batch. Calls
    /// that a node has given back are not part of it any more. Of a call that is
    /// [hedged](crate::Distributed::hedge), both copies end.
    ///
    /// # Errors
    ///
    /// If the call has ended, or is a part of a batch. The error says what to do.
    pub fn cancel(&self, call: CallId) -> Result<(), AdminError> {
        self.shared.cancel_call(&Administrator::AtMaster, call)
    }

    /// Gives a node no new calls. It keeps those that it has, and stays registered; [`nodes`](Self::nodes) shows that it is
    /// cordoned.
    ///
    /// Calls that only cordoned nodes could take wait, without a limit of time of their own, until one is
    /// [uncordoned](Self::uncordon) or another node joins. A node that registers again stays cordoned as long as its
    /// process lives. A process that was started again is not cordoned. Cordoning a cordoned node changes nothing.
    ///
    /// # Errors
    ///
    /// [`AdminError::UnknownNode`] if no such node is registered.
    pub fn cordon(&self, node: impl Into<NodeId>) -> Result<(), AdminError> {
        self.shared.set_cordoned(&Administrator::AtMaster, node.into(), true)
    }

    /// Gives a node that was [cordoned](Self::cordon) new calls again. If it is not cordoned, this changes nothing.
    ///
    /// # Errors
    ///
    /// [`AdminError::UnknownNode`] if no such node is registered.
    pub fn uncordon(&self, node: impl Into<NodeId>) -> Result<(), AdminError> {
        self.shared.set_cordoned(&Administrator::AtMaster, node.into(), false)
    }

    /// Tells a node to drain, as [`Node::drain`](crate::Node::drain) does: it gets no new calls, finishes those that it
    /// has, and ends without an error. Returns at once; [`NodeEvent::Gone`](crate::NodeEvent::Gone) says when it has
    /// ended. If its calls take longer than its own [`drain_timeout`](crate::NodeBuilder::drain_timeout), it ends without
    /// them. If it drains already, this changes nothing. If its connection breaks before the request arrives, it
    /// registers again and has to be told again.
    ///
    /// # Errors
    ///
    /// [`AdminError::UnknownNode`] if no such node is registered.
    pub fn drain(&self, node: impl Into<NodeId>) -> Result<(), AdminError> {
        self.shared.drain(&Administrator::AtMaster, node.into())
    }

    /// Ends the connection and the registration of a node at once. The node is told why. Its process goes on: it may
    /// register again, and is given calls then. [Cordon](Self::cordon) it first to prevent that. Compute handlers that do not
    /// stop go on too, and hold their slots ([`NodeInfo::held_slots`]): only the end of the process ends them. So to get rid of
    /// a handler that is stuck, [cancel](Self::cancel) its call, [drain](Self::drain) the node, and restart its process.
    ///
    /// Calls that it had and that may have run go to other nodes only if their method is idempotent, and end as
    /// [`CallError::NodeLost`](crate::CallError::NodeLost) otherwise. For a call, a kick is a loss like any other: a call
    /// over which three nodes were kicked or died is [`Poisoned`](crate::CallError::Poisoned), so that a call that makes
    /// nodes useless does not take one after the other. [`disconnect`](Self::disconnect) is for nodes that are in no
    /// trouble: it does not count towards that.
    ///
    /// # Errors
    ///
    /// [`AdminError::UnknownNode`] if no such node is registered.
    pub fn kick(&self, node: impl Into<NodeId>) -> Result<(), AdminError> {
        self.shared.kick(&Administrator::AtMaster, node.into())
    }

    /// Totals since the master started.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Shuts the master down and returns when the last connection is closed.
    ///
    /// The master takes no more nodes and calls. Queued calls end as [`CallError::Shutdown`](crate::CallError::Shutdown);
    /// calls in flight may finish, for 30 s unless [`shutdown_timeout`](crate::MasterBuilder::shutdown_timeout) says
    /// otherwise, and then end with the same error. Nodes are told, and try to connect until there is a master again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the master without a listener and with its calls in flight; it does not end by itself.
    /// Call `shutdown` again, or drop all handles.
    pub async fn shutdown(&self) {
        self.shared.shut_down().await;
    }

    /// What a node in the same process registers with.
    pub(crate) fn security_config(&self) -> SecurityConfig {
        self.security.beside()
    }

    /// Registers nodes that have no connection; see [`simulated`].
    #[cfg(feature = "simulation")]
    pub(crate) fn simulate_nodes(&self, offers: Vec<crate::wire::handshake::MethodOffer>, count: usize) {
        self.shared.track(simulated::run(Arc::clone(&self.shared), offers, count));
    }
}

impl Caller for Master {
    fn dispatcher(&self) -> Arc<dyn Dispatcher> {
        Arc::clone(&self.shared) as Arc<dyn Dispatcher>
    }
}

impl fmt::Debug for Master {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Master").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}
