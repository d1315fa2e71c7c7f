//! What a node has logged and not sent yet: bounded in records and bytes, limited in its rate, with repeated records folded.
//!
//! Those that log never wait. What has no room is dropped and counted, the newest first, so that what began the flood is
//! kept; a record says how many were dropped.

use std::{
    backtrace::Backtrace,
    collections::VecDeque,
    hash::{Hash, Hasher},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use rustc_hash::FxHasher;
use tokio::sync::Notify;

use super::allowance::Allowance;
use crate::{
    administration::{LogLevel, TARGET_OF_NOTES},
    security::without_tokens,
    text::cut,
    wire::log::{LONGEST_RECORD, SentRecord},
};

/// Records of a node that wait. The memory that they take is bounded by the bytes too.
const MOST_RECORDS: usize = 8 * 1024;
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Records that a node may log at once, and each second from then on; the same in bytes.
const BURST: u32 = 5_000;
const RATE: u32 = 1_000;
const BURST_BYTES: u32 = 4 * 1024 * 1024;
const BYTE_RATE: u32 = 1024 * 1024;

/// Backtraces that are captured each second.
const CAPTURES: u32 = 10;

/// A record is compared with this many that came before it. Several threads may repeat one each.
const LOOK_BACK: usize = 16;

/// How often a node says that records were dropped.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

/// The most bytes of what a record is from.
const LONGEST_NAME: usize = 256;

/// A record that is to be queued.
pub(crate) struct NewRecord {
    pub(crate) level: LogLevel,
    pub(crate) target: String,
    pub(crate) message: String,
    pub(crate) fields: String,
    pub(crate) method: Option<String>,
    pub(crate) call: Option<(u64, u32)>,
    /// Written out when the record is sent, and not before: that takes milliseconds.
    pub(crate) backtrace: Option<Backtrace>,
}

impl NewRecord {
    /// Makes it fit, without secrets.
    fn into_sent(self) -> (SentRecord, Option<Backtrace>) {
        let clean = |text: String, most: usize| {
            let mut text = match without_tokens(&text) {
                std::borrow::Cow::Borrowed(_) => text,
                std::borrow::Cow::Owned(redacted) => redacted,
            };
            cut(&mut text, most);
            text
        };
        let message = clean(self.message, LONGEST_RECORD);
        let fields = clean(self.fields, LONGEST_RECORD.saturating_sub(message.len()));
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let record = SentRecord {
            time: u64::try_from(time.as_micros()).unwrap_or(u64::MAX),
            level: self.level,
            repeated: 0,
            call: self.call,
            method: clean(self.method.unwrap_or_default(), LONGEST_NAME),
            target: clean(self.target, LONGEST_NAME),
            message,
            fields,
            backtrace: String::new(),
        };
        (record, self.backtrace)
    }
}

/// A record that waits.
#[derive(Debug)]
pub(crate) struct QueuedRecord {
    pub(crate) record: SentRecord,
    pub(crate) backtrace: Option<Backtrace>,
    hash: u64,
}

impl QueuedRecord {
    /// What it takes here, and in a frame.
    fn size(&self) -> usize {
        match self.backtrace {
            Some(_) => LONGEST_RECORD + self.record.size(),
            None => self.record.size(),
        }
    }

    fn is_same(&self, other: &SentRecord, hash: u64) -> bool {
        let parts = |record: &SentRecord| (record.level, record.call);
        let record = &self.record;
        self.hash == hash
            && self.backtrace.is_none()
            && parts(record) == parts(other)
            && (&record.message, &record.fields) == (&other.message, &other.fields)
            && (&record.target, &record.method) == (&other.target, &other.method)
    }
}

/// The records of one node that have not been sent.
#[derive(Debug)]
pub(crate) struct NodeLogs {
    #[cfg(feature = "logs")]
    name: String,
    queue: Mutex<Queue>,
    /// How many backtraces may be captured.
    captures: Mutex<Allowance>,
    /// Told when the first record comes.
    has_some: Notify,
}

#[derive(Debug)]
struct Queue {
    records: VecDeque<QueuedRecord>,
    bytes: usize,
    rate: Allowance,
    byte_rate: Allowance,
    /// Records that were dropped, and nobody was told.
    dropped: u64,
    /// When it was said last that some were.
    noted: Option<Instant>,
}

impl NodeLogs {
    #[cfg_attr(not(feature = "logs"), expect(unused_variables, reason = "the layer finds a node's queue by it"))]
    pub(crate) fn new(name: &str) -> Self {
        let now = Instant::now();
        let queue = Queue {
            records: VecDeque::new(),
            bytes: 0,
            rate: Allowance::new(BURST, RATE, now),
            byte_rate: Allowance::new(BURST_BYTES, BYTE_RATE, now),
            dropped: 0,
            noted: None,
        };
        let captures = Mutex::new(Allowance::new(CAPTURES, CAPTURES, now));
        Self {
            #[cfg(feature = "logs")]
            name: name.to_owned(),
            queue: Mutex::new(queue),
            captures,
            has_some: Notify::new(),
        }
    }

    /// Whether the backtrace of another panic may be captured: that takes long, and handlers may panic in each call.
    pub(crate) fn may_capture(&self) -> bool {
        self.captures.lock().unwrap_or_else(PoisonError::into_inner).take(1, Instant::now())
    }

    /// The node's name.
    #[cfg(feature = "logs")]
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Adds a record. Takes a short lock, and never waits for the connection.
    pub(crate) fn push(&self, record: NewRecord) {
        let (record, backtrace) = record.into_sent();
        let mut hasher = FxHasher::default();
        (&record.target, &record.message, &record.fields, record.call).hash(&mut hasher);
        let hash = hasher.finish();
        let is_first = {
            let mut queue = self.lock();
            let same = queue.records.iter_mut().rev().take(LOOK_BACK).find(|queued| queued.is_same(&record, hash));
            if let (Some(same), None) = (same, &backtrace) {
                same.record.repeated = same.record.repeated.saturating_add(1);
                return;
            }
            queue.push(QueuedRecord { record, backtrace, hash })
        };
        if is_first {
            self.has_some.notify_one();
        }
    }

    /// Whether a record that is logged now is dropped, unless it repeats another one.
    #[cfg(feature = "logs")]
    pub(crate) fn drops_new_ones(&self) -> bool {
        let now = Instant::now();
        let mut queue = self.lock();
        let has_room = queue.records.len() < MOST_RECORDS && queue.bytes < MOST_BYTES;
        !(has_room && queue.rate.has(1, now) && queue.byte_rate.has(1, now))
    }

    /// A record was dropped before it was written out.
    #[cfg(feature = "logs")]
    pub(crate) fn count_dropped(&self) {
        let mut queue = self.lock();
        queue.dropped += 1;
        if queue.dropped == 1 {
            drop(queue);
            self.has_some.notify_one();
        }
    }

    /// The records of the next frame, oldest first; `None` if there are none now.
    pub(crate) fn take_frame(&self) -> Option<Vec<QueuedRecord>> {
        let mut queue = self.lock();
        let (mut frame, mut bytes) = (Vec::new(), 0);
        while let Some(next) = queue.records.front() {
            let size = next.size();
            // One that is larger than a frame until its backtrace is cut travels alone.
            if !(frame.is_empty() || next.record.fits_behind(frame.len(), bytes + size - next.record.size())) {
                break;
            }
            bytes += size;
            queue.bytes = queue.bytes.saturating_sub(size);
            frame.extend(queue.records.pop_front());
        }
        if queue.records.is_empty() {
            queue.records.shrink_to(LOOK_BACK);
            // Otherwise it is told with the next frame.
            if frame.len() <= LOOK_BACK && bytes < LONGEST_RECORD {
                frame.extend(queue.note(Instant::now()));
            }
        }
        (!frame.is_empty()).then_some(frame)
    }

    /// Waits for records to send, or to say that some were dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub(crate) async fn wait(&self) {
        loop {
            let notified = self.has_some.notified();
            let left = {
                let queue = self.lock();
                if !queue.records.is_empty() {
                    return;
                }
                (queue.dropped > 0)
                    .then(|| queue.noted.map_or(Duration::ZERO, |at| NOTE_INTERVAL.saturating_sub(at.elapsed())))
            };
            match left {
                Some(left) if left.is_zero() => return,
                Some(left) => _ = tokio::time::timeout(left, notified).await,
                None => notified.await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Adds a record if there is room. Whether it is the first one that waits.
    fn push(&mut self, record: QueuedRecord) -> bool {
        let (size, now) = (record.size(), Instant::now());
        let has_room = self.records.len() < MOST_RECORDS && self.bytes + size <= MOST_BYTES;
        // Both are asked before one is taken.
        if !(has_room && self.rate.has(1, now) && self.byte_rate.take(size, now) && self.rate.take(1, now)) {
            self.dropped += 1;
            return self.records.is_empty() && self.dropped == 1;
        }
        self.bytes += size;
        self.records.push_back(record);
        self.records.len() == 1
    }

    /// A record that says how many were dropped, if some were and it was not said just now.
    fn note(&mut self, now: Instant) -> Option<QueuedRecord> {
        let is_due = self.noted.is_none_or(|noted| now.saturating_duration_since(noted) >= NOTE_INTERVAL);
        if self.dropped == 0 || !is_due {
            return None;
        }
        self.noted = Some(now);
        let dropped = std::mem::take(&mut self.dropped);
        let message = format!(
            "{} were dropped: a node sends {} a second to its master, after a burst of {}",
            records(dropped),
            with_commas(RATE.into()),
            with_commas(BURST.into()),
        );
        let (record, backtrace) = NewRecord {
            level: LogLevel::Warn,
            target: TARGET_OF_NOTES.to_owned(),
            message,
            fields: String::new(),
            method: None,
            call: None,
            backtrace: None,
        }
        .into_sent();
        Some(QueuedRecord { record, backtrace, hash: 0 })
    }
}

/// `1 record`, `1,234 records`.
pub(crate) fn records(count: u64) -> String {
    match count {
        1 => "1 record".to_owned(),
        count => format!("{} records", with_commas(count)),
    }
}

/// `1,234,567`.
fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(message: impl ToString) -> NewRecord {
        NewRecord {
            level: LogLevel::Info,
            target: "program".to_owned(),
            message: message.to_string(),
            fields: String::new(),
            method: None,
            call: None,
            backtrace: None,
        }
    }

    fn taken(logs: &NodeLogs) -> Vec<SentRecord> {
        std::iter::from_fn(|| logs.take_frame()).flatten().map(|queued| queued.record).collect()
    }

    #[test]
    fn numbers_are_readable() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(with_commas(number), text);
        }
    }

    #[test]
    fn repeated_records_of_one_call_are_counted() {
        let logs = NodeLogs::new("n");
        for call in [1, 2] {
            for message in ["a", "b"].into_iter().cycle().take(10) {
                logs.push(NewRecord { call: Some((call, 1)), ..record(message) });
            }
        }
        let taken = taken(&logs);
        let seen: Vec<_> = taken.iter().map(|record| (&*record.message, record.call, record.repeated)).collect();
        let (one, two) = (Some((1, 1)), Some((2, 1)));
        assert_eq!(seen, [("a", one, 4), ("b", one, 4), ("a", two, 4), ("b", two, 4)]);
    }

    #[test]
    fn a_flood_is_bounded_and_a_record_says_how_many_are_missing() {
        let logs = NodeLogs::new("n");
        let before = Instant::now();
        (0..100_000).for_each(|number| logs.push(record(number)));
        let allowed = 5_000 + (before.elapsed().as_secs_f64() * 1_000.0) as usize + 1;
        let mut taken = taken(&logs);
        let note = taken.pop().expect("a note");
        assert!((5_000..=allowed).contains(&taken.len()), "{} of {allowed}", taken.len());
        assert!(taken.iter().enumerate().take(5_000).all(|(number, record)| record.message == number.to_string()));
        let dropped = with_commas(100_000 - taken.len() as u64);
        assert!(note.message.starts_with(&format!("{dropped} records were dropped")), "{}", note.message);
        assert_eq!((note.level, &*note.target), (LogLevel::Warn, TARGET_OF_NOTES));
    }

    #[test]
    fn each_frame_is_one_that_a_master_takes() {
        for length in [0, 10, 60, 300, 5_000, 9_000] {
            let logs = NodeLogs::new("n");
            (0..7_000).for_each(|number| logs.push(record(format!("{number} {}", "x".repeat(length)))));
            let mut count = 0;
            while let Some(frame) = logs.take_frame() {
                let records: Vec<_> = frame.into_iter().map(|queued| queued.record).collect();
                assert!(records.len() <= crate::wire::log::MOST_RECORDS);
                let mut bytes = bytes::BytesMut::new();
                crate::wire::Control::Logs { records }.encode(&mut bytes).expect("encodes");
                assert!(bytes.len() <= 5 + 16 * 1024, "{}", bytes.len());
                count += 1;
            }
            assert!(count > 10, "{count}");
        }
    }

    #[test]
    fn large_records_are_cut_and_all_of_them_fit_into_the_memory() {
        let logs = NodeLogs::new("n");
        for number in 0..2_000 {
            logs.push(NewRecord { fields: "ä".repeat(9_000), ..record(format!("{number} {}", "ö".repeat(1 << 14))) });
        }
        assert!(logs.lock().bytes <= MOST_BYTES);
        let taken = taken(&logs);
        assert!((400..600).contains(&taken.len()), "{}", taken.len());
        assert!(taken.iter().all(|record| record.size() < LONGEST_RECORD + 512), "{:?}", taken[0]);
        assert!(taken[0].message.ends_with("ö …"));
    }

    #[test]
    fn tokens_are_taken_out_before_a_text_is_cut() {
        let logs = NodeLogs::new("n");
        let message = format!("{}dtok1_node_{}", "x".repeat(LONGEST_RECORD - 20), "s".repeat(91));
        logs.push(NewRecord { fields: "token=dtok1_admin_abc".to_owned(), ..record(message) });
        logs.push(NewRecord { fields: "token=dtok1_admin_abc".to_owned(), ..record("m") });
        let taken = taken(&logs);
        assert!(taken[0].message.ends_with("x[token]"));
        assert_eq!(taken[1].fields, "token=[token]");
    }

    #[tokio::test]
    async fn the_sender_waits_for_records() {
        let logs = NodeLogs::new("n");
        assert!(futures::FutureExt::now_or_never(logs.wait()).is_none());
        tokio::join!(logs.wait(), async { logs.push(record("a")) });
        assert_eq!(taken(&logs).len(), 1);
        assert!(futures::FutureExt::now_or_never(logs.wait()).is_none());
    }
}
