//! The record of a handler that has panicked, with its backtrace.
//!
//! Where a panic is caught, the place that it came from is gone. So a panic hook looks at it before, and leaves the backtrace
//! with the call whose handler runs.

use std::{
    backtrace::Backtrace,
    panic::{PanicHookInfo, set_hook, take_hook},
    sync::Once,
};

use super::current::{CurrentCall, SeenPanic};
use crate::{administration::LogLevel, log_queue::NewRecord, service::panics, wire::Outcome};

/// The target of such records.
const TARGET: &str = "distribution::panic";

/// Has panics of handlers looked at, from the first node of the process on. The hook that was set before is called as well.
pub(super) fn install() {
    static INSTALLED: Once = Once::new();
    // A thread that panics must not set a hook.
    if std::thread::panicking() {
        return;
    }
    INSTALLED.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            look_at(panic);
            before(panic);
        }));
    });
}

/// Must not panic: that would end the process.
fn look_at(panic: &PanicHookInfo<'_>) {
    let Some(call) = CurrentCall::running() else { return };
    let Some(logs) = call.nesting().and_then(|nesting| nesting.logs()) else { return };
    let backtrace = logs.may_capture().then(Backtrace::force_capture);
    let place = panic.location().map(ToString::to_string);
    call.on_panic(SeenPanic { message: panics::text_of(panic.payload()), place, backtrace });
}

impl CurrentCall {
    /// Logs that the handler has panicked, if it has.
    pub(super) fn log_panic(&self, outcome: &Outcome) {
        if let Outcome::Panicked(message) = outcome {
            self.log_panic_of(message);
        }
    }

    #[cold]
    fn log_panic_of(&self, message: &str) {
        let Some(logs) = self.nesting().and_then(|nesting| nesting.logs()) else { return };
        // The handler may have caught another one before.
        let seen = self.take_panic().filter(|seen| seen.message == message);
        let (place, backtrace) = seen.map_or((None, None), |seen| (seen.place, seen.backtrace));
        logs.push(NewRecord {
            level: LogLevel::Error,
            target: TARGET.to_owned(),
            message: format!("the handler panicked: {message}"),
            fields: place.map(|place| format!("at={place}")).unwrap_or_default(),
            method: self.method().map(|method| method.name().to_string()),
            call: Some((self.id().0, self.attempt())),
            backtrace,
        });
    }
}
