//! Which node was registered when, and what was done to it meanwhile.

use std::{collections::HashMap, time::Duration};

use super::{
    fault_plan::Fault,
    history::{Generation, History, InjectedFault},
    ledger::{MasterEntry, MasterEvent, Reason, Registration},
};

/// How long after a thaw a registration may still end of the freeze.
const AFTERMATH: Duration = Duration::from_secs(2);

/// Comings and goings are written down after the fact; overlaps shorter than this mean nothing.
const ROUNDING: Duration = Duration::from_millis(100);

/// From when to when a registration took calls.
type Presence = (u64, u64);

#[derive(Debug)]
pub(super) struct MemberList<'a> {
    /// By the node's name.
    injected: HashMap<&'a str, Vec<&'a InjectedFault>>,
    joined: HashMap<&'a Registration, u64>,
    /// By the master's name.
    present: HashMap<&'a str, Vec<Presence>>,
    /// When masters were killed.
    master_kills: Vec<u64>,
    /// How often nodes came back with their calls.
    pub(super) resumed: u64,
}

impl<'a> MemberList<'a> {
    /// Reads the masters' ledgers, and judges each node that went.
    pub(super) fn read(history: &'a History) -> (Self, Vec<String>) {
        let mut members = Self {
            injected: HashMap::new(),
            joined: HashMap::new(),
            present: HashMap::new(),
            master_kills: history.masters.iter().filter_map(|master| master.killed).collect(),
            resumed: 0,
        };
        for injected in &history.injected {
            members.injected.entry(&injected.name).or_default().push(injected);
        }
        let mut wrong = Vec::new();
        for master in &history.masters {
            members.read_master(master, &mut wrong);
        }
        (members, wrong)
    }

    fn read_master(&mut self, master: &'a Generation, wrong: &mut Vec<String>) {
        let mut present: HashMap<&Registration, Presence> = HashMap::new();
        let end = |present: &mut HashMap<&Registration, Presence>, node, at: u64| {
            if let Some((_, until)) = present.get_mut(node) {
                *until = at.min(*until);
            }
        };
        for MasterEntry { at, what } in &master.entries {
            match what {
                MasterEvent::Joined { node } => {
                    self.joined.entry(node).or_insert(*at);
                    present.entry(node).or_insert((*at, u64::MAX));
                }
                MasterEvent::Leaving { node } => end(&mut present, node, *at),
                MasterEvent::Resumed { .. } => self.resumed += 1,
                MasterEvent::Gone { node, reason, in_flight } => {
                    end(&mut present, node, *at);
                    let excused = match reason {
                        Reason::Silent => self.was(node, *at, &[Fault::Freeze]),
                        // A node that has no calls loses nothing, and is registered again.
                        Reason::Cut if *in_flight == 0 => {
                            self.was(node, *at, &[Fault::Kill, Fault::Freeze, Fault::Reset])
                        }
                        Reason::Cut => self.was_hit(node, *at),
                        Reason::Left => self.was(node, *at, &[Fault::Terminate]),
                        Reason::Shutdown => master.killed.is_none(),
                        Reason::Other => false,
                    };
                    if !excused {
                        let Registration { name, id } = node;
                        wrong.push(format!("{name} ({id}) is gone ({reason:?}), and nothing like it was done to it"));
                    }
                }
                MasterEvent::Submit { .. }
                | MasterEvent::End { .. }
                | MasterEvent::GivenUp { .. }
                | MasterEvent::StoodStill { .. } => {}
            }
        }
        let killed = master.killed.unwrap_or(u64::MAX);
        let until = |(joined, left): Presence| (joined, left.min(killed));
        self.present.insert(&master.name, present.into_values().map(until).collect());
    }

    /// Whether the node was killed or frozen while it was registered so, before that time.
    pub(super) fn was_hit(&self, node: &Registration, at: u64) -> bool {
        self.was(node, at, &[Fault::Kill, Fault::Freeze])
    }

    fn was(&self, node: &Registration, at: u64, faults: &[Fault]) -> bool {
        let joined = self.joined.get(node).copied().unwrap_or(0);
        let injected = self.injected.get(node.name.as_str()).into_iter().flatten();
        injected.filter(|injected| faults.contains(&injected.fault)).any(|injected| {
            let (thawed, over) =
                injected.until.map_or((u64::MAX, u64::MAX), |until| (until, until + micros(AFTERMATH)));
            injected.from <= at && at <= over && joined <= thawed
        })
    }

    /// Whether a node took calls at any moment of the time before: of this master, or, if this is a caller, of any.
    pub(super) fn had_a_node(&self, maker: &Generation, at: u64, before: Duration) -> bool {
        let (from, to) = (at.saturating_sub(micros(before)) + micros(ROUNDING), at.saturating_sub(micros(ROUNDING)));
        let masters = self.present.iter().filter(|(name, _)| maker.is_caller || **name == maker.name);
        masters.flat_map(|(_, present)| present).any(|(joined, left)| *joined < to && *left > from)
    }

    /// How many masters were killed in this time.
    pub(super) fn master_kills(&self, from: u64, until: u64) -> usize {
        self.master_kills.iter().filter(|killed| (from..=until).contains(killed)).count()
    }

    /// How many resets of this caller's connection may have come in this time.
    pub(super) fn resets(&self, caller: &Generation, from: u64, until: u64) -> usize {
        let injected = self.injected.get(caller.name.as_str()).into_iter().flatten();
        let resets = injected.filter(|injected| injected.fault == Fault::Reset);
        resets.filter(|reset| reset.from <= until && reset.until.is_none_or(|at| from <= at)).count()
    }
}

fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}
