//! How often the calls of each node have failed lately.

use std::{net::IpAddr, sync::Arc, time::Duration};

use rustc_hash::FxHashMap;

use super::host::Time;
use crate::{id::NodeId, service::method::MethodId};

/// How much a new call counts in the failure rate.
const WEIGHT: f64 = 1.0 / 8.0;

/// A failure rate below this is forgotten.
const FORGOTTEN_RATE: f64 = 0.05;

/// Crashes are forgotten after this time without another.
pub(super) const CRASHES_FORGOTTEN: Duration = Duration::from_secs(300);

/// How many processes' crashes are remembered.
const MOST_CRASHED: usize = 1024;

/// How a node's calls have ended lately.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Whether it gets no calls that could go elsewhere.
    pub(super) is_ejected: bool,
    /// How many requests it may have at once after an ejection; `None` for as many as it takes.
    pub(super) allowance: Option<u32>,
    /// When it may have more, although it has not answered.
    pub(super) grows_at: Option<Time>,
    /// Ejections since it last recovered.
    pub(super) ejections: u32,
    /// Methods whose calls have failed on it lately.
    pub(super) failing: Vec<MethodId>,
    /// How often processes of its name have ended while they had calls.
    pub(super) crashes: u32,
}

impl Health {
    /// Whether it may have one more request than this in flight.
    pub(super) fn allows(&self, in_flight: u32) -> bool {
        !self.is_ejected && self.allowance.is_none_or(|most| in_flight < most)
    }

    /// Whether it is ejected.
    pub(super) fn is_ejected(&self) -> bool {
        self.is_ejected
    }

    /// Its share of the calls that it could take: 1 for all of them.
    pub(super) fn share(&self, slots: u32) -> f64 {
        match self.allowance {
            _ if self.is_ejected => 0.0,
            Some(most) => (f64::from(most) / f64::from(slots.max(1))).min(1.0),
            None => 1.0,
        }
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.failing.is_empty() && self.allowance.is_none() && self.crashes == 0
    }
}

/// How often calls fail, by method and node. Nodes that never fail take no memory.
#[derive(Debug, Default)]
pub(super) struct Failures {
    pub(super) methods: FxHashMap<MethodId, Rates>,
    /// By name and host, because names need not be unique.
    pub(super) crashed: FxHashMap<(Arc<str>, IpAddr), Crashes>,
}

#[derive(Debug, Default)]
pub(super) struct Rates {
    sum: f64,
    nodes: FxHashMap<NodeId, f64>,
}

#[derive(Debug)]
pub(super) struct Crashes {
    pub(super) count: u32,
    pub(super) last: Time,
}

impl Failures {
    /// Counts a failure, and returns the failure rate of the node and the sum of the rates of all others.
    pub(super) fn count(&mut self, method: MethodId, node: NodeId) -> (f64, f64) {
        let rates = self.methods.entry(method).or_default();
        let rate = rates.nodes.entry(node).or_default();
        let change = (1.0 - *rate) * WEIGHT;
        *rate += change;
        rates.sum += change;
        (*rate, (rates.sum - *rate).max(0.0))
    }

    /// Counts a success, and says whether the node's failures are forgotten now.
    pub(super) fn count_success(&mut self, method: MethodId, node: NodeId) -> bool {
        let Some(rates) = self.methods.get_mut(&method) else { return true };
        let Some(rate) = rates.nodes.get_mut(&node) else { return true };
        let change = *rate * WEIGHT;
        *rate -= change;
        rates.sum -= change;
        let is_forgotten = *rate < FORGOTTEN_RATE;
        if is_forgotten {
            self.forget(method, node);
        }
        is_forgotten
    }

    pub(super) fn forget(&mut self, method: MethodId, node: NodeId) {
        if let Some(rates) = self.methods.get_mut(&method) {
            if let Some(rate) = rates.nodes.remove(&node) {
                rates.sum -= rate;
            }
            if rates.nodes.is_empty() {
                self.methods.remove(&method);
            }
        }
    }

    pub(super) fn count_crash(&mut self, now: Time, whose: (Arc<str>, IpAddr), before: u32) {
        if self.crashed.len() >= MOST_CRASHED && !self.crashed.contains_key(&whose) {
            self.crashed.retain(|_, crashes| now.saturating_sub(crashes.last) < CRASHES_FORGOTTEN);
            if self.crashed.len() >= MOST_CRASHED {
                return;
            }
        }
        self.crashed.insert(whose, Crashes { count: before.saturating_add(1), last: now });
    }
}
