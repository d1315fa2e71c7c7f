//! The standard library's building blocks of state that threads share.
//!
//! What has to hold for every order in which threads take turns lies in files that import nothing else, so
//! that `tests/loom` can include the same files with loom's blocks in this place.

pub(crate) use std::sync::{
    Condvar, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};
