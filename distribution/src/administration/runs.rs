//! Runs of many calls as administrators see them.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::calls::CallInfo;
use crate::seconds;

/// A run of many calls that has a name: a [`Distributed`](crate::Distributed) with [`name`](crate::Distributed::name). It is
/// as its caller has told the master last, which it does about once a second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunInfo {
    /// Stands for the run: its caller has drawn it at random.
    #[serde(default)]
    pub number: u64,
    /// Its name. Several runs may have the same.
    pub name: String,
    /// The name of the caller that makes its calls. `None` if it is the master's own process.
    pub caller: Option<Arc<str>>,
    /// Whether it goes on, and how it ended if not.
    pub status: RunStatus,
    /// Calls that have ended, with a value or an error.
    pub done: u64,
    /// Calls of `done` that ended with an error.
    pub failed: u64,
    /// Calls that a node has. A caller in another process counts all that it has sent to the master: its
    /// [`stragglers`](Self::stragglers) say of each whether it waits.
    pub running: u64,
    /// Other calls that are under way.
    pub waiting: u64,
    /// How many calls there are in all, if the caller knows.
    pub total: Option<u64>,
    /// Calls done in a second, on average.
    pub rate: f64,
    /// How long the other calls will take at this rate. `None` while the total or the rate is unknown, while it is stalled, and after
    /// the end.
    #[serde(with = "optional_seconds")]
    pub time_left: Option<Duration>,
    /// How long no call of it has ended, if that is more than ten seconds, and ten times as long as one took on
    /// average before.
    #[serde(with = "optional_seconds", default)]
    pub stalled_for: Option<Duration>,
    /// Time from its beginning until its caller told of it last, or until its end.
    #[serde(with = "seconds")]
    pub elapsed: Duration,
    /// Time since its caller told of it last. It is long if nobody polls the stream of the run.
    #[serde(with = "seconds")]
    pub told_for: Duration,
    /// Its calls and batches that were sent first and have not ended, at most five: what the end of the run waits for.
    pub stragglers: Vec<CallInfo>,
}

/// Whether a run goes on, and how it ended if not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunStatus {
    /// It goes on.
    Running,
    /// All its calls have ended.
    Finished,
    /// Its stream was dropped before all calls had ended.
    Stopped,
    /// Its caller is gone, and has not said that it has ended. A stream that was read to its end waits until the master knows, one that
    /// was dropped does not.
    Lost,
}

mod optional_seconds {
    //! Times that may be unknown, in seconds.

    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        time.map(|time| time.as_secs_f64()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let seconds = Option::<f64>::deserialize(deserializer)?;
        seconds.map(|seconds| Duration::try_from_secs_f64(seconds).map_err(D::Error::custom)).transpose()
    }
}
