//! Events as programs in other processes read them: some at a time.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::{id::NodeId, seconds, view::NodeEvent};

/// What has happened to a master's nodes since an earlier page, and where to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EventPage {
    /// The events, in the order in which they happened. Empty if nothing has happened for some seconds.
    pub events: Vec<TimedEvent>,
    /// Where the next page begins.
    pub next: EventCursor,
}

/// An event with its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TimedEvent {
    /// When it happened, by the master's clock: time since the beginning of 1970 (UTC), in whole microseconds.
    #[serde(serialize_with = "seconds::serialize", deserialize_with = "microseconds")]
    pub at: Duration,
    /// What happened.
    pub event: NodeEvent,
}

impl TimedEvent {
    pub(crate) fn new(at: Duration, event: NodeEvent) -> Self {
        Self { at: whole_microseconds(at.as_secs_f64()).unwrap_or(at), event }
    }
}

/// Seconds as they are serialised are exact to less than a microsecond. Rounded, each reader has the same time.
pub(super) fn microseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    whole_microseconds(seconds).ok_or_else(|| D::Error::custom("not a time"))
}

fn whole_microseconds(seconds: f64) -> Option<Duration> {
    let time = Duration::try_from_secs_f64(seconds).ok()?;
    let rounded = time.checked_add(Duration::from_nanos(500))?;
    Some(Duration::new(rounded.as_secs(), rounded.subsec_micros() * 1000))
}

/// A place in the events of one run of a master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EventCursor {
    /// Stands for the run: it begins with a number that the master drew when it started.
    pub(crate) master: NodeId,
    /// The number of the last event that was read.
    pub(crate) number: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_an_event_is_the_same_after_each_journey() {
        for at in (0..1000).map(|part| Duration::new(1_795_920_609, 655_210_000 + part * 997)) {
            let timed = TimedEvent::new(at, NodeEvent::Missed(1));
            assert!(timed.at.abs_diff(at) < Duration::from_micros(1));
            let json = serde_json::to_string(&timed).expect("can be written");
            assert_eq!(serde_json::from_str::<TimedEvent>(&json).expect("can be read"), timed);
        }
        assert!(serde_json::from_str::<TimedEvent>(r#"{"at":-1.0,"event":{"missed":1}}"#).is_err());
    }
}
