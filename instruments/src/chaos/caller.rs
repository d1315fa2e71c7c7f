//! The role of a caller in a process of its own: makes the calls it is ordered to, and writes down how they end.

use std::io;

use distribution::Cluster;

use super::{
    call_maker::{CallMaker, Said, log, orders, say},
    ledger::LedgerOptions,
};

/// What a caller is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[arg(long)]
    pub(super) master: String,
    #[command(flatten)]
    pub(super) ledger: LedgerOptions,
    #[arg(long)]
    pub(super) seed: u64,
    #[arg(long)]
    pub(super) window: u32,
}

pub(super) async fn run(arguments: Arguments) -> io::Result<()> {
    log();
    let ledger = arguments.ledger.create()?;
    let orders = orders();
    let cluster = Cluster::builder().name(arguments.ledger.name).connect(&arguments.master).await;
    let cluster = cluster.map_err(io::Error::other)?;
    say(&Said::Ready);
    CallMaker::new(arguments.seed, &cluster, ledger).obey(orders, arguments.window).await?;
    say(&Said::Quiet { queued: 0, in_flight: 0 });
    cluster.close().await;
    Ok(())
}
