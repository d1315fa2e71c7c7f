//! Bytes to frames and back: everything that is known about the wire, and nothing else.
//!
//! A connection ([`channel`]) opens with a [`hello`] from each side, and with what the [`authenticator`] demands: TLS, and a
//! [`proof`] of the secret that both have. After it come frames ([`frame`]): tarpc's
//! requests and responses, carried by a [`transport`], and beside them the few control frames that
//! manage the connection. How values become bytes is [`codec`]'s business alone.

pub(crate) mod again;
pub(crate) mod authenticator;
pub(crate) mod batch;
mod bounded;
pub(crate) mod budget;
pub(crate) mod channel;
pub(crate) mod codec;
pub(crate) mod credential;
pub(crate) mod frame;
pub(crate) mod hello;
mod incoming;
pub(crate) mod payload;
#[cfg(feature = "tls")]
mod proof;
pub(crate) mod quiet;
pub(crate) mod side;
#[cfg(feature = "tls")]
mod tls;
pub(crate) mod transport;
pub(crate) mod unfinished;

pub(crate) use frame::{Control, Load, Outcome, Refusal, Reply};
pub(crate) use payload::Payload;
