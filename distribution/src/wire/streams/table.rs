//! The streams of one connection, by call and attempt.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::{
    call_streams::CallStreams,
    peer::{Piece, StreamKey, StreamPeer, StreamToSend},
    pipe::ItemPipe,
};
use crate::wire::{frame::kind::Control, incoming_memory::IncomingMemory};

/// How many bytes more than [`FIRST_CREDIT`](super::FIRST_CREDIT) the windows of a connection may have, all together.
const MOST_LENT: u64 = 128 * 1024 * 1024;

/// The most frames that cross the end of one stream: each of the grants of a window, and its end.
const MOST_CROSSING: u64 = 16;

/// The most streams of arguments whose calls have ended and whose end has not come.
const MOST_UNENDED: usize = 64 * 1024;

/// The streams of one connection.
#[derive(Debug, Default)]
pub(crate) struct StreamTable {
    streams: Mutex<Streams>,
    /// How many there are: nearly all connections have none.
    count: AtomicUsize,
    /// What windows have beyond their first size.
    lent: AtomicU64,
    /// Bytes of other connections that wait for this one.
    waiting: AtomicUsize,
    was_used: AtomicBool,
    /// For large items. Of this connection alone, so that a peer that does not go on with one holds up nobody else.
    item_memory: OnceLock<Arc<IncomingMemory>>,
}

#[derive(Debug, Default)]
struct Streams {
    /// Of which bytes are read here.
    incoming: FxHashMap<StreamKey, Incoming>,
    /// Of which bytes are written here.
    outgoing: FxHashMap<StreamKey, Arc<ItemPipe>>,
    /// Those of which something can be written, the next one first.
    ready: VecDeque<(StreamKey, Arc<dyn StreamToSend>)>,
    /// Streams of arguments whose calls have ended and whose end has not come.
    unended: usize,
    /// How many frames about streams that nobody knows may still come: they crossed the ends of their streams.
    crossing: u64,
    /// Whether the connection has ended.
    is_closed: bool,
}

#[derive(Debug)]
struct Incoming {
    pipe: Arc<ItemPipe>,
    /// Whether the producer sends a frame at the end.
    has_end: bool,
    /// Whether the call has ended.
    is_over: bool,
    is_granted: bool,
}

/// Whether a frame is about a stream that is known, or has crossed the end of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Yes,
    No,
}

impl Streams {
    /// A frame about a stream that nobody knows has come.
    fn on_unknown(&mut self) -> Known {
        match self.crossing.checked_sub(1) {
            Some(left) => {
                self.crossing = left;
                Known::Yes
            }
            None => Known::No,
        }
    }
}

impl StreamTable {
    /// This end has made the call, or passes it on: it gets the items, and sends the argument.
    pub(crate) fn open_at_caller(&self, peer: &Arc<dyn StreamPeer>, key: StreamKey, streams: &CallStreams) {
        let mut table = self.lock();
        if table.is_closed {
            return;
        }
        if let Some(pipe) = &streams.items {
            pipe.attach_producer(Arc::clone(peer), key);
            let incoming = Incoming { pipe: Arc::clone(pipe), has_end: false, is_over: false, is_granted: true };
            table.incoming.insert(key, incoming);
        }
        if let Some(pipe) = &streams.argument {
            table.outgoing.insert(key, Arc::clone(pipe));
        }
        self.count(table);
        if let Some(pipe) = &streams.argument {
            pipe.attach_consumer(Arc::clone(peer), key);
        }
    }

    /// This end runs the call, or passes it on: it sends the items, and gets the argument.
    pub(crate) fn open_at_handler(&self, peer: &Arc<dyn StreamPeer>, key: StreamKey, streams: &CallStreams) {
        let mut table = self.lock();
        if table.is_closed {
            drop(table);
            return streams.break_off();
        }
        if let Some(pipe) = &streams.items {
            table.outgoing.insert(key, Arc::clone(pipe));
        }
        if let Some(pipe) = &streams.argument {
            pipe.attach_producer(Arc::clone(peer), key);
            let incoming = Incoming { pipe: Arc::clone(pipe), has_end: true, is_over: false, is_granted: false };
            table.incoming.insert(key, incoming);
        }
        self.count(table);
        if let Some(pipe) = &streams.items {
            pipe.attach_consumer(Arc::clone(peer), key);
        }
    }

    /// The call has ended. Returns the frame by which the peer must be told of the end of its argument.
    pub(crate) fn close(&self, key: StreamKey) -> Option<Control> {
        if self.is_empty() {
            return None;
        }
        let mut table = self.lock();
        let outgoing = table.outgoing.remove(&key);
        let (mut stopped, mut detached) = (None, None);
        if let Some(incoming) = table.incoming.get_mut(&key) {
            if !incoming.has_end || !incoming.is_granted {
                detached = table.incoming.remove(&key);
            } else if !std::mem::replace(&mut incoming.is_over, true) {
                // The producer knows it, and says when it has stopped.
                stopped = Some(Arc::clone(&incoming.pipe));
                table.unended += 1;
            }
        }
        if outgoing.is_some() || detached.is_some() {
            table.crossing = (table.crossing + MOST_CROSSING).min(MOST_CROSSING * MOST_UNENDED as u64);
        }
        self.count(table);
        if let Some(pipe) = stopped {
            pipe.stop();
        }
        if let Some(Incoming { pipe, .. }) = detached {
            pipe.detach_producer(key);
        }
        let (call, attempt) = key;
        let (length, is_whole) = outgoing?.detach_consumer(key)?;
        Some(Control::EndItems { call, attempt, length, is_whole })
    }

    /// Whether the peer does not end its streams when their calls have ended.
    pub(crate) fn has_too_many_unended(&self) -> bool {
        !self.is_empty() && self.lock().unended > MOST_UNENDED
    }

    /// The connection has ended. What becomes of its streams follows from what becomes of their calls.
    pub(crate) fn forget(&self) {
        let mut table = self.lock();
        table.is_closed = true;
        table.incoming.clear();
        table.outgoing.clear();
        let ready = std::mem::take(&mut table.ready);
        self.count(table);
        // Outside of the lock: the last stream gives back what it was lent.
        drop(ready);
    }

    /// The connection has ended, and all its streams with it.
    pub(crate) fn break_off(&self) {
        let mut table = self.lock();
        table.is_closed = true;
        let incoming: Vec<_> = table.incoming.drain().map(|(_, incoming)| incoming.pipe).collect();
        let outgoing: Vec<_> = table.outgoing.drain().map(|(_, pipe)| pipe).collect();
        table.ready.clear();
        self.count(table);
        for pipe in incoming.iter().chain(&outgoing) {
            pipe.break_off();
        }
    }

    /// Bytes of a stream were read.
    ///
    /// # Errors
    ///
    /// What a correct peer never sends, as the reason why the connection is closed.
    pub(crate) fn on_items(&self, key: StreamKey, bytes: Bytes) -> Result<(), String> {
        if bytes.is_empty() {
            return Err("it sent a frame of items without bytes".to_owned());
        }
        let pipe = self.lock().incoming.get(&key).map(|incoming| Arc::clone(&incoming.pipe));
        let Some(pipe) = pipe else {
            return Err(format!("it sent items of call {}, which has no stream, or none any more", key.0));
        };
        pipe.on_bytes(key, bytes)
    }

    /// A control frame about a stream has come.
    ///
    /// # Errors
    ///
    /// As [`on_items`](Self::on_items).
    pub(crate) fn on_control(&self, control: &Control) -> Result<Known, String> {
        match *control {
            Control::GrantItems { call, attempt, upto } => self.on_granted((call, attempt), upto),
            Control::EndItems { call, attempt, length, is_whole } => self.on_end((call, attempt), length, is_whole),
            Control::StopItems { call, attempt } => Ok(self.on_stopped((call, attempt))),
            _ => Ok(Known::No),
        }
    }

    /// The producer has come to the end of a stream.
    ///
    /// # Errors
    ///
    /// As [`on_items`](Self::on_items).
    pub(crate) fn on_end(&self, key: StreamKey, length: u64, is_whole: bool) -> Result<Known, String> {
        let mut table = self.lock();
        if !table.incoming.get(&key).is_some_and(|incoming| incoming.has_end) {
            return Ok(table.on_unknown());
        }
        let Some(incoming) = table.incoming.remove(&key) else { return Ok(Known::No) };
        if incoming.is_over {
            table.unended -= 1;
        }
        self.count(table);
        incoming.pipe.on_end(key, length, is_whole)?;
        Ok(Known::Yes)
    }

    /// The consumer grants more of a stream.
    ///
    /// # Errors
    ///
    /// As [`on_items`](Self::on_items).
    pub(crate) fn on_granted(&self, key: StreamKey, upto: u64) -> Result<Known, String> {
        let mut table = self.lock();
        let Some(pipe) = table.outgoing.get(&key).map(Arc::clone) else { return Ok(table.on_unknown()) };
        drop(table);
        pipe.on_granted(key, upto)?;
        Ok(Known::Yes)
    }

    /// The consumer wants no more of a stream.
    pub(crate) fn on_stopped(&self, key: StreamKey) -> Known {
        let mut table = self.lock();
        let Some(pipe) = table.outgoing.get(&key).map(Arc::clone) else { return table.on_unknown() };
        drop(table);
        pipe.on_stopped(key);
        Known::Yes
    }

    /// This end grants credit for a stream of its.
    pub(crate) fn note_granted(&self, key: StreamKey) {
        if let Some(incoming) = self.lock().incoming.get_mut(&key) {
            incoming.is_granted = true;
        }
    }

    /// Something can be written of this stream.
    pub(crate) fn push_ready(&self, key: StreamKey, stream: Arc<dyn StreamToSend>) {
        let mut table = self.lock();
        if !table.is_closed {
            table.ready.push_back((key, stream));
        }
    }

    /// Whether something can be written of any stream.
    pub(crate) fn has_ready(&self) -> bool {
        !self.is_empty() && !self.lock().ready.is_empty()
    }

    /// The next bytes that are to be written, of the stream whose turn it is. At most `most` bytes, which are appended to `parts`.
    pub(crate) fn take_piece(&self, most: usize, parts: &mut VecDeque<Bytes>) -> Option<Piece> {
        if self.is_empty() {
            return None;
        }
        loop {
            let (key, stream) = self.lock().ready.pop_front()?;
            if let Some(piece) = Arc::clone(&stream).take_piece(key, most, parts) {
                if piece.has_more {
                    self.push_ready(key, stream);
                }
                return Some(piece);
            }
        }
    }

    /// Lends a window more than its first size.
    pub(crate) fn lend(&self, bytes: u64) -> bool {
        self.lent
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |lent| {
                Some(lent + bytes).filter(|lent| *lent <= MOST_LENT)
            })
            .is_ok()
    }

    /// The memory for large items, of which the largest may have this many bytes.
    pub(crate) fn item_memory(&self, largest: usize) -> Arc<IncomingMemory> {
        Arc::clone(self.item_memory.get_or_init(|| IncomingMemory::of_connection(largest)))
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        self.lent.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes of other connections that wait for this one.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn on_waiting(&self, more: i64) {
        self.waiting.fetch_add(more as usize, Ordering::Relaxed);
    }

    /// Whether the connection has had any stream.
    pub(crate) fn was_used(&self) -> bool {
        self.was_used.load(Ordering::Relaxed)
    }

    fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    fn count(&self, table: MutexGuard<'_, Streams>) {
        self.was_used.store(true, Ordering::Relaxed);
        let count = table.incoming.len() + table.outgoing.len() + table.ready.len();
        self.count.store(count, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
