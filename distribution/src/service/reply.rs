//! How the bytes of a reply become a value or the method's own error.

use std::{convert::Infallible, time::Duration};

use serde::de::DeserializeOwned;

use super::{panics::decoded, state::RawAnswer};
use crate::{
    error::{CallError, CallIdentity, Part},
    id::NodeIdentity,
    wire::codec::Decoder,
};

/// A call's value, with the node that it came from, the number of attempts and the times.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer<T> {
    /// What the method returned.
    pub value: T,
    /// The node it ran on.
    pub node: NodeIdentity,
    /// How often it was sent to a node: 1 unless nodes were lost, or the answer came from the second node of a call that
    /// [`hedge`](crate::Distributed::hedge) had sent to two.
    pub attempts: u32,
    /// From being sent until the reply was here.
    pub elapsed: Duration,
    /// How long the handler ran on the node.
    pub run: Duration,
}

type Decode<T> = for<'a> fn(Decoder<'a>) -> Result<T, crate::error::CodecError>;

/// How a reply becomes typed again. Function pointers, so that a call needs no bounds on its types.
#[derive(Debug)]
pub(crate) struct DecodeReply<T, E> {
    value: Decode<T>,
    error: Option<Decode<E>>,
}

impl<T, E> Clone for DecodeReply<T, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, E> Copy for DecodeReply<T, E> {}

impl<T: DeserializeOwned + 'static> DecodeReply<T, Infallible> {
    pub(crate) fn plain() -> Self {
        Self { value: |decoder| decoder.only(), error: None }
    }
}

impl<T: DeserializeOwned + 'static, E: DeserializeOwned + 'static> DecodeReply<T, E> {
    pub(crate) fn fallible() -> Self {
        Self { value: |decoder| decoder.only(), error: Some(|decoder| decoder.only()) }
    }
}

impl<T, E> DecodeReply<T, E> {
    /// A value, or the method's own error. Runs in the caller's own poll, and does not panic.
    pub(crate) fn decode_one(
        &self,
        call: impl Fn() -> CallIdentity,
        is_error: bool,
        payload: Decoder<'_>,
    ) -> Result<T, CallError<E>> {
        let failed = |source| CallError::Decode { call: call(), part: Part::Reply, source };
        if is_error {
            let decode = self.error.ok_or_else(|| {
                failed(crate::error::CodecError::new("the node sent an error, and the method declares none"))
            })?;
            return Err(decoded(|| decode(payload)).map_or_else(failed, CallError::Handler));
        }
        decoded(|| (self.value)(payload)).map_err(failed)
    }

    pub(super) fn decode(
        &self,
        call: &CallIdentity,
        raw: RawAnswer,
        max_depth: u16,
    ) -> Result<Answer<T>, CallError<E>> {
        let value = self.decode_one(|| call.clone(), raw.is_error, Decoder::new(&raw.payload, max_depth))?;
        Ok(Answer { value, node: raw.node, attempts: raw.attempts, elapsed: raw.elapsed, run: raw.run })
    }
}
