//! A connection as tarpc sees it: a stream and a sink of its messages, over our frames.
//!
//! Requests and responses pass through to tarpc. Control frames do not: those that arrive go to a callback at once, in
//! order; those to be sent wait in the [`ConnectionState`](super::connection_state::ConnectionState) and travel with the
//! next write. A payload is written from the memory that it was encoded into, and handed on in the memory that it was read
//! into, so only the kernel copies it.

mod asking_again;
pub(crate) mod caller;
pub(crate) mod caller_at_master;
#[cfg(test)]
mod chunk_tests;
pub(crate) mod end_on_error;
mod frame_rate;
mod frame_stream;
mod frames;
mod incoming_messages;
pub(crate) mod master;
pub(crate) mod node;
mod outgoing;
mod pending_sends;
mod slow;
mod trace;
mod window;

pub(crate) use self::{
    asking_again::AskingAgain,
    caller::{CallerReply, CallerTransport, Describe, OutgoingCallerRequest, is_fetched},
    caller_at_master::{CallerAtMasterTransport, IncomingCallerRequest, OutgoingCallerReply},
    frame_stream::OnControl,
    master::{AttemptGivenUp, MasterTransport, OutgoingRequest},
    node::{AttemptKey, IncomingRequest, NodeTransport, OutgoingReply},
};
pub(crate) use super::send_permit::{ONLY_ATTEMPT, SendPermit};
