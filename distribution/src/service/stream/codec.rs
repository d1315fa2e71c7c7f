//! An item to bytes and back. Function pointers, so that what carries items needs no bounds on their type.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::CodecError,
    service::panics::decoded,
    wire::codec::{Decoder, Encoder},
};

/// In front of an item of a method whose items are results.
const OK: u8 = 0;
const ERR: u8 = 1;

/// How an item is encoded.
pub(crate) type EncodeItem<I> = fn(&I, &mut Encoder) -> Result<(), CodecError>;

/// How an item is decoded. It does not panic.
pub(crate) type DecodeItem<I> = fn(Decoder<'_>) -> Result<I, CodecError>;

/// The functions for items of one type.
pub(crate) struct ItemCodec;

impl ItemCodec {
    pub(crate) fn encode<T: Serialize + 'static>() -> EncodeItem<T> {
        |item, encoder| encoder.put(item)
    }

    pub(crate) fn encode_result<T: Serialize + 'static, E: Serialize + 'static>() -> EncodeItem<Result<T, E>> {
        // One by one, because the codec has a short way for some types, which it can only take where it sees them.
        |item, encoder| match item {
            Ok(value) => {
                encoder.put_raw(&[OK]);
                encoder.put(value)
            }
            Err(error) => {
                encoder.put_raw(&[ERR]);
                encoder.put(error)
            }
        }
    }

    pub(crate) fn decode<T: DeserializeOwned + 'static>() -> DecodeItem<T> {
        |decoder| decoded(|| decoder.only())
    }

    /// For items that are values, and not results.
    pub(crate) fn decode_value<T: DeserializeOwned + 'static, E>() -> DecodeItem<Result<T, E>> {
        |decoder| decoded(|| decoder.only()).map(Ok)
    }

    pub(crate) fn decode_result<T: DeserializeOwned + 'static, E: DeserializeOwned + 'static>()
    -> DecodeItem<Result<T, E>> {
        |mut decoder| match decoder.take_byte()? {
            OK => decoded(|| decoder.only()).map(Ok),
            ERR => decoded(|| decoder.only()).map(Err),
            other => Err(CodecError::new(format_args!("an item is neither a value nor an error, but of kind {other}"))),
        }
    }
}
