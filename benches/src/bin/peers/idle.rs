//! What an idle node costs its master in memory: a master in a process of its own, before and after many nodes
//! registered that do nothing but send heartbeats.

use std::time::Duration;

use crate::{failure::Failure, process::ServerProcess};

/// How many idle nodes there are.
pub(crate) const NODES: usize = 2_000;

/// Several heartbeats of each node, after which nothing new is reserved for it.
const SETTLING: Duration = Duration::from_secs(2);

/// KiB of resident memory for each node.
pub(crate) async fn kib_per_node() -> Result<f64, Failure> {
    let count = NODES.to_string();
    let mut master = ServerProcess::start(&["master", "--nodes", &count])?;
    let addr = master.announced().await?;
    tokio::time::sleep(SETTLING / 4).await;
    let before = master.resident()?;
    let nodes = ServerProcess::start(&["light-nodes", "--master", &addr, "--count", &count])?;
    master.announced().await?;
    tokio::time::sleep(SETTLING).await;
    let after = master.resident()?;
    nodes.end().await;
    master.end().await;
    Ok((after - before) / NODES as f64)
}
