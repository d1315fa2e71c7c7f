//! Streams as programs see them: a call whose value is a stream, a stream as an argument, and what runs them on both ends.
//!
//! | file | what it does |
//! |---|---|
//! | `codec.rs` | an item to bytes and back |
//! | `sender.rs` | puts items into a pipe |
//! | `receiver.rs` | takes items out of a pipe |
//! | `call.rs` | `StreamCall`: what a client returns for a method that returns a stream |
//! | `streaming.rs` | `Streaming`: a stream as the last argument, at both ends |
//! | `arguments.rs` | arguments of which the last one is a stream |
//! | `produce.rs` | runs a handler that returns a stream |

mod arguments;
mod call;
mod codec;
mod produce;
mod receiver;
mod sender;
mod streaming;

pub use self::{
    arguments::{ReceivedArguments, SentArguments},
    call::{StreamCall, StreamIter},
    produce::{Items, Produced},
    streaming::{Streaming, StreamingIter},
};
pub(crate) use self::{
    codec::ItemCodec,
    streaming::{ArgumentFailure, ArgumentSource, ArgumentStream, Pump, PumpError},
};
