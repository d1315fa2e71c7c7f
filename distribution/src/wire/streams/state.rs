//! What is known of one stream: its bytes, its credit, and its two ends.

use std::{collections::VecDeque, sync::Arc, task::Waker};

use bytes::{Bytes, BytesMut};

use super::{
    peer::{StreamKey, StreamPeer},
    window::{FIRST_CREDIT, Window},
};

/// Pieces of fewer bytes are copied together, so that small frames do not keep the memory that they were read into.
const COPIED_BELOW: usize = 4 * 1024;

/// The most bytes of a stream that wait for a connection.
const MOST_BUFFERED: u64 = 64 * 1024 * 1024;

/// What a stream is to its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamRole {
    /// What the handler returns. It ends with the call.
    Items,
    /// The last argument. Its end needs a frame, and so does its handler's word that it wants no more.
    Argument,
}

pub(super) struct State {
    pub(super) role: StreamRole,
    /// Bytes that were put in and not taken out, in order.
    pub(super) pieces: VecDeque<Bytes>,
    pub(super) tail: BytesMut,
    /// Bytes since the stream began.
    pub(super) put: u64,
    pub(super) taken: u64,
    /// Up to which byte the consumer wants bytes.
    pub(super) granted: u64,
    /// Up to which byte the producer may put bytes in. It knows.
    pub(super) credit: u64,
    pub(super) progress: Progress,
    pub(super) producer: Option<Far>,
    /// Whether the bytes come from a connection, also when that has no more of them.
    pub(super) is_relayed: bool,
    /// The most bytes that wait here for a connection, whatever the consumer behind it has granted. What is more than
    /// [`FIRST_CREDIT`] of it is lent by the connection.
    pub(super) most_buffered: u64,
    /// Waits for credit, or until all is taken.
    pub(super) waits: Option<Waker>,
    pub(super) consumer: Consumer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
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
pub(super) struct Far {
    pub(super) peer: Arc<dyn StreamPeer>,
    pub(super) key: StreamKey,
}

pub(super) enum Consumer {
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
        /// The bytes that wait here, as the connection knows.
        waiting: u64,
    },
    /// Nobody, until the call is sent again.
    Nobody,
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

impl State {
    pub(super) fn new(role: StreamRole) -> Self {
        let credit = match role {
            StreamRole::Items => FIRST_CREDIT,
            StreamRole::Argument => 0,
        };
        Self {
            role,
            pieces: VecDeque::new(),
            tail: BytesMut::new(),
            put: 0,
            taken: 0,
            granted: credit,
            credit,
            progress: Progress::Open,
            producer: None,
            is_relayed: false,
            most_buffered: MOST_BUFFERED,
            waits: None,
            consumer: Consumer::Here { waker: None, window: Window::new(credit), lent: 0 },
        }
    }

    pub(super) fn on_put(&mut self) {
        if let Consumer::Here { window, .. } = &mut self.consumer {
            window.on_put(self.put);
        }
    }

    /// How many bytes the connection may send now.
    pub(super) fn sendable(&self) -> u64 {
        match self.progress {
            Progress::Stopped => 0,
            _ => self.put.min(self.granted).saturating_sub(self.taken),
        }
    }

    pub(super) fn end_to_tell(&self) -> Option<(u64, bool)> {
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

    pub(super) fn has_something(&self) -> bool {
        self.sendable() > 0 || self.end_to_tell().is_some()
    }

    pub(super) fn take(&mut self, length: usize, into: &mut VecDeque<Bytes>) {
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
    /// Whether what comes under this key belongs to the stream.
    pub(super) fn is_from(&self, key: StreamKey) -> bool {
        self.producer.as_ref().is_some_and(|producer| producer.key == key)
    }

    /// Whether what is sent under this key is the stream.
    pub(super) fn is_for(&self, key: StreamKey) -> bool {
        matches!(&self.consumer, Consumer::Far { to, .. } if to.key == key)
    }

    /// Tells the connection to the consumer how many bytes of another connection wait for it.
    pub(super) fn note_waiting(&mut self) {
        let now = if self.progress == Progress::Stopped { 0 } else { self.put - self.taken };
        let is_relayed = self.is_relayed;
        if let Consumer::Far { to, waiting, .. } = &mut self.consumer {
            let now = if is_relayed { now } else { 0 };
            if now != *waiting {
                to.peer.on_waiting(now as i64 - *waiting as i64);
                *waiting = now;
            }
        }
    }

    /// The producer is gone. Gives back what its connection has lent.
    pub(super) fn leave_producer(&mut self) {
        let Some(Far { peer, .. }) = self.producer.take() else { return };
        if let Consumer::Here { lent, .. } = &mut self.consumer {
            peer.return_window(std::mem::take(lent));
        }
    }

    /// The consumer is gone. Gives back what its connection has lent.
    pub(super) fn leave_consumer(&mut self) {
        match &mut self.consumer {
            Consumer::Far { to, lent, waiting, .. } => {
                to.peer.return_window(std::mem::take(lent));
                to.peer.on_waiting(-(std::mem::take(waiting) as i64));
            }
            Consumer::Here { lent, .. } => {
                if let Some(Far { peer, .. }) = &self.producer {
                    peer.return_window(std::mem::take(lent));
                }
            }
            Consumer::Nobody => {}
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.leave_consumer();
    }
}

/// The producer need not go on: nobody wants its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// Appends the parts of an item.
pub(crate) struct Parts<'a>(pub(super) &'a mut State);

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
