//! The node processes, and their restarts in order.

use std::{io, process::Stdio};

use distribution::{Master, Node};

use super::service::{MixedServer, Worker};
use crate::chaos::child::{self, Child};

/// What a node is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[arg(long)]
    master: String,
    #[arg(long)]
    name: String,
    #[arg(long)]
    slots: usize,
}

/// The role of a node: serves until told to end.
pub(super) async fn serve(arguments: Arguments) -> io::Result<()> {
    // Handlers panic as calls ask them to; that is expected.
    std::panic::set_hook(Box::new(|_| {}));
    child::end_with_parent(|_| {});
    let node = Node::builder().serve(MixedServer::new(Worker)).name(arguments.name).slots(arguments.slots);
    node.run(arguments.master).await.map_err(io::Error::other)
}

/// Nodes, of which the first is never restarted.
#[derive(Debug)]
pub(super) struct Fleet {
    nodes: Vec<Child>,
    slots: u32,
    started: u32,
    next: usize,
}

impl Fleet {
    /// Starts nodes and waits until they have registered.
    pub(super) async fn start(master: &Master, nodes: u32, slots: u32) -> io::Result<Self> {
        let mut fleet = Self { nodes: Vec::new(), slots, started: 0, next: 1 };
        for _ in 0..nodes {
            let node = fleet.new_node(master)?;
            fleet.nodes.push(node);
        }
        master.wait_for_nodes(fleet.nodes.len()).await;
        Ok(fleet)
    }

    fn new_node(&mut self, master: &Master) -> io::Result<Child> {
        self.started += 1;
        let (addr, name) = (master.local_addr().to_string(), format!("node-{}", self.started));
        let slots = self.slots.to_string();
        let arguments = ["node", "--master", &addr, "--name", &name, "--slots", &slots];
        Child::start(&arguments.map(str::to_owned), Stdio::null())
    }

    /// Ends one node in order and starts another in its place; each but the first in turn.
    pub(super) async fn restart_next(&mut self, master: &Master) -> io::Result<()> {
        let index = self.next;
        self.next = if index + 1 < self.nodes.len() { index + 1 } else { 1 };
        self.nodes[index].signal("TERM").await?;
        let status = self.nodes[index].wait().await?;
        if !status.success() {
            return Err(io::Error::other(format!("a node ended after SIGTERM with {status}")));
        }
        self.nodes[index] = self.new_node(master)?;
        master.wait_for_nodes(self.nodes.len()).await;
        Ok(())
    }

    /// The process ids; the first is that of the node that is never restarted.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.nodes.iter().map(Child::id)
    }

    /// Ends all.
    pub(super) async fn clear(&mut self) {
        for node in &mut self.nodes {
            // One that cannot be killed has ended.
            let _ = node.kill().await;
        }
    }
}
