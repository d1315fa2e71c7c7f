//! What all ledgers together say of one call.

use std::time::Duration;

use super::{
    history::{Generation, History},
    ledger::{MasterEntry, MasterEvent, NodeEntry, Outcome, Step},
};

#[derive(Debug, Default)]
pub(super) struct CallRecord<'a> {
    /// By which process, and when.
    pub(super) submitted: Option<(&'a Generation, u64)>,
    pub(super) end: Option<End<'a>>,
    /// By which node, in each ledger's order.
    ran: Vec<(&'a str, &'a NodeEntry)>,
}

/// How a call ended for its caller.
#[derive(Clone, Copy, Debug)]
pub(super) struct End<'a> {
    pub(super) maker: &'a Generation,
    pub(super) at: u64,
    pub(super) elapsed: Duration,
    /// `None` if the caller dropped it.
    pub(super) outcome: Option<&'a Outcome>,
}

/// All calls by their keys, and what is wrong already as they are put together.
pub(super) fn collect(history: &History) -> (Vec<CallRecord<'_>>, Vec<String>) {
    let mut records: Vec<CallRecord<'_>> = (0..history.keys).map(|_| CallRecord::default()).collect();
    let mut wrong = Vec::new();
    let unknown = |key: u64| format!("call {key} is in a ledger, and there is no such call");
    for maker in history.masters.iter().chain(&history.callers) {
        for MasterEntry { at, what } in &maker.entries {
            let at = *at;
            let (key, end) = match what {
                MasterEvent::Submit { key } => (*key, None),
                MasterEvent::End { key, elapsed, outcome } => {
                    let elapsed = Duration::from_micros(*elapsed);
                    (*key, Some(End { maker, at, elapsed, outcome: Some(outcome) }))
                }
                MasterEvent::GivenUp { key } => (*key, Some(End { maker, at, elapsed: Duration::ZERO, outcome: None })),
                MasterEvent::StoodStill { .. }
                | MasterEvent::Joined { .. }
                | MasterEvent::Resumed { .. }
                | MasterEvent::Leaving { .. }
                | MasterEvent::Gone { .. } => continue,
            };
            let Some(record) = records.get_mut(key as usize) else {
                wrong.push(unknown(key));
                continue;
            };
            match end {
                None if record.submitted.replace((maker, at)).is_some() => {
                    wrong.push(format!("call {key} was made twice"))
                }
                Some(end) if record.end.replace(end).is_some() => wrong.push(format!("call {key} ended twice")),
                _ => {}
            }
        }
    }
    for (name, ledger) in &history.nodes {
        for ran in ledger {
            match records.get_mut(ran.key as usize) {
                Some(record) => record.ran.push((name, ran)),
                None => wrong.push(unknown(ran.key)),
            }
        }
    }
    (records, wrong)
}

impl End<'_> {
    /// How long the process that had made the call did not run meanwhile, because its machine was busy.
    pub(super) fn stood_still(&self, submitted: u64) -> Duration {
        let stills = self.maker.entries.iter().filter_map(|entry| match entry.what {
            MasterEvent::StoodStill { micros } => {
                Some(self.at.min(entry.at).saturating_sub(submitted.max(entry.at.saturating_sub(micros))))
            }
            _ => None,
        });
        Duration::from_micros(stills.sum())
    }
}

impl CallRecord<'_> {
    fn started(&self) -> impl Iterator<Item = &(&str, &NodeEntry)> {
        self.ran.iter().filter(|(_, ran)| ran.step == Step::Start)
    }

    /// How often a handler has started it.
    pub(super) fn starts(&self) -> usize {
        self.started().count()
    }

    /// The ids under which handlers have started it, with the starts of each, in the order of their first. It has another id at
    /// each master that it was sent to.
    fn ids(&self) -> Vec<(&str, Vec<&NodeEntry>)> {
        let mut starts: Vec<&NodeEntry> = self.started().map(|(_, start)| *start).collect();
        starts.sort_by_key(|start| start.at);
        let mut ids: Vec<(&str, Vec<&NodeEntry>)> = Vec::new();
        for start in starts {
            match ids.iter_mut().find(|(id, _)| *id == start.id) {
                Some((_, starts)) => starts.push(start),
                None => ids.push((&start.id, vec![start])),
            }
        }
        ids
    }

    /// At how many masters handlers have started it.
    pub(super) fn masters(&self) -> usize {
        self.ids().len()
    }

    /// The most starts that it has at one master.
    pub(super) fn most_starts(&self) -> usize {
        self.ids().iter().map(|(_, starts)| starts.len()).max().unwrap_or(0)
    }

    /// Its starts at the last master that it was sent to.
    pub(super) fn last_starts(&self) -> usize {
        self.ids().last().map_or(0, |(_, starts)| starts.len())
    }

    /// The highest number of an attempt that was started, at the last master that it was sent to. Attempts that certainly did
    /// not run are numbered, but not counted in an answer's `attempts`.
    pub(super) fn newest_attempt(&self) -> u32 {
        self.ids().last().and_then(|(_, starts)| starts.iter().map(|start| start.attempt).max()).unwrap_or(0)
    }

    /// Whether it has a start and an end on this node, or on any.
    pub(super) fn has_run(&self, on: Option<&str>) -> bool {
        let ended = |node: &str, start: &NodeEntry| {
            let end = (node, &start.id, start.attempt, Step::End);
            self.ran.iter().any(|(other, ran)| (*other, &ran.id, ran.attempt, ran.step) == end)
        };
        self.started().any(|(node, start)| on.is_none_or(|on| on == *node) && ended(node, start))
    }

    /// Whether one attempt was started twice.
    pub(super) fn has_attempt_twice(&self) -> bool {
        let mut attempts: Vec<(&str, u32)> = self.started().map(|(_, start)| (&*start.id, start.attempt)).collect();
        attempts.sort_unstable();
        attempts.windows(2).any(|pair| pair[0] == pair[1])
    }

    /// All of it, for a person.
    pub(super) fn describe(&self) -> String {
        let (maker, made) = self.submitted.map_or(("nobody", 0), |(maker, at)| (&maker.name, at));
        let since = |at: u64| Duration::from_micros(at.saturating_sub(made));
        let ran: Vec<String> = self
            .ran
            .iter()
            .map(|(node, ran)| {
                format!("{:?} of {}, attempt {}, on {node} after {:?}", ran.step, ran.id, ran.attempt, since(ran.at))
            })
            .collect();
        let ended = self.end.map_or("never ended".to_owned(), |end| format!("ended after {:?}", since(end.at)));
        format!("made by {maker} at {made}, {ended}; ran: [{}]", ran.join(", "))
    }
}
