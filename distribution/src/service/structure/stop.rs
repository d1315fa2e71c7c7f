//! The error that ends a run.

use std::fmt;

use serde::de;

/// A run came to its end too early. The recorder knows why.
#[derive(Debug)]
pub(super) struct Stop;

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the structure is not seen to its end")
    }
}

impl std::error::Error for Stop {}

impl de::Error for Stop {
    // Not formatted: that would run the user's code for nothing.
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}
