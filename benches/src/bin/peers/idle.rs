//! What an idle node costs its master in memory: a master in a process of its own, before and after many nodes
//! registered that do nothing but send heartbeats.

use std::time::Duration;

use distribution::Master;

use crate::{
    failure::{During, Failure},
    process::{ServerProcess, announce},
};

/// How many idle nodes there are.
pub(crate) const NODES: usize = 2_000;

/// Several heartbeats of each node, after which nothing new is reserved for it.
const SETTLING: Duration = Duration::from_secs(2);

/// A master that does nothing; tells its address, and when the nodes have come.
pub(crate) async fn serve() -> Result<(), Failure> {
    let master = Master::bind("127.0.0.1:0").await.during("the idle master cannot be started")?;
    announce(master.local_addr())?;
    master.wait_for_nodes(NODES).await;
    announce("registered")?;
    std::future::pending().await
}

/// KiB of resident memory for each node.
pub(crate) async fn kib_per_node() -> Result<f64, Failure> {
    let mut master = ServerProcess::start(&["idle-master"])?;
    let addr = master.announced().await?;
    tokio::time::sleep(SETTLING / 4).await;
    let before = master.resident()?;
    let nodes = ServerProcess::start(&["light-nodes", "--master", &addr, "--count", &NODES.to_string()])?;
    master.announced().await?;
    tokio::time::sleep(SETTLING).await;
    let after = master.resident()?;
    nodes.end().await;
    master.end().await;
    Ok((after - before) / NODES as f64)
}
