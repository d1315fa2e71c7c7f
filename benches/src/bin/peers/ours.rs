//! The crate itself: the master in this process, nodes in processes of their own.

use bytes::Bytes;
use distribution::{Master, Node, simulation};

use crate::{
    failure::{During, Failure},
    load::Echoes,
    process::{ServerProcess, announce},
};

/// The echoes as this crate's macro takes them.
#[distribution::service]
pub(crate) trait Echo {
    /// Gives the number back, as a compute call.
    fn compute(&self, number: u64) -> u64;
    /// Gives the number back, as an async call.
    async fn asynchronous(&self, number: u64) -> u64;
    /// Gives the bytes back.
    async fn bytes(&self, bytes: Bytes) -> Bytes;
    /// Gives the numbers back.
    async fn floats(&self, values: Vec<f64>) -> Vec<f64>;
}

struct Parrot;

impl Echo for Parrot {
    fn compute(&self, number: u64) -> u64 {
        number
    }

    async fn asynchronous(&self, number: u64) -> u64 {
        number
    }

    async fn bytes(&self, bytes: Bytes) -> Bytes {
        bytes
    }

    async fn floats(&self, values: Vec<f64>) -> Vec<f64> {
        values
    }
}

/// A node of so many slots (as many as cores unless told otherwise), until the process ends.
pub(crate) async fn serve(master: &str, slots: Option<usize>) -> Result<(), Failure> {
    let builder = Node::builder().serve(EchoServer::new(Parrot));
    let builder = slots.into_iter().fold(builder, distribution::NodeBuilder::slots);
    let node = builder.spawn(master).await.during("a node cannot be started")?;
    announce(node.name())?;
    node.wait().await.during("a node ended")
}

/// A master here and its nodes elsewhere.
pub(crate) struct Cluster {
    master: Master,
    processes: Vec<ServerProcess>,
}

impl Cluster {
    /// Starts a master and so many node processes.
    pub(crate) async fn start(nodes: usize, slots: Option<usize>) -> Result<Self, Failure> {
        let mut cluster = Self::without_nodes().await?;
        let master = cluster.master.local_addr().to_string();
        let slots = slots.map(|slots| slots.to_string());
        let mut arguments = vec!["node", "--master", &master];
        if let Some(slots) = &slots {
            arguments.extend(["--slots", slots]);
        }
        for _ in 0..nodes {
            cluster.processes.push(ServerProcess::start(&arguments)?);
        }
        cluster.gather(nodes).await?;
        Ok(cluster)
    }

    /// Starts a master with so many nodes whose calls go over no wire.
    pub(crate) async fn start_simulated(nodes: usize) -> Result<Self, Failure> {
        let cluster = Self::without_nodes().await?;
        simulation::register(&cluster.master, EchoServer::new(Parrot), nodes).during("nodes cannot be simulated")?;
        cluster.master.wait_for_nodes(nodes).await;
        Ok(cluster)
    }

    async fn without_nodes() -> Result<Self, Failure> {
        let master = Master::bind("127.0.0.1:0").await.during("the master cannot be started")?;
        Ok(Self { master, processes: Vec::new() })
    }

    async fn gather(&mut self, nodes: usize) -> Result<(), Failure> {
        for process in &mut self.processes {
            process.announced().await?;
        }
        self.master.wait_for_nodes(nodes).await;
        Ok(())
    }

    /// Makes async calls.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.master)
    }

    /// Makes compute calls.
    pub(crate) fn computing(&self) -> ComputeClient {
        ComputeClient(EchoClient::new(&self.master))
    }
}

/// Calls `async fn` methods.
#[derive(Clone)]
pub(crate) struct Client(EchoClient);

impl Client {
    /// Makes calls through this master.
    pub(crate) fn new(master: &Master) -> Self {
        Self(EchoClient::new(master))
    }
}

impl Echoes<u64> for Client {
    async fn echo(&mut self, payload: u64) -> Result<u64, Failure> {
        self.0.asynchronous(payload).await.during("an async call failed")
    }
}

impl Echoes<Bytes> for Client {
    async fn echo(&mut self, payload: Bytes) -> Result<Bytes, Failure> {
        self.0.bytes(payload).await.during("a call with bytes failed")
    }
}

impl Echoes<Vec<f64>> for Client {
    async fn echo(&mut self, payload: Vec<f64>) -> Result<Vec<f64>, Failure> {
        self.0.floats(payload).await.during("a call with numbers failed")
    }
}

/// Calls the `fn` method.
#[derive(Clone)]
pub(crate) struct ComputeClient(pub(crate) EchoClient);

impl Echoes<u64> for ComputeClient {
    async fn echo(&mut self, payload: u64) -> Result<u64, Failure> {
        self.0.compute(payload).await.during("a compute call failed")
    }
}
