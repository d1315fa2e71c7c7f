//! Values to bytes and back. The only module that knows bincode.
//!
//! bincode 2 with its standard settings (little endian, variable-length integers). The crate is frozen,
//! so its name and version travel in the preface of each connection, where a successor would show.

use bincode::{
    config::{Configuration, Limit, standard},
    enc::write::Writer,
    error::EncodeError,
};
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

use crate::error::CodecError;

/// Name and major version of the codec, as the preface carries it.
pub(crate) const CODEC_NAME: [u8; 8] = *b"bincode2";

/// Why a value did not become a payload.
#[derive(Debug)]
pub(crate) enum EncodePayloadError {
    /// It has this many bytes, which is more than fits.
    TooLarge(u64),
    /// Its `Serialize` failed.
    Codec(CodecError),
}

/// Encodes the value of a call: its arguments, its reply or its error.
///
/// Never holds more than `limit` bytes: past that the rest is only counted, so that the error can
/// name the size.
pub(crate) fn encode_payload<T: Serialize + ?Sized>(value: &T, limit: usize) -> Result<Bytes, EncodePayloadError> {
    let mut writer = LimitedWriter { bytes: Vec::new(), size: 0, limit };
    bincode::serde::encode_into_writer(value, &mut writer, standard())
        .map_err(|error| EncodePayloadError::Codec(CodecError::new(error)))?;
    if writer.size > limit as u64 {
        return Err(EncodePayloadError::TooLarge(writer.size));
    }
    Ok(Bytes::from(writer.bytes))
}

struct LimitedWriter {
    bytes: Vec<u8>,
    size: u64,
    limit: usize,
}

impl Writer for LimitedWriter {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.size += bytes.len() as u64;
        if self.size <= self.limit as u64 {
            self.bytes.extend_from_slice(bytes);
        } else {
            self.bytes = Vec::new();
        }
        Ok(())
    }
}

/// Decodes a value and insists that nothing is left over.
pub(crate) fn decode_payload<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, read) = decode_prefix(bytes)?;
    if read != bytes.len() {
        return Err(CodecError::new(format_args!("{} bytes are left over after the value", bytes.len() - read)));
    }
    Ok(value)
}

/// Decodes the value that `bytes` begin with, and says how many of them it took.
pub(crate) fn decode_prefix<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), CodecError> {
    // bincode reserves a string's or byte buffer's claimed length before it looks whether so much
    // is there, and bounds the claim only by a constant. So the constant is picked by what arrived.
    // A varint claims at most 16 bytes for each byte on the wire (a u128), which makes sixteen times
    // the payload the smallest limit that no honest value meets.
    const KIB: usize = 1024;
    const MIB: usize = 1024 * KIB;
    const GIB: usize = 1024 * MIB;
    match bytes.len() {
        0..=65_536 => decode_limited::<T, MIB>(bytes),
        65_537..=4_194_304 => decode_limited::<T, { 64 * MIB }>(bytes),
        4_194_305..=67_108_864 => decode_limited::<T, GIB>(bytes),
        67_108_865..=268_435_456 => decode_limited::<T, { 4 * GIB }>(bytes),
        268_435_457..=1_073_741_824 => decode_limited::<T, { 16 * GIB }>(bytes),
        _ => decode_limited::<T, { 64 * GIB }>(bytes),
    }
}

fn decode_limited<T: DeserializeOwned, const LIMIT: usize>(bytes: &[u8]) -> Result<(T, usize), CodecError> {
    const fn limited<const LIMIT: usize>()
    -> Configuration<bincode::config::LittleEndian, bincode::config::Varint, Limit<LIMIT>> {
        standard().with_limit::<LIMIT>()
    }
    bincode::serde::decode_from_slice(bytes, limited::<LIMIT>()).map_err(CodecError::new)
}

/// Encodes one of our own headers onto the end of `buffer`.
///
/// # Errors
///
/// None in practice: headers are plain structs, whose encoding cannot fail.
pub(crate) fn encode_header<T: Serialize>(header: &T, buffer: &mut BytesMut) -> Result<(), CodecError> {
    struct Appender<'a>(&'a mut BytesMut);
    impl Writer for Appender<'_> {
        #[inline]
        fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
            self.0.put_slice(bytes);
            Ok(())
        }
    }
    bincode::serde::encode_into_writer(header, Appender(buffer), standard()).map_err(CodecError::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let value = (vec![1u64, 2, u64::MAX], "text".to_owned(), Some(-5i128), [1.5f64; 3]);
        let bytes = encode_payload(&value, 1000).expect("fits");
        let back: (Vec<u64>, String, Option<i128>, [f64; 3]) = decode_payload(&bytes).expect("decodes");
        assert_eq!(back, value);
    }

    #[test]
    fn a_value_over_the_limit_is_counted_and_not_kept() {
        match encode_payload(&vec![0u8; 5000], 100) {
            Err(EncodePayloadError::TooLarge(size)) => assert_eq!(size, 5003),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_length_that_lies_is_refused_before_memory_is_reserved() {
        // A string that claims 2^62 bytes, and one that claims a mere 3 GiB.
        for claimed in [1u64 << 62, 3 << 30] {
            let mut bytes = vec![253];
            bytes.extend_from_slice(&claimed.to_le_bytes());
            assert!(decode_payload::<String>(&bytes).is_err());
            assert!(decode_payload::<Vec<u64>>(&bytes).is_err());
        }
    }

    #[test]
    fn the_densest_honest_value_passes_each_limit() {
        for count in [65_000usize, 70_000, 4_200_000] {
            let value = vec![0u128; count];
            let bytes = encode_payload(&value, usize::MAX).expect("encodes");
            assert_eq!(decode_payload::<Vec<u128>>(&bytes).expect("decodes").len(), count);
        }
    }

    #[test]
    fn bytes_left_over_are_an_error() {
        assert!(decode_payload::<u8>(&[1, 2]).is_err());
    }
}
