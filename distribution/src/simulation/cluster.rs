//! A simulated cluster around a core: its state, and how events are applied.

use std::{
    collections::{BTreeMap, VecDeque, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{
    model::{CallRecord, HEARTBEAT, SimulatedHost, SimulatedNode},
    rules::Rules,
    summary::Summary,
};
use crate::{
    core::{Core, Demand, Effects, Settings, Time},
    failed_attempt::FailedAttempt,
    id::{CallId, CallerId},
};

const MAX_QUEUED_CALLS: usize = 24;

const MAX_QUEUED_BYTES: usize = 2400;

/// Callers in other processes.
const OTHER_CALLERS: u64 = 3;

/// Some hundred times as many events as any seed takes.
const MOST_EVENTS: u64 = 200_000;

pub(super) struct SimulatedCluster {
    pub(super) rng: SmallRng,
    pub(super) core: Core<SimulatedHost>,
    pub(super) now: Time,
    pub(super) last_tick: Time,
    pub(super) nodes: Vec<SimulatedNode>,
    pub(super) calls: Vec<CallRecord>,
    pub(super) by_id: BTreeMap<CallId, usize>,
    /// Who makes calls now, the master's own process first.
    pub(super) callers: Vec<CallerId>,
    /// How many calls each caller has made of each service since none of them waited.
    pub(super) made_since_idle: BTreeMap<(CallerId, &'static str), usize>,
    pub(super) rules: Rules,
    /// The number of addresses that nodes connect from.
    pub(super) hosts: u8,
    /// Calls of lost batches, to be made again one by one.
    pub(super) lost: VecDeque<(usize, Demand, Vec<FailedAttempt>)>,
    /// Whether the faults are over, so that all calls have to end.
    pub(super) faults_ended: bool,
    pub(super) has_shut_down: bool,
    pub(super) events: u64,
    pub(super) hasher: DefaultHasher,
    pub(super) lines: VecDeque<String>,
}

impl SimulatedCluster {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let settings = Settings {
            heartbeat: HEARTBEAT,
            no_node_timeout: if rng.random_bool(0.1) { Duration::ZERO } else { Duration::from_secs(5) },
            reconnect_grace: Duration::from_secs(2),
            max_queued_calls: MAX_QUEUED_CALLS,
            max_queued_bytes: MAX_QUEUED_BYTES,
            max_queued_calls_per_caller: MAX_QUEUED_CALLS.div_ceil(4),
            max_queued_bytes_per_caller: MAX_QUEUED_BYTES.div_ceil(4),
            max_nodes: usize::MAX,
            max_nodes_per_credential: usize::MAX,
            slow_start: [1, 2, 16][rng.random_range(0..3)],
            slice: [2, 7, 256][rng.random_range(0..3)],
            epoch: 1,
            seed: rng.random(),
            ring_key: rng.random(),
        };
        let rules = Rules::new(&settings);
        let hosts = rng.random_range(1..=4);
        Self {
            rng,
            core: Core::new(settings),
            now: Duration::from_secs(1),
            last_tick: Duration::ZERO,
            nodes: Vec::new(),
            calls: Vec::new(),
            by_id: BTreeMap::new(),
            callers: (0..=OTHER_CALLERS).map(CallerId).collect(),
            made_since_idle: BTreeMap::new(),
            rules,
            hosts,
            lost: VecDeque::new(),
            faults_ended: false,
            has_shut_down: false,
            events: 0,
            hasher: DefaultHasher::new(),
            lines: VecDeque::new(),
        }
    }

    pub(super) fn summary(&self) -> Summary {
        Summary {
            events: self.events,
            calls: self.calls.len() as u64,
            answered: self.core.stats().answered,
            nodes: self.nodes.len() as u64,
            history: self.hasher.finish(),
        }
    }

    pub(super) fn history(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }

    pub(super) fn note(&mut self, line: String) {
        line.hash(&mut self.hasher);
        if self.lines.len() == 60 {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Applies an event to the core, carries out its effects, and checks the rules.
    pub(super) fn apply<R>(
        &mut self,
        what: &str,
        event: impl FnOnce(&mut Core<SimulatedHost>, Time, &mut Effects<SimulatedHost>) -> R,
    ) -> Result<R, String> {
        self.events += 1;
        if self.events > MOST_EVENTS {
            return Err("the core asks for ticks without end".to_owned());
        }
        self.note(format!("{:?} {what}", self.now));
        let mut effects = Vec::new();
        let result = event(&mut self.core, self.now, &mut effects);
        for effect in effects {
            self.carry_out(effect)?;
        }
        self.core.sanity_check()?;
        self.check_doomed()?;
        Ok(result)
    }

    pub(super) fn pick(&mut self, from: &[usize]) -> Option<usize> {
        (!from.is_empty()).then(|| from[self.rng.random_range(0..from.len())])
    }

    pub(super) fn pick_node(&mut self, fits: impl Fn(&SimulatedNode) -> bool) -> Option<usize> {
        let fitting: Vec<usize> =
            (0..self.nodes.len()).filter(|at| !self.nodes[*at].gone && fits(&self.nodes[*at])).collect();
        self.pick(&fitting)
    }
}
