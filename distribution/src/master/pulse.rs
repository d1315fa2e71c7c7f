//! How often a node may tell its load, and when the core hears of it.

use std::time::Duration;

use tokio::time::Instant;

use crate::wire::Load;

/// Heartbeats are taken at twice the rate that was agreed on, for clocks that differ.
const LENIENCE: u32 = 2;

/// And this many at once: what waits after a stall of the master. A node gives up a master that is silent for fifteen
/// heartbeats, in which it sends thirty.
const BURST: u32 = 64;

/// The heartbeats of one connection.
#[derive(Debug)]
pub(super) struct Pulse {
    /// What is agreed on between two.
    interval: Duration,
    /// When those that have come would be all that may have, one after the other.
    due: Instant,
    /// What the core was told last.
    told: Option<Load>,
    /// What came last, if the core has not been told.
    news: Option<Load>,
}

impl Pulse {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, due: Instant::now(), told: None, news: None }
    }

    /// A heartbeat has come, on a connection that was not read for this time in all.
    ///
    /// # Errors
    ///
    /// Why the connection ends, where more come than were agreed on.
    pub(super) fn beat(&mut self, load: Load, not_read: Duration) -> Result<(), String> {
        let (now, each) = (Instant::now(), self.interval / LENIENCE);
        self.due = self.due.max(now) + each;
        if self.due > now + each * BURST + not_read {
            return Err(format!("it sends heartbeats more often than every {:?}, as was agreed on", self.interval));
        }
        self.news = Some(load);
        Ok(())
    }

    /// What the core is to be told now: the last of the heartbeats that have come, if it says anything new.
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
    async fn heartbeats_at_the_agreed_rate_are_taken_for_ever_and_some_after_a_stall() {
        let mut pulse = Pulse::new(INTERVAL);
        for round in 0..100 {
            for _ in 0..30 {
                assert_eq!(pulse.beat(Load::default(), Duration::ZERO), Ok(()), "round {round}");
            }
            tokio::time::advance(INTERVAL * 30).await;
        }
        for _ in 0..1000 {
            assert_eq!(pulse.beat(Load::default(), Duration::ZERO), Ok(()));
            tokio::time::advance(INTERVAL).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_ends_soon() {
        let mut pulse = Pulse::new(INTERVAL);
        let taken = (0..1000).take_while(|_| pulse.beat(Load::default(), Duration::ZERO).is_ok()).count();
        assert_eq!(taken, BURST as usize);
        // At three times the rate it ends as well.
        let mut pulse = Pulse::new(INTERVAL);
        for _ in 0..1000 {
            if let Err(why) = pulse.beat(Load::default(), Duration::ZERO) {
                assert_eq!(why, "it sends heartbeats more often than every 500ms, as was agreed on");
                return;
            }
            tokio::time::advance(INTERVAL / 3).await;
        }
        panic!("all of them are taken");
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_while_nothing_was_read_is_no_flood() {
        let mut pulse = Pulse::new(INTERVAL);
        tokio::time::advance(INTERVAL * 1000).await;
        assert!((0..1000).all(|_| pulse.beat(Load::default(), INTERVAL * 1000).is_ok()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_core_hears_the_last_of_several_and_only_what_is_new() {
        let mut pulse = Pulse::new(INTERVAL);
        let load = |stale| Load { stale, ..Load::default() };
        assert_eq!(pulse.take_news(), None);
        // What the node said as it registered may be over by now.
        pulse.beat(load(0), Duration::ZERO).expect("is in time");
        assert_eq!(pulse.take_news(), Some(load(0)));
        for stale in [1, 0, 3] {
            pulse.beat(load(stale), Duration::ZERO).expect("is in time");
        }
        assert_eq!(pulse.take_news(), Some(load(3)));
        assert_eq!(pulse.take_news(), None);
        pulse.beat(Load { computing: 7, ..load(3) }, Duration::ZERO).expect("is in time");
        assert_eq!(pulse.take_news(), None, "nothing that is acted on has changed");
        for stale in [0, 3] {
            pulse.beat(load(stale), Duration::ZERO).expect("is in time");
        }
        assert_eq!(pulse.take_news(), None, "it is what it was");
        pulse.beat(load(0), Duration::ZERO).expect("is in time");
        assert_eq!(pulse.take_news(), Some(load(0)));
    }
}
