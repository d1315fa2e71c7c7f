//! The role of a node: serves until told to end.

use std::io;

use distribution::Node;

use super::{
    child,
    ledger::LedgerOptions,
    service::{AgainServer, OnceServer, Worker},
};

/// What a node is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[arg(long)]
    pub(super) master: String,
    #[command(flatten)]
    pub(super) ledger: LedgerOptions,
    #[arg(long)]
    pub(super) slots: usize,
}

pub(super) async fn run(arguments: Arguments) -> io::Result<()> {
    super::call_maker::log();
    // Handlers panic as calls ask them to; that is expected.
    std::panic::set_hook(Box::new(|_| {}));
    child::end_with_parent(|_| {});
    let worker = Worker(arguments.ledger.create()?);
    let node = Node::builder()
        .serve(OnceServer::new(worker.clone()))
        .serve(AgainServer::new(worker))
        .name(arguments.ledger.name)
        .slots(arguments.slots);
    node.run(arguments.master).await.map_err(io::Error::other)
}
