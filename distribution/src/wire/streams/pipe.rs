//! The bytes of one stream between its producer and its consumer. Each of them is either in this process or behind a
//! connection.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};

use super::{FIRST_CREDIT, StreamKey, window::Window};
use crate::wire::incoming_memory::IncomingMemory;

/// Pieces of fewer bytes are copied together, so that small frames do not keep the memory that they were read into.
const COPIED_BELOW: usize = 4 * 1024;

/// The most bytes that wait here for a connection, whatever the consumer behind it has granted. What is more than
/// [`FIRST_CREDIT`] of it is lent by the connection.
const MOST_BUFFERED: u64 = 16 * 1024 * 1024;

/// The most credit that a consumer may have granted beyond what it was sent: more than the largest item and window.
const MOST_CREDIT: u64 = 8 * 1024 * 1024 * 1024;

/// A connection, as a stream that goes over it sees it.
pub(crate) trait StreamPeer: fmt::Debug + Send + Sync {
    /// Tells the producer behind the connection that it may send up to this byte.
    fn grant(&self, key: StreamKey, upto: u64);

    /// Tells the producer that nobody wants its items any more.
    fn tell_stopped(&self, key: StreamKey);

    /// There is something to be sent.
    fn on_ready(&self, pipe: Arc<ItemPipe>);

    /// Lends a window this many bytes more than each has. False if there are none.
    fn lend_window(&self, bytes: u64) -> bool;

    /// Gives back what was lent.
    fn return_window(&self, bytes: u64);

    /// The memory for large items that come over the connection, of which the largest may have this many bytes.
    fn item_memory(&self, largest: usize) -> Arc<IncomingMemory>;
}

/// One stream.
pub(crate) struct ItemPipe(Mutex<State>);

/// What a stream is to its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamRole {
    /// What the handler returns. It ends with the call.
    Items,
    /// The last argument. Its end needs a frame, and so does its handler's word that it wants no more.
    Argument,
}

struct State {
    role: StreamRole,
    /// Bytes that were put in and not taken out, in order.
    pieces: VecDeque<Bytes>,
    tail: BytesMut,
    /// Bytes since the stream began.
    put: u64,
    taken: u64,
    /// Up to which byte the consumer wants bytes.
    granted: u64,
    /// Up to which byte the producer may put bytes in. It knows.
    credit: u64,
    progress: Progress,
    producer: Option<Far>,
    /// Waits for credit, or until all is taken.
    waits: Option<Waker>,
    consumer: Consumer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Open,
    /// No more bytes come.
    Whole,
    /// The producer is gone, and this was not the end.
    Broken,
    /// The consumer is gone.
    Stopped,
}

/// An end that is behind a connection.
#[derive(Clone, Debug)]
struct Far {
    peer: Arc<dyn StreamPeer>,
    key: StreamKey,
}

enum Consumer {
    Here {
        waker: Option<Waker>,
        window: Window,
        lent: u64,
    },
    Far {
        to: Far,
        /// Whether the connection knows that there is something to be sent.
        is_ready: bool,
        /// Whether it was told the end.
        is_end_told: bool,
        /// How many bytes may wait here, and how many of them the connection has lent.
        most: u64,
        lent: u64,
    },
}

/// What a connection sends next of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) key: StreamKey,
    /// The number of bytes.
    pub(crate) length: usize,
    /// Whether the stream ends behind it: how long it is, and whether it is whole.
    pub(crate) end: Option<(u64, bool)>,
    /// Whether more can be sent at once.
    pub(crate) has_more: bool,
}

/// What a consumer in this process finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Bytes,
    /// That was the last one.
    End,
    /// The producer is gone, and this was not the end.
    Broken,
    /// The call is over, and nobody should read it any more.
    Stopped,
}

impl ItemPipe {
    /// Both ends are in this process until one is attached to a connection.
    pub(crate) fn new(role: StreamRole) -> Arc<Self> {
        let credit = match role {
            StreamRole::Items => FIRST_CREDIT,
            StreamRole::Argument => 0,
        };
        Arc::new(Self(Mutex::new(State {
            role,
            pieces: VecDeque::new(),
            tail: BytesMut::new(),
            put: 0,
            taken: 0,
            granted: credit,
            credit,
            progress: Progress::Open,
            producer: None,
            waits: None,
            consumer: Consumer::Here { waker: None, window: Window::new(credit), lent: 0 },
        })))
    }

    /// The bytes come from this connection from now on.
    pub(super) fn attach_producer(&self, peer: Arc<dyn StreamPeer>, key: StreamKey) {
        self.lock().producer = Some(Far { peer, key });
    }

    /// The bytes go to this connection from now on.
    pub(super) fn attach_consumer(self: &Arc<Self>, peer: Arc<dyn StreamPeer>, key: StreamKey) {
        let mut state = self.lock();
        if state.role == StreamRole::Argument {
            // What was granted for an earlier attempt, to which nothing was sent, is not valid here.
            state.granted = state.taken;
        }
        state.return_lent();
        let to = Far { peer, key };
        state.consumer = Consumer::Far { to, is_ready: false, is_end_told: false, most: FIRST_CREDIT, lent: 0 };
        self.tell_ready(state);
    }

    /// Bytes that were put in since the stream began.
    pub(crate) fn put(&self) -> u64 {
        self.lock().put
    }

    /// Bytes that were taken out since the stream began.
    pub(crate) fn taken(&self) -> u64 {
        self.lock().taken
    }

    /// The consumer is gone. What waits is dropped, and the producer is told.
    pub(crate) fn stop(self: &Arc<Self>) {
        let mut state = self.lock();
        if state.progress == Progress::Stopped {
            return;
        }
        let was_open = state.progress == Progress::Open;
        state.progress = Progress::Stopped;
        state.pieces.clear();
        state.tail = BytesMut::new();
        let waker = state.waits.take();
        let producer = state.producer.clone().filter(|_| was_open && state.role == StreamRole::Argument);
        self.tell_ready(state);
        if let Some(Far { peer, key }) = producer {
            peer.tell_stopped(key);
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The producer is gone, and has not come to the end. The consumer gets what is here.
    pub(crate) fn break_off(self: &Arc<Self>) {
        self.end(Progress::Broken);
    }

    /// The producer has come to the end.
    pub(crate) fn finish(self: &Arc<Self>) {
        self.end(Progress::Whole);
    }

    fn end(self: &Arc<Self>, progress: Progress) {
        let mut state = self.lock();
        if state.progress == Progress::Open {
            state.progress = progress;
            let waker = state.waits.take();
            self.tell_consumer(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Whether bytes may be put in: not if the consumer is gone or the pipe broken, and only with credit.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let mut state = self.lock();
        if state.progress != Progress::Open {
            return Poll::Ready(Err(Closed));
        }
        if state.put < state.credit {
            return Poll::Ready(Ok(()));
        }
        state.waits = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits until the connection has taken all bytes, or nobody wants them.
    pub(crate) fn poll_all_taken(&self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let mut state = self.lock();
        if matches!(state.progress, Progress::Stopped | Progress::Broken) {
            return Poll::Ready(Err(Closed));
        }
        if state.taken == state.put {
            return Poll::Ready(Ok(()));
        }
        state.waits = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits until the consumer is gone, or the pipe is broken.
    pub(crate) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<Closed> {
        let mut state = self.lock();
        if matches!(state.progress, Progress::Stopped | Progress::Broken) {
            return Poll::Ready(Closed);
        }
        if !state.waits.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waits = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Whether the producer has not come to the end, and the consumer has not gone.
    pub(crate) fn is_broken(&self) -> bool {
        self.lock().progress == Progress::Broken
    }

    /// Puts an item in, which `write` appends in parts. The producer has asked for room before; an item may go beyond it.
    pub(crate) fn put_item(self: &Arc<Self>, write: impl FnOnce(&mut Parts<'_>)) {
        let mut state = self.lock();
        if state.progress == Progress::Open {
            let before = state.put;
            write(&mut Parts(&mut state));
            let put = state.put;
            if put > before {
                state.on_put();
                self.tell_consumer(state);
            }
        }
    }

    /// Bytes have come from the connection.
    ///
    /// # Errors
    ///
    /// What a correct peer never sends, as the reason why the connection is closed.
    pub(super) fn on_bytes(self: &Arc<Self>, bytes: Bytes) -> Result<(), String> {
        let mut state = self.lock();
        if matches!(state.progress, Progress::Whole | Progress::Broken) {
            return Err("it sent items of a stream after its end".to_owned());
        }
        if state.put + bytes.len() as u64 > state.credit {
            return Err("it sent more of a stream than it was granted".to_owned());
        }
        if state.progress == Progress::Stopped {
            // It did not know.
            state.put += bytes.len() as u64;
            return Ok(());
        }
        Parts(&mut state).append(bytes);
        state.on_put();
        self.tell_consumer(state);
        Ok(())
    }

    /// The producer behind the connection has come to its end, or stops before it.
    ///
    /// # Errors
    ///
    /// As [`on_bytes`](Self::on_bytes).
    pub(super) fn on_end(self: &Arc<Self>, length: u64, is_whole: bool) -> Result<(), String> {
        let put = self.put();
        if length != put {
            return Err(format!("it ended a stream with {length} bytes, and had sent {put}"));
        }
        self.end(if is_whole { Progress::Whole } else { Progress::Broken });
        Ok(())
    }

    /// The consumer behind the connection grants credit up to this byte.
    ///
    /// # Errors
    ///
    /// As [`on_bytes`](Self::on_bytes).
    pub(super) fn on_granted(self: &Arc<Self>, upto: u64) -> Result<(), String> {
        let mut state = self.lock();
        if upto <= state.granted {
            return Err(format!("it granted a stream {upto} bytes, and had granted as many before"));
        }
        if upto > state.taken.saturating_add(MOST_CREDIT) {
            return Err(format!("it granted a stream {upto} bytes, far more than an item may have"));
        }
        state.granted = upto;
        self.pass_credit_on(state);
        Ok(())
    }

    /// The next bytes for the connection, with at most `most` bytes, which are appended to `parts`. `None` if there is nothing
    /// to be sent now.
    pub(super) fn take_piece(self: &Arc<Self>, most: usize, parts: &mut VecDeque<Bytes>) -> Option<Piece> {
        let mut state = self.lock();
        if !state.has_something() {
            if let Consumer::Far { is_ready, .. } = &mut state.consumer {
                *is_ready = false;
            }
            return None;
        }
        let length = usize::try_from(state.sendable()).unwrap_or(most).min(most);
        state.take(length, parts);
        let end = state.end_to_tell();
        let has_more = state.has_something() && end.is_none();
        let Consumer::Far { to, is_ready, is_end_told, .. } = &mut state.consumer else { return None };
        *is_ready = has_more;
        *is_end_told |= end.is_some();
        let piece = Piece { key: to.key, length, end, has_more };
        self.pass_credit_on(state);
        Some(piece)
    }

    /// The connection sends no more: the call has ended, or this attempt. Returns the end that it must still be told.
    pub(super) fn detach_consumer(self: &Arc<Self>, key: StreamKey) -> Option<(u64, bool)> {
        let mut state = self.lock();
        let (granted, taken) = (state.granted, state.taken);
        let Consumer::Far { to, is_end_told, .. } = &mut state.consumer else { return None };
        if to.key != key {
            return None;
        }
        let is_told = std::mem::replace(is_end_told, true);
        state.granted = taken;
        state.return_lent();
        (state.role == StreamRole::Argument && granted > 0 && !is_told).then_some((taken, false))
    }

    /// Takes all that is here, for a consumer in this process.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>, into: &mut VecDeque<Bytes>) -> Poll<Taken> {
        let mut state = self.lock();
        let there = usize::try_from(state.put - state.taken).unwrap_or(usize::MAX);
        if there > 0 && state.progress != Progress::Stopped {
            state.take(there, into);
            return Poll::Ready(Taken::Bytes);
        }
        match state.progress {
            Progress::Whole => Poll::Ready(Taken::End),
            Progress::Broken => Poll::Ready(Taken::Broken),
            Progress::Stopped => Poll::Ready(Taken::Stopped),
            Progress::Open => {
                if let Consumer::Here { waker, window, .. } = &mut state.consumer {
                    window.on_empty();
                    *waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    /// The consumer in this process has dealt with this many more bytes, and grants more.
    pub(crate) fn on_consumed(self: &Arc<Self>, bytes: u64) {
        let mut state = self.lock();
        let granted = state.granted;
        let peer = state.producer.as_ref().map(|far| Arc::clone(&far.peer));
        let Consumer::Here { window, lent, .. } = &mut state.consumer else { return };
        window.on_consumed(bytes);
        if let (Some(growth), Some(peer)) = (window.wanted_growth(), peer) {
            if peer.lend_window(growth) {
                *lent += growth;
                window.grow();
            }
        }
        if let Some(upto) = window.grant(granted) {
            state.granted = upto;
            self.pass_credit_on(state);
        }
    }

    /// The consumer in this process needs all bytes up to here, whatever its window: they are one item.
    pub(crate) fn require(self: &Arc<Self>, upto: u64) {
        let mut state = self.lock();
        if upto > state.granted {
            if let Consumer::Here { window, .. } = &mut state.consumer {
                window.require(upto);
            }
            state.granted = upto;
            self.pass_credit_on(state);
        }
    }

    /// The memory for large items; `None` if they are made in this process.
    pub(crate) fn item_memory(&self, largest: usize) -> Option<Arc<IncomingMemory>> {
        let peer = self.lock().producer.as_ref().map(|far| Arc::clone(&far.peer));
        peer.map(|peer| peer.item_memory(largest))
    }

    /// Gives the producer the credit that it may have now.
    fn pass_credit_on(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let (granted, taken) = (state.granted, state.taken);
        let (credit, step) = match &mut state.consumer {
            Consumer::Here { .. } => (granted, 1),
            Consumer::Far { to, most, lent, .. } => {
                let wanted = (granted - taken).min(MOST_BUFFERED);
                if wanted > *most && to.peer.lend_window(wanted - *most) {
                    *lent += wanted - *most;
                    *most = wanted;
                }
                (granted.min(taken + *most), *most / 4)
            }
        };
        let mut told = None;
        let is_all_taken = state.taken == state.put;
        let mut may_go_on = is_all_taken;
        // Not for each frame that was taken.
        if credit > state.credit && (credit == granted || credit >= state.credit + step) {
            state.credit = credit;
            may_go_on = true;
            told = state.producer.clone().filter(|_| state.progress == Progress::Open);
        }
        let waker = state.waits.take_if(|_| may_go_on);
        self.tell_ready(state);
        if let Some(Far { peer, key }) = told {
            peer.grant(key, credit);
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn tell_consumer(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if let Consumer::Here { waker, .. } = &mut state.consumer {
            let waker = waker.take();
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
            return;
        }
        self.tell_ready(state);
    }

    /// Tells the connection to the consumer if there is something to be sent.
    fn tell_ready(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let has_something = state.has_something();
        let Consumer::Far { to, is_ready, .. } = &mut state.consumer else { return };
        if has_something && !std::mem::replace(is_ready, true) {
            let peer = Arc::clone(&to.peer);
            drop(state);
            peer.on_ready(Arc::clone(self));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn on_put(&mut self) {
        if let Consumer::Here { window, .. } = &mut self.consumer {
            window.on_put(self.put);
        }
    }

    /// How many bytes the connection may send now.
    fn sendable(&self) -> u64 {
        match self.progress {
            Progress::Stopped => 0,
            _ => self.put.min(self.granted).saturating_sub(self.taken),
        }
    }

    fn end_to_tell(&self) -> Option<(u64, bool)> {
        let Consumer::Far { is_end_told: false, .. } = self.consumer else { return None };
        match self.progress {
            _ if self.role == StreamRole::Items => None,
            // Before the first credit the peer may not know the stream.
            _ if self.granted == 0 => None,
            Progress::Stopped => Some((self.taken, false)),
            Progress::Open => None,
            _ if self.taken < self.put => None,
            Progress::Whole => Some((self.taken, true)),
            Progress::Broken => Some((self.taken, false)),
        }
    }

    fn has_something(&self) -> bool {
        self.sendable() > 0 || self.end_to_tell().is_some()
    }

    fn take(&mut self, length: usize, into: &mut VecDeque<Bytes>) {
        let mut left = length;
        while left > 0 {
            if self.pieces.is_empty() {
                self.pieces.push_back(self.tail.split().freeze());
            }
            let Some(piece) = self.pieces.front_mut() else { break };
            let part = piece.split_to(piece.len().min(left));
            if piece.is_empty() {
                self.pieces.pop_front();
            }
            left -= part.len();
            into.push_back(part);
        }
        self.taken += length as u64;
    }
}

impl State {
    /// Gives back what a connection has lent.
    fn return_lent(&mut self) {
        match (&mut self.consumer, &self.producer) {
            (Consumer::Here { lent, .. }, Some(Far { peer, .. })) => peer.return_window(std::mem::take(lent)),
            (Consumer::Here { .. }, None) => {}
            (Consumer::Far { to, most, lent, .. }, _) => {
                *most = FIRST_CREDIT;
                to.peer.return_window(std::mem::take(lent));
            }
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.return_lent();
    }
}

/// The producer need not go on: nobody wants its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// Appends the parts of an item.
pub(crate) struct Parts<'a>(&'a mut State);

impl Parts<'_> {
    /// Copies these bytes.
    pub(crate) fn copy(&mut self, bytes: &[u8]) {
        self.0.put += bytes.len() as u64;
        self.0.tail.extend_from_slice(bytes);
    }

    /// Appends these bytes, in their own memory unless they are few.
    pub(crate) fn append(&mut self, bytes: Bytes) {
        if bytes.len() < COPIED_BELOW {
            return self.copy(&bytes);
        }
        self.0.put += bytes.len() as u64;
        if !self.0.tail.is_empty() {
            let tail = self.0.tail.split().freeze();
            self.0.pieces.push_back(tail);
        }
        self.0.pieces.push_back(bytes);
    }
}

impl fmt::Debug for ItemPipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("ItemPipe")
            .field("put", &state.put)
            .field("taken", &state.taken)
            .field("credit", &state.credit)
            .field("progress", &state.progress)
            .finish_non_exhaustive()
    }
}
