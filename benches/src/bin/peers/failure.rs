//! Why the comparison could not be made, in words for the person who ran it.

use std::fmt;

/// What happened, and what to do about it.
#[derive(Clone, Debug)]
pub(crate) struct Failure(String);

impl Failure {
    /// A failure with these words.
    pub(crate) fn new(what: impl fmt::Display) -> Self {
        Self(what.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says what was being done when an error came.
pub(crate) trait During<T> {
    /// Puts `what` in front of the error's own words.
    fn during(self, what: &str) -> Result<T, Failure>;
}

impl<T, E: std::error::Error> During<T> for Result<T, E> {
    fn during(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| {
            let mut words = format!("{what}: {error}");
            let mut source = error.source();
            while let Some(error) = source {
                words.push_str(&format!(": {error}"));
                source = error.source();
            }
            Failure(words)
        })
    }
}
