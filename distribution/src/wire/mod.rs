//! Bytes to frames and back: everything that is known about the wire, and nothing else.
//!
//! A connection opens with a [`hello`] from each side. After it come frames ([`frame`]): tarpc's
//! requests and responses, carried by a [`transport`], and beside them the few control frames that
//! manage the connection. How values become bytes is [`codec`]'s business alone.

pub(crate) mod batch;
pub(crate) mod codec;
pub(crate) mod frame;
pub(crate) mod hello;
pub(crate) mod payload;
pub(crate) mod transport;

pub(crate) use frame::{Control, Load, Outcome, Refusal, Reply};
pub(crate) use payload::Payload;
