//! The newest records that nodes have logged, numbered from 1 in the order in which they came.
//!
//! The room is limited in records and in bytes. Without room, the node that has most of the bytes loses its oldest record: so
//! one that logs much loses its own, and what others have logged stays.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::event_log::time;
use crate::{
    administration::LogRecord,
    id::{CallId, NodeId, NodeIdentity},
    log_queue::{Allowance, records},
    security::without_tokens,
    text::{in_lines, in_one_line},
    wire::log::{LONGEST_RECORD, SentRecord},
};

/// What is kept.
const MOST_RECORDS: usize = 50_000;
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// What a record takes beside its text.
const OVERHEAD: usize = 300;

/// The most bytes of the names in a record.
const LONGEST_NAME: usize = 256;

/// This many records of all nodes are taken at once, and each second from then on, so that many nodes that log much leave the
/// master time for calls.
const BURST: u32 = 50_000;
const RATE: u32 = 10_000;

/// How often it is said of a node that its records were dropped.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

/// A record with its number.
pub(super) type Numbered = (u64, Arc<LogRecord>);

/// The newest records.
#[derive(Debug)]
pub(super) struct LogStore {
    kept: Mutex<Kept>,
    /// The number of the last record.
    last: watch::Sender<u64>,
}

#[derive(Debug)]
struct Kept {
    records: BTreeMap<u64, Arc<LogRecord>>,
    shares: HashMap<NodeId, Share>,
    /// The nodes with records, that with the most bytes last.
    by_bytes: BTreeSet<(usize, NodeId)>,
    bytes: usize,
    /// The number of the last one.
    last: u64,
    rate: Allowance,
    /// Records that were dropped when they came, of the nodes of which that was not said yet.
    dropped: HashMap<NodeId, Dropped>,
    room: Room,
}

#[derive(Clone, Copy, Debug)]
struct Room {
    records: usize,
    bytes: usize,
}

/// What is kept of one node.
#[derive(Debug, Default)]
struct Share {
    numbers: VecDeque<u64>,
    bytes: usize,
}

#[derive(Debug)]
struct Dropped {
    count: u64,
    since: Instant,
}

impl LogStore {
    pub(super) fn new() -> Self {
        Self::with_room(Room { records: MOST_RECORDS, bytes: MOST_BYTES })
    }

    fn with_room(room: Room) -> Self {
        let kept = Kept {
            records: BTreeMap::new(),
            shares: HashMap::new(),
            by_bytes: BTreeSet::new(),
            bytes: 0,
            last: 0,
            rate: Allowance::new(BURST, RATE, Instant::now()),
            dropped: HashMap::new(),
            room,
        };
        Self { kept: Mutex::new(kept), last: watch::channel(0).0 }
    }

    /// Adds what a node has sent. If that is more than it may, or than the master takes, it is counted and dropped.
    pub(super) fn add(&self, node: &NodeIdentity, sent: Vec<SentRecord>, is_allowed: bool) {
        let (now, at) = (Instant::now(), time());
        let at = Duration::new(at.as_secs(), at.subsec_micros() * 1000);
        let is_taken = is_allowed && self.lock().rate.take(sent.len(), now);
        // Without the lock: it takes the longer the longer the texts are.
        let safe: Vec<_> = match is_taken {
            true => sent.into_iter().map(|sent| made_safe(sent, node, at)).collect(),
            false => {
                let mut kept = self.lock();
                // Nodes that are gone are not counted any more.
                kept.dropped.retain(|of, dropped| of == &node.id || dropped.since.elapsed() < NOTE_INTERVAL * 60);
                let dropped = kept.dropped.entry(node.id).or_insert(Dropped { count: 0, since: now });
                dropped.count += sent.len() as u64;
                Vec::new()
            }
        };
        let last = {
            let mut kept = self.lock();
            let is_due = |dropped: &Dropped| now.saturating_duration_since(dropped.since) >= NOTE_INTERVAL;
            if kept.dropped.get(&node.id).is_some_and(is_due) {
                let dropped = kept.dropped.remove(&node.id).map_or(0, |dropped| dropped.count);
                let message = format!("{} were dropped by the master: it takes fewer a second", records(dropped));
                kept.push(LogRecord::note(node.clone(), at, message));
            }
            safe.into_iter().for_each(|record| kept.push(record));
            kept.last
        };
        self.last.send_if_modified(|known| std::mem::replace(known, last) != last);
    }

    /// The number of the last record that came.
    pub(super) fn last(&self) -> u64 {
        self.lock().last
    }

    /// The first records behind this number, oldest first.
    pub(super) fn after(&self, number: u64, most: usize) -> Vec<Numbered> {
        let kept = self.lock();
        kept.records
            .range(number.saturating_add(1)..)
            .take(most)
            .map(|(number, record)| (*number, Arc::clone(record)))
            .collect()
    }

    /// The last records up to this number, newest first.
    pub(super) fn up_to(&self, number: u64, most: usize) -> Vec<Numbered> {
        let kept = self.lock();
        kept.records.range(..=number).rev().take(most).map(|(number, record)| (*number, Arc::clone(record))).collect()
    }

    /// Waits until there is a record behind this number.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub(super) async fn wait_after(&self, number: u64) {
        // The store has the other end, so this does not fail.
        let _ = self.last.subscribe().wait_for(|last| *last > number).await;
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn push(&mut self, record: LogRecord) {
        let node = record.node.id;
        self.last += 1;
        self.resize(node, |share, number| {
            share.numbers.push_back(number);
            share.bytes += size_of(&record);
        });
        self.records.insert(self.last, Arc::new(record));
        while self.records.len() > self.room.records || self.bytes > self.room.bytes {
            let Some(&(_, node)) = self.by_bytes.last() else { return };
            self.drop_oldest_of(node);
        }
    }

    fn drop_oldest_of(&mut self, node: NodeId) {
        let oldest = self.shares.get(&node).and_then(|share| share.numbers.front().copied());
        let size = oldest.and_then(|number| self.records.remove(&number)).map_or(0, |record| size_of(&record));
        self.resize(node, |share, _| {
            share.numbers.pop_front();
            share.bytes = if share.numbers.is_empty() { 0 } else { share.bytes.saturating_sub(size) };
        });
        if self.shares.get(&node).is_some_and(|share| share.numbers.is_empty()) {
            self.shares.remove(&node);
            self.by_bytes.remove(&(0, node));
        }
    }

    /// Changes what a node has, with the number of the last record.
    fn resize(&mut self, node: NodeId, change: impl FnOnce(&mut Share, u64)) {
        let share = self.shares.entry(node).or_default();
        let before = share.bytes;
        change(share, self.last);
        self.by_bytes.remove(&(before, node));
        self.by_bytes.insert((share.bytes, node));
        self.bytes = (self.bytes - before) + share.bytes;
    }
}

fn size_of(record: &LogRecord) -> usize {
    let backtrace = record.backtrace.as_ref().map_or(0, String::len);
    let method = record.method.as_ref().map_or(0, String::len);
    OVERHEAD + record.target.len() + record.message.len() + record.fields.len() + method + backtrace
}

/// What a node has sent, as the master shows it: nothing of it is trusted.
fn made_safe(sent: SentRecord, node: &NodeIdentity, at: Duration) -> LogRecord {
    let line = |text: &str, most: usize| in_one_line(&without_tokens(text), most);
    let message = line(&sent.message, LONGEST_RECORD);
    let mut room = LONGEST_RECORD.saturating_sub(message.len());
    let fields = line(&sent.fields, room);
    room = room.saturating_sub(fields.len());
    let method = (!sent.method.is_empty()).then(|| line(&sent.method, LONGEST_NAME));
    let backtrace = (!sent.backtrace.is_empty()).then(|| in_lines(&without_tokens(&sent.backtrace), room));
    LogRecord {
        at,
        logged_at: Duration::from_micros(sent.time),
        node: node.clone(),
        level: sent.level,
        target: line(&sent.target, LONGEST_NAME),
        message,
        fields,
        method,
        call: sent.call.map(|(call, _)| CallId(call)),
        attempt: sent.call.map(|(_, attempt)| attempt),
        repeated: sent.repeated,
        backtrace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{administration::LogLevel, id::NO_ADDRESS};

    fn node(number: u32) -> NodeIdentity {
        NodeIdentity::new(NodeId::new(1, number), &format!("n{number}"), NO_ADDRESS)
    }

    fn sent(message: impl ToString) -> SentRecord {
        SentRecord {
            time: 1,
            level: LogLevel::Info,
            repeated: 0,
            call: Some((7, 2)),
            method: "Arith.sum".to_owned(),
            target: "program".to_owned(),
            message: message.to_string(),
            fields: String::new(),
            backtrace: String::new(),
        }
    }

    fn messages(store: &LogStore) -> Vec<String> {
        store.after(0, usize::MAX).iter().map(|(_, record)| record.message.clone()).collect()
    }

    #[test]
    fn a_node_that_logs_much_pushes_out_its_own_records_only() {
        let store = LogStore::with_room(Room { records: 10, bytes: MOST_BYTES });
        store.add(&node(1), vec![sent("quiet")], true);
        store.add(&node(3), vec![sent("quiet too")], true);
        (0..100).for_each(|number| store.add(&node(2), vec![sent(number)], true));
        let noisy = (92..100).map(|number| number.to_string());
        let expected: Vec<_> = ["quiet", "quiet too"].into_iter().map(str::to_owned).chain(noisy).collect();
        assert_eq!(messages(&store), expected);
        assert_eq!(store.last(), 102);
        let numbers: Vec<_> = store.up_to(101, 2).iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [101, 100]);
    }

    #[test]
    fn the_memory_is_bounded_in_bytes_and_given_back() {
        let store = LogStore::with_room(Room { records: MOST_RECORDS, bytes: 100_000 });
        for number in 0..1_000 {
            store.add(&node(number % 7), vec![sent("x".repeat(1 + (number as usize * 37) % 5_000))], true);
            let kept = store.lock();
            assert!(kept.bytes <= 100_000);
            assert_eq!(kept.bytes, kept.records.values().map(|record| size_of(record)).sum::<usize>());
            assert_eq!(kept.bytes, kept.shares.values().map(|share| share.bytes).sum::<usize>());
            assert_eq!(kept.shares.len(), kept.by_bytes.len());
        }
    }

    #[test]
    fn what_a_node_says_is_made_safe() {
        let store = LogStore::new();
        let evil = SentRecord {
            time: u64::MAX,
            method: "Arith\u{202e}.sum".to_owned(),
            target: "t".repeat(10_000),
            fields: "token=dtok1_node_secret\r".to_owned(),
            backtrace: "one\n\ttwo\x1b[2J".to_owned(),
            ..sent(format!("two\nlines\x1b[31m dtok1_admin_x {}", "ä".repeat(1 << 15)))
        };
        store.add(&node(1), vec![evil.clone(), SentRecord { message: "m".to_owned(), ..evil }], true);
        let [(_, long), (_, short)] = &store.after(0, 2)[..] else { panic!("two") };
        assert!(long.message.starts_with("two\\nlines\\u{1b}[31m [token] äää"), "{}", &long.message[..99]);
        assert!(long.message.len() < LONGEST_RECORD + 16);
        assert_eq!(short.fields, "token=[token]\\r");
        assert_eq!(short.method.as_deref(), Some("Arith\\u{202e}.sum"));
        assert_eq!(short.backtrace.as_deref(), Some("one\n\ttwo\\u{1b}[2J"));
        assert!(short.target.len() < LONGEST_NAME + 16);
        assert_eq!((short.call, short.attempt, &*short.node.name), (Some(CallId(7)), Some(2), "n1"));
    }

    #[test]
    fn what_is_dropped_is_counted_and_told() {
        let store = LogStore::new();
        store.add(&node(1), vec![sent("a"), sent("b")], false);
        assert_eq!(messages(&store), [""; 0]);
        for dropped in store.lock().dropped.values_mut() {
            dropped.since -= NOTE_INTERVAL;
        }
        store.add(&node(1), vec![sent("c")], true);
        assert_eq!(messages(&store), ["2 records were dropped by the master: it takes fewer a second", "c"]);
        assert!(store.lock().dropped.is_empty());
    }

    #[tokio::test]
    async fn a_reader_waits_for_the_next_record() {
        let store = LogStore::new();
        assert!(futures::FutureExt::now_or_never(store.wait_after(0)).is_none());
        tokio::join!(store.wait_after(0), async { store.add(&node(1), vec![sent("a")], true) });
    }
}
