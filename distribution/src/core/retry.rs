//! What happens to a call whose node was lost, or refused it.
//!
//! An attempt that was not written to the connection did not run, so the call goes to another node. An attempt that was
//! written may have run, so the call goes to another node only if its method is idempotent.

use std::time::Duration;

use rand::RngExt;

use super::{
    avoidance::Except,
    call::{CallEntry, CallLocation, last_failure, shutdown_error},
    effect::{Effect, Effects},
    host::{Host, HostCall as _, Time},
    state::{Core, Timer},
};
use crate::{
    error::{CallError, GoneReason},
    failed_attempt::{Cause, FailedAttempt},
    id::{CallId, NodeIdentity},
    security::Source,
};

/// How often an idempotent call is sent, unless the caller says otherwise.
const ATTEMPTS: u32 = 3;

/// The wait before the second attempt; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A call that nodes have refused this often ends with an error: something is wrong with these nodes.
const REFUSALS: usize = 10;

/// A call is poisoned if this many nodes in a row died or were kicked while they had it. They must be of different sources, if the
/// method is served by other sources too.
const DEATHS: usize = 3;

/// A call that was lost this often ends with an error, whatever the sources of its nodes are.
const LOSSES: usize = 10;

impl<H: Host> Core<H> {
    /// The node that had the call is gone, or has dropped it.
    pub(super) fn lost(
        &mut self,
        now: Time,
        id: CallId,
        (node, source): (&NodeIdentity, Source),
        reason: &GoneReason,
        effects: &mut Effects<H>,
    ) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.handle.abandon(call.attempt) {
            return self.requeue(now, id, effects);
        }
        self.defer_nested(id);
        let Some(call) = self.calls.get_mut(&id) else { return };
        // Calls of a batch that were not granted were not started.
        if call.kept.is_none() && call.granted < call.demand.count {
            let granted = call.granted;
            self.called.keep(call, granted);
            effects.push(Effect::Shorten { call: call.handle.clone(), kept: call.granted });
        }
        let cause = Cause::Lost(reason.clone());
        let failed = FailedAttempt { attempt: call.attempt, node: node.clone(), source: Some(source), cause };
        call.note_failed(failed, effects);
        self.repeat(now, id, effects);
    }

    /// The handler panicked, and the caller wants the call to be tried on another node.
    pub(super) fn panicked(
        &mut self,
        now: Time,
        id: CallId,
        node: NodeIdentity,
        message: &str,
        effects: &mut Effects<H>,
    ) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let cause = Cause::Panicked(message.into());
        call.note_failed(FailedAttempt { attempt: call.attempt, node, source: None, cause }, effects);
        self.repeat(now, id, effects);
    }

    /// Repeats a call after a delay, or ends it.
    fn repeat(&mut self, now: Time, id: CallId, effects: &mut Effects<H>) {
        if self.may_repeat(id, effects) {
            let attempts = self.calls.get(&id).map_or(1, |call| call.sent);
            self.back_off(now, id, attempts);
        }
    }

    /// Whether a call that may have run is to be repeated; ends it if not.
    pub(super) fn may_repeat(&mut self, id: CallId, effects: &mut Effects<H>) -> bool {
        let Some(call) = self.calls.get(&id) else { return false };
        // Losses on nodes of one source count once, as long as other sources serve the method.
        let losses = Losses::of(call);
        let counts_once = losses.sources.len() < losses.all
            && losses.all < LOSSES
            && self.registry.is_open_besides(call.method.id(), &call.demand.labels, Except::Sources(&losses.sources));
        let (repeated, deaths) = match counts_once {
            true => (losses.all - losses.sources.len(), losses.sources_of_deaths),
            false => (0, losses.deaths),
        };
        let repeated = u32::try_from(repeated).unwrap_or(u32::MAX);
        let is_poisoned = deaths >= DEATHS;
        // At most one call of a lost batch is the cause. So the loss does not use up attempts of the others, unless the
        // caller has set how often they may be sent. A call that kills its nodes kills the one of its batch, and three
        // more on its own, where nothing waits behind it.
        let (attempts, most) = match call.demand.attempts {
            Some(most) => (call.sent, most),
            None => (call.sent.saturating_sub(in_batch(call)).saturating_sub(repeated), ATTEMPTS),
        };
        // A batch is not repeated. Each of its calls goes on alone, so that a call that kills its nodes takes no others
        // with it.
        let is_batch = call.demand.count > 1;
        let is_final = !call.method.is_idempotent() || call.is_targeted() || is_batch || !call.handle.can_be_repeated();
        if is_final || (attempts >= most && !is_poisoned) {
            self.end_with(id, effects, last_failure);
        } else if is_poisoned {
            self.end_with(id, effects, |call| CallError::Poisoned {
                call: call.method.name().into(),
                nodes: call.lost().map(|(node, _)| node.clone()).collect(),
            });
        } else if self.shutting_down {
            self.end_with(id, effects, shutdown_error);
        } else {
            return true;
        }
        false
    }

    /// The node answered that it did not start the call.
    pub(super) fn refused(
        &mut self,
        now: Time,
        id: CallId,
        node: NodeIdentity,
        why: &'static str,
        effects: &mut Effects<H>,
    ) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let last = format!("the last one, {node}, {why}");
        let cause = Cause::Refused(why);
        call.note_failed(FailedAttempt { attempt: call.attempt, node, source: None, cause }, effects);
        call.sent -= 1;
        let refusals = call.refusals();
        if refusals >= REFUSALS {
            let wanted = format!("nodes that serve it refused it {refusals} times; {last}");
            return self.fail_target(now, id, wanted, effects);
        }
        if self.shutting_down {
            return self.end_with(id, effects, shutdown_error);
        }
        self.back_off(now, id, u32::try_from(refusals).unwrap_or(u32::MAX));
    }

    /// Queues the call again after a delay that grows with each attempt and differs from call to call.
    fn back_off(&mut self, now: Time, id: CallId, times: u32) {
        let wait = FIRST_WAIT.saturating_mul(1 << times.saturating_sub(1).min(10)).min(LONGEST_WAIT);
        let until = now + wait.mul_f64(self.rng.random_range(0.8..1.2));
        if let Some(call) = self.calls.get_mut(&id) {
            self.called.relocate(call, CallLocation::BackingOff(until));
            self.backing_off += 1;
            self.timers.insert((until, Timer::Retry(id)));
        }
    }
}

/// How often it was lost as part of a batch.
fn in_batch<H: Host>(call: &CallEntry<H>) -> u32 {
    let lost = call
        .failed_attempts
        .iter()
        .take(call.in_batch)
        .filter(|failed_attempt| matches!(failed_attempt.cause, Cause::Lost(_)));
    u32::try_from(lost.count()).unwrap_or(u32::MAX)
}

/// The losses of a call, without those of its batch.
struct Losses {
    all: usize,
    /// Those where the node died or was kicked, and did not close its connection gracefully.
    deaths: usize,
    /// The different sources of all losses, and how many different sources the deaths have.
    sources: Vec<Source>,
    sources_of_deaths: usize,
}

impl Losses {
    fn of<H: Host>(call: &CallEntry<H>) -> Self {
        let lost = call.failed_attempts.iter().filter_map(|failed_attempt| match &failed_attempt.cause {
            Cause::Lost(reason) => Some((failed_attempt.source?, reason.may_be_by_call())),
            Cause::Refused(_) | Cause::Panicked(_) => None,
        });
        let lost: Vec<(Source, bool)> = lost.skip(in_batch(call) as usize).collect();
        let distinct = |mut sources: Vec<Source>| {
            sources.sort();
            sources.dedup();
            sources
        };
        let deaths: Vec<Source> =
            lost.iter().filter(|(_, may_be_by_call)| *may_be_by_call).map(|(source, _)| *source).collect();
        Self {
            all: lost.len(),
            deaths: deaths.len(),
            sources: distinct(lost.iter().map(|(source, _)| *source).collect()),
            sources_of_deaths: distinct(deaths).len(),
        }
    }
}
