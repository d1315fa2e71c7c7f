//! The requests whose frames a connection has not written to the end, and the leave that it asks of each.

use std::{collections::VecDeque, fmt, io, sync::Arc};

/// Leave to send an attempt at a call, asked of the side that can give it up.
pub(crate) trait SendPermit: fmt::Debug + Send + Sync {
    /// The attempt goes into the write buffer; false if it was given up before, in which case it must not.
    fn begin(&self, attempt: u32) -> bool;

    /// The next write may hand the frame's last byte over; false if the attempt was given up meanwhile, in which case
    /// it must not.
    fn complete(&self, attempt: u32) -> bool;

    /// The connection has ended before the last byte was taken.
    fn cut_short(&self, attempt: u32);
}

/// Requests in the write buffer, by where their frames end. All places are counted in bytes since the connection began.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    requests: VecDeque<Request>,
    /// How many of them, from the first, have leave to be written to the end.
    complete: usize,
}

#[derive(Debug)]
struct Request {
    end: u64,
    attempt: u32,
    permit: Arc<dyn SendPermit>,
}

impl Unfinished {
    /// A request whose frame ends there, behind all others.
    pub(super) fn push(&mut self, end: u64, attempt: u32, permit: Arc<dyn SendPermit>) {
        self.requests.push_back(Request { end, attempt, permit });
    }

    /// Asks leave for all frames that a write up to there would complete.
    ///
    /// # Errors
    ///
    /// One of them was given up. Part of the stream is out, so the connection has to end without that write.
    pub(super) fn complete(&mut self, up_to: u64) -> io::Result<()> {
        while let Some(request) = self.requests.get(self.complete).filter(|request| request.end <= up_to) {
            if !request.permit.complete(request.attempt) {
                return Err(io::Error::other("a call was given up while it was being written"));
            }
            self.complete += 1;
        }
        Ok(())
    }

    /// So much was written.
    pub(super) fn written(&mut self, up_to: u64) {
        while self.requests.front().is_some_and(|request| request.end <= up_to) {
            self.requests.pop_front();
            self.complete -= 1;
        }
    }
}

impl Drop for Unfinished {
    /// What had leave and was not taken is not whole, and never will be: nothing writes here any more.
    fn drop(&mut self) {
        for request in self.requests.iter().take(self.complete) {
            request.permit.cut_short(request.attempt);
        }
    }
}
