//! The newest events of a master, numbered from 1 in the order in which they happened.
//!
//! Each reader remembers the number of the last event that it has read. The log keeps as many events as it has room for,
//! whether or not somebody reads them: a reader that is slower misses some, and is told how many.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::sync::watch;

use crate::{administration::TimedEvent, view::NodeEvent};

/// The newest events.
#[derive(Debug)]
pub(super) struct EventLog {
    /// A lock of its own, which readers hold without the core's. Taken after the core's where both are held.
    kept: Mutex<Kept>,
    /// How many events are kept.
    room: usize,
    progress: watch::Sender<Progress>,
}

/// The newest events.
#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<TimedEvent>,
    /// The number of the last one.
    last: u64,
}

/// How far the log is, for those that wait.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// The number of the last event.
    last: u64,
    /// Whether there will be no more, because the master has ended.
    has_ended: bool,
}

/// What follows an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Event(TimedEvent),
    /// This many events, which the log does not have any more.
    Missed(u64),
    /// Nothing yet.
    Nothing,
}

impl EventLog {
    pub(super) fn new(room: usize) -> Self {
        Self { kept: Mutex::default(), room, progress: watch::channel(Progress::default()).0 }
    }

    /// Adds an event.
    pub(super) fn push(&self, event: NodeEvent) {
        let last = {
            let mut kept = self.lock();
            if kept.events.len() == self.room {
                kept.events.pop_front();
            }
            kept.events.push_back(TimedEvent::new(time(), event));
            kept.last += 1;
            kept.last
        };
        self.progress.send_modify(|progress| progress.last = last);
    }

    /// There will be no more events.
    pub(super) fn end(&self) {
        self.progress.send_modify(|progress| progress.has_ended = true);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.progress.borrow().has_ended
    }

    /// The number of the last event.
    pub(super) fn last(&self) -> u64 {
        self.lock().last
    }

    /// The newest events, at most this many, the oldest first, and the number of the last one.
    pub(super) fn newest(&self, most: usize) -> (Vec<TimedEvent>, u64) {
        let kept = self.lock();
        let left_out = kept.events.len().saturating_sub(most);
        (kept.events.iter().skip(left_out).cloned().collect(), kept.last)
    }

    /// What follows the event with this number.
    pub(super) fn after(&self, number: u64) -> Next {
        let kept = self.lock();
        let first = kept.last + 1 - kept.events.len() as u64;
        match (number + 1).checked_sub(first) {
            Some(at) => kept.events.get(at as usize).map_or(Next::Nothing, |event| Next::Event(event.clone())),
            None => Next::Missed(first - (number + 1)),
        }
    }

    /// Waits until there is an event after the one with this number, or there will be none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub(super) async fn wait_after(&self, number: u64) {
        let mut progress = self.progress.subscribe();
        // The log has the other end, so this does not fail.
        let _ = progress.wait_for(|progress| progress.last > number || progress.has_ended).await;
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Time since the beginning of 1970.
pub(super) fn time() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_events_are_kept_and_the_others_are_counted() {
        let log = EventLog::new(3);
        assert_eq!((log.after(0), log.last()), (Next::Nothing, 0));
        (1..=5).for_each(|number| log.push(NodeEvent::Missed(number)));
        let after = |number| match log.after(number) {
            Next::Event(TimedEvent { event: NodeEvent::Missed(number), .. }) => format!("event {number}"),
            other => format!("{other:?}"),
        };
        assert_eq!([0, 1].map(after), ["Missed(2)", "Missed(1)"]);
        assert_eq!([2, 3, 4, 5].map(after), ["event 3", "event 4", "event 5", "Nothing"]);
        assert_eq!(log.last(), 5);
        assert_eq!(log.newest(0), (Vec::new(), 5));
        let newest = |most| log.newest(most).0.into_iter().map(|timed| timed.event).collect::<Vec<_>>();
        assert_eq!(newest(2), [NodeEvent::Missed(4), NodeEvent::Missed(5)]);
        assert_eq!(newest(100).len(), 3);
    }

    #[tokio::test]
    async fn a_reader_waits_for_the_next_event_or_the_end() {
        let log = EventLog::new(3);
        log.push(NodeEvent::Missed(1));
        log.wait_after(0).await;
        assert!(futures::FutureExt::now_or_never(log.wait_after(1)).is_none());
        tokio::join!(log.wait_after(1), async { log.push(NodeEvent::Missed(2)) });
        tokio::join!(log.wait_after(2), async { log.end() });
        assert!(log.has_ended());
    }
}
