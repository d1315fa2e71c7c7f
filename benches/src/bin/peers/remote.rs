//! The crate called from another process than the master's: the caller is this process, and the master one of its own.

use distribution::{Cluster, Master};

use crate::{
    failure::{During, Failure},
    ours::{Client, ComputeClient, start_nodes},
    process::{ServerProcess, announce},
};

/// A master that makes no calls itself. Tells its address, and then when this many nodes have come.
pub(crate) async fn serve(nodes: usize) -> Result<(), Failure> {
    let master = Master::bind("127.0.0.1:0").await.during("the master cannot be started")?;
    announce(master.local_addr())?;
    master.wait_for_nodes(nodes).await;
    announce("registered")?;
    std::future::pending().await
}

/// A caller here, and its master and nodes elsewhere.
pub(crate) struct RemoteCluster {
    caller: Cluster,
    /// Killed with the caller.
    _processes: Vec<ServerProcess>,
}

impl RemoteCluster {
    /// Starts a master process and this many node processes, and connects to the master.
    pub(crate) async fn start(nodes: usize, slots: Option<usize>) -> Result<Self, Failure> {
        let mut master = ServerProcess::start(&["master", "--nodes", &nodes.to_string()])?;
        let address = master.announced().await?;
        let mut processes = start_nodes(&address, nodes, slots, &[])?;
        master.announced().await?;
        processes.push(master);
        let caller = Cluster::connect(address).await.during("the master of another process cannot be called")?;
        Ok(Self { caller, _processes: processes })
    }

    /// Makes async calls.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.caller)
    }

    /// Makes compute calls.
    pub(crate) fn computing(&self) -> ComputeClient {
        ComputeClient::new(&self.caller)
    }
}
