//! The points of the history: what of the core's counts has grown in each second and minute.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::event_log::time;
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
pub(super) struct ClusterSample {
    pub(super) ended: u64,
    pub(super) failed: u64,
    pub(super) waiting: usize,
    pub(super) running: usize,
}

/// A method, with the number that grows with what is counted of it.
pub(super) type ActiveMethod = (u64, MethodSample);

impl HistoryLog {
    /// Makes the points of the second before the one with this number, and of the minute if one has ended. `methods` is asked for
    /// the methods of which something was counted; what it is given says so by a method's id and number.
    pub(super) fn add(
        &self,
        number: u64,
        cluster: ClusterSample,
        nodes: &[NodeSample],
        methods: impl FnOnce(&dyn Fn(MethodId, u64) -> bool) -> Vec<ActiveMethod>,
    ) {
        let mut logs = self.lock();
        let Logs { seconds, minutes } = &mut *logs;
        let minute = number / 60;
        let ends_minute = minute > minutes.next;
        let methods = methods(&|method, activity| {
            seconds.activity_of(method) != activity || (ends_minute && minutes.activity_of(method) != activity)
        });
        seconds.add(number.saturating_sub(1), Resolution::Second, cluster, nodes, &methods, None);
        if ends_minute {
            minutes.add(minute - 1, Resolution::Minute, cluster, nodes, &methods, Some(seconds));
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
        methods: &[ActiveMethod],
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        administration::{Outcomes, Vitals},
        id::NodeIdentity,
    };

    fn method(number: u64, ended: u64) -> ActiveMethod {
        let outcomes = Outcomes { answered: ended, ..Outcomes::default() };
        let calls = CallMetrics { outcomes, ..CallMetrics::default() };
        let name = MethodName::new("Arith", &format!("m{number}"));
        (ended, MethodSample { method: MethodId(number), name, version: 1, calls })
    }

    fn node(number: u32, ended: u64) -> NodeSample {
        let addr = ([127, 0, 0, 1], 1).into();
        NodeSample {
            node: NodeIdentity::new(NodeId::new(1, number), "n", addr),
            slots: 2,
            slot_time: Duration::from_secs(ended),
            ended,
            failed: 0,
            vitals: Some(Vitals { cpu: Some(ended as f64), ..Vitals::default() }),
        }
    }

    fn cluster(ended: u64) -> ClusterSample {
        ClusterSample { ended, failed: 0, waiting: 0, running: 0 }
    }

    fn read(log: &HistoryLog, resolution: Resolution) -> History {
        log.read(&HistoryFilter::default().resolution(resolution).methods().nodes(), Duration::ZERO)
    }

    #[test]
    fn points_are_what_has_grown_and_the_oldest_go() {
        let log = HistoryLog::default();
        for second in 1..=4000 {
            log.add(second, cluster(second * 3), &[node(1, second)], |_| vec![method(1, second * 3)]);
        }
        let seconds = read(&log, Resolution::Second);
        assert_eq!((seconds.cluster.len(), seconds.cluster[0].number, seconds.next), (3600, 400, 4000));
        assert!(seconds.cluster.iter().all(|point| point.ended == 3 && point.busy == 1.0));
        assert!(seconds.methods[0].points.iter().all(|point| point.ended == 3));
        let minutes = read(&log, Resolution::Minute);
        assert_eq!((minutes.cluster.len(), minutes.cluster[0].ended, minutes.cluster[1].ended), (66, 180, 180));
        assert_eq!(minutes.nodes[0].points[1].cpu, (61..=120).sum::<u32>() as f32 / 60.0);
    }

    #[test]
    fn nothing_is_lost_when_seconds_are_skipped() {
        let log = HistoryLog::default();
        for second in [1, 2, 59, 61, 62, 130] {
            log.add(second, cluster(second), &[node(1, second)], |_| vec![method(1, second)]);
        }
        for resolution in [Resolution::Second, Resolution::Minute] {
            let history = read(&log, resolution);
            let ended: u64 = history.cluster.iter().map(|point| point.ended).sum();
            assert_eq!(ended, 130, "{resolution:?}");
        }
        let busy: Vec<_> = read(&log, Resolution::Second).nodes[0].points.iter().map(|point| point.busy).collect();
        assert_eq!(busy, [1.0; 6]);
    }

    #[test]
    fn a_method_that_lost_its_place_does_not_count_what_it_did_before_again() {
        let log = HistoryLog::default();
        log.add(1, cluster(0), &[], |_| vec![method(0, 1000)]);
        log.add(2, cluster(0), &[], |_| (1..=128).map(|number| method(number, 1)).collect());
        log.add(3, cluster(0), &[], |_| vec![method(0, 1001)]);
        log.add(4, cluster(0), &[], |_| vec![method(0, 1003)]);
        let history = read(&log, Resolution::Second);
        let first = history.methods.iter().find(|series| series.name.method() == "m0").expect("it is there");
        assert_eq!(first.points.iter().map(|point| point.ended).collect::<Vec<_>>(), [2]);
        assert_eq!(history.methods.len(), 128);
    }

    #[test]
    fn many_nodes_share_the_room_for_points() {
        let log = HistoryLog::default();
        let nodes: Vec<_> = (0..2000).map(|number| node(number, 1)).collect();
        for second in 1..=600 {
            log.add(second, cluster(second), &nodes, |_| Vec::new());
        }
        let history = read(&log, Resolution::Second);
        let points: usize = history.nodes.iter().map(|series| series.points.len()).sum();
        assert!(points <= MOST_NODE_POINTS && points > MOST_NODE_POINTS * 9 / 10, "{points}");
    }
}
