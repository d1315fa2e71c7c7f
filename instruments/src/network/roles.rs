//! What runs in the namespaces: a master that does what the driver asks and tells what happens, and a node.
#![allow(clippy::print_stdout, reason = "the driver reads it")]

use std::{
    io::BufRead,
    time::{Duration, Instant},
};

use distribution::{Error, Events, Master, Node, NodeEvent, NodeId, error::GoneReason};
use futures::StreamExt;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{
    lines::{Asked, Line, Told, now},
    lossy::load,
};
use distribution_tests::{ProbeClient, ProbeServer, Prober};

/// Serves `Probe` at this master until told to end, or until nobody holds the other end of standard input.
///
/// # Errors
///
/// Those of [`Node::wait`].
pub async fn node(master: &str, name: &str) -> Result<(), Error> {
    let _nothing_is_asked = asked();
    Node::builder().serve(ProbeServer::new(Prober)).name(name).slots(2).insecure().run(master).await
}

/// Takes nodes on a free port of every address, and does what it is asked until nobody can ask any more.
///
/// # Errors
///
/// Those of [`Master::bind`].
pub async fn master(heartbeat: Duration) -> Result<(), Error> {
    let master = Master::builder().heartbeat(heartbeat).insecure().bind("0.0.0.0:0").await?;
    let events = master.events();
    tell(Told::Listening { port: master.local_addr().port() });
    tokio::join!(tell_events(events), answer(&master, asked()));
    Ok(())
}

async fn tell_events(mut events: Events) {
    while let Some(event) = events.next().await {
        tell(match event {
            NodeEvent::Present { node, .. } | NodeEvent::Joined { node, .. } => {
                Told::Joined { node: node.name.to_string() }
            }
            NodeEvent::Suspect { node, .. } => Told::Suspect { node: node.name.to_string() },
            NodeEvent::Gone { node, reason, .. } => Told::Gone {
                node: node.name.to_string(),
                silent: matches!(reason, GoneReason::Silent(_)),
                reason: reason.to_string(),
            },
            event => Told::Other(event.to_string()),
        });
    }
}

async fn answer(master: &Master, mut asked: UnboundedReceiver<Asked>) {
    let probe = ProbeClient::new(master);
    while let Some(asked) = asked.recv().await {
        tell(match asked {
            Asked::Load { seconds, callers } => load(&probe, Duration::from_secs(seconds), callers).await,
            Asked::Call { node, a, b } => {
                let call = probe.add(a, b);
                let result = match &node {
                    None => call.await,
                    Some(name) => match newest(master, name) {
                        Some(id) => call.on(id).await,
                        None => {
                            tell(Told::Failed { error: format!("{name} is not registered") });
                            continue;
                        }
                    },
                };
                match result {
                    Ok(sum) => Told::Answer { sum },
                    Err(error) => Told::Failed { error: error.to_string() },
                }
            }
        });
    }
}

/// The last registration under this name.
fn newest(master: &Master, name: &str) -> Option<NodeId> {
    master.nodes().into_iter().filter(|node| *node.name == *name).min_by_key(|node| node.registered_for).map(|n| n.id)
}

fn tell(told: Told) {
    match serde_json::to_string(&Line { at: now(), told }) {
        Ok(line) => println!("{line}"),
        Err(error) => println!("a line that cannot be told: {error}"),
    }
}

/// The lines of standard input. Read on a thread that ends the process with the input, which is how a process in a
/// namespace notices that its driver was killed.
fn asked() -> UnboundedReceiver<Asked> {
    let (sender, receiver) = unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                // A role that takes no orders has dropped the receiver.
                Ok(asked) => drop(sender.send(asked)),
                Err(error) => tell(Told::Other(format!("cannot read `{line}`: {error}"))),
            }
        }
        std::process::exit(0);
    });
    receiver
}

/// How long something took, in whole milliseconds.
pub(super) fn millis_since(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}
