//! What a node's outcome is to a caller, where it is no value.

use crate::{
    error::{CallError, CodecError, Part},
    id::{MethodName, NodeIdentity},
    wire::{Outcome, Refusal},
};

/// The error that ends a call with this outcome. `None` for one that does not: a value, the method's own
/// error, or a refusal after which the call goes elsewhere.
pub(crate) fn failure(method: MethodName, node: &NodeIdentity, outcome: &Outcome) -> Option<CallError> {
    Some(match outcome {
        Outcome::Panicked(message) => CallError::Panicked { method, node: node.clone(), message: printable(message) },
        Outcome::Refused(Refusal::Decode(message)) => {
            CallError::Decode { method, part: Part::Arguments, source: CodecError::new(printable(message)) }
        }
        Outcome::Encode(message) => {
            CallError::Encode { method, part: Part::Reply, source: CodecError::new(printable(message)) }
        }
        Outcome::TooLarge { size, limit } => {
            CallError::TooLarge { method, part: Part::Reply, size: *size, limit: *limit }
        }
        Outcome::Value | Outcome::Error | Outcome::Stopped | Outcome::Lost(_) | Outcome::Refused(_) => return None,
    })
}

/// What a peer says, for people to read: cut, and without the control characters that would let it
/// pass for something else on a terminal.
pub(crate) fn printable(text: &str) -> String {
    const MOST: usize = 4096;
    let mut shown = String::new();
    for character in text.chars() {
        if shown.len() >= MOST {
            shown.push_str(" …");
            break;
        }
        if character.is_control() && character != '\n' && character != '\t' {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}
