//! Values to bytes and back. Only this module knows bincode.
//!
//! bincode 2 with its standard settings (little endian, variable-length integers). The crate is frozen, so its name and
//! version are in the preface of each connection, and a successor can be told from it.

use std::{any::Any, cell::RefCell, marker::PhantomData, ops::Range};

use bincode::{
    config::standard,
    enc::write::Writer,
    error::{DecodeError, EncodeError},
};
use bytemuck::{NoUninit, Pod};
use bytes::{BufMut, Bytes, BytesMut};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, DeserializeSeed},
};

use super::{
    bounded::{Bounds, Budget, Leveled},
    payload::Payload,
};
use crate::{
    config::{MAX_DEPTH, ValueLimits},
    error::CodecError,
};

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

/// Encodes a message of this crate, or a value in one piece.
pub(crate) fn encode_payload<T: Serialize + 'static>(value: &T, limit: usize) -> Result<Payload, EncodePayloadError> {
    let mut encoder = Encoder::new(ValueLimits::of_bytes(limit));
    encoder.put(value).map_err(EncodePayloadError::Codec)?;
    encoder.finish()
}

/// `Bytes` of at least this length are not copied: they are written from the memory that they are in, and, if they are most of
/// their frame, handed on in the memory that they were read into.
const APART: usize = 8 * 1024;

thread_local! {
    /// The buffer in which values are encoded until their size is known, so that a small value allocates no memory.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Encodes values one behind the other.
///
/// [`Bytes`] and vectors of floats and bytes are copied whole, because serde would pass each element by itself. The bytes are
/// the same. This is only so if they are the whole value, and not a part of one.
///
/// It never holds more bytes than its limit. Beyond it bytes are only counted, so that the error can name the size.
#[derive(Debug)]
pub struct Encoder {
    buffer: Vec<u8>,
    /// Bytes that are not in the buffer, each with the place in the buffer where it belongs, in order.
    apart: Vec<(usize, Bytes)>,
    size: u64,
    limits: ValueLimits,
}

/// A state of an [`Encoder`] that it can go back to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    buffer: usize,
    apart: usize,
    size: u64,
}

impl Encoder {
    pub(crate) fn new(limits: ValueLimits) -> Self {
        let buffer = SCRATCH.try_with(|scratch| scratch.take()).unwrap_or_default();
        Self { buffer, apart: Vec::new(), size: 0, limits }
    }

    /// Appends a value.
    pub(crate) fn put<T: Serialize + 'static>(&mut self, value: &T) -> Result<(), CodecError> {
        let any: &dyn Any = value;
        if let Some(bytes) = any.downcast_ref::<Bytes>() {
            self.put_bytes(bytes)
        } else if let Some(numbers) = any.downcast_ref::<Vec<u8>>() {
            self.put_numbers(numbers)
        } else if let Some(numbers) = any.downcast_ref::<Vec<i8>>() {
            self.put_numbers(numbers)
        } else if let Some(numbers) = any.downcast_ref::<Vec<f64>>().filter(|_| LITTLE_ENDIAN) {
            self.put_numbers(numbers)
        } else if let Some(numbers) = any.downcast_ref::<Vec<f32>>().filter(|_| LITTLE_ENDIAN) {
            self.put_numbers(numbers)
        } else {
            bincode::serde::encode_into_writer(Leveled::new(value, self.limits.depth), self, standard())
                .map_err(unencodable)
        }
    }

    fn put_bytes(&mut self, bytes: &Bytes) -> Result<(), CodecError> {
        if bytes.len() < APART {
            return self.put_numbers(bytes);
        }
        self.put_length(bytes.len())?;
        self.size += bytes.len() as u64;
        if self.is_within_limit() {
            self.apart.push((self.buffer.len(), bytes.clone()));
        }
        Ok(())
    }

    fn put_numbers<N: NoUninit>(&mut self, numbers: &[N]) -> Result<(), CodecError> {
        self.put_length(numbers.len())?;
        self.write(bytemuck::cast_slice(numbers)).map_err(unencodable)
    }

    fn put_length(&mut self, length: usize) -> Result<(), CodecError> {
        bincode::encode_into_writer(length as u64, self, standard()).map_err(unencodable)
    }

    /// Bytes so far, those over the limit included.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limits.bytes as u64
    }

    /// Limits what follows to this many bytes, whatever the limit was.
    pub(crate) fn allow(&mut self, more: usize) {
        self.limits.bytes = usize::try_from(self.size).unwrap_or(usize::MAX).saturating_add(more);
    }

    pub(crate) fn limits(&self) -> ValueLimits {
        self.limits
    }

    pub(crate) fn is_within_limit(&self) -> bool {
        self.size <= self.limit()
    }

    /// Bytes behind the mark.
    pub(crate) fn size_since(&self, mark: Mark) -> u64 {
        self.size - mark.size
    }

    /// The current state.
    pub(crate) fn mark(&self) -> Mark {
        Mark { buffer: self.buffer.len(), apart: self.apart.len(), size: self.size }
    }

    /// Removes everything behind the mark.
    pub(crate) fn rewind(&mut self, mark: Mark) {
        self.buffer.truncate(mark.buffer);
        self.apart.truncate(mark.apart);
        self.size = mark.size;
    }

    /// Appends bytes as they are.
    pub(crate) fn put_raw(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        if self.is_within_limit() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Removes everything.
    pub(crate) fn clear(&mut self) {
        self.buffer.clear();
        self.apart.clear();
        self.size = 0;
    }

    /// Passes the bytes on in order, and is empty then: `copy` gets those in the buffer, and `append` those in memory of their
    /// own.
    pub(crate) fn drain_into<C>(&mut self, context: &mut C, copy: fn(&mut C, &[u8]), append: fn(&mut C, Bytes)) {
        let mut rest = 0;
        // What is large is not copied.
        if self.apart.is_empty() && self.buffer.len() >= APART {
            append(context, Bytes::from(std::mem::take(&mut self.buffer)));
        }
        for (place, bytes) in self.apart.drain(..) {
            copy(context, &self.buffer[rest..place]);
            append(context, bytes);
            rest = place;
        }
        copy(context, &self.buffer[rest..]);
        self.clear();
    }

    /// Overwrites the bytes behind the mark.
    pub(crate) fn replace(&mut self, mark: Mark, bytes: &[u8]) {
        if let Some(place) = self.buffer.get_mut(mark.buffer..mark.buffer + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// The encoded values.
    ///
    /// # Errors
    ///
    /// If they are larger than the limit.
    pub(crate) fn finish(mut self) -> Result<Payload, EncodePayloadError> {
        if !self.is_within_limit() {
            return Err(EncodePayloadError::TooLarge(self.size));
        }
        let apart = std::mem::take(&mut self.apart);
        Ok(Payload::assemble(&mut self.buffer, apart))
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // Only a small buffer is kept, so that a thread does not keep the memory of its largest value.
        if (1..=APART).contains(&self.buffer.capacity()) {
            self.buffer.clear();
            let _ = SCRATCH.try_with(|scratch| scratch.replace(std::mem::take(&mut self.buffer)));
        }
    }
}

impl Writer for Encoder {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.put_raw(bytes);
        Ok(())
    }
}

/// Whether numbers lie in memory as they do on the wire.
const LITTLE_ENDIAN: bool = cfg!(target_endian = "little");

/// Decodes values that lie one behind the other.
#[derive(Debug)]
pub struct Decoder<'a> {
    bytes: &'a Bytes,
    at: usize,
    end: usize,
    budget: Budget,
    max_depth: u16,
}

impl<'a> Decoder<'a> {
    /// Decodes values that may be nested up to this depth.
    pub(crate) fn new(bytes: &'a Bytes, max_depth: u16) -> Self {
        Self { bytes, at: 0, end: bytes.len(), budget: Budget::for_message(bytes.len()), max_depth }
    }

    /// Decodes values in the first `length` bytes, which may be nested up to this depth.
    pub(crate) fn of_first(bytes: &'a Bytes, length: usize, max_depth: u16) -> Self {
        Self { bytes, at: 0, end: length, budget: Budget::for_message(length), max_depth }
    }

    /// Decodes a value and checks that nothing is left over.
    pub(crate) fn only<T: DeserializeOwned + 'static>(mut self) -> Result<T, CodecError> {
        let value = self.take()?;
        self.finish()?;
        Ok(value)
    }

    /// The next value.
    pub(crate) fn take<T: DeserializeOwned + 'static>(&mut self) -> Result<T, CodecError> {
        let mut value: Option<T> = None;
        let any: &mut dyn Any = &mut value;
        if let Some(value) = any.downcast_mut::<Option<Bytes>>() {
            *value = Some(self.take_bytes()?);
        } else if let Some(value) = any.downcast_mut::<Option<Vec<u8>>>() {
            *value = Some(self.take_numbers()?);
        } else if let Some(value) = any.downcast_mut::<Option<Vec<i8>>>() {
            *value = Some(self.take_numbers()?);
        } else if let Some(value) = any.downcast_mut::<Option<Vec<f64>>>().filter(|_| LITTLE_ENDIAN) {
            *value = Some(self.take_numbers()?);
        } else if let Some(value) = any.downcast_mut::<Option<Vec<f32>>>().filter(|_| LITTLE_ENDIAN) {
            *value = Some(self.take_numbers()?);
        }
        match value {
            Some(value) => Ok(value),
            None => self.take_any(),
        }
    }

    /// The next byte.
    pub(crate) fn take_byte(&mut self) -> Result<u8, CodecError> {
        let Some(byte) = self.rest().first().copied() else { return Err(CodecError::new("a byte is missing")) };
        self.at += 1;
        Ok(byte)
    }

    fn take_any<T: DeserializeOwned>(&mut self) -> Result<T, CodecError> {
        let bytes = &self.bytes[self.at..self.end];
        let (value, read) = decode_bounded(bytes, &self.budget, self.max_depth)?;
        self.at += read;
        Ok(value)
    }

    /// A slice of the frame keeps all of it in memory, for as long as the handler or the caller keeps the value. So
    /// the value must be at least half of the frame; others are copied.
    fn take_bytes(&mut self) -> Result<Bytes, CodecError> {
        let range = self.take_range(1)?;
        let is_most = range.len() >= APART && range.len() >= self.bytes.len() / 2;
        Ok(if is_most { self.bytes.slice(range) } else { Bytes::copy_from_slice(&self.bytes[range]) })
    }

    fn take_numbers<N: Pod>(&mut self) -> Result<Vec<N>, CodecError> {
        let range = self.take_range(size_of::<N>())?;
        let mut numbers = vec![N::zeroed(); range.len() / size_of::<N>()];
        bytemuck::cast_slice_mut(&mut numbers).copy_from_slice(&self.bytes[range]);
        Ok(numbers)
    }

    /// Takes a length and as many elements of `size` bytes.
    ///
    /// # Errors
    ///
    /// If the length is larger than the bytes that are left.
    fn take_range(&mut self, size: usize) -> Result<Range<usize>, CodecError> {
        let (length, read) = decode_prefix::<u64>(self.rest())?;
        self.at += read;
        let there = self.end - self.at;
        let bytes = usize::try_from(length).ok().and_then(|length| length.checked_mul(size));
        let Some(bytes) = bytes.filter(|bytes| *bytes <= there) else {
            return Err(CodecError::new(format_args!(
                "{length} elements of {size} bytes are claimed, and {there} bytes are left"
            )));
        };
        self.at += bytes;
        Ok(self.at - bytes..self.at)
    }

    /// A decoder of its own for the next bytes.
    pub(crate) fn split_off(&mut self, length: usize) -> Result<Self, CodecError> {
        let there = self.end - self.at;
        if length > there {
            return Err(CodecError::new(format_args!("{length} bytes are claimed, and {there} are left")));
        }
        self.at += length;
        let budget = self.budget.for_part(length);
        Ok(Self { bytes: self.bytes, at: self.at - length, end: self.at, budget, max_depth: self.max_depth })
    }

    /// The next four bytes as a number.
    pub(crate) fn take_u32(&mut self) -> Result<u32, CodecError> {
        let four = self.rest().first_chunk().copied();
        let Some(four) = four else { return Err(CodecError::new("four bytes are missing")) };
        self.at += 4;
        Ok(u32::from_le_bytes(four))
    }

    /// The bytes that are left.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.at..self.end]
    }

    /// Checks that nothing is left over.
    pub(crate) fn finish(&self) -> Result<(), CodecError> {
        match self.end - self.at {
            0 => Ok(()),
            left => Err(CodecError::new(format_args!("{left} bytes are left over after the value"))),
        }
    }
}

/// Decodes a message of this crate.
pub(crate) fn decode_payload<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, read) = decode_prefix(bytes)?;
    if read != bytes.len() {
        return Err(CodecError::new(format_args!("{} bytes are left over after the value", bytes.len() - read)));
    }
    Ok(value)
}

/// Decodes a value of this crate at the beginning of `bytes`, and returns how many bytes it took.
pub(crate) fn decode_prefix<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), CodecError> {
    decode_bounded(bytes, &Budget::for_message(bytes.len()), MAX_DEPTH)
}

/// Decodes a value whose type may be recursive, and which may take more memory than its bytes.
fn decode_bounded<T: DeserializeOwned>(
    bytes: &[u8],
    budget: &Budget,
    max_depth: u16,
) -> Result<(T, usize), CodecError> {
    let seed = Within { bounds: Bounds::new(budget, max_depth), value: PhantomData };
    // Without bincode's own limit: it reserves memory for texts only, and those are borrowed.
    bincode::serde::seed_decode_from_slice(seed, bytes, standard()).map_err(undecodable)
}

/// Takes the plain message out of an error of serde or of the value's type: bincode prints it as `OtherString("..")`.
fn undecodable(error: DecodeError) -> CodecError {
    match error {
        DecodeError::OtherString(why) => CodecError::new(why),
        DecodeError::Other(why) => CodecError::new(why),
        error => CodecError::new(error),
    }
}

/// The same for encoding.
fn unencodable(error: EncodeError) -> CodecError {
    match error {
        EncodeError::OtherString(why) => CodecError::new(why),
        EncodeError::Other(why) => CodecError::new(why),
        error => CodecError::new(error),
    }
}

/// A value within bounds.
struct Within<'b, T> {
    bounds: Bounds<'b>,
    value: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Within<'_, T> {
    type Value = T;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        T::deserialize(self.bounds.around::<T, _>(deserializer))
    }
}

/// Appends a header of this crate to `buffer`.
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
    bincode::serde::encode_into_writer(header, Appender(buffer), standard()).map_err(unencodable)
}

#[cfg(test)]
mod tests;
