//! Which node was registered when, and what was done to it meanwhile.

use std::{collections::HashMap, time::Duration};

use super::{
    history::{Generation, Harm, History},
    ledger::{Made, Reason, What, Who},
    strikes::Blow,
};

/// How long after a thaw a registration may still end of the freeze.
const AFTERMATH: Duration = Duration::from_secs(2);

/// Comings and goings are written down after the fact; overlaps shorter than this mean nothing.
const HINDSIGHT: Duration = Duration::from_millis(100);

/// From when to when a registration took calls.
type Presence = (u64, u64);

#[derive(Debug)]
pub(super) struct Attendance<'a> {
    /// By the node's name.
    harms: HashMap<&'a str, Vec<&'a Harm>>,
    joined: HashMap<&'a Who, u64>,
    /// By the master's name.
    present: HashMap<&'a str, Vec<Presence>>,
}

impl<'a> Attendance<'a> {
    /// Reads the masters' ledgers, and judges each node that went.
    pub(super) fn read(history: &'a History) -> (Self, Vec<String>) {
        let mut attendance = Self { harms: HashMap::new(), joined: HashMap::new(), present: HashMap::new() };
        for harm in &history.harms {
            attendance.harms.entry(&harm.name).or_default().push(harm);
        }
        let mut wrong = Vec::new();
        for master in &history.masters {
            attendance.read_master(master, &mut wrong);
        }
        (attendance, wrong)
    }

    fn read_master(&mut self, master: &'a Generation, wrong: &mut Vec<String>) {
        let mut present: HashMap<&Who, Presence> = HashMap::new();
        let end = |present: &mut HashMap<&Who, Presence>, node, at: u64| {
            if let Some((_, until)) = present.get_mut(node) {
                *until = at.min(*until);
            }
        };
        for Made { at, what } in &master.entries {
            match what {
                What::Joined { node } => {
                    self.joined.entry(node).or_insert(*at);
                    present.entry(node).or_insert((*at, u64::MAX));
                }
                What::Leaving { node } => end(&mut present, node, *at),
                What::Gone { node, reason } => {
                    end(&mut present, node, *at);
                    let excused = match reason {
                        Reason::Silent => self.was(node, *at, &[Blow::Freeze]),
                        Reason::Cut => self.was_hit(node, *at),
                        Reason::Left => self.was(node, *at, &[Blow::Terminate]),
                        Reason::Shutdown => master.killed.is_none(),
                        Reason::Other => false,
                    };
                    if !excused {
                        let Who { name, id } = node;
                        wrong.push(format!("{name} ({id}) is gone ({reason:?}), and nothing like it was done to it"));
                    }
                }
                What::Submit { .. } | What::End { .. } | What::GivenUp { .. } => {}
            }
        }
        self.present.insert(&master.name, present.into_values().collect());
    }

    /// Whether the node was killed or frozen while it was registered so, before that time.
    pub(super) fn was_hit(&self, node: &Who, at: u64) -> bool {
        self.was(node, at, &[Blow::Kill, Blow::Freeze])
    }

    fn was(&self, node: &Who, at: u64, blows: &[Blow]) -> bool {
        let joined = self.joined.get(node).copied().unwrap_or(0);
        let harms = self.harms.get(node.name.as_str()).into_iter().flatten();
        harms.filter(|harm| blows.contains(&harm.blow)).any(|harm| {
            let (thawed, over) = harm.until.map_or((u64::MAX, u64::MAX), |until| (until, until + micros(AFTERMATH)));
            harm.from <= at && at <= over && joined <= thawed
        })
    }

    /// Whether a node took calls of this master at any moment of the time before.
    pub(super) fn somebody_was_there(&self, master: &Generation, at: u64, before: Duration) -> bool {
        let (from, to) = (at.saturating_sub(micros(before)) + micros(HINDSIGHT), at.saturating_sub(micros(HINDSIGHT)));
        let mut present = self.present.get(master.name.as_str()).into_iter().flatten();
        present.any(|(joined, left)| *joined < to && *left > from)
    }
}

fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}
