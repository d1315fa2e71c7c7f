//! The files of the library in which threads hand things to each other, with loom's synchronisation in the place
//! of the standard library's. The models are in `tests`, one file for each.

#![allow(
    missing_debug_implementations,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "these are the library's own files"
)]

mod sync {
    // Counting references is the standard library's affair; its `Arc` may also be the type of a `self`.
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
