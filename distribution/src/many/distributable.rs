//! What `.distribute()` takes and yields: calls with or without a key, values or whole answers.

use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::{
    error::{CallError, KeyedError},
    id::NodeIdentity,
    service::{Answer, Call},
};

/// What the items of a distributed iterator or stream can be: a [`Call`], or a pair of a key and a call.
///
/// The key is any value that tells the calls apart: an index, a file name, a range. It is not sent to the node. It is
/// returned with the call's result.
///
/// | item of the input | item of [`Distributed`](crate::Distributed) | error of `try_collect` and the like |
/// |---|---|---|
/// | `Call<T, E>` | `Result<T, CallError<E>>` | `CallError<E>` |
/// | `(K, Call<T, E>)` | `(K, Result<T, CallError<E>>)` | [`KeyedError<K, E>`] |
///
/// This trait is sealed: it is implemented for these two only.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be distributed: it is not a call",
    label = "neither a `Call` nor a pair of a key and a `Call`",
    note = "give `.distribute()` calls that are not awaited yet, as `arith.sum(values)` or `(key, arith.sum(values))`",
    note = "calls that return streams are not distributed: merge the streams, as with `futures::stream::select_all`"
)]
pub trait Distributable: sealed::Sealed {
    /// What the method returns.
    type Value;
    /// The method's own error.
    type Error;
    /// The call's key; `()` for a call without one.
    type Key;
    /// What is yielded for the call, where its value is given as a `V`.
    type Item<V>;
    /// What `try_next` and the like give for a call that succeeded.
    type Success<V>;
    /// What they give for a call that failed.
    type Failure;
    #[doc(hidden)]
    type Keys: Keys<Self::Key>;

    #[doc(hidden)]
    fn into_parts(self) -> (Self::Key, Call<Self::Value, Self::Error>);

    #[doc(hidden)]
    fn item<V>(key: Self::Key, result: Result<V, CallError<Self::Error>>) -> Self::Item<V>;

    #[doc(hidden)]
    fn into_result<V>(item: Self::Item<V>) -> Result<Self::Success<V>, Self::Failure>;
}

impl<T, E> Distributable for Call<T, E> {
    type Value = T;
    type Error = E;
    type Key = ();
    type Item<V> = Result<V, CallError<E>>;
    type Success<V> = V;
    type Failure = CallError<E>;
    type Keys = NoKeys;

    fn into_parts(self) -> ((), Self) {
        ((), self)
    }

    fn item<V>((): (), result: Result<V, CallError<E>>) -> Self::Item<V> {
        result
    }

    fn into_result<V>(item: Self::Item<V>) -> Result<V, CallError<E>> {
        item
    }
}

impl<K, T, E> Distributable for (K, Call<T, E>) {
    type Value = T;
    type Error = E;
    type Key = K;
    type Item<V> = (K, Result<V, CallError<E>>);
    type Success<V> = (K, V);
    type Failure = KeyedError<K, E>;
    type Keys = FxHashMap<u64, K>;

    fn into_parts(self) -> (K, Call<T, E>) {
        self
    }

    fn item<V>(key: K, result: Result<V, CallError<E>>) -> Self::Item<V> {
        (key, result)
    }

    fn into_result<V>((key, result): Self::Item<V>) -> Result<(K, V), KeyedError<K, E>> {
        match result {
            Ok(value) => Ok((key, value)),
            Err(error) => Err(KeyedError { key, error }),
        }
    }
}

/// The keys of calls that are pulled and have not ended, by the calls' numbers.
#[doc(hidden)]
pub trait Keys<K>: Default {
    fn insert(&mut self, call: u64, key: K);

    fn remove(&mut self, call: u64) -> Option<K>;
}

/// For calls without keys: nothing is kept.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct NoKeys;

impl Keys<()> for NoKeys {
    fn insert(&mut self, _: u64, (): ()) {}

    fn remove(&mut self, _: u64) -> Option<()> {
        Some(())
    }
}

impl<K> Keys<K> for FxHashMap<u64, K> {
    fn insert(&mut self, call: u64, key: K) {
        self.insert(call, key);
    }

    fn remove(&mut self, call: u64) -> Option<K> {
        self.remove(&call)
    }
}

/// Whether [`Distributed`](crate::Distributed) yields [`Values`] or [`Answers`]. Sealed.
pub trait Yields: sealed::Sealed {
    /// What is yielded for a call whose value is a `T`.
    type Of<T>;

    #[doc(hidden)]
    fn of<T>(value: T, reply: ReplyInfo<'_>) -> Self::Of<T>;
}

/// Values are yielded as the methods returned them. This is the default.
#[derive(Clone, Copy, Debug)]
pub enum Values {}

/// Values are yielded as [`Answer`]s; see [`Distributed::answers`](crate::Distributed::answers).
#[derive(Clone, Copy, Debug)]
pub enum Answers {}

/// How a reply came about.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct ReplyInfo<'a> {
    pub(super) node: &'a NodeIdentity,
    pub(super) attempts: u32,
    pub(super) elapsed: Duration,
    /// For one call.
    pub(super) run: Duration,
}

impl Yields for Values {
    type Of<T> = T;

    fn of<T>(value: T, _: ReplyInfo<'_>) -> T {
        value
    }
}

impl Yields for Answers {
    type Of<T> = Answer<T>;

    fn of<T>(value: T, reply: ReplyInfo<'_>) -> Answer<T> {
        let ReplyInfo { node, attempts, elapsed, run } = reply;
        Answer { value, node: node.clone(), attempts, elapsed, run }
    }
}

mod sealed {
    pub trait Sealed {}

    impl<T, E> Sealed for super::Call<T, E> {}
    impl<K, T, E> Sealed for (K, super::Call<T, E>) {}
    impl Sealed for super::Values {}
    impl Sealed for super::Answers {}
}
