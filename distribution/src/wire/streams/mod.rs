//! Streams: items that travel beside a call, in frames of their own.
//!
//! A stream is bytes: each item stands behind its length in four bytes, and frames cut the bytes wherever they like. Both ends
//! count the bytes from the beginning of the stream. The consumer grants credit as it consumes: up to which byte the producer
//! may send.
//!
//! | file | what it does |
//! |---|---|
//! | `pipe.rs`, `state.rs` | the bytes of one stream between its producer and its consumer, of which one or both are connections |
//! | `peer.rs` | a connection, as a stream that goes over it sees it |
//! | `window.rs` | how much credit a consumer in this process grants |
//! | `call_streams.rs` | the streams of one call |
//! | `table.rs` | the streams of one connection |

mod call_streams;
mod offers;
mod peer;
mod pipe;
mod state;
mod table;
#[cfg(test)]
mod tests;
mod window;

pub(crate) use self::{
    call_streams::CallStreams,
    offers::{Contended, Owed},
    peer::{FETCHED, Piece, StreamKey, StreamPeer, StreamToSend},
    pipe::ItemPipe,
    state::{Closed, Parts, StreamRole, Taken},
    table::{Known, StreamTable},
};
