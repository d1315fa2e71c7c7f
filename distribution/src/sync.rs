//! The synchronisation that words and hand-overs between threads are built on.
//!
//! Files that import nothing else can be checked by loom: `tests/loom` includes them beside a module of this
//! name in which loom's types stand for these.

pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic};
