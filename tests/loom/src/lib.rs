//! State that threads share, with loom's blocks in place of the standard library's: loom runs each model in
//! every order in which its threads can take turns.
//!
//! `cargo test -p distribution-loom`. The files are those of the library, included by their paths.
#![cfg(test)]

mod sync {
    pub(crate) use std::sync::PoisonError;

    pub(crate) use loom::sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    };
}

#[path = "../../../distribution/src/node/extent.rs"]
mod extent;

mod batch_extent;
