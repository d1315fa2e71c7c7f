//! The newest attempt at a call, and how far it has come on its way to a node: one atomic word.
//!
//! The connection that writes an attempt and the core that gives it up race. Each step is one
//! compare-and-exchange on the same word, so that one of them wins, and what the caller is told follows from
//! which. `tests/loom` runs this file through every interleaving.

use crate::sync::atomic::{AtomicU64, Ordering};

/// May be written.
const OPEN: u64 = 0;
/// In the write buffer. The node cannot have received all of it.
const WRITING: u64 = 1;
/// All of it was given to the socket, or is about to be. The node may run it.
const SENT: u64 = 2;
/// Must not reach the node completely.
const REVOKED: u64 = 3;

/// The number of the newest attempt times four, plus its state.
#[derive(Debug)]
pub(crate) struct AttemptWord(AtomicU64);

impl AttemptWord {
    /// No attempt may be written yet.
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(REVOKED))
    }

    /// Allows this attempt to be written, and no earlier one.
    pub(crate) fn open(&self, attempt: u32) {
        self.0.store(word(attempt, OPEN), Ordering::Release);
    }

    /// For the connection, while it writes an attempt in chunks: whether [`begin`](Self::begin) would succeed.
    pub(crate) fn is_open(&self, attempt: u32) -> bool {
        self.is(attempt, OPEN)
    }

    /// For the connection: the attempt, or the last chunk of it, goes into the write buffer. False if it was given up before;
    /// then it must not be written.
    pub(crate) fn begin(&self, attempt: u32) -> bool {
        self.step(attempt, OPEN, WRITING)
    }

    /// For the connection, before the write that may give the last byte to the socket. False if the attempt was given up
    /// meanwhile. Then that write must not happen, and no other either, because a part of the frame was already written.
    pub(crate) fn complete(&self, attempt: u32) -> bool {
        self.step(attempt, WRITING, SENT)
    }

    /// For a connection that has ended: the socket did not take the last byte after all.
    pub(crate) fn cut_short(&self, attempt: u32) {
        // Fails if the core has already counted the attempt as sent, or has given it up, and has opened another. Then that
        // decision stays.
        let _ = self.step(attempt, SENT, WRITING);
    }

    /// For the core, while the connection goes on: prevents the attempt from being written, unless writing has begun. What
    /// has begun will be finished, so then it counts as sent, and this returns false.
    pub(crate) fn withdraw(&self, attempt: u32) -> bool {
        self.step(attempt, OPEN, REVOKED) || self.is(attempt, REVOKED)
    }

    /// For the core, once the connection is given up: prevents the attempt from being written completely. False if it was
    /// sent, so that the node may run it.
    pub(crate) fn abandon(&self, attempt: u32) -> bool {
        // The connection may take it from open to writing between the two.
        self.step(attempt, OPEN, REVOKED) || self.step(attempt, WRITING, REVOKED) || self.is(attempt, REVOKED)
    }

    /// Whether the last byte of this attempt was given to the socket, or is about to be.
    pub(crate) fn is_sent(&self, attempt: u32) -> bool {
        self.is(attempt, SENT)
    }

    /// Whether a node has the call, or will get it.
    pub(crate) fn is_out(&self) -> bool {
        self.0.load(Ordering::Relaxed) & 3 != REVOKED
    }

    fn step(&self, attempt: u32, from: u64, to: u64) -> bool {
        let (from, to) = (word(attempt, from), word(attempt, to));
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn is(&self, attempt: u32, state: u64) -> bool {
        self.0.load(Ordering::Acquire) == word(attempt, state)
    }
}

fn word(attempt: u32, state: u64) -> u64 {
    u64::from(attempt) << 2 | state
}
