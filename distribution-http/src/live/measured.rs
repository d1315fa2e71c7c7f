//! What the master has counted of methods in the last seconds: calls a second, and times.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use distribution::administration::{CallMetrics, Histogram, MethodMetrics, MethodSummary};
use serde::Serialize;

/// How far back rates and times look.
const WINDOW: Duration = Duration::from_secs(10);

/// The most looks that are remembered for it.
const LOOKS: usize = 12;

type Name = (String, String, u32);

type Counts = HashMap<Name, CallMetrics>;

fn counts(methods: Vec<MethodMetrics>) -> Counts {
    // Two forms of one method count together.
    let mut counts = Counts::new();
    for MethodMetrics { service, name, version, calls, .. } in methods {
        counts.entry((service, name, version)).or_insert(calls);
    }
    counts
}

/// The counts of the last looks.
#[derive(Debug, Default)]
pub(crate) struct Measured(VecDeque<(Instant, Counts)>);

impl Measured {
    /// Remembers what was counted, and gives it with what was counted some seconds ago.
    pub(super) fn window(&mut self, methods: Vec<MethodMetrics>) -> Window<'_> {
        let now = Instant::now();
        self.0.push_back((now, counts(methods)));
        while self.0.len() > LOOKS || self.0.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.0.pop_front();
        }
        self.last().unwrap_or(Window { newest: None, oldest: None, seconds: 0.0 })
    }
}

/// What was counted now, and some seconds ago or never before.
#[derive(Debug)]
pub(crate) struct Window<'a> {
    newest: Option<&'a Counts>,
    oldest: Option<&'a Counts>,
    seconds: f64,
}

/// Times in a row of the page, in seconds: half, 90 and 99 of 100 calls took at most this.
#[derive(Debug, Serialize)]
struct Times {
    p50: f64,
    p90: f64,
    p99: f64,
}

impl Times {
    fn of(times: &Histogram) -> Option<Self> {
        let quantile = |part| times.quantile(part).map(|time| time.as_secs_f64());
        Some(Self { p50: quantile(0.5)?, p90: quantile(0.9)?, p99: quantile(0.99)? })
    }
}

impl Measured {
    /// What was counted at the last look, with what was counted before. `None` if nobody looks.
    pub(crate) fn last(&self) -> Option<Window<'_>> {
        let (newest, oldest) = (self.0.back()?, self.0.front()?);
        let seconds = (newest.0 - oldest.0).as_secs_f64();
        Some(Window { newest: Some(&newest.1), oldest: Some(&oldest.1), seconds })
    }

    /// What was counted since the master started, without rates.
    pub(crate) fn whole(&mut self, methods: Vec<MethodMetrics>) -> Window<'_> {
        self.0.push_back((Instant::now(), counts(methods)));
        Window { newest: self.0.back().map(|(_, counts)| counts), oldest: None, seconds: 0.0 }
    }
}

/// A method, with what was counted of it.
#[derive(Debug, Serialize)]
pub(crate) struct MethodRow {
    #[serde(flatten)]
    method: MethodSummary,
    /// Calls that ended, and those that failed, a second; in the last seconds.
    rate: Option<f64>,
    failure_rate: Option<f64>,
    queue: Option<Times>,
    handler: Option<Times>,
    /// Since the master started.
    ended: u64,
    failed: u64,
    repeated: u64,
    argument_bytes: u64,
    reply_bytes: u64,
}

impl MethodRow {
    pub(crate) fn new(method: MethodSummary, window: &Window<'_>) -> Self {
        let name = (method.service.clone(), method.name.clone(), method.version);
        let none = CallMetrics::default();
        let find = |counts: Option<&'_ Counts>| counts.and_then(|counts| counts.get(&name)).cloned();
        let now = find(window.newest).unwrap_or_else(|| none.clone());
        let before = find(window.oldest).unwrap_or(none);
        let rate =
            |now: u64, before: u64| (window.seconds > 0.0).then(|| now.saturating_sub(before) as f64 / window.seconds);
        Self {
            rate: rate(now.outcomes.all(), before.outcomes.all()),
            failure_rate: rate(now.outcomes.failures(), before.outcomes.failures()),
            queue: Times::of(&now.in_queue.since(&before.in_queue)),
            handler: Times::of(&now.in_handler.since(&before.in_handler)),
            ended: now.outcomes.all(),
            failed: now.outcomes.failures(),
            repeated: now.repeated,
            argument_bytes: now.argument_bytes,
            reply_bytes: now.reply_bytes,
            method,
        }
    }
}
