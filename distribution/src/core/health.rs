//! How often the calls of each node fail lately.

use std::{net::IpAddr, sync::Arc, time::Duration};

use rustc_hash::FxHashMap;

use super::host::Time;
use crate::{id::NodeId, service::method::MethodId};

/// The part that each new call has in the rate of failures.
const WEIGHT: f64 = 1.0 / 8.0;

/// A rate below this is forgotten.
const WELL: f64 = 0.05;

/// A process that has not crashed for this long starts anew.
pub(super) const CRASHES_FORGOTTEN: Duration = Duration::from_secs(300);

/// Names whose crashes are remembered.
const MOST_CRASHED: usize = 1024;

/// How a node's calls have ended lately.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Whether it gets no calls at all that could go elsewhere.
    pub(super) is_ejected: bool,
    /// How many requests it may have at once after a rest; `None` for as many as it takes.
    pub(super) allowance: Option<u32>,
    /// Rests since it was last well.
    pub(super) ejections: u32,
    /// Methods at which it has failed lately.
    pub(super) failing: Vec<MethodId>,
    /// How often its process ended while it had calls, before it came back under this name.
    pub(super) crashes: u32,
}

impl Health {
    /// Whether it may have one more than these in flight.
    pub(super) fn allows(&self, in_flight: u32) -> bool {
        !self.is_ejected && self.allowance.is_none_or(|most| in_flight < most)
    }

    /// Whether it is given a rest.
    pub(super) fn is_ejected(&self) -> bool {
        self.is_ejected
    }

    /// What it is given of the calls that it could take: 1 if all.
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

/// How often calls fail, by method and node; nodes that never fail take no place.
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
    /// Counts a failure, and says how often the node fails now, and all others together.
    pub(super) fn count(&mut self, method: MethodId, node: NodeId) -> (f64, f64) {
        let rates = self.methods.entry(method).or_default();
        let rate = rates.nodes.entry(node).or_default();
        let change = (1.0 - *rate) * WEIGHT;
        *rate += change;
        rates.sum += change;
        (*rate, (rates.sum - *rate).max(0.0))
    }

    /// Counts a success, and says whether the node's failures are forgotten by now.
    pub(super) fn count_success(&mut self, method: MethodId, node: NodeId) -> bool {
        let Some(rates) = self.methods.get_mut(&method) else { return true };
        let Some(rate) = rates.nodes.get_mut(&node) else { return true };
        let change = *rate * WEIGHT;
        *rate -= change;
        rates.sum -= change;
        let is_well = *rate < WELL;
        if is_well {
            self.forget(method, node);
        }
        is_well
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
