//! What moves the items of streams between programs and their pipes, on both ends.
//!
//! | file | what it does |
//! |---|---|
//! | `codec.rs` | an item to bytes and back |
//! | `sender.rs` | puts items into a pipe |
//! | `receiver.rs` | takes items out of a pipe |
//! | `streaming.rs` | `Streaming`: a stream as the last argument, at both ends |
//! | `produce.rs` | runs a handler that returns a stream |

mod codec;
mod produce;
mod receiver;
mod sender;
mod streaming;

pub(crate) use self::{
    codec::{DecodeItem, ItemCodec},
    receiver::{ItemReceiver, Next},
    streaming::{ArgumentFailure, ArgumentSource, ArgumentStream, Pump, PumpError},
};
pub use self::{
    produce::{Items, Produced},
    streaming::{Streaming, StreamingIter},
};
