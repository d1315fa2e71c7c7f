//! What state machines without locks, and those that hand work over, take from `std::sync`.
//!
//! They import it from here, so that `tests/loom` can include the same files over loom's versions.

pub(crate) use std::sync::atomic;
