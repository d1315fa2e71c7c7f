//! What the callers of a simulated cluster do.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use rand::RngExt;

use super::{
    cluster::SimulatedCluster,
    model::{ASYNC, CallRecord, METHODS, SimulatedCall, ZONES},
};
use crate::{
    core::Demand,
    failed_attempt::FailedAttempt,
    id::{CallId, CallerId},
};

impl SimulatedCluster {
    pub(super) fn submit(&mut self) -> Result<(), String> {
        if let Some((method, demand, failed_attempts)) = self.lost.pop_front() {
            return self.submit_this(method, demand, failed_attempts);
        }
        let method = self.rng.random_range(0..METHODS.len());
        let target = self.rng.random_bool(0.05) && !self.nodes.is_empty();
        let zone = if self.rng.random_bool(0.7) { ZONES[0] } else { ZONES[1] };
        let batch = !ASYNC[method] && self.rng.random_bool(0.25);
        let demand = Demand {
            caller: CallerId::MASTER,
            id: None,
            parent: None,
            count: if batch { self.rng.random_range(2..9) } else { 1 },
            labels: self.rng.random_bool(0.1).then(|| [("zone".to_owned(), zone.to_owned())].into()),
            affinity: self.rng.random_bool(0.1).then(|| self.rng.random_range(0..5)),
            hedge_of: (!self.calls.is_empty() && self.rng.random_bool(0.03))
                .then(|| self.calls[self.rng.random_range(0..self.calls.len())].id),
            exempt_from_limits: self.rng.random_bool(0.05),
            timeout: self.rng.random_bool(0.2).then(|| Duration::from_millis(self.rng.random_range(0..20_000))),
            node: target.then(|| self.nodes[self.rng.random_range(0..self.nodes.len())].id),
            attempts: self.rng.random_bool(0.2).then(|| self.rng.random_range(1..6)),
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
        let handle = Rc::new(SimulatedCall {
            at,
            sent: Cell::new(0),
            whole: RefCell::default(),
            begun: Cell::new(0),
            open: Cell::new(0),
        });
        self.calls.push(CallRecord {
            handle: Rc::clone(&handle),
            id: CallId(u64::MAX),
            method,
            demand: demand.clone(),
            failed_attempts: failed_attempts.clone(),
            kept: None,
            granted: 0,
            begun: 0,
            misreported: false,
            submitted: self.now,
            cancelled: false,
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
        let open: Vec<usize> =
            (0..self.calls.len()).filter(|at| self.calls[*at].ends == 0 && !self.calls[*at].cancelled).collect();
        let Some(at) = self.pick(&open) else { return Ok(()) };
        let id = self.calls[at].id;
        self.calls[at].cancelled = true;
        self.apply(&format!("cancel {id}"), |core, _, effects| core.on_call_cancelled(id, effects))
    }
}
