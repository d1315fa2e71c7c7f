//! The state machines of `distribution` that need no lock, run by loom through every interleaving of the threads that
//! share them. Their files are included as they are; only the atomics that they import are loom's.

#![allow(dead_code, reason = "a model uses of a file what it is about")]

mod sync {
    pub(crate) use loom::sync::atomic;
}

#[path = "../../../distribution/src/service/attempt.rs"]
mod attempt;

#[cfg(test)]
mod attempt_model;
