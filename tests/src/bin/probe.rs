//! The other process in tests: a node that serves `Probe`, or a master that says what happens.
#![allow(clippy::print_stdout, reason = "tests read it")]

use std::time::Duration;

use clap::Parser;
use distribution::{Error, Master, Node};
use distribution_tests::{ProbeServer, Prober, chatter};
use futures::StreamExt;

#[derive(Parser)]
enum Role {
    /// Serves `Probe` until told to end.
    Node {
        master: String,
        name: String,
        #[arg(default_value_t = 2)]
        slots: usize,
        #[arg(long)]
        end_with_master: bool,
    },
    /// Serves `Chatter`, whose handlers log, until told to end.
    Chatter { master: String, name: String },
    /// Prints its address and every event.
    Master {
        listen: String,
        #[arg(default_value_t = 1_000)]
        heartbeat_ms: u64,
    },
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let role = Role::parse();
    if let Role::Chatter { master, name } = &role {
        return chatter::run(master, name).await;
    }
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_max_level(tracing_subscriber::filter::LevelFilter::INFO)
        .init();
    match role {
        Role::Chatter { .. } => {}
        Role::Node { master, name, slots, end_with_master } => {
            let node = Node::builder().serve(ProbeServer::new(Prober)).name(name).slots(slots);
            let node = if end_with_master { node.end_with_master() } else { node };
            node.run(master).await?;
            println!("ended in order");
        }
        Role::Master { listen, heartbeat_ms } => {
            let master = Master::builder().heartbeat(Duration::from_millis(heartbeat_ms)).bind(listen).await?;
            let mut events = master.events();
            println!("listening {}", master.local_addr());
            while let Some(event) = events.next().await {
                println!("{event}");
            }
        }
    }
    Ok(())
}
