//! `distribution top`: a cluster in a terminal, live, with keys to act on it.
//!
//! [`state`] knows what is looked at and what a key does, [`screen`] draws it, and [`rows`] has the lines of its panels; none
//! of them does I/O. [`follow`] asks the master again and again, and [`terminal`] has the keyboard and the screen.

mod columns;
mod follow;
mod header;
mod help;
mod keys;
mod once;
mod rates;
mod rows;
mod screen;
mod snapshot;
mod state;
mod terminal;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::{administer, arguments::Connection, failure::Failure, look::Look};

/// The master is asked no more often than this.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// Shows the cluster until a key ends it, or prints it once.
pub(crate) async fn run(connection: Connection, once: bool, interval: Duration, look: Look) -> Result<(), Failure> {
    let interval = interval.max(SHORTEST_INTERVAL);
    if once {
        return once::print_once(connection, interval, look).await;
    }
    terminal::check()?;
    // The connection has to be there before the screen is taken: what is wrong with the arguments is said as elsewhere.
    let dial = administer::Dial::new(connection);
    let cluster = dial.connect_for_long().await?;
    terminal::run(dial, cluster, interval, look).await
}
