//! A batch: consecutive calls of one method with the same options, which are sent as one request.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    error::CallError,
    service::{
        Call,
        dispatcher::{Capacity, Dispatcher},
        method::MethodInfo,
        options::{CallOptions, SubmitOptions},
        reply::DecodeReply,
        spans::CallTrace,
        state::CallState,
    },
    wire::{Payload, batch},
};

/// A batch with this many bytes of arguments is full. A call whose own arguments are as large is sent alone, and its
/// arguments are not copied.
const FULL: usize = 256 * 1024;

/// Calls that are not sent yet. A batch of one call is an ordinary call.
pub(super) struct Batch<T, E> {
    pub(super) destination: Destination<T, E>,
    /// The number of the first call in the input; the others follow it.
    pub(super) first: u64,
    pub(super) count: u32,
    content: Content,
}

/// What calls must have in common to be in one batch.
pub(super) struct Destination<T, E> {
    pub(super) dispatcher: Arc<dyn Dispatcher>,
    pub(super) method: Arc<MethodInfo>,
    pub(super) options: CallOptions,
    pub(super) decode: DecodeReply<T, E>,
}

impl<T, E> Destination<T, E> {
    /// The nodes that these calls can be sent to at this moment.
    pub(super) fn capacity(&self) -> Capacity {
        self.dispatcher.capacity(&self.method, &self.options)
    }

    /// When each of these calls ends at the latest, counted from when it is sent: its own timeout, or the master's.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.options.timeout.or_else(|| self.dispatcher.default_timeout())
    }
}

impl<T, E> Clone for Destination<T, E> {
    fn clone(&self) -> Self {
        Self {
            dispatcher: Arc::clone(&self.dispatcher),
            method: Arc::clone(&self.method),
            options: self.options.clone(),
            decode: self.decode,
        }
    }
}

enum Content {
    /// The arguments of the only call.
    One(Payload),
    /// The arguments of several calls, encoded as a batch.
    Many(Vec<u8>),
    /// The same, shared with a batch that was sent before.
    Shared(Bytes),
}

impl<T, E> Batch<T, E> {
    /// Begins a batch with this call.
    ///
    /// # Errors
    ///
    /// The error that the call already carries, for example because its arguments could not be encoded.
    pub(super) fn new(call: Call<T, E>, number: u64) -> Result<Self, CallError> {
        let mut call = call;
        call.require_whole_arguments("distribute");
        let Call { dispatcher, method, payload, options, decode, .. } = call;
        let content = Content::One(payload?);
        let destination = Destination { dispatcher, method, options, decode };
        Ok(Self { destination, first: number, count: 1, content })
    }

    /// Adds a call; gives it back if it has another destination or there is no room for it.
    pub(super) fn add(&mut self, call: Call<T, E>) -> Option<Call<T, E>> {
        let Destination { dispatcher, method, options, .. } = &self.destination;
        let belongs = Arc::ptr_eq(method, &call.method)
            && *options == call.options
            && std::ptr::addr_eq(Arc::as_ptr(dispatcher), Arc::as_ptr(&call.dispatcher));
        let Ok(payload) = &call.payload else { return Some(call) };
        if !belongs || self.bytes() + payload.len() > FULL {
            return Some(call);
        }
        let mut content = match std::mem::replace(&mut self.content, Content::Many(Vec::new())) {
            Content::Many(content) => content,
            Content::One(first) => {
                let mut content = Vec::with_capacity(1024);
                batch::append_call(&mut content, &first);
                content
            }
            Content::Shared(content) => content.to_vec(),
        };
        batch::append_call(&mut content, payload);
        self.content = Content::Many(content);
        self.count += 1;
        None
    }

    /// Calls of a batch that was sent before, to be sent again.
    pub(super) fn resend(destination: Destination<T, E>, first: u64, count: u32, content: Bytes) -> Self {
        Self { destination, first, count, content: Content::Shared(content) }
    }

    /// A single call that was sent before, to be sent again.
    pub(super) fn resend_one(destination: Destination<T, E>, first: u64, payload: Payload) -> Self {
        Self { destination, first, count: 1, content: Content::One(payload) }
    }

    /// Takes the first `count` calls off, which must be fewer than the batch has.
    pub(super) fn split(&mut self, count: u32) -> Self {
        let content = match &self.content {
            Content::Shared(content) => content.clone(),
            Content::Many(content) => Bytes::copy_from_slice(content),
            Content::One(payload) => payload.clone().into_bytes(),
        };
        let at = batch::skip(&content, count);
        let head = Self::resend(self.destination.clone(), self.first, count, content.slice(..at));
        self.content = Content::Shared(content.slice(at..));
        self.first += u64::from(count);
        self.count -= count;
        head
    }

    fn bytes(&self) -> usize {
        match &self.content {
            Content::One(payload) => payload.len(),
            Content::Many(content) => content.len(),
            Content::Shared(content) => content.len(),
        }
    }

    /// Turns the batch into one call as a dispatcher takes it.
    pub(super) fn into_state(self, submit_options: SubmitOptions) -> (Destination<T, E>, u64, Arc<CallState>) {
        let payload = match self.content {
            Content::One(payload) => payload,
            Content::Many(content) => Bytes::from(content).into(),
            Content::Shared(content) if self.count == 1 => batch::only(&content).into(),
            Content::Shared(content) => content.into(),
        };
        let Destination { method, options, .. } = &self.destination;
        let submit_options = SubmitOptions { count: self.count, exempt_from_limits: true, ..submit_options };
        let mut state = CallState::new(Arc::clone(method), payload, options.clone(), submit_options);
        state.trace = CallTrace::begin(method.name(), self.count);
        (self.destination, self.first, Arc::new(state))
    }
}
