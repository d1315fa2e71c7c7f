//! What is counted of calls and attempts, for a method, a node or a caller.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::{
    call::CallEntry,
    host::{Host, Time},
};
use crate::{
    administration::{BUCKETS, CallMetrics, Histogram, Outcomes, bucket_of},
    error::CallError,
    id::CallerId,
    wire::{Outcome, Refusal, Reply},
};

/// What is counted of the calls of a method, a node or a caller.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters {
    pub(super) outcomes: Outcomes,
    sent: u64,
    repeated: u64,
    batches: u64,
    hedges: u64,
    argument_bytes: u64,
    reply_bytes: u64,
    in_queue: Times,
    on_the_way: Times,
    in_handler: Times,
}

/// How long something took, counted in buckets.
#[derive(Clone, Debug)]
struct Times {
    buckets: [u64; BUCKETS],
    sum: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], sum: Duration::ZERO }
    }
}

/// This many calls took this long each. The bucket is found once, and counted in for the method, the node and the caller.
#[derive(Clone, Copy, Debug)]
struct Sample {
    bucket: usize,
    count: u64,
    sum: Duration,
}

impl Sample {
    fn new(each: Duration, count: u32) -> Self {
        let sum = if count == 1 { each } else { each.saturating_mul(count) };
        Self { bucket: bucket_of(each), count: count.into(), sum }
    }
}

impl Times {
    fn add(&mut self, sample: Sample) {
        self.buckets[sample.bucket] += sample.count;
        self.sum += sample.sum;
    }

    fn view(&self) -> Histogram {
        Histogram::new(&self.buckets, self.sum)
    }
}

/// A call, or a batch, that is sent to a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    in_queue: Sample,
    bytes: u64,
    is_repeated: bool,
    is_hedge: bool,
}

impl Sent {
    pub(super) fn new<H: Host>(now: Time, call: &CallEntry<H>) -> Self {
        Self {
            in_queue: Sample::new(now.saturating_sub(call.queued), call.count()),
            bytes: call.demand.size as u64,
            is_repeated: call.sent > 0,
            is_hedge: call.demand.hedge_of.is_some(),
        }
    }
}

/// The answer to an attempt whose handler ran.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    on_the_way: Sample,
    in_handler: Sample,
    bytes: u64,
}

impl Answered {
    /// `took` is the time since it was sent.
    pub(super) fn new(reply: &Reply, took: Duration) -> Self {
        Self {
            on_the_way: Sample::new(took.saturating_sub(reply.run), reply.count),
            in_handler: Sample::new(reply.run_of_each(), reply.count),
            bytes: reply.payload.len() as u64,
        }
    }
}

/// How calls have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Answered { panicked: u32 },
    Error,
    Panicked,
    Lost,
    TimedOut,
    Cancelled,
    NotRun,
    Failed,
}

impl Ended {
    /// How a call ends with an error that is not the method's own.
    pub(super) fn with(error: &CallError) -> Self {
        match error {
            CallError::Panicked { .. } => Self::Panicked,
            CallError::NodeLost { .. } | CallError::Poisoned { .. } => Self::Lost,
            CallError::TimedOut { .. } => Self::TimedOut,
            CallError::Cancelled { .. } => Self::Cancelled,
            CallError::NoNode { .. } | CallError::Overloaded { .. } | CallError::Incompatible { .. } => Self::NotRun,
            CallError::TooDeep { .. } => Self::NotRun,
            _ => Self::Failed,
        }
    }

    /// How an attempt ended on its node.
    pub(super) fn of_attempt(reply: &Reply) -> Self {
        match &reply.outcome {
            Outcome::Value => Self::Answered { panicked: reply.panicked.min(reply.count) },
            Outcome::Error => Self::Error,
            Outcome::Panicked(_) => Self::Panicked,
            Outcome::Refused(Refusal::Stopped) => Self::Cancelled,
            Outcome::Refused(_) => Self::NotRun,
            Outcome::Stopped => Self::Cancelled,
            Outcome::Lost(_) => Self::Lost,
            Outcome::Encode(_) | Outcome::TooLarge { .. } | Outcome::DecodeItem(_) => Self::Failed,
        }
    }
}

impl Counters {
    pub(super) fn on_sent(&mut self, sent: &Sent) {
        self.sent += sent.in_queue.count;
        self.repeated += u64::from(sent.is_repeated) * sent.in_queue.count;
        self.batches += u64::from(sent.in_queue.count > 1);
        self.hedges += u64::from(sent.is_hedge);
        self.argument_bytes += sent.bytes;
        self.in_queue.add(sent.in_queue);
    }

    pub(super) fn on_answered(&mut self, answered: &Answered) {
        self.reply_bytes += answered.bytes;
        self.on_the_way.add(answered.on_the_way);
        self.in_handler.add(answered.in_handler);
    }

    pub(super) fn on_ended(&mut self, ended: Ended, count: u32) {
        let (outcomes, count) = (&mut self.outcomes, u64::from(count));
        match ended {
            Ended::Answered { panicked } => {
                outcomes.answered += count.saturating_sub(panicked.into());
                outcomes.panicked += count.min(panicked.into());
            }
            Ended::Error => outcomes.errors += count,
            Ended::Panicked => outcomes.panicked += count,
            Ended::Lost => outcomes.lost += count,
            Ended::TimedOut => outcomes.timed_out += count,
            Ended::Cancelled => outcomes.cancelled += count,
            Ended::NotRun => outcomes.not_run += count,
            Ended::Failed => outcomes.failed += count,
        }
    }

    /// A number that grows with each call that is sent and with each that ends.
    pub(super) fn activity(&self) -> u64 {
        self.sent + self.outcomes.all()
    }

    /// All that was counted.
    pub(super) fn view(&self) -> CallMetrics {
        CallMetrics {
            outcomes: self.outcomes,
            sent: self.sent,
            repeated: self.repeated,
            batches: self.batches,
            hedges: self.hedges,
            argument_bytes: self.argument_bytes,
            reply_bytes: self.reply_bytes,
            in_queue: self.in_queue.view(),
            on_the_way: self.on_the_way.view(),
            in_handler: self.in_handler.view(),
        }
    }
}

/// The counts that belong to no method and to no registered node.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// Callers in other processes that have made a call and are not gone.
    callers: FxHashMap<CallerId, Box<Counters>>,
    /// The master's own process.
    own: Counters,
    pub(super) gone_nodes: CallMetrics,
    gone_callers: CallMetrics,
    /// Calls of callers that are gone: detached ones, and those that are being cancelled.
    late: Counters,
}

impl Books {
    /// A caller begins to make calls.
    pub(super) fn on_call(&mut self, caller: CallerId) {
        if caller != CallerId::MASTER {
            self.callers.entry(caller).or_default();
        }
    }

    /// The counts of a caller.
    pub(super) fn of(&mut self, caller: CallerId) -> &mut Counters {
        match caller {
            CallerId::MASTER => &mut self.own,
            _ => self.callers.get_mut(&caller).map_or(&mut self.late, Box::as_mut),
        }
    }

    /// The callers that have made calls: the master's own process, and then those that have been connected longest.
    pub(super) fn callers(&self) -> Vec<CallerId> {
        let mut others: Vec<_> = self.callers.keys().copied().collect();
        // Callers that came later have lower ids.
        others.sort_unstable_by(|one, next| next.cmp(one));
        std::iter::once(CallerId::MASTER).chain(others).collect()
    }

    /// What was counted of a caller; `None` if it is gone.
    pub(super) fn view(&self, caller: CallerId) -> Option<CallMetrics> {
        match caller {
            CallerId::MASTER => Some(self.own.view()),
            _ => self.callers.get(&caller).map(|counters| counters.view()),
        }
    }

    /// What was counted of nodes and of callers that are gone.
    pub(super) fn gone(&self) -> (CallMetrics, CallMetrics) {
        let mut callers = self.gone_callers.clone();
        callers.add(&self.late.view());
        (self.gone_nodes.clone(), callers)
    }

    pub(super) fn on_caller_gone(&mut self, caller: CallerId) {
        if let Some(counters) = self.callers.remove(&caller) {
            self.gone_callers.add(&counters.view());
        }
    }
}
