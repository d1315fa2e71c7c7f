//! Looks at the core's counts once a second, and remembers how they grow.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{event_log::time, shared::Shared};
use crate::{
    administration::{
        CallMetrics, ClusterPoint, History, HistoryFilter, MethodHistory, MethodPoint, NodeHistory, NodePoint,
        Resolution,
    },
    core::{MethodSample, NodeSample, Time},
    id::{MethodName, NodeId},
    service::method::MethodId,
};

/// How many points are kept of the cluster as a whole, and of a method: an hour of seconds, and a day of minutes.
const MOST_SECONDS: u64 = 3600;
const MOST_MINUTES: u64 = 24 * 60;

/// How many points of one resolution all nodes together have at most. Each takes 32 bytes.
const MOST_NODE_POINTS: usize = 1 << 20;

/// How many methods have a history.
const MOST_METHODS: usize = 128;

/// How many nodes have a history, those that are gone included.
const MOST_NODES: usize = 16_384;

/// How many methods are looked at under one hold of the lock.
const METHODS_AT_A_TIME: usize = 32;

/// The history of a master.
#[derive(Debug, Default)]
pub(super) struct HistoryLog(Mutex<Logs>);

#[derive(Debug, Default)]
struct Logs {
    seconds: Log,
    minutes: Log,
}

/// The points of one resolution.
#[derive(Debug, Default)]
struct Log {
    /// The number of the next point.
    next: u64,
    cluster: VecDeque<ClusterPoint>,
    methods: HashMap<MethodId, MethodSeries>,
    nodes: HashMap<NodeId, NodeSeries>,
    /// What had ended and failed when the last point was made.
    before: (u64, u64),
    /// Whether a method has lost its place to another one. Then one without a place may have been called before.
    has_dropped: bool,
}

#[derive(Debug)]
struct MethodSeries {
    name: MethodName,
    version: u32,
    points: VecDeque<MethodPoint>,
    /// What was counted, and the number that grows with it, when the last point was made.
    before: CallMetrics,
    activity: u64,
}

#[derive(Debug)]
struct NodeSeries {
    name: Arc<str>,
    points: VecDeque<NodePoint>,
    before: Totals,
}

/// What of a node only grows.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    ended: u64,
    failed: u64,
    slot_time: Duration,
}

/// What the cluster as a whole has at one moment.
#[derive(Clone, Copy, Debug)]
struct ClusterSample {
    ended: u64,
    failed: u64,
    waiting: usize,
    running: usize,
}

/// Looks at the core once a second, until the master ends.
pub(super) async fn run(shared: Arc<Shared>) {
    let second = Resolution::Second.step();
    let mut ticks = interval_at(shared.origin + second, second);
    // After a stall it goes on with the second that it is then.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    #[cfg(feature = "metrics")]
    let mut facade = super::facade::Facade::default();
    loop {
        tokio::select! {
            at = ticks.tick() => {
                shared.history.look(&shared, at);
                #[cfg(feature = "metrics")]
                facade.tell(&shared.metrics());
            }
            () = shared.closed.cancelled() => return,
        }
    }
}

impl HistoryLog {
    /// Makes the points of the second that ends now, and of the minute if one ends.
    fn look(&self, shared: &Shared, at: Instant) {
        let number = at.saturating_duration_since(shared.origin).as_secs();
        let cluster = {
            let stats = shared.stats();
            let ended = stats.answered + stats.failed + stats.cancelled;
            ClusterSample { ended, failed: stats.failed, waiting: stats.queued, running: stats.in_flight }
        };
        let nodes = sample_nodes(shared);
        let is_minute = number % 60 == 0;
        let mut logs = self.lock();
        let Logs { seconds, minutes } = &mut *logs;
        let methods = changed_methods(shared, seconds, is_minute.then_some(&*minutes));
        // The point of a second stands for the one that has just passed.
        seconds.add(number.saturating_sub(1), Resolution::Second, cluster, &nodes, &methods, None);
        if is_minute {
            minutes.add((number / 60).saturating_sub(1), Resolution::Minute, cluster, &nodes, &methods, Some(seconds));
        }
    }

    /// What is wanted of the history.
    pub(super) fn read(&self, filter: &HistoryFilter, now: Time) -> History {
        let started = time().saturating_sub(now);
        let logs = self.lock();
        let log = match filter.resolution {
            Resolution::Second => &logs.seconds,
            Resolution::Minute => &logs.minutes,
        };
        let methods = log.methods.values().filter(|_| filter.methods).map(|series| MethodHistory {
            name: series.name.clone(),
            version: series.version,
            points: since(&series.points, filter.from, |point| point.number),
        });
        let nodes = log.nodes.iter().filter(|_| filter.nodes).map(|(id, series)| NodeHistory {
            id: *id,
            name: Arc::clone(&series.name),
            points: since(&series.points, filter.from, |point| point.number),
        });
        let mut history = History {
            started,
            resolution: filter.resolution,
            next: log.next,
            cluster: since(&log.cluster, filter.from, |point| point.number),
            methods: methods.filter(|method| !method.points.is_empty()).collect(),
            nodes: nodes.filter(|node| !node.points.is_empty()).collect(),
        };
        history.methods.sort_by(|a, b| (&a.name, a.version).cmp(&(&b.name, b.version)));
        history.nodes.sort_by_key(|node| node.id);
        history
    }

    fn lock(&self) -> MutexGuard<'_, Logs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The points from this number on.
fn since<T: Copy>(points: &VecDeque<T>, from: u64, number: impl Fn(&T) -> u64) -> Vec<T> {
    let first = points.partition_point(|point| number(point) < from);
    points.range(first..).copied().collect()
}

fn sample_nodes(shared: &Shared) -> Vec<NodeSample> {
    let (mut samples, mut after) = (Vec::new(), None);
    loop {
        let (slice, last) = shared.lock().core.sample_nodes(shared.origin.elapsed(), after);
        samples.extend(slice);
        if last.is_none() {
            return samples;
        }
        after = last;
    }
}

/// The methods of which something was counted since the logs looked last.
fn changed_methods(shared: &Shared, seconds: &Log, minutes: Option<&Log>) -> Vec<(u64, MethodSample)> {
    let ids = shared.lock().core.called_ids();
    let mut samples = Vec::new();
    for ids in ids.chunks(METHODS_AT_A_TIME) {
        let locked = shared.lock();
        for id in ids {
            let activity = locked.core.activity_of(*id);
            if [Some(seconds), minutes].into_iter().flatten().any(|log| log.activity_of(*id) != activity) {
                samples.extend(locked.core.method_sample(*id).map(|sample| (activity, sample)));
            }
        }
    }
    samples
}

impl Log {
    fn activity_of(&self, method: MethodId) -> u64 {
        self.methods.get(&method).map_or(0, |series| series.activity)
    }

    fn add(
        &mut self,
        number: u64,
        resolution: Resolution,
        cluster: ClusterSample,
        nodes: &[NodeSample],
        methods: &[(u64, MethodSample)],
        seconds: Option<&Log>,
    ) {
        let most = match resolution {
            Resolution::Second => MOST_SECONDS,
            Resolution::Minute => MOST_MINUTES,
        };
        let oldest = (number + 1).saturating_sub(most);
        // More than one step, if seconds were skipped.
        let steps = u32::try_from(number + 1 - self.next.min(number)).unwrap_or(u32::MAX);
        let time = resolution.step().saturating_mul(steps);
        for (activity, sample) in methods {
            self.add_method(number, *activity, sample);
        }
        for series in self.methods.values_mut() {
            trim(&mut series.points, |point| point.number >= oldest);
        }
        let busy = self.add_nodes(number, oldest, time, nodes, seconds);
        let (ended, failed) = self.before;
        self.before = (cluster.ended, cluster.failed);
        self.cluster.push_back(ClusterPoint {
            number,
            ended: cluster.ended.saturating_sub(ended),
            failed: cluster.failed.saturating_sub(failed),
            waiting: cluster.waiting as u64,
            running: cluster.running as u64,
            nodes: u32::try_from(nodes.len()).unwrap_or(u32::MAX),
            slots: nodes.iter().map(|node| node.slots).fold(0, u32::saturating_add),
            busy,
        });
        trim(&mut self.cluster, |point| point.number >= oldest);
        self.next = number + 1;
    }

    fn add_method(&mut self, number: u64, activity: u64, sample: &MethodSample) {
        if !self.methods.contains_key(&sample.method) {
            if self.methods.len() >= MOST_METHODS {
                let last = |series: &MethodSeries| series.points.back().map(|point| point.number);
                let oldest = self.methods.iter().min_by_key(|(_, series)| last(series)).map(|(id, _)| *id);
                oldest.map(|id| self.methods.remove(&id));
                self.has_dropped = true;
            }
            let (name, version) = (sample.name.clone(), sample.version);
            // What was counted of it before is not known, unless it is nothing.
            let (before, activity) = match self.has_dropped {
                true => (sample.calls.clone(), activity),
                false => (CallMetrics::default(), 0),
            };
            let series = MethodSeries { name, version, points: VecDeque::new(), before, activity };
            self.methods.insert(sample.method, series);
        }
        let Some(series) = self.methods.get_mut(&sample.method) else { return };
        if series.activity == activity {
            return;
        }
        let (calls, before) = (&sample.calls, &series.before);
        let queue = calls.in_queue.since(&before.in_queue);
        let handler = calls.in_handler.since(&before.in_handler);
        let seconds = |time: Option<Duration>| time.map_or(0.0, |time| time.as_secs_f32());
        let grown = |now: u64, before: u64| u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX);
        series.points.push_back(MethodPoint {
            number,
            ended: grown(calls.outcomes.all(), before.outcomes.all()),
            failed: grown(calls.outcomes.failures(), before.outcomes.failures()),
            queue_p50: seconds(queue.quantile(0.5)),
            queue_p99: seconds(queue.quantile(0.99)),
            handler_p50: seconds(handler.quantile(0.5)),
            handler_p99: seconds(handler.quantile(0.99)),
        });
        series.before = calls.clone();
        series.activity = activity;
    }

    /// The mean processor time and the longest lag of a node's last 60 points; of seconds, those of the last minute.
    fn last_minute_of(&self, node: NodeId) -> Option<(f32, f32)> {
        let points = self.nodes.get(&node)?.points.iter().rev().take(60);
        let (count, cpu, lag) = points
            .fold((0_u16, 0.0, 0.0), |(count, cpu, lag), point| (count + 1, cpu + point.cpu, f32::max(lag, point.lag)));
        (count > 0).then(|| (cpu / f32::from(count), lag))
    }

    /// Adds a point for each node. Returns how many slots were taken in all, on average.
    fn add_nodes(
        &mut self,
        number: u64,
        oldest: u64,
        time: Duration,
        nodes: &[NodeSample],
        seconds: Option<&Log>,
    ) -> f32 {
        let mut all_busy = 0.0;
        for node in nodes {
            let id = node.node.id;
            if self.nodes.len() >= MOST_NODES && !self.nodes.contains_key(&id) {
                continue;
            }
            let series = self.nodes.entry(id).or_insert_with(|| NodeSeries {
                name: Arc::clone(&node.node.name),
                points: VecDeque::new(),
                before: Totals::default(),
            });
            let totals = Totals { ended: node.ended, failed: node.failed, slot_time: node.slot_time };
            let before = std::mem::replace(&mut series.before, totals);
            let grown = |now: u64, before: u64| u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX);
            let busy = totals.slot_time.saturating_sub(before.slot_time).as_secs_f32() / time.as_secs_f32();
            all_busy += busy;
            let vitals = node.vitals.unwrap_or_default();
            let now = (vitals.cpu.unwrap_or_default() as f32, vitals.lag.as_secs_f32());
            let (cpu, lag) = seconds.and_then(|seconds| seconds.last_minute_of(id)).unwrap_or(now);
            series.points.push_back(NodePoint {
                number,
                ended: grown(totals.ended, before.ended),
                failed: grown(totals.failed, before.failed),
                busy,
                cpu,
                memory: vitals.memory.unwrap_or_default(),
                lag,
            });
        }
        let most = MOST_NODE_POINTS / self.nodes.len().max(1);
        self.nodes.retain(|_, series| {
            trim(&mut series.points, |point| point.number >= oldest);
            while series.points.len() > most {
                series.points.pop_front();
            }
            !series.points.is_empty()
        });
        all_busy
    }
}

/// Drops the first points until one is to be kept.
fn trim<T>(points: &mut VecDeque<T>, is_kept: impl Fn(&T) -> bool) {
    while points.front().is_some_and(|first| !is_kept(first)) {
        points.pop_front();
    }
}
