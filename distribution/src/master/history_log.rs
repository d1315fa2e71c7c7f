//! The points of the history: what of the core's counts has grown in each second and minute.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

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

/// How many points of one resolution all nodes together have at most. Each takes 40 bytes.
const MOST_NODE_POINTS: usize = 1 << 20;

/// How many methods have a history.
const MOST_METHODS: usize = 128;

/// A method that has been idle for this many points loses its place to another one.
const IDLE_AFTER: u64 = 60;

/// Of how many methods it is remembered how much was counted.
const MOST_REMEMBERED: usize = 16_384;

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
    /// When the last point was made.
    until: Time,
    /// How much was counted of each method, those without a series included, when it was looked at last.
    activity: HashMap<MethodId, u64>,
    /// Whether some of these were forgotten. Then a method that is not among them may have been called before.
    has_forgotten: bool,
}

#[derive(Debug)]
struct MethodSeries {
    name: MethodName,
    version: u32,
    points: VecDeque<MethodPoint>,
    /// What was counted when the last point was made.
    before: CallMetrics,
    /// The number of the last point in which something was counted.
    changed: u64,
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
    /// Makes the point of the second that has passed at this time, and that of the minute if one has ended. `methods` is asked for
    /// the methods of which something was counted; what it is given says so by a method's id and number.
    pub(super) fn add(
        &self,
        now: Time,
        cluster: ClusterSample,
        nodes: &[NodeSample],
        methods: impl FnOnce(&dyn Fn(MethodId, u64) -> bool) -> Vec<ActiveMethod>,
    ) {
        let mut logs = self.lock();
        let Logs { seconds, minutes } = &mut *logs;
        let number = now.as_secs();
        // The second before has its point already. What has happened since counts in the next one.
        if number <= seconds.next {
            return;
        }
        let minute = number / 60;
        let ends_minute = minute > minutes.next;
        let methods = methods(&|method, activity| {
            seconds.has_changed(method, activity) || (ends_minute && minutes.has_changed(method, activity))
        });
        seconds.add((number - 1, now), Resolution::Second, cluster, nodes, &methods, None);
        if ends_minute {
            minutes.add((minute - 1, now), Resolution::Minute, cluster, nodes, &methods, Some(seconds));
        }
    }

    /// What is wanted of the history.
    pub(super) fn read(&self, filter: &HistoryFilter, started: Duration) -> History {
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
        let is_wanted = |id: &NodeId| filter.nodes && filter.node.is_none_or(|node| node == *id);
        let nodes = log.nodes.iter().filter(|(id, _)| is_wanted(id)).map(|(id, series)| NodeHistory {
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
    /// Whether something was counted of a method since it was looked at.
    fn has_changed(&self, method: MethodId, activity: u64) -> bool {
        self.activity.get(&method).copied().unwrap_or(0) != activity
    }

    fn add(
        &mut self,
        (number, now): (u64, Time),
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
        // Longer than a step, if the master was stalled.
        let time = now.saturating_sub(std::mem::replace(&mut self.until, now));
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
        if !self.has_changed(sample.method, activity) {
            return;
        }
        if self.activity.len() >= MOST_REMEMBERED && !self.activity.contains_key(&sample.method) {
            self.activity.clear();
            self.has_forgotten = true;
        }
        let is_new = self.activity.insert(sample.method, activity).is_none() && !self.has_forgotten;
        if !self.methods.contains_key(&sample.method) {
            if self.methods.len() >= MOST_METHODS && !self.make_place(number) {
                return;
            }
            // What was counted of it before is not known, unless it is nothing.
            let before = if is_new { CallMetrics::default() } else { sample.calls.clone() };
            let (name, version) = (sample.name.clone(), sample.version);
            let series = MethodSeries { name, version, points: VecDeque::new(), before, changed: number };
            self.methods.insert(sample.method, series);
        }
        let Some(series) = self.methods.get_mut(&sample.method) else { return };
        series.changed = number;
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
    }

    /// Drops the series of the method that has been idle for longest, if one has been for long.
    fn make_place(&mut self, number: u64) -> bool {
        let longest = self.methods.iter().min_by_key(|(_, series)| series.changed);
        let idle = longest.filter(|(_, series)| series.changed + IDLE_AFTER <= number).map(|(id, _)| *id);
        idle.is_some_and(|id| self.methods.remove(&id).is_some())
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
                let gone_for_longest =
                    self.nodes.iter().min_by_key(|(_, series)| series.points.back().map(|last| last.number));
                let gone_for_longest = gone_for_longest.map(|(id, _)| *id);
                gone_for_longest.map(|id| self.nodes.remove(&id));
            }
            let series = self.nodes.entry(id).or_insert_with(|| NodeSeries {
                name: Arc::clone(&node.node.name),
                points: VecDeque::new(),
                before: Totals::default(),
            });
            let totals = Totals { ended: node.ended, failed: node.failed, slot_time: node.slot_time };
            let before = std::mem::replace(&mut series.before, totals);
            let grown = |now: u64, before: u64| u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX);
            let busy = totals.slot_time.saturating_sub(before.slot_time).as_secs_f32() / time.as_secs_f32().max(1e-3);
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

    fn at(second: u64) -> Time {
        Duration::from_secs(second)
    }

    fn read(log: &HistoryLog, resolution: Resolution) -> History {
        log.read(&HistoryFilter::default().resolution(resolution).methods().nodes(), Duration::ZERO)
    }

    #[test]
    fn points_are_what_has_grown_and_the_oldest_go() {
        let log = HistoryLog::default();
        for second in 1..=4000 {
            log.add(at(second), cluster(second * 3), &[node(1, second)], |_| vec![method(1, second * 3)]);
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
            log.add(at(second), cluster(second), &[node(1, second)], |_| vec![method(1, second)]);
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
    fn methods_keep_their_places_while_they_are_called_and_what_was_counted_without_one_is_not_counted_again() {
        let log = HistoryLog::default();
        let ended = |history: &History, name: &str| {
            let series = history.methods.iter().find(|series| series.name.method() == name)?;
            Some(series.points.iter().map(|point| point.ended).collect::<Vec<_>>())
        };
        log.add(at(1), cluster(0), &[], |_| (1..=128).map(|number| method(number, 1)).collect());
        // There is no place for it, and it is not looked at again while it is idle.
        log.add(at(2), cluster(0), &[], |_| vec![method(0, 1000)]);
        log.add(at(3), cluster(0), &[], |has_changed| {
            assert!(!has_changed(MethodId(0), 1000) && has_changed(MethodId(0), 1001) && !has_changed(MethodId(5), 1));
            Vec::new()
        });
        log.add(at(4), cluster(0), &[], |_| (2..=128).map(|number| method(number, 2)).collect());
        assert_eq!(ended(&read(&log, Resolution::Second), "m0"), None);
        // The first one has been idle for long enough.
        log.add(at(61), cluster(0), &[], |_| vec![method(0, 1001)]);
        log.add(at(62), cluster(0), &[], |_| vec![method(0, 1003)]);
        let history = read(&log, Resolution::Second);
        assert_eq!(ended(&history, "m0"), Some(vec![0, 2]));
        assert_eq!((ended(&history, "m1"), ended(&history, "m2")), (None, Some(vec![1, 1])));
    }

    #[test]
    fn a_second_that_was_looked_at_twice_has_one_point_and_nothing_is_lost() {
        let log = HistoryLog::default();
        for millis in [1001, 1999, 2000, 32_500] {
            let now = Duration::from_millis(millis);
            log.add(now, cluster(millis), &[node(1, millis / 1000)], |_| Vec::new());
        }
        let history = read(&log, Resolution::Second);
        let points: Vec<_> = history.cluster.iter().map(|point| (point.number, point.ended)).collect();
        assert_eq!(points, [(0, 1001), (1, 999), (31, 30_500)]);
        // The work of the whole stall, by the time that it took.
        assert!((history.cluster[2].busy - 30.0 / 30.5).abs() < 0.01, "{history:?}");
    }

    #[test]
    fn many_nodes_share_the_room_for_points() {
        let log = HistoryLog::default();
        let nodes: Vec<_> = (0..2000).map(|number| node(number, 1)).collect();
        for second in 1..=600 {
            log.add(at(second), cluster(second), &nodes, |_| Vec::new());
        }
        let history = read(&log, Resolution::Second);
        let points: usize = history.nodes.iter().map(|series| series.points.len()).sum();
        assert!(points <= MOST_NODE_POINTS && points > MOST_NODE_POINTS * 9 / 10, "{points}");
    }
}
