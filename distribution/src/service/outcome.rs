//! The error with which a call ends, for each outcome on a node that is not a value.

use crate::{
    error::{CallError, CodecError, Part},
    id::{MethodName, NodeIdentity},
    text::{LONGEST, in_lines},
    wire::{Outcome, Refusal},
};

/// The error that ends a call with this outcome. `None` for an outcome that does not: a value, the method's own error, or
/// a refusal after which the call goes to another node.
pub(crate) fn failure(method: &MethodName, node: &NodeIdentity, outcome: &Outcome) -> Option<CallError> {
    Some(match outcome {
        Outcome::Panicked(message) => {
            CallError::Panicked { call: method.into(), node: node.clone(), message: in_lines(message, LONGEST) }
        }
        Outcome::Refused(Refusal::Decode(message)) => {
            CallError::Decode { call: method.into(), part: Part::Arguments, source: CodecError::new(message) }
        }
        Outcome::Encode(message) => {
            CallError::Encode { call: method.into(), part: Part::Reply, source: CodecError::new(message) }
        }
        Outcome::TooLarge { size, limit } => {
            CallError::TooLarge { call: method.into(), part: Part::Reply, size: *size, limit: *limit }
        }
        Outcome::DecodeItem(message) => {
            CallError::Decode { call: method.into(), part: Part::Item, source: CodecError::new(message) }
        }
        Outcome::Value | Outcome::Error | Outcome::Stopped | Outcome::Lost(_) | Outcome::Refused(_) => return None,
    })
}
