//! What the callers of a simulated cluster do.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use rand::RngExt;

use super::{
    cluster::SimulatedCluster,
    model::{ASYNC, AttemptState, CallRecord, METHODS, SimulatedCall, ZONES},
};
use crate::{
    core::Demand,
    failed_attempt::FailedAttempt,
    id::{CallId, CallerId},
    service::options::Hedged,
};

impl SimulatedCluster {
    pub(super) fn submit(&mut self) -> Result<(), String> {
        while let Some((method, demand, failed_attempts)) = self.lost.pop_front() {
            if self.callers.contains(&demand.caller) {
                return self.submit_this(method, demand, failed_attempts);
            }
        }
        let caller = self.pick_caller();
        self.submit_one(caller)
    }

    /// Some callers make many calls, others few.
    fn pick_caller(&mut self) -> CallerId {
        let at = (0..self.callers.len() - 1).find(|_| self.rng.random_bool(0.5));
        self.callers[at.unwrap_or(self.callers.len() - 1)]
    }

    /// One caller makes many calls at once.
    pub(super) fn flood(&mut self) -> Result<(), String> {
        let caller = self.pick_caller();
        for _ in 0..self.rng.random_range(3..12) {
            self.submit_one(caller)?;
        }
        Ok(())
    }

    /// A caller leaves, and another one comes.
    pub(super) fn leave(&mut self) -> Result<(), String> {
        let at = self.rng.random_range(1..self.callers.len());
        let next = self.callers.iter().max().map_or(1, |last| last.0 + 1);
        let gone = std::mem::replace(&mut self.callers[at], CallerId(next));
        for call in &mut self.calls {
            if call.demand.caller == gone && call.is_open() && !call.is_detached {
                call.is_doomed = true;
            }
        }
        self.apply(&format!("{gone:?} leaves"), |core, now, effects| core.on_caller_gone(now, gone, effects))
    }

    pub(super) fn detach(&mut self) -> Result<(), String> {
        let open: Vec<usize> =
            (0..self.calls.len()).filter(|at| self.calls[*at].is_open() && !self.calls[*at].is_doomed).collect();
        let Some(at) = self.pick(&open) else { return Ok(()) };
        let id = self.calls[at].id;
        self.calls[at].is_detached = true;
        self.apply(&format!("detach {id}"), |core, _, _| core.on_call_detached(id))
    }

    /// A call whose handler runs, whether the master still counts on it or not.
    fn pick_running(&mut self) -> Option<CallId> {
        let nodes = self.nodes.iter().filter(|node| node.running && !node.gone);
        let attempts = nodes.flat_map(|node| &node.attempts);
        let running: Vec<usize> =
            attempts.filter(|attempt| attempt.state == AttemptState::Running).map(|attempt| attempt.call.at).collect();
        self.pick(&running).map(|at| self.calls[at].id)
    }

    fn submit_one(&mut self, caller: CallerId) -> Result<(), String> {
        let parent = if self.rng.random_bool(0.15) { self.pick_running() } else { None };
        let method = self.rng.random_range(0..METHODS.len());
        let target = self.rng.random_bool(0.05) && !self.nodes.is_empty();
        let zone = if self.rng.random_bool(0.7) { ZONES[0] } else { ZONES[1] };
        let batch = !ASYNC[method] && self.rng.random_bool(0.25);
        let demand = Demand {
            caller,
            id: None,
            parent,
            count: if batch { self.rng.random_range(2..9) } else { 1 },
            labels: self.rng.random_bool(0.1).then(|| [("zone".to_owned(), zone.to_owned())].into()),
            affinity: self.rng.random_bool(0.1).then(|| self.rng.random_range(0..5)),
            hedge_of: (!self.calls.is_empty() && self.rng.random_bool(0.03))
                .then(|| self.calls[self.rng.random_range(0..self.calls.len())].id)
                .map(|id| Hedged { id, elapsed: Duration::from_millis(self.rng.random_range(0..5000)) }),
            exempt_from_limits: self.rng.random_bool(0.05),
            timeout: self.rng.random_bool(0.2).then(|| Duration::from_millis(self.rng.random_range(0..20_000))),
            node: target.then(|| self.nodes[self.rng.random_range(0..self.nodes.len())].id),
            attempts: self.rng.random_bool(0.2).then(|| self.rng.random_range(1..6)),
            elsewhere: false,
            retry_panics: self.rng.random_bool(0.2),
            size: self.rng.random_range(0..200),
        };
        self.submit_this(method, demand, Vec::new())
    }

    fn submit_this(
        &mut self,
        method: usize,
        demand: Demand,
        failed_attempts: Vec<FailedAttempt>,
    ) -> Result<(), String> {
        let at = self.calls.len();
        let parent = demand.parent.and_then(|parent| self.by_id.get(&parent)).copied();
        let nested_in = parent.filter(|parent| self.calls[*parent].is_open());
        let turns_ahead = match nested_in {
            Some(_) => 0,
            None => self.turns_ahead(demand.caller, METHODS[method].info().name().service()),
        };
        let elapsed = demand.hedge_of.map_or(Duration::ZERO, |hedged| hedged.elapsed);
        let handle = Rc::new(SimulatedCall {
            at,
            sent: Cell::new(0),
            whole: RefCell::default(),
            begun: Cell::new(0),
            open: Cell::new(0),
            has_yielded: Cell::new(false),
        });
        let submitted = self.now.saturating_sub(elapsed);
        // A nested call has at most the time of the call that made it.
        let left = nested_in.and_then(|parent| {
            let parent = &self.calls[parent];
            parent.demand.timeout.map(|timeout| (parent.submitted + timeout).saturating_sub(submitted))
        });
        let timeout = [demand.timeout, left].into_iter().flatten().min();
        self.calls.push(CallRecord {
            handle: Rc::clone(&handle),
            id: CallId(u64::MAX),
            method,
            demand: Demand { timeout, ..demand.clone() },
            failed_attempts: failed_attempts.clone(),
            kept: None,
            granted: 0,
            begun: 0,
            misreported: false,
            submitted,
            nested_in,
            is_detached: false,
            is_doomed: false,
            turns_ahead,
            overtaken: BTreeMap::new(),
            first_sent: None,
            cancelled: false,
            ended_by_admin: false,
            ends: 0,
            starts: 0,
            completed: 0,
            lost: Vec::new(),
            lost_on: Vec::new(),
            failed_runs: 0,
            current: None,
        });
        let name = METHODS[method].info().name();
        let id = self.apply(&format!("submit {name} {demand:?}"), |core, now, effects| {
            core.on_call_submitted(now, handle, METHODS[method].info(), demand, failed_attempts, effects)
        })?;
        self.calls[at].id = id;
        self.by_id.insert(id, at);
        Ok(())
    }

    pub(super) fn cancel(&mut self) -> Result<(), String> {
        let open: Vec<usize> = (0..self.calls.len()).filter(|at| self.calls[*at].is_open()).collect();
        let Some(at) = self.pick(&open) else { return Ok(()) };
        let id = self.calls[at].id;
        self.calls[at].cancelled = true;
        self.doom_nested(at);
        self.apply(&format!("cancel {id}"), |core, now, effects| core.on_call_cancelled(now, id, effects))
    }
}
