//! The streams that are open wherever frames are read: those of one call, and its arguments, which are fetched from its caller.

use std::sync::Arc;

use bytes::Bytes;

use super::end::End;
use crate::wire::{
    connection_state::ConnectionState,
    handshake::StreamShape,
    incoming_memory::IncomingMemory,
    streams::{CallStreams, Contended, FETCHED, ItemPipe, Owed, StreamPeer, StreamRole},
};

/// The call and attempt that have streams.
const STREAMS: (u64, u32) = (9, 1);

/// The arguments that can be fetched.
const ARGUMENTS: &[u8] = &[7; 1000];

/// Held as long as frames are read.
pub(super) struct OpenStreams {
    _streams: CallStreams,
    _fetched: Option<Arc<ItemPipe>>,
}

/// Opens the streams at this end.
pub(super) fn open_streams(end: End, state: &Arc<ConnectionState>) -> OpenStreams {
    let streams = CallStreams::new(StreamShape { items: true, argument: true });
    match end {
        End::Master | End::Caller => {
            state.open_streams_of_call(STREAMS, &streams);
            streams.argument.iter().for_each(|pipe| pipe.put_item(|parts| parts.copy(b"\x03\0\0\0abc")));
        }
        End::Node | End::MasterOfCaller => {
            state.open_streams_of_handler(STREAMS, &streams);
            // Its handler has begun.
            streams.argument.iter().for_each(|pipe| pipe.on_consumed(0));
        }
    }
    let mut fetched = None;
    if end == End::Caller {
        state.streams().offer(STREAMS.0, Bytes::from_static(ARGUMENTS).into(), None);
    } else if end == End::MasterOfCaller {
        let pipe = ItemPipe::new(StreamRole::Argument);
        let peer = Arc::clone(state) as Arc<dyn StreamPeer>;
        let contended = Contended::Memory(IncomingMemory::new(ARGUMENTS.len()));
        state.streams().fetch(&peer, (STREAMS.0, FETCHED), &pipe, Owed::new(ARGUMENTS.len() as u64, contended, 1));
        pipe.require(ARGUMENTS.len() as u64);
        fetched = Some(pipe);
    }
    OpenStreams { _streams: streams, _fetched: fetched }
}
