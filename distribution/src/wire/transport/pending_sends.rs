//! The requests that a connection has not written to the end.

use std::{collections::VecDeque, io, sync::Arc};

use crate::wire::send_permit::SendPermit;

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
