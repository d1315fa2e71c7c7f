//! The parts of errors, and of the events that have reasons.
//!
//! [`CallError`] ends a call, [`Error`] the start or the life of a master or node; both are at the crate's root too. What
//! they consist of is here: [`Execution`] says whether a handler ran, [`GoneReason`] why a node is no longer registered,
//! [`CallStage`] how far a call had come. [`AdminError`] says why a master did not do what an administrator asked for.

mod admin;
mod call;
mod gone;
mod identity;
mod keyed;
mod parts;
mod start;

pub use admin::AdminError;
pub use call::CallError;
pub use gone::GoneReason;
pub use identity::CallIdentity;
pub use keyed::KeyedError;
pub(crate) use parts::ITS_MAKER;
pub use parts::{CallStage, CodecError, Execution, LimitOf, Part, QueueUnit};
pub use start::{Endpoint, Error};

pub use crate::id::{ParseCallIdError, ParseNodeIdError};
