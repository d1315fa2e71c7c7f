//! Limits how often a node may send heartbeats, and decides which of them the core is told of.

use std::time::Duration;

use tokio::time::Instant;

use crate::wire::Load;

/// A node may send heartbeats at this many times the agreed rate, because clocks differ.
const TOLERANCE: u32 = 2;

/// A node may send this many at once: after a stall of the master there may be many to read. A node gives up a master that
/// is silent for fifteen of the master's heartbeats, in which the node sends thirty.
const BURST: u32 = 64;

/// The heartbeats of one connection.
#[derive(Debug)]
pub(super) struct HeartbeatLimit {
    /// The agreed time between two heartbeats.
    interval: Duration,
    /// When the heartbeats that have come so far would be due at the highest rate that is allowed.
    due: Instant,
    /// The load that the core was told last.
    told: Option<Load>,
    /// The load that came last, if the core has not been told of it.
    news: Option<Load>,
}

impl HeartbeatLimit {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, due: Instant::now(), told: None, news: None }
    }

    /// A heartbeat has come. `not_read` is for how long in all the connection was not read.
    ///
    /// # Errors
    ///
    /// If heartbeats come too often: the reason why the connection is closed.
    pub(super) fn on_heartbeat(&mut self, load: Load, not_read: Duration) -> Result<(), String> {
        let (now, each) = (Instant::now(), self.interval / TOLERANCE);
        self.due = self.due.max(now) + each;
        if self.due > now + each * BURST + not_read {
            return Err(format!("it sent heartbeats more often than the agreed one every {:?}", self.interval));
        }
        self.news = Some(load);
        Ok(())
    }

    /// The load that the core is to be told now: that of the last heartbeat, if it says anything new.
    pub(super) fn take_news(&mut self) -> Option<Load> {
        let load = self.news.take()?;
        let is_known = self.told.is_some_and(|told| (told.stale, told.blocked) == (load.stale, load.blocked));
        self.told = Some(load);
        (!is_known).then_some(load)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(500);

    #[tokio::test(start_paused = true)]
    async fn heartbeats_at_the_agreed_rate_are_accepted_for_ever_and_a_burst_after_a_stall() {
        let mut limit = HeartbeatLimit::new(INTERVAL);
        for round in 0..100 {
            for _ in 0..30 {
                assert_eq!(limit.on_heartbeat(Load::default(), Duration::ZERO), Ok(()), "round {round}");
            }
            tokio::time::advance(INTERVAL * 30).await;
        }
        for _ in 0..1000 {
            assert_eq!(limit.on_heartbeat(Load::default(), Duration::ZERO), Ok(()));
            tokio::time::advance(INTERVAL).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_heartbeats_is_an_error() {
        let mut limit = HeartbeatLimit::new(INTERVAL);
        let accepted = (0..1000).take_while(|_| limit.on_heartbeat(Load::default(), Duration::ZERO).is_ok()).count();
        assert_eq!(accepted, BURST as usize);
        // Three times the rate is too much as well.
        let mut limit = HeartbeatLimit::new(INTERVAL);
        for _ in 0..1000 {
            if let Err(why) = limit.on_heartbeat(Load::default(), Duration::ZERO) {
                assert_eq!(why, "it sent heartbeats more often than the agreed one every 500ms");
                return;
            }
            tokio::time::advance(INTERVAL / 3).await;
        }
        panic!("all of them are accepted");
    }

    #[tokio::test(start_paused = true)]
    async fn heartbeats_that_came_while_nothing_was_read_are_accepted() {
        let mut limit = HeartbeatLimit::new(INTERVAL);
        tokio::time::advance(INTERVAL * 1000).await;
        assert!((0..1000).all(|_| limit.on_heartbeat(Load::default(), INTERVAL * 1000).is_ok()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_core_is_told_the_last_of_several_heartbeats_if_it_is_new() {
        let mut limit = HeartbeatLimit::new(INTERVAL);
        let load = |stale| Load { stale, ..Load::default() };
        assert_eq!(limit.take_news(), None);
        // The load that the node stated when it registered may be out of date.
        limit.on_heartbeat(load(0), Duration::ZERO).expect("is allowed");
        assert_eq!(limit.take_news(), Some(load(0)));
        for stale in [1, 0, 3] {
            limit.on_heartbeat(load(stale), Duration::ZERO).expect("is allowed");
        }
        assert_eq!(limit.take_news(), Some(load(3)));
        assert_eq!(limit.take_news(), None);
        limit.on_heartbeat(Load { computing: 7, ..load(3) }, Duration::ZERO).expect("is allowed");
        assert_eq!(limit.take_news(), None, "nothing that the core acts on has changed");
        for stale in [0, 3] {
            limit.on_heartbeat(load(stale), Duration::ZERO).expect("is allowed");
        }
        assert_eq!(limit.take_news(), None, "it is the same as before");
        limit.on_heartbeat(load(0), Duration::ZERO).expect("is allowed");
        assert_eq!(limit.take_news(), Some(load(0)));
    }
}
