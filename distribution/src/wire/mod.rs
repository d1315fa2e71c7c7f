//! Bytes to frames and back: everything about the wire, and nothing else.
//!
//! A connection ([`channel`]) opens with a handshake ([`handshake`]) and with what the [`authenticator`] requires: TLS, and a
//! [`proof`] of the secret that both ends have. Then frames follow ([`frame`]): tarpc's requests and responses, carried by a
//! [`transport`], and the control frames that manage the connection. Only [`codec`] knows how values become bytes.

pub(crate) mod authenticator;
pub(crate) mod batch;
mod bounded;
pub(crate) mod channel;
pub(crate) mod codec;
pub(crate) mod confirmations;
pub(crate) mod connection_state;
pub(crate) mod credential;
pub(crate) mod dial;
pub(crate) mod fetched_arguments;
pub(crate) mod frame;
mod freed_elsewhere;
pub(crate) mod handshake;
pub(crate) mod incoming_memory;
pub(crate) mod payload;
#[cfg(feature = "tls")]
mod proof;
pub(crate) mod repoller;
mod send_permit;
pub(crate) mod spare_frame;
pub(crate) mod streams;
#[cfg(feature = "tls")]
mod tls;
pub(crate) mod transport;

pub(crate) use self::{
    frame::{
        call::{Outcome, Refusal, Reply},
        caller::{CallRequest, CallerEnd, CallerRequestBody},
        control::{CloseReason, Load, RunReport, VitalsReport, WatchedCapacity},
        kind::Control,
        log, profile,
    },
    payload::Payload,
};
