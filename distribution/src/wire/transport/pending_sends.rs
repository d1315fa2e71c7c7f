//! The requests that a connection has not written to the end, and the permission that it asks for each.

use std::{collections::VecDeque, fmt, io, sync::Arc};

/// The number of the only attempt that a caller makes to send a call on one connection.
pub(crate) const ONLY_ATTEMPT: u32 = 1;

/// The permission to send an attempt at a call. It is asked of the part that can give the attempt up, which is the call itself.
pub(crate) trait SendPermit: fmt::Debug + Send + Sync {
    /// Whether [`begin`](Self::begin) would not be refused. Asked before each part of a request that is written in several.
    fn may_begin(&self, attempt: u32) -> bool;

    /// Asked before the attempt goes into the write buffer, with its last part if it has several. False if it was given up: it must not be written.
    fn begin(&self, attempt: u32) -> bool;

    /// Asked before a write that may take the frame's last byte. False if the attempt was given up meanwhile: the last byte
    /// must not be written.
    fn complete(&self, attempt: u32) -> bool;

    /// The connection has ended before the last byte was written.
    fn cut_short(&self, attempt: u32);

    /// Whether the call runs to its end even if its caller's process ends.
    fn is_detached(&self) -> bool;

    /// What travels to the call's handler: keys and values, in the order of the keys.
    fn metadata(&self) -> &[(String, String)];
}

/// Requests in the write buffer, by where their frames end. Places are counted in bytes since the connection began.
#[derive(Debug, Default)]
pub(super) struct PendingSends {
    requests: VecDeque<Request>,
    /// How many of them, from the first, have permission to be written to the end.
    complete: usize,
}

#[derive(Debug)]
struct Request {
    end: u64,
    attempt: u32,
    permit: Arc<dyn SendPermit>,
}

impl PendingSends {
    /// Adds a request whose frame ends at `end`, behind all others.
    pub(super) fn push(&mut self, end: u64, attempt: u32, permit: Arc<dyn SendPermit>) {
        self.requests.push_back(Request { end, attempt, permit });
    }

    /// Asks the permission of all frames that a write up to there would complete.
    ///
    /// # Errors
    ///
    /// If one of them was given up. Part of its frame is written, so the connection has to end without that write.
    pub(super) fn complete(&mut self, up_to: u64) -> io::Result<()> {
        while let Some(request) = self.requests.get(self.complete).filter(|request| request.end <= up_to) {
            if !request.permit.complete(request.attempt) {
                return Err(io::Error::other("a call was given up while it was being written"));
            }
            self.complete += 1;
        }
        Ok(())
    }

    /// Everything up to there was written.
    pub(super) fn written(&mut self, up_to: u64) {
        while self.requests.front().is_some_and(|request| request.end <= up_to) {
            self.requests.pop_front();
            self.complete -= 1;
        }
    }
}

impl Drop for PendingSends {
    /// Nothing writes here any more, so requests that had permission and were not written to the end never will be.
    fn drop(&mut self) {
        for request in self.requests.iter().take(self.complete) {
            request.permit.cut_short(request.attempt);
        }
    }
}
