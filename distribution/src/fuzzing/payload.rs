//! Arguments and replies, as values of many types.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::CString,
    net::SocketAddr,
    num::NonZeroU32,
    ops::Range,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    config::MAX_DEPTH,
    error::CodecError,
    wire::{
        Payload,
        codec::{Decoder, encode_payload},
    },
};

/// Encodes the value of a call.
///
/// # Errors
///
/// [`CodecError`] where its `Serialize` fails or it takes more than `limit` bytes.
pub fn encode<T: Serialize + 'static>(value: &T, limit: usize) -> Result<Bytes, CodecError> {
    encode_payload(value, limit).map(Payload::into_bytes).map_err(|error| CodecError::new(format_args!("{error:?}")))
}

/// Decodes the value of a call.
///
/// # Errors
///
/// [`CodecError`] if the bytes are not such a value.
pub fn decode<T: DeserializeOwned + 'static>(bytes: &[u8]) -> Result<T, CodecError> {
    Decoder::new(&Bytes::copy_from_slice(bytes), MAX_DEPTH).only()
}

/// What a value that was decoded from `taken` bytes comes to after another journey. It never takes more
/// bytes this time: numbers are written in as few as they need.
pub(super) fn round_trip<T: Serialize + DeserializeOwned + 'static>(value: &T, taken: usize) -> T {
    let encoded = encode(value, taken).expect("what was decoded can be encoded, and in no more bytes");
    decode(&encoded).expect("what was encoded can be decoded")
}

/// The law for any bytes as the value of a call, of whichever type: they are none, or a value that
/// survives another journey.
pub fn payload(bytes: &[u8]) {
    survives::<String>(bytes);
    survives::<Vec<u8>>(bytes);
    survives::<Vec<i64>>(bytes);
    survives::<Bytes>(bytes);
    survives::<Vec<i8>>(bytes);
    survives::<Vec<f32>>(bytes);
    survives::<Vec<f64>>(bytes);
    survives::<(u64, String, Option<Vec<String>>)>(bytes);
    survives::<Vec<Option<Vec<String>>>>(bytes);
    survives::<BTreeMap<i32, (BTreeSet<char>, Result<String, u8>)>>(bytes);
    survives::<Numbers>(bytes);
    survives::<Vec<Shape<'static>>>(bytes);
    survives::<Library>(bytes);
    if let Ok(map) = decode::<HashMap<String, Vec<u64>>>(bytes) {
        // It has no order, so its bytes may differ.
        assert_eq!(round_trip(&map, bytes.len()), map);
    }
}

/// Compares bytes and not values, as there are floats that equal nothing.
fn survives<T: Serialize + DeserializeOwned + 'static>(bytes: &[u8]) {
    let Ok(value) = decode::<T>(bytes) else { return };
    let again = round_trip(&value, bytes.len());
    assert_eq!(encode(&again, usize::MAX), encode(&value, usize::MAX));
}

/// A number of each width, and what is close to one.
#[derive(Debug, Serialize, Deserialize)]
pub struct Numbers {
    small: (u8, i8, bool, char),
    middle: [u16; 3],
    large: (u128, i128, Option<Box<i64>>),
    real: (f32, f64),
    nothing: (),
}

/// A variant of each form, which can lie in one another.
#[derive(Debug, Serialize, Deserialize)]
pub enum Shape<'a> {
    /// Without a value.
    Point,
    /// With one.
    Named(Cow<'a, str>),
    /// With several.
    Circle(f64, Vec<Self>),
    /// With names for them.
    Box {
        /// A number.
        width: u32,
        /// A map that need not be there.
        tags: Option<BTreeMap<String, i16>>,
    },
}

/// Types of the standard library that check what they are made from.
#[derive(Debug, Serialize, Deserialize)]
pub struct Library {
    time: (Duration, SystemTime),
    addr: SocketAddr,
    path: (PathBuf, CString),
    range: Range<u64>,
    count: Option<NonZeroU32>,
    shared: Arc<str>,
}
