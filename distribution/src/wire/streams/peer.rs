//! A connection, as a stream that goes over it sees it, and the other way round.

use std::{collections::VecDeque, fmt, sync::Arc};

use bytes::Bytes;
use tokio::time::Instant;

use crate::wire::{incoming_memory::IncomingMemory, send_permit::SendPermit};

/// The call and the attempt that a stream belongs to.
pub(crate) type StreamKey = (u64, u32);

/// The attempts of streams that bring the arguments of a call, which stay at its caller until they are fetched: this, and how
/// often they were fetched before.
pub(crate) const FETCHED: u32 = 1 << 31;

/// A connection, as a stream that goes over it sees it.
pub(crate) trait StreamPeer: fmt::Debug + Send + Sync {
    /// Tells the producer behind the connection that it may send up to this byte.
    fn grant(&self, key: StreamKey, upto: u64);

    /// Tells the producer that nobody wants its items any more.
    fn tell_stopped(&self, key: StreamKey);

    /// There is something to be sent.
    fn on_ready(&self, key: StreamKey, stream: Arc<dyn StreamToSend>);

    /// Lends a window this many bytes more than each has. False if there are none.
    fn lend_window(&self, bytes: u64) -> bool;

    /// This many bytes more, or fewer, that another connection has brought wait for this one.
    fn on_waiting(&self, more: i64);

    /// Since when large messages have waited for others on this connection, without a break.
    fn contended_since(&self) -> Option<Instant>;

    /// Gives back what was lent.
    fn return_window(&self, bytes: u64);

    /// The memory for large items that come over the connection, of which the largest may have this many bytes.
    fn item_memory(&self, largest: usize) -> Arc<IncomingMemory>;
}

/// A stream of which something can be sent.
pub(crate) trait StreamToSend: fmt::Debug + Send + Sync {
    /// The next bytes for the connection, with at most `most` bytes, which are appended to `parts`. `None` if there is nothing
    /// to be sent now, or the stream goes elsewhere by now.
    fn take_piece(self: Arc<Self>, key: StreamKey, most: usize, parts: &mut VecDeque<Bytes>) -> Option<Piece>;

    /// A piece that was taken is not sent, and no further one until the stream is stopped.
    fn give_back(&self, piece: &Piece, parts: &mut VecDeque<Bytes>);
}

/// What a connection sends next of a stream.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) key: StreamKey,
    /// The number of bytes.
    pub(crate) length: usize,
    /// Whether the stream ends behind it: how long it is, and whether it is whole.
    pub(crate) end: Option<(u64, bool)>,
    /// Whether more can be sent at once.
    pub(crate) has_more: bool,
    /// What is to be asked before the last of the bytes is written.
    pub(crate) permit: Option<Arc<dyn SendPermit>>,
}
