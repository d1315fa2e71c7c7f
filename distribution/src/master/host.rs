//! The types that the core leaves open: calls as clients make them, and links as connections have them.

use std::{cell::Cell, ops::Deref, sync::Arc};

use super::link::Link;
use crate::{
    core::{Host, HostCall},
    error::{CallError, Execution},
    service::{
        metadata::Metadata,
        state::{CallFailure, CallState, Held},
    },
    wire::frame::call::Trace,
};

/// Names the master's calls and links to the core.
#[derive(Debug)]
pub(super) struct MasterHost;

impl Host for MasterHost {
    type Call = HeldCall;
    type Link = Link;
}

/// A call as the core holds it. If the core panics and drops it, the call ends with an error: nothing else would end it,
/// and its caller must not wait for ever.
#[derive(Clone, Debug)]
pub(super) struct HeldCall(pub(super) Arc<CallState>);

impl Deref for HeldCall {
    type Target = Arc<CallState>;

    fn deref(&self) -> &Arc<CallState> {
        &self.0
    }
}

impl Drop for HeldCall {
    fn drop(&mut self) {
        if std::thread::panicking() && !WAS_PANICKING.get() {
            // If the call has ended or was cancelled, this does nothing: the first end counts.
            let error = CallError::Shutdown { call: self.identity(), execution: Execution::MayHaveRun };
            self.finish(Err(CallFailure::after(Vec::new(), error)));
        }
    }
}

impl HostCall for HeldCall {
    fn open(&self, attempt: u32) {
        self.attempt.open(attempt);
    }

    fn withdraw(&self, attempt: u32) -> bool {
        self.attempt.withdraw(attempt)
    }

    fn abandon(&self, attempt: u32) -> bool {
        self.attempt.abandon(attempt)
    }

    fn can_be_repeated(&self) -> bool {
        self.streams.begin_again()
    }

    fn metadata(&self) -> Metadata {
        self.options.metadata.clone()
    }

    fn trace(&self) -> Option<Trace> {
        CallState::trace(self)
    }

    fn tells_attempts(&self) -> bool {
        self.trace().is_some()
    }

    fn held(&self) -> Option<Held> {
        CallState::held(self)
    }
}

thread_local! {
    static WAS_PANICKING: Cell<bool> = const { Cell::new(false) };
}

/// While this lives, a thread that was already unwinding is not taken for one on which the core panicked: a caller may
/// drop its call, and so bring an event to the core, because its own code panicked.
pub(super) struct PanicScope {
    outer: bool,
}

impl PanicScope {
    pub(super) fn enter() -> Self {
        Self { outer: WAS_PANICKING.replace(std::thread::panicking()) }
    }
}

impl Drop for PanicScope {
    fn drop(&mut self) {
        WAS_PANICKING.set(self.outer);
    }
}
