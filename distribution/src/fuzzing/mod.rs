//! The decoders behind the network, for fuzzing and for tests from outside. Not public API: the module
//! exists with the feature `fuzzing` only.
//!
//! `receive`, `introduce`, `read` and `decode` take bytes as a peer might send them, and return what they mean; beside
//! each is a function that makes such bytes. `preface`, `registration`, `frames`
//! and `payload` are laws, that is, what holds for any bytes whatsoever: they panic where it does not.
//! The fuzz targets are these four, and the tests replay the targets' corpora through them. `messages` gives a sample
//! of each error, event and reason that users read.

use crate::text::is_plain;

/// The version of the protocol, as it stands in the preface.
pub const PROTOCOL_VERSION: u16 = crate::wire::handshake::codes::PROTOCOL_VERSION;

mod caller_frames;
mod end;
mod frames;
mod handshake;
mod memory;
mod messages;
mod payload;
mod streams;
mod structure;

pub use end::{ENDS, End};
pub use frames::{Frame, Reading, frames, read, write};
pub use handshake::{
    Hello, MethodKey, Offer, Registration, introduce, introduce_caller, method_id, method_ids, preface, receive,
    receive_caller, registration,
};
pub use messages::{Message, messages};
pub use payload::{Library, Numbers, Shape, decode, encode, payload};
pub use structure::{Seen, structure};

/// The pieces that each law cuts its bytes into: all at once, byte by byte, and unevenly.
const SPLITS: [&[usize]; 3] = [&[], &[1], &[3, 1, 7, 2, 60]];

/// Holds what the peer made us say to what a log can stand: one line, and not a long one.
fn assert_fit_for_a_log(text: &str) {
    assert!(is_plain(text) && text.len() < 1000, "{text:?}");
}
