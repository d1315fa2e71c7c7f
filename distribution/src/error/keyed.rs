//! The error of a call that was distributed with a key.

use std::{convert::Infallible, fmt};

use super::call::CallError;

/// The error of a call that was distributed with a key.
///
/// `try_next`, `try_collect` and the like of [`Distributed`](crate::Distributed) return it for calls that were given as
/// `(key, call)`.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyedError<K, E = Infallible> {
    /// The key of the call.
    pub key: K,
    /// How the call ended.
    pub error: CallError<E>,
}

impl<K: fmt::Debug, E> fmt::Display for KeyedError<K, E>
where
    CallError<E>: fmt::Display,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the call with key {:?}: {}", self.key, self.error)
    }
}

impl<K: fmt::Debug, E: fmt::Debug> std::error::Error for KeyedError<K, E>
where
    CallError<E>: std::error::Error,
{
    /// The source of the call's error, because `Display` shows the error itself.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl<K, E> From<KeyedError<K, E>> for CallError<E> {
    /// Drops the key.
    fn from(keyed: KeyedError<K, E>) -> Self {
        keyed.error
    }
}
