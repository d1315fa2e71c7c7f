//! The state of a connection that its owner and its transport share: control frames to be sent, and whether the peer keeps
//! its timeouts.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    task::Waker,
    time::Duration,
};

use futures::task::AtomicWaker;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{
    frame::{kind::Control, layout::LARGEST_CHUNK},
    incoming_memory::{IncomingMemory, Reserved},
    spare_frame::SpareFrame,
    streams::{CallStreams, StreamKey, StreamPeer, StreamTable, StreamToSend},
};
#[cfg(feature = "simulation")]
use crate::config::LONGEST_TIME;
use crate::config::{PeerTimeouts, to_micros};

/// A peer tells after each 128 KiB of chunks that it has read them, and accepts a large message while it has no other to read. It has
/// this many times its [`write_timeout`](PeerTimeouts::write_timeout) for either: the connection's buffers may hold much that
/// comes before.
const TELL_TIMEOUTS: u32 = 12;

/// How long a connection that is to be closed waits for bytes to be written, and how long in all while some are.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);
const LONGEST_GOODBYE: Duration = Duration::from_secs(30);

/// A frame that has begun must bring this many bytes a second, or its rest, within each
/// [`read_timeout`](PeerTimeouts::read_timeout). A sixth of a slow line of 100 KiB/s, so that several connections may share
/// one, and it may fail for a while.
const SLOWEST_RATE: u64 = 16 * 1024;

/// While other frames wait for the memory that a frame has reserved, the time for its progress is divided by this.
const CONTENDED_DIVISOR: u32 = 3;

/// And it may keep the memory for this many times [`read_timeout`](PeerTimeouts::read_timeout) in all.
const LONGEST_RESERVATION: u32 = 4;

/// With more than this waiting to be written for a caller, nothing more is read of it: bytes of responses, and control
/// frames.
const MOST_RESPONSES: usize = 64 * 1024 * 1024;
const MOST_CONTROLS: usize = 16 * 1024;

/// What a response that waits takes beside its payload.
const RESPONSE_OVERHEAD: usize = 1024;

/// The state of a connection that its owner and its transport share.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    opened: Instant,
    peer_timeouts: PeerTimeouts,
    /// Where large messages reserve their memory; `None` if they need no reservation.
    incoming_memory: Option<Arc<IncomingMemory>>,
    /// When the last byte was read.
    heard: AtomicTime,
    /// Since when what the peer has begun has made too little progress. Never while it has begun nothing, or waits for memory.
    slow_since: AtomicTime,
    /// Since when a message that is being read has had memory reserved: the one that has had it longest.
    reserved_since: AtomicTime,
    /// How many messages have memory reserved.
    reserved: AtomicU32,
    /// Since when nothing can be written because the peer has not accepted a large message.
    unaccepted_since: AtomicTime,
    /// Since when the peer has read nothing of the chunks that it was sent, and others wait. Never while none do.
    unconsumed_since: AtomicTime,
    /// Since when large messages have waited for others that have begun. Never while none waits.
    contended_since: AtomicTime,
    /// Since when nothing is read, because the peer has to read first.
    waits_since: AtomicTime,
    /// For how long in all nothing was read, in microseconds.
    waited: AtomicU64,
    /// Since when the peer has read nothing of what is written to it. Never while nothing is.
    unread_since: AtomicTime,
    written: AtomicU64,
    outbox: Mutex<Vec<Control>>,
    spare: SpareFrame,
    /// The memory that responses take which wait for the write buffer.
    responses: AtomicUsize,
    /// The same, and of each no more than a chunk: others need not wait for the rest of it.
    congestion: AtomicUsize,
    /// Responses that were read, and their bytes.
    arrived: AtomicU64,
    arrived_bytes: AtomicU64,
    /// Notified when the peer has closed the connection; tarpc's server does not report that while it has requests.
    peer_closed: Notify,
    writer: AtomicWaker,
    streams: StreamTable,
}

impl StreamPeer for ConnectionState {
    fn grant(&self, key: StreamKey, upto: u64) {
        let (call, attempt) = key;
        self.streams.grant(key, upto, || self.send(Control::GrantItems { call, attempt, upto }));
    }

    fn tell_stopped(&self, (call, attempt): StreamKey) {
        self.send(Control::StopItems { call, attempt });
    }

    fn on_waiting(&self, more: i64) {
        self.streams.on_waiting(more);
    }

    fn on_ready(&self, key: StreamKey, stream: Arc<dyn StreamToSend>) {
        self.streams.push_ready(key, stream);
        self.writer.wake();
    }

    fn lend_window(&self, bytes: u64) -> bool {
        self.streams.lend(bytes)
    }

    fn contended_since(&self) -> Option<Instant> {
        self.contended_since.after(self.opened)
    }

    fn return_window(&self, bytes: u64) {
        self.streams.give_back(bytes);
    }

    fn item_memory(&self, largest: usize) -> Arc<IncomingMemory> {
        self.streams.item_memory(largest)
    }
}

/// How many responses, and bytes of them, have come on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) responses: u64,
    pub(crate) bytes: u64,
}

/// A time that several threads may set and read: microseconds since the connection was opened; 0 is never.
#[derive(Debug, Default)]
struct AtomicTime(AtomicU64);

impl AtomicTime {
    fn set(&self, since_opened: Duration) {
        self.0.store(to_micros(since_opened).max(1), Ordering::Relaxed);
    }

    fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn after(&self, opened: Instant) -> Option<Instant> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(opened + Duration::from_micros(micros)),
        }
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }
}

impl ConnectionState {
    pub(crate) fn new(peer_timeouts: PeerTimeouts, incoming_memory: Option<Arc<IncomingMemory>>) -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            peer_timeouts,
            incoming_memory,
            heard: AtomicTime::default(),
            slow_since: AtomicTime::default(),
            reserved_since: AtomicTime::default(),
            reserved: AtomicU32::new(0),
            unaccepted_since: AtomicTime::default(),
            unconsumed_since: AtomicTime::default(),
            contended_since: AtomicTime::default(),
            waits_since: AtomicTime::default(),
            waited: AtomicU64::new(0),
            unread_since: AtomicTime::default(),
            written: AtomicU64::new(0),
            outbox: Mutex::default(),
            spare: SpareFrame::default(),
            responses: AtomicUsize::new(0),
            congestion: AtomicUsize::new(0),
            arrived: AtomicU64::new(0),
            arrived_bytes: AtomicU64::new(0),
            peer_closed: Notify::new(),
            writer: AtomicWaker::new(),
            streams: StreamTable::default(),
        })
    }

    /// Sends a control frame with the next write.
    pub(crate) fn send(&self, control: Control) {
        let mut outbox = self.outbox();
        // A heartbeat replaces one that waits. So a peer that does not read for a while costs no memory and is not sent many at
        // once. What is in flight bounds all other frames: one of which that is not true must replace one that waits.
        let is_heartbeat = |control: &Control| matches!(control, Control::Heartbeat { .. } | Control::MasterHeartbeat);
        let replaces = |waiting: &Control| match (&control, waiting) {
            (Control::Run { report }, Control::Run { report: waiting }) => report.run == waiting.run,
            (Control::Vitals { .. }, Control::Vitals { .. })
            | (Control::TakeProfile { .. }, Control::TakeProfile { .. }) => true,
            _ => is_heartbeat(waiting) && is_heartbeat(&control),
        };
        match outbox.iter_mut().find(|waiting| replaces(waiting)) {
            Some(waiting) => *waiting = control,
            None => outbox.push(control),
        }
        drop(outbox);
        self.writer.wake();
    }

    /// Sends a control frame when little else is to be written. Waits for room, and returns it if the connection ends.
    pub(crate) async fn send_spare(&self, control: Control) -> Result<(), Control> {
        self.spare.put(control).await.map(|()| self.writer.wake())
    }

    pub(crate) fn spare(&self) -> &SpareFrame {
        &self.spare
    }

    /// The streams that go over this connection.
    pub(crate) fn streams(&self) -> &StreamTable {
        &self.streams
    }

    /// This end has made a call that has streams, or passes it on.
    pub(crate) fn open_streams_of_call(self: &Arc<Self>, key: StreamKey, streams: &CallStreams) {
        let peer: Arc<dyn StreamPeer> = Arc::clone(self) as _;
        self.streams.open_at_caller(&peer, key, streams);
    }

    /// This end runs a call that has streams, or passes it on.
    pub(crate) fn open_streams_of_handler(self: &Arc<Self>, key: StreamKey, streams: &CallStreams) {
        let peer: Arc<dyn StreamPeer> = Arc::clone(self) as _;
        self.streams.open_at_handler(&peer, key, streams);
    }

    /// A call has ended, or this attempt at it, and with it its streams.
    pub(crate) fn close_streams(&self, key: StreamKey) {
        if let Some(end) = self.streams.close(key) {
            self.send(end);
        }
    }

    /// A response was read.
    pub(super) fn on_response_arrived(&self, payload: usize) {
        self.arrived.fetch_add(1, Ordering::Relaxed);
        self.arrived_bytes.fetch_add(payload as u64, Ordering::Relaxed);
    }

    /// What was read so far. Exact for the task that reads.
    pub(crate) fn arrived(&self) -> Arrived {
        let bytes = self.arrived_bytes.load(Ordering::Relaxed);
        Arrived { responses: self.arrived.load(Ordering::Relaxed), bytes }
    }

    /// A response waits for the write buffer.
    pub(crate) fn on_response_waits(&self, payload: usize) {
        self.responses.fetch_add(payload.saturating_add(RESPONSE_OVERHEAD), Ordering::Relaxed);
        self.congestion.fetch_add(payload.min(LARGEST_CHUNK) + RESPONSE_OVERHEAD, Ordering::Relaxed);
    }

    /// The write buffer has taken a response that waited.
    pub(super) fn on_response_taken(&self, payload: usize) {
        self.responses.fetch_sub(payload.saturating_add(RESPONSE_OVERHEAD), Ordering::Relaxed);
        self.congestion.fetch_sub(payload.min(LARGEST_CHUNK) + RESPONSE_OVERHEAD, Ordering::Relaxed);
    }

    /// The memory that responses take which wait for the write buffer, and items of streams.
    pub(crate) fn waiting_responses(&self) -> usize {
        self.responses.load(Ordering::Relaxed) + self.streams.waiting()
    }

    /// Whether more waits for the peer than may. Then nothing more is read of it, because each request brings a response,
    /// and some control frames bring others.
    pub(super) fn is_congested(&self) -> bool {
        self.congestion.load(Ordering::Relaxed) + self.streams.waiting() > MOST_RESPONSES
            || self.outbox().len() > MOST_CONTROLS
    }

    /// Whether far more control frames wait for the peer than one that reads leaves.
    pub(crate) fn has_too_many_controls(&self) -> bool {
        self.outbox().len() > 4 * MOST_CONTROLS
    }

    /// Waits until the peer has closed the connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub(crate) async fn peer_closed(&self) {
        self.peer_closed.notified().await;
    }

    pub(super) fn on_peer_closed(&self) {
        self.peer_closed.notify_one();
    }

    /// Wakes the task that writes.
    pub(crate) fn wake_writer(&self) {
        self.writer.wake();
    }

    /// Has `waker` woken when a control frame is to be sent.
    pub(super) fn register_writer(&self, waker: &Waker) {
        self.writer.register(waker);
    }

    pub(crate) fn take_outbox(&self) -> Vec<Control> {
        std::mem::take(&mut *self.outbox())
    }

    pub(super) fn incoming_memory(&self) -> Option<&Arc<IncomingMemory>> {
        self.incoming_memory.as_ref()
    }

    fn outbox(&self) -> std::sync::MutexGuard<'_, Vec<Control>> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The protocol violation of a peer that does not go on with a frame that it has begun, or does not read. The time for
    /// either is counted from `since` at the earliest.
    pub(crate) fn violation(&self, since: Instant) -> Option<&'static str> {
        let PeerTimeouts { read_timeout, write_timeout } = self.peer_timeouts;
        let now = Instant::now();
        let past = |from: Instant, time: Duration| now.saturating_duration_since(from.max(since)) >= time;
        let time = |time: &AtomicTime| time.after(self.opened);
        let unconsumed = time(&self.unconsumed_since);
        if time(&self.unread_since).is_some_and(|from| past(from, write_timeout))
            || unconsumed.is_some_and(|from| past(from, write_timeout.saturating_mul(TELL_TIMEOUTS)))
        {
            return Some("it does not read what it is sent");
        }
        if time(&self.unaccepted_since).is_some_and(|from| past(from, write_timeout.saturating_mul(TELL_TIMEOUTS))) {
            return Some("it does not accept a large message");
        }
        if self.streams.has_too_many_unended() {
            return Some("it does not end the streams of arguments whose calls have ended");
        }
        if self.streams.holds_others_up(|since| past(since, read_timeout)) {
            return Some(
                "it has begun to send the arguments of a call and does not send 64 KiB of them a second, while others wait for their turn",
            );
        }
        let slow = time(&self.slow_since)?;
        if past(slow, read_timeout) {
            return Some("it has begun a message and neither finishes it nor sends 16 KiB of it a second");
        }
        let reserved = time(&self.reserved_since)?;
        let contended = self.incoming_memory.as_ref()?.contended_since()?;
        // They share the line.
        let messages = self.reserved.load(Ordering::Relaxed).max(1);
        let longest = read_timeout.saturating_mul(LONGEST_RESERVATION).saturating_mul(messages);
        if past(slow.max(contended), read_timeout / CONTENDED_DIVISOR) {
            Some(
                "it has begun a large message and neither finishes it nor sends 48 KiB of it a second, while others wait for the memory",
            )
        } else if past(reserved.max(contended), longest) {
            Some("it has begun a large message and does not finish it, and others have waited too long for the memory")
        } else {
            None
        }
    }

    /// The peer has read something, or has nothing to read.
    pub(super) fn on_write_progress(&self, written: usize) {
        self.written.fetch_add(written as u64, Ordering::Relaxed);
        self.unread_since.clear();
    }

    /// Bytes that were written since the connection began.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Waits for something that is to be written before the connection is closed, as long as the peer reads, and says so. `None` if
    /// it does not, or is too slow.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops `done`.
    pub(crate) async fn while_it_reads<T>(&self, done: impl Future<Output = T>) -> Option<T> {
        let mut done = pin!(done);
        let longest = Instant::now() + LONGEST_GOODBYE;
        loop {
            let before = (self.written(), self.heard());
            if let Ok(done) = timeout(GOODBYE_TIMEOUT, &mut done).await {
                return Some(done);
            }
            if (self.written(), self.heard()) == before || Instant::now() >= longest {
                return None;
            }
        }
    }

    /// A write waits for the peer to read.
    pub(super) fn on_write_blocked(&self) {
        if !self.unread_since.is_set() {
            self.unread_since.set(self.opened.elapsed());
        }
    }

    /// Since when what the peer has begun has not brought [`least_progress`](Self::least_progress), and since when a message
    /// that is being read has had memory reserved.
    pub(super) fn set_slow_since(&self, slow: Option<Instant>, reserved: Option<Reserved>) {
        self.reserved.store(reserved.map_or(0, |reserved| reserved.messages), Ordering::Relaxed);
        let reserved = reserved.map(|reserved| reserved.since);
        for (time, since) in [(&self.slow_since, slow), (&self.reserved_since, reserved)] {
            match since {
                Some(since) => time.set(since.saturating_duration_since(self.opened)),
                None => time.clear(),
            }
        }
    }

    /// Notes whether chunks wait for the peer to read others. Until it has read some, the time goes on.
    pub(super) fn set_unconsumed(&self, is_so: bool) {
        self.note(&self.unconsumed_since, is_so);
    }

    /// Notes whether nothing can be written because the peer has not accepted a large message, for which it has memory of its own.
    pub(super) fn set_unaccepted(&self, is_so: bool) {
        self.note(&self.unaccepted_since, is_so);
    }

    /// Notes whether large messages wait for others that have begun.
    pub(super) fn set_contended(&self, is_so: bool) {
        self.note(&self.contended_since, is_so);
    }

    fn note(&self, since: &AtomicTime, is_so: bool) {
        if !is_so {
            since.clear();
        } else if !since.is_set() {
            since.set(self.opened.elapsed());
        }
    }

    /// How many bytes must come of what has begun before its time begins anew.
    pub(crate) fn least_progress(&self) -> u64 {
        let bytes = self.peer_timeouts.read_timeout.as_millis().saturating_mul(u128::from(SLOWEST_RATE)) / 1000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// Nothing is read, because the peer has to read first. Meanwhile no timeout for what the peer sends runs.
    pub(super) fn on_reading_paused(&self) {
        self.slow_since.clear();
        self.unconsumed_since.clear();
        if !self.waits_since.is_set() {
            self.waits_since.set(self.opened.elapsed());
        }
    }

    /// Something is read again.
    pub(super) fn on_reading_resumed(&self) {
        if let Some(since) = self.waits_since.after(self.opened) {
            self.waited.fetch_add(to_micros(since.elapsed()), Ordering::Relaxed);
            self.on_read();
            self.waits_since.clear();
        }
    }

    /// For how long in all nothing was read, because the peer had to read first. What it sent in that time is read at once
    /// afterwards.
    pub(crate) fn paused_for(&self) -> Duration {
        Duration::from_micros(self.waited.load(Ordering::Relaxed))
    }

    /// When the connection was opened.
    pub(crate) fn opened(&self) -> Instant {
        self.opened
    }

    /// When the last byte of the peer was read. Now, while this end does not read.
    pub(crate) fn heard(&self) -> Instant {
        match self.waits_since.is_set() {
            true => Instant::now(),
            false => self.heard.after(self.opened).unwrap_or(self.opened),
        }
    }

    /// For a simulated peer, from which nothing ever comes.
    #[cfg(feature = "simulation")]
    pub(crate) fn hear_forever(&self) {
        self.heard.set(LONGEST_TIME);
    }

    pub(super) fn on_read(&self) {
        self.heard.set(self.opened.elapsed());
    }
}

#[cfg(test)]
mod tests;
