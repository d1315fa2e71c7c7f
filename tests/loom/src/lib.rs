//! The files of the library in which threads pass work to each other, compiled with loom's synchronisation types in place
//! of the standard library's. Each has a file of models beside this one.

#![allow(
    missing_debug_implementations,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "these are the library's own files"
)]

mod sync {
    // The standard library's `Arc`, because reference counts need no check, and because it can be the type of `self`.
    pub(crate) use std::sync::{Arc, PoisonError};

    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard, atomic};
}

#[path = "../../../distribution/src/service/attempt.rs"]
mod attempt;
#[path = "../../../distribution/src/node/batch_window.rs"]
mod batch_window;
#[path = "../../../distribution/src/node/runner_queue.rs"]
mod runner_queue;
#[path = "../../../distribution/src/node/slots.rs"]
mod slots;

#[cfg(test)]
mod attempt_model;
#[cfg(test)]
mod batch_window_model;
#[cfg(test)]
mod runner_queue_model;
#[cfg(test)]
mod slots_model;
