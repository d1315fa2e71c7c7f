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
use tokio::time::Instant;

use super::{
    call_streams::CallStreams,
    offers::{Offers, Owed},
    peer::{FETCHED, Piece, StreamKey, StreamPeer, StreamToSend},
    pipe::ItemPipe,
};
use crate::wire::{frame::kind::Control, incoming_memory::IncomingMemory, payload::Payload, send_permit::SendPermit};

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
    /// Bytes of arguments that were fetched from the peer and have not come.
    owed: AtomicU64,
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
    /// Arguments that the peer fetches, by call.
    offers: Offers,
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
    /// If these are arguments that are fetched.
    fetch: Option<Owed>,
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

    /// A stream has ended of which the peer may not know yet.
    fn note_crossing(&mut self) {
        self.crossing = (self.crossing + MOST_CROSSING).min(MOST_CROSSING * MOST_UNENDED as u64);
    }
}

impl Incoming {
    fn new(pipe: &Arc<ItemPipe>, has_end: bool, is_granted: bool) -> Self {
        Self { pipe: Arc::clone(pipe), has_end, is_over: false, is_granted, fetch: None }
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
            let incoming = Incoming::new(pipe, false, true);
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
            let incoming = Incoming::new(pipe, true, false);
            table.incoming.insert(key, incoming);
        }
        self.count(table);
        if let Some(pipe) = &streams.items {
            pipe.attach_consumer(Arc::clone(peer), key);
        }
    }

    /// The arguments of a call stay here until the peer fetches them: as often as it wants, until the call has ended. The call
    /// is sent with the last byte that is fetched first, and `permit` is asked before; `None` if it was sent on an earlier
    /// connection.
    pub(crate) fn offer(&self, call: u64, arguments: Payload, permit: Option<Arc<dyn SendPermit>>) {
        let mut table = self.lock();
        if !table.is_closed {
            table.offers.add(call, arguments, permit);
        }
        self.count(table);
    }

    /// The call has ended, and its arguments are fetched no more.
    pub(crate) fn withdraw_offer(&self, call: u64) {
        let mut table = self.lock();
        // A stream that brings them stays until the peer has stopped it, and is told that it has ended.
        table.offers.remove(call);
        self.count(table);
    }

    /// Fetches the arguments of a call into a stream. Nothing comes before it is granted there.
    pub(crate) fn fetch(&self, peer: &Arc<dyn StreamPeer>, key: StreamKey, pipe: &Arc<ItemPipe>, owed: Owed) {
        let mut table = self.lock();
        if table.is_closed {
            drop(table);
            return pipe.break_off();
        }
        pipe.attach_producer(Arc::clone(peer), key);
        table.incoming.insert(key, Incoming { fetch: Some(owed), ..Incoming::new(pipe, true, false) });
        self.count(table);
    }

    /// Whether the peer owes bytes of arguments that were fetched.
    pub(crate) fn owes(&self) -> bool {
        self.owed.load(Ordering::Relaxed) > 0
    }

    /// Whether the peer has been slow with arguments for longer than this, while others waited for what the transfer holds.
    pub(crate) fn holds_others_up(&self, longer_than: impl Fn(Instant) -> bool) -> bool {
        let table = self.owes().then(|| self.lock());
        let fetches =
            table.iter().flat_map(|table| table.incoming.values()).filter_map(|incoming| incoming.fetch.as_ref());
        fetches.filter_map(Owed::holds_others_up_since).any(longer_than)
    }

    fn on_owed(&self, before: u64, now: u64) {
        self.owed.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
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
                let owed = incoming.fetch.take().map_or(0, |fetch| fetch.bytes());
                self.on_owed(owed, 0);
                table.unended += 1;
            }
        }
        if outgoing.is_some() || detached.is_some() {
            table.note_crossing();
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
        let incoming = std::mem::take(&mut table.incoming);
        table.outgoing.clear();
        table.offers.clear();
        let ready = std::mem::take(&mut table.ready);
        self.count(table);
        // Outside of the lock: the last stream gives back what it was lent.
        drop(ready);
        // The rest of arguments does not come, whatever becomes of their calls.
        incoming.values().filter(|incoming| incoming.fetch.is_some()).for_each(|incoming| incoming.pipe.break_off());
    }

    /// The connection has ended, and all its streams with it.
    pub(crate) fn break_off(&self) {
        let mut table = self.lock();
        table.is_closed = true;
        let incoming: Vec<_> = table.incoming.drain().map(|(_, incoming)| incoming.pipe).collect();
        let outgoing: Vec<_> = table.outgoing.drain().map(|(_, pipe)| pipe).collect();
        table.offers.clear();
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
        let mut table = self.lock();
        let Some(incoming) = table.incoming.get_mut(&key) else {
            return Err(format!("it sent items of call {}, which has no stream, or none any more", key.0));
        };
        let pipe = Arc::clone(&incoming.pipe);
        if let Some(fetch) = &mut incoming.fetch {
            let owed = fetch.bytes();
            fetch.on_came(bytes.len());
            self.on_owed(owed, fetch.bytes());
        }
        drop(table);
        pipe.on_bytes(key, bytes)
    }

    /// A control frame about a stream has come.
    ///
    /// # Errors
    ///
    /// As [`on_items`](Self::on_items).
    pub(crate) fn on_control(&self, peer: &Arc<impl StreamPeer + 'static>, control: &Control) -> Result<Known, String> {
        match *control {
            Control::GrantItems { call, attempt, upto } => {
                if attempt >= FETCHED {
                    self.on_fetched(peer, (call, attempt));
                }
                self.on_granted((call, attempt), upto)
            }
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
        if let Some(fetch) = incoming.fetch {
            self.on_owed(fetch.bytes(), 0);
            if !fetch.is_complete(length, is_whole) {
                return Err(format!("it ended the arguments of call {} before their end", key.0));
            }
        }
        incoming.pipe.on_end(key, length, is_whole)?;
        Ok(Known::Yes)
    }

    /// The peer fetches the arguments of a call: begins to send them, unless they are being sent under this key.
    fn on_fetched(&self, peer: &Arc<impl StreamPeer + 'static>, key: StreamKey) {
        let mut table = self.lock();
        let Some(arguments) = table.offers.begin(key) else { return };
        let pipe = ItemPipe::whole(arguments);
        table.outgoing.insert(key, Arc::clone(&pipe));
        self.count(table);
        pipe.attach_consumer(Arc::clone(peer) as _, key);
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

    /// This end grants credit for a stream of its: `tell` tells the peer, unless the stream has ended. Under the lock, because the peer
    /// must not be told behind the end.
    pub(crate) fn grant(&self, key: StreamKey, upto: u64, tell: impl FnOnce()) {
        let mut table = self.lock();
        let Some(incoming) = table.incoming.get_mut(&key).filter(|incoming| !incoming.is_over) else { return };
        incoming.is_granted = true;
        if let Some(fetch) = &mut incoming.fetch {
            let owed = fetch.bytes();
            fetch.on_granted(upto);
            self.on_owed(owed, fetch.bytes());
        }
        tell();
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
            if let Some(mut piece) = Arc::clone(&stream).take_piece(key, most, parts) {
                if key.1 >= FETCHED {
                    if piece.length > 0 && !self.lock().offers.may_send(&mut piece) {
                        stream.give_back(&piece, parts);
                        continue;
                    }
                    if piece.end.is_some() {
                        let mut table = self.lock();
                        table.outgoing.remove(&key);
                        table.note_crossing();
                        self.count(table);
                    }
                }
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

    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    fn count(&self, table: MutexGuard<'_, Streams>) {
        self.was_used.store(true, Ordering::Relaxed);
        let count = table.incoming.len() + table.outgoing.len() + table.offers.len() + table.ready.len();
        self.count.store(count, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
