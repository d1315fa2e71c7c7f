//! The role of a master: writes down which nodes come and go; without callers of their own process, it makes the calls too.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use distribution::{Master, NodeEvent, NodeIdentity, error::GoneReason};
use futures::StreamExt;

use super::{
    call_maker::{CallMaker, PROGRESS, Said, log, orders, say, who},
    ledger::{Ledger, LedgerOptions, MasterEntry, MasterEvent, Reason, now},
};

/// How long the books may take to be empty once all calls have ended: cancelled ones keep their slots
/// until their handlers return.
const SETTLING: Duration = Duration::from_secs(10);

/// What a master is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[arg(long)]
    pub(super) listen: String,
    #[command(flatten)]
    pub(super) ledger: LedgerOptions,
    #[arg(long)]
    pub(super) seed: u64,
    #[arg(long)]
    pub(super) window: u32,
    #[arg(long)]
    pub(super) heartbeat_ms: u64,
}

pub(super) async fn run(arguments: Arguments) -> io::Result<()> {
    log();
    let ledger = arguments.ledger.create()?;
    let orders = orders();
    let heartbeat = Duration::from_millis(arguments.heartbeat_ms);
    let master = Master::builder().heartbeat(heartbeat).bind(&arguments.listen).await.map_err(io::Error::other)?;
    say(&Said::Ready);
    tokio::spawn(watch(master.clone(), Arc::clone(&ledger)));
    CallMaker::new(arguments.seed, &master, ledger).obey(orders, arguments.window).await?;
    let since = Instant::now();
    let stats = loop {
        let stats = master.stats();
        if (stats.queued, stats.in_flight) == (0, 0) || since.elapsed() > SETTLING {
            break stats;
        }
        tokio::time::sleep(PROGRESS).await;
    };
    say(&Said::Quiet { queued: stats.queued, in_flight: stats.in_flight });
    master.shutdown().await;
    Ok(())
}

/// Writes down which nodes come and go, and tells the driver.
async fn watch(master: Master, ledger: Arc<Ledger>) {
    let note = |what| ledger.write(&MasterEntry { at: now(), what });
    let joined = |node: &NodeIdentity| {
        note(MasterEvent::Joined { node: who(node) });
        say(&Said::Joined { name: node.name.to_string() });
    };
    let mut events = master.events();
    // Its tasks end with the process, but it must not be this that keeps the master going.
    drop(master);
    while let Some(event) = events.next().await {
        match event {
            NodeEvent::Present { node, .. } | NodeEvent::Joined { node, .. } => joined(&node),
            NodeEvent::Resumed { node, .. } => note(MasterEvent::Resumed { node: who(&node) }),
            NodeEvent::Draining { node, .. } => note(MasterEvent::Leaving { node: who(&node) }),
            NodeEvent::Gone { node, reason, in_flight, .. } => {
                let reason = match reason {
                    GoneReason::Disconnected | GoneReason::Broken(_) => Reason::Cut,
                    GoneReason::Silent(_) => Reason::Silent,
                    GoneReason::Left => Reason::Left,
                    GoneReason::Shutdown => Reason::Shutdown,
                    _ => Reason::Other,
                };
                note(MasterEvent::Gone { node: who(&node), reason, in_flight });
                say(&Said::Gone { name: node.name.to_string(), reason });
            }
            _ => {}
        }
    }
}
