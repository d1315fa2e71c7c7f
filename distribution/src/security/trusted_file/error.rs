//! Why a file of secrets or of trust cannot be used.

use std::{fmt, io};

/// Why a file cannot be used.
#[derive(Debug)]
pub(crate) enum FileError {
    /// The operating system's error.
    Io(io::Error),
    /// It could belong to or be changed by another user, or is not a regular file. The sentence says what to do.
    Refused(String),
}

impl FileError {
    pub(crate) fn kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io(error) => Some(error.kind()),
            Self::Refused(_) => None,
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Refused(reason) => f.write_str(reason),
        }
    }
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
