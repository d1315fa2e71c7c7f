//! Calls that are to be sent together: of one method, with the same options, one behind the other.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    error::CallError,
    service::{
        Call,
        call::DecodeReply,
        caller::{CallOptions, CallState, Capacity, Dispatcher, Role},
        method::Method,
    },
    wire::{Payload, batch},
};

/// With so many bytes of arguments a batch is full. A call that has as many goes alone, and is not copied.
const FULL: usize = 256 * 1024;

/// Calls, not sent yet.
pub(super) struct Parcel<T, E> {
    pub(super) address: Address<T, E>,
    /// Which call the first is, as they came in; the others follow it.
    pub(super) first: u64,
    pub(super) count: u32,
    content: Content,
}

/// What calls must have in common to travel together.
pub(super) struct Address<T, E> {
    pub(super) dispatcher: Arc<dyn Dispatcher>,
    pub(super) method: &'static Method,
    pub(super) options: CallOptions,
    pub(super) decode: DecodeReply<T, E>,
}

impl<T, E> Address<T, E> {
    /// Where these calls can go.
    pub(super) fn capacity(&self) -> Capacity {
        self.dispatcher.capacity(self.method, &self.options)
    }
}

impl<T, E> Clone for Address<T, E> {
    fn clone(&self) -> Self {
        Self { dispatcher: Arc::clone(&self.dispatcher), options: self.options.clone(), ..*self }
    }
}

enum Content {
    /// The arguments of the only call.
    One(Payload),
    /// Those of several, as they travel.
    Many(Vec<u8>),
    /// The same, from a batch that was sent before.
    Again(Bytes),
}

impl<T, E> Parcel<T, E> {
    /// Begins one with this call; gives an error that it carries already.
    pub(super) fn new(call: Call<T, E>, number: u64) -> Result<Self, CallError> {
        let Call { dispatcher, method, payload, options, decode } = call;
        let content = Content::One(payload?);
        Ok(Self { address: Address { dispatcher, method, options, decode }, first: number, count: 1, content })
    }

    /// Adds a call; gives one back that does not belong here or has no room.
    pub(super) fn add(&mut self, call: Call<T, E>) -> Option<Call<T, E>> {
        let Address { dispatcher, method, options, .. } = &self.address;
        let belongs = std::ptr::eq(*method, call.method)
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
            Content::Again(content) => content.to_vec(),
        };
        batch::append_call(&mut content, payload);
        self.content = Content::Many(content);
        self.count += 1;
        None
    }

    /// Calls of a batch that was sent, and did not run.
    pub(super) fn again(address: Address<T, E>, first: u64, count: u32, content: Bytes) -> Self {
        Self { address, first, count, content: Content::Again(content) }
    }

    /// A single call that was sent.
    pub(super) fn one(address: Address<T, E>, first: u64, payload: Payload) -> Self {
        Self { address, first, count: 1, content: Content::One(payload) }
    }

    /// Takes the first `count` calls off, which must be fewer than there are.
    pub(super) fn split(&mut self, count: u32) -> Self {
        let content = match &self.content {
            Content::Again(content) => content.clone(),
            Content::Many(content) => Bytes::copy_from_slice(content),
            Content::One(payload) => payload.clone().into_bytes(),
        };
        let at = batch::skip(&content, count);
        let head = Self::again(self.address.clone(), self.first, count, content.slice(..at));
        self.content = Content::Again(content.slice(at..));
        self.first += u64::from(count);
        self.count -= count;
        head
    }

    pub(super) fn bytes(&self) -> usize {
        match &self.content {
            Content::One(payload) => payload.len(),
            Content::Many(content) => content.len(),
            Content::Again(content) => content.len(),
        }
    }

    /// Puts it into the form in which it is sent.
    pub(super) fn pack(self, role: Role) -> (Address<T, E>, u64, Arc<CallState>) {
        let payload = match self.content {
            Content::One(payload) => payload,
            Content::Many(content) => Bytes::from(content).into(),
            Content::Again(content) if self.count == 1 => batch::only(&content).into(),
            Content::Again(content) => content.into(),
        };
        let Address { method, options, .. } = &self.address;
        let role = Role { count: self.count, patient: true, ..role };
        let state = Arc::new(CallState::new(method, payload, options.clone(), role));
        (self.address, self.first, state)
    }
}
