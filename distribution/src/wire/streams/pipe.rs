//! The bytes of one stream between its producer and its consumer. Each of them is either in this process or behind a
//! connection.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};

use super::{
    peer::{Piece, StreamKey, StreamPeer, StreamToSend},
    state::{Closed, Consumer, Far, Parts, Progress, State, StreamRole, Taken},
    window::FIRST_CREDIT,
};
use crate::wire::{incoming_memory::IncomingMemory, payload::Payload};

/// The most credit that a consumer may have granted beyond what it was sent: more than the largest item and window.
const MOST_CREDIT: u64 = 8 * 1024 * 1024 * 1024;

/// One stream.
pub(crate) struct ItemPipe(Mutex<State>);

impl ItemPipe {
    /// Both ends are in this process until one is attached to a connection.
    pub(crate) fn new(role: StreamRole) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::new(role))))
    }

    /// A stream that is complete, of these bytes.
    pub(super) fn whole(bytes: Payload) -> Arc<Self> {
        let pipe = Self::new(StreamRole::Argument);
        let mut state = pipe.lock();
        bytes.each_part(&mut Parts(&mut state), |parts, bytes| parts.copy(bytes), |parts, bytes| parts.append(bytes));
        state.progress = Progress::Whole;
        drop(state);
        pipe
    }

    /// A stream of which at most this many bytes wait for the connection to the consumer.
    pub(crate) fn buffering(role: StreamRole, most_buffered: u64) -> Arc<Self> {
        let mut state = State::new(role);
        state.most_buffered = most_buffered;
        Arc::new(Self(Mutex::new(state)))
    }

    /// The bytes come from this connection from now on.
    pub(super) fn attach_producer(&self, peer: Arc<dyn StreamPeer>, key: StreamKey) {
        let mut state = self.lock();
        state.producer = Some(Far { peer, key });
        state.is_relayed = true;
    }

    /// The bytes go to this connection from now on.
    pub(crate) fn attach_consumer(self: &Arc<Self>, peer: Arc<dyn StreamPeer>, key: StreamKey) {
        let mut state = self.lock();
        if state.role == StreamRole::Argument {
            // What was granted for an earlier attempt, to which nothing was sent, is not valid here.
            state.granted = state.taken;
        }
        state.leave_consumer();
        let to = Far { peer, key };
        let most = FIRST_CREDIT;
        state.consumer = Consumer::Far { to, is_ready: false, is_end_told: false, most, lent: 0, waiting: 0 };
        state.note_waiting();
        self.tell_ready(state);
    }

    /// Bytes that were put in since the stream began.
    pub(crate) fn put(&self) -> u64 {
        self.lock().put
    }

    /// The consumer is gone. What waits is dropped, and the producer is told.
    pub(crate) fn stop(self: &Arc<Self>) {
        let mut state = self.lock();
        if state.progress == Progress::Stopped {
            return;
        }
        let was_open = state.progress == Progress::Open;
        state.progress = Progress::Stopped;
        state.note_waiting();
        state.pieces.clear();
        state.tail = BytesMut::new();
        let waker = state.waits.take();
        let producer = state.producer.clone().filter(|_| was_open && state.role == StreamRole::Argument);
        // A producer that was granted nothing does not know the consumer, and the call may begin again elsewhere.
        let producer = producer.filter(|_| state.credit > 0);
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
    pub(super) fn on_bytes(self: &Arc<Self>, key: StreamKey, bytes: Bytes) -> Result<(), String> {
        let mut state = self.lock();
        if !state.is_from(key) {
            // Of an attempt that was given up.
            return Ok(());
        }
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
        state.note_waiting();
        self.tell_consumer(state);
        Ok(())
    }

    /// The producer behind the connection has come to its end, or stops before it.
    ///
    /// # Errors
    ///
    /// As [`on_bytes`](Self::on_bytes).
    pub(super) fn on_end(self: &Arc<Self>, key: StreamKey, length: u64, is_whole: bool) -> Result<(), String> {
        let state = self.lock();
        let (put, is_current) = (state.put, state.is_from(key));
        drop(state);
        if !is_current {
            return Ok(());
        }
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
    pub(crate) fn on_granted(self: &Arc<Self>, key: StreamKey, upto: u64) -> Result<(), String> {
        let mut state = self.lock();
        if !state.is_for(key) {
            return Ok(());
        }
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

    /// The consumer behind the connection wants no more.
    pub(super) fn on_stopped(self: &Arc<Self>, key: StreamKey) {
        // No other attempt begins once this one has been granted something, which comes before.
        if self.lock().is_for(key) {
            self.stop();
        }
    }

    /// The call has ended, or this attempt: what comes of it does not count any more, and it is granted no more.
    pub(super) fn detach_producer(&self, key: StreamKey) {
        let mut state = self.lock();
        if state.is_from(key) {
            state.leave_producer();
        }
    }

    /// Whether the call can be made again, because nothing of the stream was used. Then nothing of the earlier attempts counts any
    /// more: in one step, so that nothing can come in between.
    pub(super) fn begin_again(&self) -> bool {
        let mut state = self.lock();
        match state.role {
            StreamRole::Items if state.put == 0 => state.leave_producer(),
            StreamRole::Argument if state.taken == 0 && state.progress != Progress::Stopped => {
                state.leave_consumer();
                state.consumer = Consumer::Nobody;
            }
            _ => return false,
        }
        true
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
        state.leave_consumer();
        state.consumer = Consumer::Nobody;
        (state.role == StreamRole::Argument && granted > 0 && !is_told).then_some((taken, false))
    }

    /// Takes all that is here, for a consumer in this process.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>, into: &mut VecDeque<Bytes>) -> Poll<Taken> {
        let mut state = self.lock();
        let there = usize::try_from(state.put - state.taken).unwrap_or(usize::MAX);
        if there > 0 && state.progress != Progress::Stopped {
            state.take(there, into);
            // A producer in this process that has come to its end waits until all is taken.
            let waker = state.waits.take();
            drop(state);
            waker.into_iter().for_each(std::task::Waker::wake);
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
        let (granted, taken, most_buffered) = (state.granted, state.taken, state.most_buffered);
        let (credit, step) = match &mut state.consumer {
            Consumer::Here { .. } => (granted, 1),
            Consumer::Nobody => (state.credit, 1),
            Consumer::Far { to, most, lent, .. } => {
                let wanted = (granted - taken).min(most_buffered);
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
            let (peer, key) = (Arc::clone(&to.peer), to.key);
            drop(state);
            peer.on_ready(key, Arc::clone(self) as _);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StreamToSend for ItemPipe {
    fn take_piece(self: Arc<Self>, key: StreamKey, most: usize, parts: &mut VecDeque<Bytes>) -> Option<Piece> {
        let mut state = self.lock();
        if !state.is_for(key) {
            return None;
        }
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
        let key = to.key;
        let piece = Piece { key, length, end, has_more, permit: None };
        state.note_waiting();
        self.pass_credit_on(state);
        Some(piece)
    }

    fn give_back(&self, piece: &Piece, parts: &mut VecDeque<Bytes>) {
        let mut state = self.lock();
        state.taken -= piece.length as u64;
        while let Some(part) = parts.pop_back() {
            state.pieces.push_front(part);
        }
        if let Consumer::Far { is_ready, is_end_told, .. } = &mut state.consumer {
            (*is_ready, *is_end_told) = (false, false);
        }
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
