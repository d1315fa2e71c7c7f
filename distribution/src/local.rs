//! A master and its nodes in one process.

use std::{fmt, net::SocketAddr, sync::Arc};

use futures::future::{BoxFuture, join_all, try_join_all};

use crate::{
    error::Error,
    master::{Master, MasterBuilder},
    node::{Node, NodeBuilder},
    service::{
        Service,
        dispatcher::{Caller, Dispatcher},
    },
};

/// A master and its nodes in one process, for a first run, for tests and for notebooks.
///
/// The nodes connect to the master over TCP on the loopback interface. Each has its own threads and slots. The master and
/// all async handlers share the runtime on which the cluster was started, so an async handler that blocks can delay the
/// master. Dropping the cluster ends master and nodes at once. Without sockets there is [`InProcess`](crate::InProcess).
///
/// ```
/// # use distribution::{LocalCluster, service};
/// #[service]
/// pub trait Arith {
///     /// Sum of `values`.
///     fn sum(&self, values: Vec<i64>) -> i64;
/// }
///
/// struct Calculator;
///
/// impl Arith for Calculator {
///     fn sum(&self, values: Vec<i64>) -> i64 {
///         values.iter().sum()
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cluster = LocalCluster::builder().nodes(4).serve(|| ArithServer::new(Calculator)).start().await?;
/// let arith = ArithClient::new(cluster.master());
/// assert_eq!(arith.sum(vec![2, 4, 6]).await?, 12);
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "dropping it ends the master and the nodes"]
pub struct LocalCluster {
    // Dropped before the master, because the nodes would log a warning if they lost it.
    nodes: Vec<Node>,
    master: Master,
}

impl LocalCluster {
    /// A builder for a cluster of one node per core, without services yet.
    pub fn builder() -> LocalClusterBuilder {
        LocalClusterBuilder::default()
    }

    /// The master. Clients can be made with it, or with the cluster itself.
    pub fn master(&self) -> &Master {
        &self.master
    }

    /// The nodes, in the order of their names.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Drains the nodes, then shuts the master down.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropping the future ends master and nodes at once.
    pub async fn shutdown(self) {
        self.shut_down().await;
    }

    /// Boxed, because the body of an `async fn` is compiled again in each program that awaits it.
    fn shut_down(self) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            join_all(self.nodes.iter().map(Node::drain)).await;
            self.master.shutdown().await;
        })
    }
}

impl Caller for LocalCluster {
    fn dispatcher(&self) -> Arc<dyn Dispatcher> {
        self.master.dispatcher()
    }
}

type Equip = Arc<dyn Fn(NodeBuilder) -> NodeBuilder + Send + Sync>;

/// Sets a local cluster up. Made by [`LocalCluster::builder`].
#[must_use = "a builder does nothing until `start`"]
pub struct LocalClusterBuilder {
    nodes: Option<usize>,
    slots: Option<usize>,
    master: MasterBuilder,
    equip: Vec<Equip>,
}

impl Default for LocalClusterBuilder {
    fn default() -> Self {
        Self { nodes: None, slots: None, master: Master::builder(), equip: Vec::new() }
    }
}

impl LocalClusterBuilder {
    /// The number of nodes, which are named `local-1` and so on; one per core by default. With 0 there are none, and nodes may
    /// be added by [`NodeBuilder::spawn`].
    pub fn nodes(mut self, count: usize) -> Self {
        self.nodes = Some(count);
        self
    }

    /// The slots of each node, at least 1. By default the cores are divided among the nodes, with at least one slot each.
    pub fn slots(mut self, slots: usize) -> Self {
        self.slots = Some(slots);
        self
    }

    /// The settings of the master. If it has a token file or certificates, the nodes use them too. A certificate must then
    /// be valid for clients, and be for 127.0.0.1 or its own [`peer_name`](crate::Certificates::peer_name).
    pub fn master(mut self, master: MasterBuilder) -> Self {
        self.master = master;
        self
    }

    /// Serves the service that `service` returns; it is called once for each node.
    pub fn serve<S: Service>(mut self, service: impl Fn() -> S + Send + Sync + 'static) -> Self {
        self.equip.push(Arc::new(move |node: NodeBuilder| node.serve(service())));
        self
    }

    /// Starts the master on a port of the loopback interface that the system chooses, starts the nodes, and returns when
    /// all nodes are registered.
    ///
    /// # Errors
    ///
    /// Those of [`MasterBuilder::bind`] and [`NodeBuilder::spawn`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropping the future ends the master and the nodes that were started.
    pub async fn start(self) -> Result<LocalCluster, Error> {
        self.started().await
    }

    /// Boxed as [`LocalCluster::shut_down`] is.
    fn started(self) -> BoxFuture<'static, Result<LocalCluster, Error>> {
        Box::pin(async move {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let count = self.nodes.unwrap_or(cores);
            let slots = self.slots.unwrap_or_else(|| (cores / count.max(1)).max(1));
            let master = self.master.bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
            let nodes = try_join_all((1..=count).map(|number| {
                let node =
                    Node::builder().name(format!("local-{number}")).slots(slots).beside(master.security_config());
                self.equip.iter().fold(node, |node, equip| equip(node)).spawn(master.local_addr())
            }))
            .await?;
            Ok(LocalCluster { nodes, master })
        })
    }
}

impl fmt::Debug for LocalClusterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalClusterBuilder")
            .field("nodes", &self.nodes)
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}
