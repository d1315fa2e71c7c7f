//! Arguments of which the last one is a stream.

use std::{cell::Cell, fmt};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    arguments::{DecodeArguments, EncodeArguments},
    stream::{ArgumentSource, ArgumentStream, ItemCodec, Streaming},
    structure::{RecordArguments, Recording},
};
use crate::{
    error::CodecError,
    wire::codec::{Decoder, Encoder},
};

/// Arguments as a client sends them: those before the stream, and the stream.
pub struct SentArguments<A, T> {
    before: A,
    stream: Cell<Option<Streaming<T>>>,
}

impl<A, T> SentArguments<A, T> {
    /// The arguments before the stream, and the stream.
    pub fn new(before: A, stream: Streaming<T>) -> Self {
        Self { before, stream: Cell::new(Some(stream)) }
    }
}

impl<A: fmt::Debug, T> fmt::Debug for SentArguments<A, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentArguments").field("before", &self.before).finish_non_exhaustive()
    }
}

impl<A: EncodeArguments, T: Serialize + Send + 'static> EncodeArguments for SentArguments<A, T> {
    fn encode(&self, encoder: &mut Encoder) -> Result<(), CodecError> {
        self.before.encode(encoder)
    }

    fn source(&self) -> Option<ArgumentSource> {
        self.stream.take().map(|stream| stream.into_source(ItemCodec::encode()))
    }
}

impl<A: RecordArguments, T: DeserializeOwned + 'static> RecordArguments for SentArguments<A, T> {
    fn record(recording: &mut Recording<'_>) {
        A::record(recording);
        recording.argument::<T>();
    }
}

/// Arguments as a handler gets them: those before the stream, and the stream.
#[derive(Debug)]
pub struct ReceivedArguments<A, T>(pub A, pub Streaming<T>);

impl<A: DecodeArguments, T: DeserializeOwned + Send + 'static> DecodeArguments for ReceivedArguments<A, T> {
    fn decode(decoder: &mut Decoder<'_>, stream: Option<ArgumentStream>) -> Result<Self, CodecError> {
        let before = A::decode(decoder, None)?;
        let Some(stream) = stream else { return Err(CodecError::new("the stream of the last argument is missing")) };
        Ok(Self(before, Streaming::received(stream, ItemCodec::decode())))
    }
}

impl<A: RecordArguments, T: DeserializeOwned + 'static> RecordArguments for ReceivedArguments<A, T> {
    fn record(recording: &mut Recording<'_>) {
        A::record(recording);
        recording.argument::<T>();
    }
}
