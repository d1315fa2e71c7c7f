//! The part of a generated client that does not depend on the trait.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::{
    arguments::EncodeArguments,
    call::Call,
    dispatcher::{Caller, Dispatcher},
    method::{Method, MethodInfo, Usage},
    reply::DecodeReply,
    stream::ItemCodec,
    stream_call::StreamCall,
    structure::{RecordArguments, Structure},
};
use crate::{
    error::{CallError, Part},
    wire::codec::{EncodePayloadError, Encoder},
};

/// The part of a generated client that does not depend on the trait.
#[derive(Clone, Debug)]
pub struct RawClient {
    dispatcher: Arc<dyn Dispatcher>,
}

impl RawClient {
    /// A client that calls through `caller`.
    pub fn new(caller: &(impl Caller + ?Sized)) -> Self {
        Self { dispatcher: caller.dispatcher() }
    }

    /// A call to a method that has no error of its own.
    pub fn call<A, T>(&self, method: &'static Method, arguments: &A) -> Call<T>
    where
        A: EncodeArguments + RecordArguments,
        T: DeserializeOwned + 'static,
    {
        let method = method.recorded(Usage::Called, Structure::plain::<A, T>);
        self.make(method, arguments, DecodeReply::plain())
    }

    /// A call to a method that returns a stream of values.
    pub fn stream<A, T>(&self, method: &'static Method, arguments: &A) -> StreamCall<T>
    where
        A: EncodeArguments + RecordArguments,
        T: DeserializeOwned + 'static,
    {
        let method = method.recorded(Usage::Called, Structure::plain::<A, T>);
        StreamCall::new(self.make(method, arguments, DecodeReply::plain()), ItemCodec::decode_value())
    }

    /// A call to a method that returns a stream of results.
    pub fn stream_fallible<A, T, E>(&self, method: &'static Method, arguments: &A) -> StreamCall<T, E>
    where
        A: EncodeArguments + RecordArguments,
        T: DeserializeOwned + 'static,
        E: DeserializeOwned + 'static,
    {
        let method = method.recorded(Usage::Called, Structure::fallible::<A, T, E>);
        StreamCall::new(self.make(method, arguments, DecodeReply::plain()), ItemCodec::decode_result())
    }

    /// A call to a method that returns a `Result`.
    pub fn call_fallible<A, T, E>(&self, method: &'static Method, arguments: &A) -> Call<T, E>
    where
        A: EncodeArguments + RecordArguments,
        T: DeserializeOwned + 'static,
        E: DeserializeOwned + 'static,
    {
        let method = method.recorded(Usage::Called, Structure::fallible::<A, T, E>);
        self.make(method, arguments, DecodeReply::fallible())
    }

    fn make<A: EncodeArguments, T, E>(
        &self,
        method: &Arc<MethodInfo>,
        arguments: &A,
        decode: DecodeReply<T, E>,
    ) -> Call<T, E> {
        let limits = self.dispatcher.argument_limits();
        let mut encoder = Encoder::new(limits);
        let encoded = arguments.encode(&mut encoder).map_err(EncodePayloadError::Codec);
        let payload = encoded.and_then(|()| encoder.finish()).map_err(|error| match error {
            EncodePayloadError::TooLarge(size) => CallError::TooLarge {
                call: method.name().into(),
                part: Part::Arguments,
                size,
                limit: limits.bytes as u64,
            },
            EncodePayloadError::Codec(source) => {
                CallError::Encode { call: method.name().into(), part: Part::Arguments, source }
            }
        });
        let call = Call::new(Arc::clone(&self.dispatcher), Arc::clone(method), payload, decode);
        call.with_source(arguments.source())
    }
}
