//! Arguments of more than 1 MiB of a call that a caller elsewhere makes. They stay at the caller until a node takes them: the
//! master fetches them as it passes them on, and holds no more than a window of them. If they are needed again, because a node
//! was lost, it fetches them again.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::{Bytes, BytesMut};
use tokio_util::sync::CancellationToken;

use super::{
    connection_state::ConnectionState,
    incoming_memory::{IncomingMemory, Reservation},
    streams::{Contended, FETCHED, ItemPipe, Owed, Piece, StreamKey, StreamPeer, StreamRole, StreamToSend, Taken},
};

/// The most bytes of a call's arguments that wait at the master for the connection to the node. At a round trip of 60 ms to the
/// caller it is enough for 130 MB/s.
const MOST_BUFFERED: u64 = 8 * 1024 * 1024;

/// While others wait for what a transfer holds, its caller must send four times as much as otherwise.
const CONTENDED_FACTOR: u64 = 4;

/// The arguments of one call.
pub(crate) struct FetchedArguments {
    call: u64,
    length: usize,
    state: Mutex<State>,
    /// Cancelled when the call has ended.
    ended: CancellationToken,
}

struct State {
    /// The connection to the caller; `None` while there is none.
    source: Option<Arc<ConnectionState>>,
    /// Whether the caller does not come back.
    is_gone: bool,
    /// How often they were fetched.
    fetches: u32,
    /// What brings them now, or brought them last.
    incoming: Option<Arc<Incoming>>,
    /// They are being taken over from the caller as a whole, and are here then.
    is_taken_over: bool,
    here: Option<Bytes>,
    /// Connections to nodes that wait until they can be fetched.
    waiting: Vec<Arc<ConnectionState>>,
}

impl FetchedArguments {
    /// Arguments of this many bytes, of a call with this number at the caller behind this connection.
    pub(crate) fn new(call: u64, length: usize, source: Option<Arc<ConnectionState>>) -> Self {
        let state = State {
            source,
            is_gone: false,
            fetches: 0,
            incoming: None,
            is_taken_over: false,
            here: None,
            waiting: Vec::new(),
        };
        Self { call, length, state: Mutex::new(state), ended: CancellationToken::new() }
    }

    /// How many bytes they are.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Whether they can be passed on now. If not, the connection to the node is woken when they can.
    pub(crate) fn are_available(&self, node: &Arc<ConnectionState>) -> bool {
        let mut state = self.lock();
        // Those that are gone end the attempt.
        let are = state.is_gone || state.here.is_some() || state.source.is_some() && !state.is_taken_over;
        if !are && !state.waiting.iter().any(|waiting| Arc::ptr_eq(waiting, node)) {
            state.waiting.push(Arc::clone(node));
        }
        are
    }

    /// Begins to pass them on over the connection to a node, as the message with this key.
    pub(crate) fn pass_on(&self, node: &Arc<ConnectionState>, key: StreamKey) -> PassedOn {
        let mut state = self.lock();
        if let Some(here) = &state.here {
            return PassedOn::Here(here.clone());
        }
        let to = Arc::new(ToMessage(Arc::clone(node))) as Arc<dyn StreamPeer>;
        let pipe = ItemPipe::buffering(StreamRole::Argument, MOST_BUFFERED);
        pipe.attach_consumer(Arc::clone(&to), key);
        PassedOn::Fetched(self.fetch(&mut state, pipe, key, Contended::Connection(to)))
    }

    /// Fetches them into a stream.
    fn fetch(&self, state: &mut State, pipe: Arc<ItemPipe>, key: StreamKey, contended: Contended) -> Fetch {
        let from = (self.call, FETCHED + state.fetches % FETCHED);
        state.fetches = state.fetches.wrapping_add(1);
        let incoming = Arc::new(Incoming { pipe, from, source: state.source.clone() });
        if let Some(earlier) = state.incoming.replace(Arc::clone(&incoming)) {
            earlier.stop();
        }
        match &state.source {
            Some(source) => {
                let peer = Arc::clone(source) as Arc<dyn StreamPeer>;
                let least = source.least_progress().saturating_mul(CONTENDED_FACTOR);
                let owed = Owed::new(self.length as u64, contended, least);
                source.streams().fetch(&peer, from, &incoming.pipe, owed);
            }
            None => incoming.pipe.break_off(),
        }
        Fetch { incoming, key, length: self.length as u64 }
    }

    /// The call has ended, and nothing is fetched any more. The caller must hear of this before it gets the response.
    pub(crate) fn end(&self) {
        self.ended.cancel();
        let mut state = self.lock();
        state.source = None;
        let incoming = state.incoming.take();
        drop(state);
        if let Some(incoming) = incoming {
            incoming.stop();
        }
    }

    /// The connection to the caller has ended. Returns whether all of them have come before, so that the call can go on.
    pub(crate) fn on_disconnected(&self) -> bool {
        let mut state = self.lock();
        state.source = None;
        let is_here = state.here.is_some();
        let incoming = state.incoming.clone();
        drop(state);
        let Some(Incoming { pipe, .. }) = incoming.as_deref() else { return is_here };
        // Nothing happens to one that is whole.
        pipe.break_off();
        is_here || pipe.put() == self.length as u64
    }

    /// The caller does not come back. Returns whether all of them have come before, so that the call can go on.
    pub(crate) fn on_gone(&self) -> bool {
        let can_go_on = self.on_disconnected();
        let mut state = self.lock();
        state.is_gone = true;
        Self::wake(state);
        can_go_on
    }

    /// Whether they cannot be passed on any more.
    pub(crate) fn are_gone(&self) -> bool {
        let state = self.lock();
        state.is_gone && state.here.is_none()
    }

    /// The caller has come back on this connection.
    pub(crate) fn on_connected(&self, source: &Arc<ConnectionState>) {
        let mut state = self.lock();
        state.source = Some(Arc::clone(source));
        Self::wake(state);
    }

    /// Takes them over from the caller, so that the call can be made when the caller has gone. First they reserve memory of each
    /// kind, one after the other, and hold it until the call has ended. Nothing happens if they have been passed on by then.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped while bytes come leaves them where they are, and they cannot be passed on any more.
    pub(crate) async fn take_over(self: Arc<Self>, memory: [Arc<IncomingMemory>; 2]) {
        let shared = Arc::clone(&memory[1]);
        let reserved = tokio::select! {
            reserved = self.reserve(memory) => reserved,
            () = self.ended.cancelled() => return,
        };
        let pipe = ItemPipe::new(StreamRole::Argument);
        let fetch = {
            let mut state = self.lock();
            let is_begun = state.incoming.is_some() || state.is_taken_over;
            if is_begun || state.source.is_none() {
                return;
            }
            state.is_taken_over = true;
            self.fetch(&mut state, Arc::clone(&pipe), (self.call, 0), Contended::Memory(shared))
        };
        pipe.require(self.length as u64);
        // Grows as they come: what was announced is only a claim.
        let mut bytes = BytesMut::new();
        let mut parts = VecDeque::new();
        while bytes.len() < self.length {
            match poll_fn(|cx| pipe.poll_take(cx, &mut parts)).await {
                Taken::Bytes => parts.drain(..).for_each(|part| bytes.extend_from_slice(&part)),
                Taken::End | Taken::Broken | Taken::Stopped => break,
            }
        }
        let mut state = self.lock();
        state.is_taken_over = false;
        // A node may have taken the call at the same moment, and they are fetched for it by now.
        state.incoming.take_if(|incoming| Arc::ptr_eq(incoming, &fetch.incoming));
        if bytes.len() == self.length {
            state.here = Some(Bytes::from_owner(Held { bytes, _reserved: reserved }));
        }
        Self::wake(state);
        drop(fetch);
    }

    async fn reserve(&self, memory: [Arc<IncomingMemory>; 2]) -> Vec<Reservation> {
        let mut reserved = Vec::new();
        for memory in memory {
            let mut pending = memory.reserve(self.length);
            reserved.push(poll_fn(|cx| pending.poll(cx)).await);
        }
        reserved
    }

    fn wake(mut state: MutexGuard<'_, State>) {
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.iter().for_each(|node| node.wake_writer());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for FetchedArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FetchedArguments({} bytes)", self.length)
    }
}

/// Bytes with the memory that they have reserved.
struct Held {
    bytes: BytesMut,
    _reserved: Vec<Reservation>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// How arguments are passed on.
pub(crate) enum PassedOn {
    /// They are here.
    Here(Bytes),
    /// They come from the caller.
    Fetched(Fetch),
}

/// A stream that brings arguments from the caller.
struct Incoming {
    pipe: Arc<ItemPipe>,
    from: StreamKey,
    source: Option<Arc<ConnectionState>>,
}

impl Incoming {
    fn stop(&self) {
        if let Some(source) = &self.source {
            source.close_streams(self.from);
        }
        self.pipe.stop();
    }
}

/// Arguments on their way from the caller. Ends when it is dropped.
pub(crate) struct Fetch {
    incoming: Arc<Incoming>,
    /// The message to the node.
    key: StreamKey,
    length: u64,
}

impl Fetch {
    /// The node has memory for all of them.
    pub(crate) fn begin(&self) {
        // Each fetch begins once.
        let _ = self.incoming.pipe.on_granted(self.key, self.length);
    }

    /// The next bytes, at most `most`, which are appended to `parts`. `None` if the rest does not come.
    pub(crate) fn take(&self, most: usize, parts: &mut VecDeque<Bytes>) -> Option<usize> {
        match Arc::clone(&self.incoming.pipe).take_piece(self.key, most, parts) {
            Some(Piece { length, end: Some((_, false)), .. }) => (length > 0).then_some(length),
            Some(Piece { length, .. }) => Some(length),
            None => (!self.incoming.pipe.is_broken()).then_some(0),
        }
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.incoming.stop();
    }
}

/// The connection to a node, to which bytes go in a message and not as a stream.
#[derive(Debug)]
struct ToMessage(Arc<ConnectionState>);

impl StreamPeer for ToMessage {
    fn grant(&self, _: StreamKey, _: u64) {}

    fn tell_stopped(&self, _: StreamKey) {}

    fn on_ready(&self, _: StreamKey, _: Arc<dyn StreamToSend>) {
        self.0.wake_writer();
    }

    fn lend_window(&self, bytes: u64) -> bool {
        self.0.lend_window(bytes)
    }

    fn on_waiting(&self, more: i64) {
        self.0.on_waiting(more);
    }

    fn contended_since(&self) -> Option<tokio::time::Instant> {
        StreamPeer::contended_since(&*self.0)
    }

    fn return_window(&self, bytes: u64) {
        self.0.return_window(bytes);
    }

    fn item_memory(&self, largest: usize) -> Arc<IncomingMemory> {
        self.0.item_memory(largest)
    }
}
