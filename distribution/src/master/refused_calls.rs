//! Counts the calls of callers in other processes that are refused before the core hears of them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::administration::RefusedCalls;

#[derive(Debug, Default)]
pub(super) struct RefusedCallCounts {
    session: AtomicU64,
    credential: AtomicU64,
    denied: AtomicU64,
}

impl RefusedCallCounts {
    /// The session of a caller had no room for this many calls.
    pub(super) fn on_session_full(&self, count: u32) {
        self.session.fetch_add(count.into(), Ordering::Relaxed);
    }

    /// The credential of a caller allowed no more at a time than it had under way.
    pub(super) fn on_credential_full(&self, count: u32) {
        self.credential.fetch_add(count.into(), Ordering::Relaxed);
    }

    /// A caller may not make this many calls.
    pub(super) fn on_denied(&self, count: u32) {
        self.denied.fetch_add(count.into(), Ordering::Relaxed);
    }

    pub(super) fn view(&self) -> RefusedCalls {
        RefusedCalls {
            session: self.session.load(Ordering::Relaxed),
            credential: self.credential.load(Ordering::Relaxed),
            denied: self.denied.load(Ordering::Relaxed),
        }
    }
}
