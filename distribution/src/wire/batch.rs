//! The payloads of a batch: many calls in one request, many outcomes in its response.
//!
//! | payload | for each call |
//! |---|---|
//! | of a request | length in four bytes, arguments |
//! | of a response | length in four bytes, outcome in bincode, value or error |
//!
//! A response has the outcomes of the calls that were started, in the order of the request.

use bytes::Bytes;

use super::{
    Outcome, Payload,
    codec::{Decoder, Encoder, Mark, decode_prefix},
    frame::layout::BODY_HEADER_LIMIT,
};
use crate::{config::ValueLimits, error::CodecError};

/// A node starts no more calls of a batch once their outcomes take this many bytes, so that a batch takes little memory
/// however small its calls are said to be. The remaining calls are given back.
const MOST_GATHERED: usize = 1024 * 1024;

/// The bytes in front of a value.
const PLACE: usize = 5;

/// How many bytes the outcomes of a batch may take before another call is started, where one value may take `limit`.
pub(crate) fn gathered(limit: usize) -> usize {
    MOST_GATHERED.min(limit / 2)
}

/// The largest response, where one with a single value may take `max_message_size`. Behind the outcomes that it has gathered, a
/// batch may have one more value of any size that is allowed: its handler has run, so the value cannot be had otherwise.
pub(crate) fn response_limit(max_message_size: usize) -> usize {
    max_message_size.saturating_add(gathered(max_message_size) + PLACE)
}

/// Appends a call to the payload of a request.
pub(crate) fn append_call(payload: &mut Vec<u8>, arguments: &Payload) {
    // Bounded by the limit of frames, which fits into 32 bits.
    payload.extend_from_slice(&(arguments.len() as u32).to_le_bytes());
    arguments.append_to(payload);
}

/// Where the call behind `count` others begins in the payload of a request.
pub(crate) fn skip(calls: &[u8], count: u32) -> usize {
    let mut at = 0;
    for _ in 0..count {
        let length = calls.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |length| u32::from_le_bytes(*length));
        // A length that does not fit is beyond the end.
        at = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(4).saturating_add(at);
    }
    at.min(calls.len())
}

/// The arguments of the only call in the payload of a request.
pub(crate) fn only(calls: &Bytes) -> Bytes {
    calls.slice(calls.len().min(4)..)
}

/// Where an outcome began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed(Mark);

/// Makes room for an outcome, whose value or error follows and may take up to `limit` bytes.
pub(crate) fn begin(values: &mut Encoder, limit: usize) -> Placed {
    let mark = values.mark();
    values.allow(PLACE);
    values.put_raw(&[0; PLACE]);
    // A frame says its length in 32 bits, and has a header too.
    let left = u64::from(u32::MAX).saturating_sub(values.size() + BODY_HEADER_LIMIT as u64);
    values.allow(limit.min(usize::try_from(left).unwrap_or(usize::MAX)));
    Placed(mark)
}

/// Writes the outcome into that room.
pub(crate) fn end(placed: Placed, values: &mut Encoder, outcome: &Outcome) {
    let length = |values: &Encoder| (values.size_since(placed.0) - 4) as u32;
    let place = placed.0;
    match outcome {
        Outcome::Value | Outcome::Error => {
            let [a, b, c, d] = length(values).to_le_bytes();
            values.replace(place, &[a, b, c, d, u8::from(*outcome == Outcome::Error)]);
        }
        other => {
            // It has no value, and its header has another length.
            values.rewind(place);
            values.put_raw(&[0; 4]);
            // A plain enum, whose encoding cannot fail.
            let _ = values.put(other);
            values.replace(place, &length(values).to_le_bytes());
        }
    }
}

/// A caller elsewhere accepts this many bytes more in the response to a batch than in one value: results are gathered up to
/// 1 MiB, and the last of them may have any size.
pub(crate) const ROOM: usize = 2 * 1024 * 1024;

/// The payload of a response in which each outcome of more than `limit` bytes is replaced by one that says so.
pub(crate) fn without_large(payload: Bytes, limit: usize) -> Bytes {
    if payload.len() <= limit {
        return payload;
    }
    let mut kept = Encoder::new(ValueLimits::of_bytes(usize::MAX));
    let mut rest = &payload[..];
    while let Some(length) = rest.first_chunk().map(|length| u32::from_le_bytes(*length) as usize) {
        let (outcome, behind) = rest.split_at(length.saturating_add(4).min(rest.len()));
        rest = behind;
        if length > limit {
            let placed = begin(&mut kept, usize::MAX);
            end(placed, &mut kept, &Outcome::TooLarge { size: length as u64, limit: limit as u64 });
        } else {
            kept.put_raw(outcome);
        }
    }
    // It cannot be too large, because there was no limit.
    kept.finish().map_or(payload, Payload::into_bytes)
}

/// The outcomes in the payload of a response.
#[derive(Debug)]
pub(crate) struct Outcomes<'a>(Decoder<'a>);

impl<'a> Outcomes<'a> {
    pub(crate) fn new(payload: &'a Bytes, max_depth: u16) -> Self {
        Self(Decoder::new(payload, max_depth))
    }

    fn take(&mut self) -> Result<(Outcome, Decoder<'a>), CodecError> {
        let length = self.0.take_u32()?;
        let mut item = self.0.split_off(length as usize)?;
        let outcome = match item.rest().first() {
            // The most frequent ones, without the decoder.
            Some(0) => Outcome::Value,
            Some(1) => Outcome::Error,
            _ => {
                let (outcome, _) = decode_prefix(item.rest())?;
                return Ok((outcome, item));
            }
        };
        item.split_off(1)?;
        Ok((outcome, item))
    }
}

impl<'a> Iterator for Outcomes<'a> {
    type Item = Result<(Outcome, Decoder<'a>), CodecError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.rest().is_empty() { None } else { Some(self.take()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::MAX_DEPTH, wire::Refusal};

    #[test]
    fn an_outcome_beyond_the_limit_is_replaced_alone() {
        let mut values = Encoder::new(ValueLimits::of_bytes(1000));
        for size in [3usize, 100, 5] {
            let placed = begin(&mut values, 1000);
            values.put(&vec![7u8; size]).expect("encodes");
            end(placed, &mut values, &Outcome::Value);
        }
        let payload = values.finish().expect("fits").into_bytes();
        assert_eq!(without_large(payload.clone(), payload.len()), payload);
        let limited = without_large(payload, 50);
        let outcomes: Vec<_> = Outcomes::new(&limited, MAX_DEPTH).map(|item| item.expect("decodes").0).collect();
        // With the length of the list and the kind of the outcome.
        assert_eq!(outcomes, [Outcome::Value, Outcome::TooLarge { size: 102, limit: 50 }, Outcome::Value]);
    }

    #[test]
    fn outcomes_have_these_bytes_and_are_decoded() {
        let mut values = Encoder::new(ValueLimits::of_bytes(1000));
        let outcomes = [
            (Outcome::Value, Some(7u8), "020000000007"),
            (Outcome::Panicked("oh".to_owned()), Some(9), "0400000002026f68"),
            (Outcome::Error, Some(8), "020000000108"),
            (Outcome::Refused(Refusal::Decode("x".to_owned())), None, "0400000003030178"),
        ];
        let mut expected = String::new();
        for (outcome, value, bytes) in &outcomes {
            let placed = begin(&mut values, 100);
            if let Some(value) = value {
                values.put(value).expect("encodes");
            }
            end(placed, &mut values, outcome);
            expected.push_str(bytes);
        }
        let payload = values.finish().expect("fits").into_bytes();
        assert_eq!(payload.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), expected);
        let mut back = Outcomes::new(&payload, MAX_DEPTH);
        for (outcome, value, _) in &outcomes {
            let (decoded, item) = back.next().expect("one more").expect("decodes");
            assert_eq!(&decoded, outcome);
            if matches!(outcome, Outcome::Value | Outcome::Error) {
                assert_eq!(item.only::<u8>().ok(), *value);
            }
        }
        assert!(back.next().is_none());
        assert!(Outcomes::new(&payload.slice(..7), MAX_DEPTH).nth(1).expect("bytes are left").is_err());
    }
}
