//! The crate itself: the master in this process, nodes in processes of their own.

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use distribution::{Access, Caller, Master, MasterBuilder, Node, Token, simulation};
use tempfile::TempDir;

use crate::{
    cancel::{Fate, Fates},
    failure::{During, Failure},
    load::Echoes,
    process::{ServerProcess, announce},
    relay::{self, Way},
    streams::{self, Streams},
};

/// The echoes as this crate's macro takes them.
#[distribution::service]
pub(crate) trait Echo {
    /// Gives the number back, as a compute call.
    fn compute(&self, number: u64) -> u64;
    /// Gives the number back, as an async call.
    async fn asynchronous(&self, number: u64) -> u64;
    /// Gives the number back after some work, as a compute call.
    fn compute_busy(&self, number: u64) -> u64;
    /// The same as an async call that never waits.
    async fn busy(&self, number: u64) -> u64;
    /// Gives the bytes back.
    async fn bytes(&self, bytes: Bytes) -> Bytes;
    /// Gives the numbers back.
    async fn floats(&self, values: Vec<f64>) -> Vec<f64>;
    /// Waits until it is cancelled.
    async fn cancelled(&self, number: u64);
    /// What became of that call's handler.
    async fn fate(&self, number: u64) -> Fate;
}

#[derive(Default)]
pub(crate) struct Parrot {
    fates: Fates,
}

impl Echo for Parrot {
    fn compute(&self, number: u64) -> u64 {
        number
    }

    async fn asynchronous(&self, number: u64) -> u64 {
        number
    }

    fn compute_busy(&self, number: u64) -> u64 {
        work();
        number
    }

    async fn busy(&self, number: u64) -> u64 {
        work();
        number
    }

    async fn bytes(&self, bytes: Bytes) -> Bytes {
        bytes
    }

    async fn floats(&self, values: Vec<f64>) -> Vec<f64> {
        values
    }

    async fn cancelled(&self, number: u64) {
        self.fates.wait(number).await;
    }

    async fn fate(&self, number: u64) -> Fate {
        self.fates.of(number)
    }
}

/// The streams as this crate's macro takes them.
#[distribution::service]
pub(crate) trait Source {
    /// The numbers below `count`.
    fn numbers(&self, count: u64) -> impl Iterator<Item = u64> + Send;
    /// This many blocks.
    fn blocks(&self, count: u64) -> impl Iterator<Item = Bytes> + Send;
}

struct Spring;

impl Source for Spring {
    fn numbers(&self, count: u64) -> impl Iterator<Item = u64> + Send {
        streams::numbers(count)
    }

    fn blocks(&self, count: u64) -> impl Iterator<Item = Bytes> + Send {
        streams::blocks(count)
    }
}

/// Keeps a thread busy for 80 microseconds, or for as long as it is kept off its core.
fn work() {
    const TIME: Duration = Duration::from_micros(80);
    let began = Instant::now();
    while began.elapsed() < TIME {
        std::hint::spin_loop();
    }
}

/// A node of this many slots (as many as cores unless told otherwise), until the process ends.
pub(crate) async fn serve(master: &str, slots: Option<usize>, token_file: Option<PathBuf>) -> Result<(), Failure> {
    let builder = Node::builder().serve(EchoServer::new(Parrot::default())).serve(SourceServer::new(Spring));
    let builder = slots.into_iter().fold(builder, distribution::NodeBuilder::slots);
    let builder = token_file.into_iter().fold(builder, distribution::NodeBuilder::token_file);
    let node = builder.spawn(master).await.during("a node cannot be started")?;
    announce(node.name())?;
    node.wait().await.during("a node ended")
}

/// Starts this many node processes, which have not registered yet.
pub(crate) fn start_nodes(
    master: &str,
    nodes: usize,
    slots: Option<usize>,
    others: &[&str],
) -> Result<Vec<ServerProcess>, Failure> {
    let slots = slots.map(|slots| slots.to_string());
    let mut arguments = vec!["node", "--master", master];
    if let Some(slots) = &slots {
        arguments.extend(["--slots", slots]);
    }
    arguments.extend(others);
    (0..nodes).map(|_| ServerProcess::start(&arguments)).collect()
}

/// A master here and its nodes elsewhere.
pub(crate) struct Cluster {
    master: Master,
    processes: Vec<ServerProcess>,
    /// Where its token is, if it has one.
    _folder: Option<TempDir>,
}

impl Cluster {
    /// Starts a master and this many node processes.
    pub(crate) async fn start(nodes: usize, slots: Option<usize>) -> Result<Self, Failure> {
        let cluster = Self::without_nodes(Master::builder()).await?;
        let master = cluster.master.local_addr();
        cluster.with_processes(master, nodes, slots, &[]).await
    }

    /// Starts a master and one node process, with such a way between them.
    pub(crate) async fn start_far(way: Way) -> Result<Self, Failure> {
        let cluster = Self::without_nodes(Master::builder()).await?;
        let (relay, addr) = relay::start(cluster.master.local_addr(), way).await?;
        let mut cluster = cluster.with_processes(addr, 1, None, &[]).await?;
        cluster.processes.push(relay);
        Ok(cluster)
    }

    /// Starts a master that takes tokens only, and one node process: all that they send goes through TLS.
    pub(crate) async fn start_secured() -> Result<Self, Failure> {
        let folder = tempfile::tempdir().during("there is no place for a token")?;
        let file = folder.path().join("cluster.token");
        Token::issue(&file, Access::Nodes).during("no token can be made")?;
        let mut cluster = Self::without_nodes(Master::builder().token_file(&file)).await?;
        cluster._folder = Some(folder);
        let file = file.to_string_lossy().into_owned();
        let master = cluster.master.local_addr();
        cluster.with_processes(master, 1, None, &["--token-file", &file]).await
    }

    async fn with_processes(
        mut self,
        master: SocketAddr,
        nodes: usize,
        slots: Option<usize>,
        others: &[&str],
    ) -> Result<Self, Failure> {
        self.processes = start_nodes(&master.to_string(), nodes, slots, others)?;
        self.gather(nodes).await?;
        Ok(self)
    }

    /// Starts a master with this many nodes whose calls go over no wire.
    pub(crate) async fn start_simulated(nodes: usize) -> Result<Self, Failure> {
        let cluster = Self::without_nodes(Master::builder()).await?;
        simulation::register(&cluster.master, EchoServer::new(Parrot::default()), nodes)
            .during("nodes cannot be simulated")?;
        cluster.master.wait_for_nodes(nodes).await;
        Ok(cluster)
    }

    async fn without_nodes(master: MasterBuilder) -> Result<Self, Failure> {
        let master = master.bind("127.0.0.1:0").await.during("the master cannot be started")?;
        Ok(Self { master, processes: Vec::new(), _folder: None })
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

    /// Makes async calls that calculate for a while.
    pub(crate) fn busy(&self) -> BusyClient {
        BusyClient(EchoClient::new(&self.master))
    }

    /// Makes compute calls that calculate for a while.
    pub(crate) fn computing_busy(&self) -> BusyComputeClient {
        BusyComputeClient(EchoClient::new(&self.master))
    }

    /// Makes compute calls.
    pub(crate) fn computing(&self) -> ComputeClient {
        ComputeClient::new(&self.master)
    }

    /// Reads streams.
    pub(crate) fn streaming(&self) -> StreamClient {
        StreamClient(SourceClient::new(&self.master))
    }
}

/// Calls `async fn` methods.
#[derive(Clone)]
pub(crate) struct Client(EchoClient);

impl Client {
    /// Makes calls through this caller.
    pub(crate) fn new(caller: &impl Caller) -> Self {
        Self(EchoClient::new(caller))
    }

    pub(crate) fn echoes(&self) -> &EchoClient {
        &self.0
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

impl ComputeClient {
    /// Makes calls through this caller.
    pub(crate) fn new(caller: &impl Caller) -> Self {
        Self(EchoClient::new(caller))
    }
}

impl Echoes<u64> for ComputeClient {
    async fn echo(&mut self, payload: u64) -> Result<u64, Failure> {
        self.0.compute(payload).await.during("a compute call failed")
    }
}

/// Calls the `async fn` method that calculates.
#[derive(Clone)]
pub(crate) struct BusyClient(EchoClient);

impl Echoes<u64> for BusyClient {
    async fn echo(&mut self, payload: u64) -> Result<u64, Failure> {
        self.0.busy(payload).await.during("a busy async call failed")
    }
}

/// Calls the `fn` method that calculates.
#[derive(Clone)]
pub(crate) struct BusyComputeClient(EchoClient);

impl Echoes<u64> for BusyComputeClient {
    async fn echo(&mut self, payload: u64) -> Result<u64, Failure> {
        self.0.compute_busy(payload).await.during("a busy compute call failed")
    }
}

/// Calls the methods that return streams.
pub(crate) struct StreamClient(SourceClient);

impl Streams<u64> for StreamClient {
    async fn stream(&mut self, count: u64, mut each: impl FnMut(u64) + Send) -> Result<(), Failure> {
        let mut items = self.0.numbers(count);
        while let Some(item) = items.next().await {
            each(item.during("a stream of numbers broke off")?);
        }
        Ok(())
    }
}

impl Streams<Bytes> for StreamClient {
    async fn stream(&mut self, count: u64, mut each: impl FnMut(Bytes) + Send) -> Result<(), Failure> {
        let mut items = self.0.blocks(count);
        while let Some(item) = items.next().await {
            each(item.during("a stream of blocks broke off")?);
        }
        Ok(())
    }
}
