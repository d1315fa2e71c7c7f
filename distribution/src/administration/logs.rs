//! What nodes have logged, as administrators read it at the master: records, and which of them are wanted.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::events::microseconds;
use crate::{
    id::{CallId, NodeId, NodeIdentity},
    seconds,
};

/// The target of records that say what became of others.
pub(crate) const TARGET_OF_NOTES: &str = "distribution::logs";

/// How serious a record is. Levels compare by that: `Error` is the greatest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Each step.
    #[default]
    Trace,
    /// For those who look for a fault.
    Debug,
    /// What happens.
    Info,
    /// Something is wrong, and the work goes on.
    Warn,
    /// Something has failed.
    Error,
}

/// Prints `error`, `warn`, `info`, `debug` or `trace`.
impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        })
    }
}

/// What a node has logged.
///
/// `at` and `node` are the master's own. All else is what the node says. Its text is made safe to print: control and
/// invisible characters are escaped, and join tokens are replaced by `[token]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogRecord {
    /// When the master received it, by its clock: time since the beginning of 1970 (UTC), in whole microseconds.
    #[serde(serialize_with = "seconds::serialize", deserialize_with = "microseconds")]
    pub at: Duration,
    /// When it was logged, by the node's clock: time since the beginning of 1970 (UTC).
    #[serde(serialize_with = "seconds::serialize", deserialize_with = "microseconds")]
    pub logged_at: Duration,
    /// The node whose connection it came on.
    pub node: NodeIdentity,
    /// How serious it is.
    pub level: LogLevel,
    /// The part of the program that logged it: the module, unless the program says otherwise.
    pub target: String,
    /// The text.
    pub message: String,
    /// The other fields: `key=value`, with a space between two.
    pub fields: String,
    /// The method whose handler logged it, such as `Arith.sum`; `None` outside of a handler.
    pub method: Option<String>,
    /// The call whose handler logged it.
    pub call: Option<CallId>,
    /// The number of the attempt at that call, from 1.
    pub attempt: Option<u32>,
    /// How often the same record came again at once: such records are counted and not sent.
    pub repeated: u32,
    /// Where a handler has panicked, in several lines.
    pub backtrace: Option<String>,
}

impl LogRecord {
    /// A record that the master makes itself, of what became of others.
    pub(crate) fn note(node: NodeIdentity, at: Duration, message: String) -> Self {
        Self {
            at,
            logged_at: at,
            node,
            level: LogLevel::Warn,
            target: TARGET_OF_NOTES.to_owned(),
            message,
            fields: String::new(),
            method: None,
            call: None,
            attempt: None,
            repeated: 0,
            backtrace: None,
        }
    }
}

/// Prints one line without the backtrace: `info n1 Arith.sum 91c2a7-12: it is done rows=7 (repeated 2 times)`.
impl fmt::Display for LogRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.level, self.node.name)?;
        if let Some(method) = &self.method {
            write!(f, " {method}")?;
        }
        if let Some(call) = self.call {
            write!(f, " {call}")?;
        }
        write!(f, ": {}", self.message)?;
        if !self.fields.is_empty() {
            write!(f, " {}", self.fields)?;
        }
        match self.repeated {
            0 => Ok(()),
            1 => f.write_str(" (repeated once)"),
            times => write!(f, " (repeated {times} times)"),
        }
    }
}

/// Which records [`Master::logs`](crate::Master::logs) and [`AdminClient::logs`](crate::AdminClient::logs) read. The default
/// is the newest 1,000 of those that the master has kept, of all nodes and levels, and then the end.
///
/// ```
/// # use distribution::{LogFilter, administration::LogLevel};
/// let failures = LogFilter::default().method("Arith").level(LogLevel::Warn).past(100).follow();
/// # assert_eq!((failures.past, failures.follow), (100, true));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct LogFilter {
    /// Only records of the node with this name or id.
    pub node: Option<String>,
    /// Only records of handlers of this method (`Arith.sum`) or service (`Arith`).
    pub method: Option<String>,
    /// Only records of the handler of this call.
    pub call: Option<CallId>,
    /// Only records of this level, and more serious ones.
    pub level: LogLevel,
    /// Only records whose message or fields contain this text.
    pub contains: Option<String>,
    /// Only records that the master received at most this long ago.
    pub newer_than: Option<Duration>,
    /// How many of the newest records that the master has kept are read first. It keeps 50,000 at most.
    pub past: usize,
    /// Whether those follow that come later, without an end.
    pub follow: bool,
}

impl Default for LogFilter {
    fn default() -> Self {
        Self {
            node: None,
            method: None,
            call: None,
            level: LogLevel::Trace,
            contains: None,
            newer_than: None,
            past: 1000,
            follow: false,
        }
    }
}

impl LogFilter {
    /// Only records of the node with this name or id.
    pub fn node(self, node: impl fmt::Display) -> Self {
        Self { node: Some(node.to_string()), ..self }
    }

    /// Only records of handlers of this method (`Arith.sum`) or service (`Arith`).
    pub fn method(self, name: impl Into<String>) -> Self {
        Self { method: Some(name.into()), ..self }
    }

    /// Only records of the handler of this call.
    pub fn call(self, call: CallId) -> Self {
        Self { call: Some(call), ..self }
    }

    /// Only records of this level, and more serious ones.
    pub fn level(self, least: LogLevel) -> Self {
        Self { level: least, ..self }
    }

    /// Only records whose message or fields contain this text.
    pub fn contains(self, text: impl Into<String>) -> Self {
        Self { contains: Some(text.into()), ..self }
    }

    /// Only records that the master received at most this long ago.
    pub fn newer_than(self, age: Duration) -> Self {
        Self { newer_than: Some(age), ..self }
    }

    /// How many of the newest records that the master has kept are read first.
    pub fn past(self, records: usize) -> Self {
        Self { past: records, ..self }
    }

    /// Goes on with the records that come later, without an end.
    pub fn follow(self) -> Self {
        Self { follow: true, ..self }
    }

    /// Whether a record is wanted. `now` is the time at the master.
    pub(crate) fn admits(&self, record: &LogRecord, now: Duration) -> bool {
        let is_of_node = |node: &String| *record.node.name == **node || record.node.id.to_string() == *node;
        let is_of_method = |wanted: &String| {
            let Some(method) = record.method.as_ref() else { return false };
            method == wanted || method.rsplit_once('.').is_some_and(|(service, _)| service == wanted)
        };
        let has_text = |text: &String| record.message.contains(text) || record.fields.contains(text);
        record.level >= self.level
            && self.call.is_none_or(|call| record.call == Some(call))
            && self.newer_than.is_none_or(|age| now.saturating_sub(record.at) <= age)
            && self.node.as_ref().is_none_or(is_of_node)
            && self.method.as_ref().is_none_or(is_of_method)
            && self.contains.as_ref().is_none_or(has_text)
    }
}

/// Some records, and where to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogPage {
    /// The records, in the order in which they came. Empty if none came for some seconds.
    pub records: Vec<LogRecord>,
    /// How many records, wanted or not, the master had dropped before this reader has seen them. Records of the past that are
    /// not kept do not count.
    pub missed: u64,
    /// Where the next page begins.
    pub next: LogCursor,
    /// The master, and its time, as records of its own have them.
    pub(crate) master: (NodeIdentity, Duration),
}

impl LogPage {
    /// The records, behind one that says how many are missing, if some are.
    pub(crate) fn into_records(self) -> Vec<LogRecord> {
        let Self { mut records, missed, master: (node, at), .. } = self;
        if missed > 0 {
            let what = if missed == 1 { "1 record was".to_owned() } else { format!("{missed} records were") };
            records.insert(0, LogRecord::note(node, at, format!("{what} dropped: they were read too slowly")));
        }
        records
    }
}

/// A place in the records of one run of a master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LogCursor {
    /// Stands for the run: it begins with a number that the master drew when it started.
    pub(crate) master: NodeId,
    /// The number of the last record that was looked at.
    pub(crate) number: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NO_ADDRESS;

    fn record() -> LogRecord {
        LogRecord {
            at: Duration::from_micros(1_795_920_609_655_213),
            logged_at: Duration::from_secs(99),
            node: NodeIdentity::new(NodeId::new(1, 7), "n1", NO_ADDRESS),
            level: LogLevel::Warn,
            target: "program".to_owned(),
            message: "the disk is nearly full".to_owned(),
            fields: "left=7".to_owned(),
            method: Some("shop.Arith.sum".to_owned()),
            call: Some(CallId(12)),
            attempt: Some(1),
            repeated: 2,
            backtrace: None,
        }
    }

    #[test]
    fn each_condition_of_a_filter_counts() {
        let any = LogFilter::default;
        let admits = |filter: LogFilter| filter.admits(&record(), record().at + Duration::from_secs(10));
        for wanted in [
            any(),
            any().node("n1"),
            any().node(NodeId::new(1, 7)),
            any().method("shop.Arith.sum"),
            any().method("shop.Arith"),
            any().call(CallId(12)),
            any().level(LogLevel::Warn),
            any().contains("nearly"),
            any().contains("left=7"),
            any().newer_than(Duration::from_secs(10)),
        ] {
            assert!(admits(wanted.clone()), "{wanted:?}");
        }
        for other in [
            any().node("n"),
            any().method("Arith"),
            any().method("sum"),
            any().call(CallId(13)),
            any().level(LogLevel::Error),
            any().contains("empty"),
            any().newer_than(Duration::from_secs(9)),
        ] {
            assert!(!admits(other.clone()), "{other:?}");
        }
    }

    #[test]
    fn a_record_prints_on_one_line() {
        let line = "warn n1 shop.Arith.sum 000000-12: the disk is nearly full left=7 (repeated 2 times)";
        assert_eq!(record().to_string(), line);
        let json = serde_json::to_string(&record()).expect("can be written");
        assert_eq!(serde_json::from_str::<LogRecord>(&json).expect("can be read"), record());
    }
}
