//! Frames: what travels on a connection once both sides have said hello.
//!
//! A frame is a header of five bytes, then a body:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | length of the body, little endian |
//! | 1 | kind |
//! | n | body: a header in bincode, then, for calls and replies, the payload to the end of the frame |
//!
//! Requests and responses are tarpc's; the others are the connection's own, as HTTP/2 has PING and
//! GOAWAY. Each request gets exactly one response, also when it was cancelled: the response is what
//! frees its slot at the master.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::{
    codec::{EncodePayloadError, Encoder, decode_prefix, encode_header},
    payload::Payload,
};
use crate::error::CodecError;

/// Length and kind.
pub(crate) const FRAME_HEADER: usize = 5;

/// The most that the header in the body may take, so that a payload's limit is the frame's less this.
///
/// A response may carry a panic's message, cut to 4 KiB; nothing else comes near.
pub(crate) const BODY_HEADER_LIMIT: usize = 8 * 1024;

/// What a frame's fifth byte says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Request = 1,
    Response = 2,
    Cancel = 3,
    Heartbeat = 4,
    HeartbeatSeen = 5,
    Drain = 6,
    Drained = 7,
    Goodbye = 8,
    Retract = 9,
    GaveBack = 10,
    Wants = 11,
    Granted = 12,
}

impl Kind {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Cancel,
            4 => Self::Heartbeat,
            5 => Self::HeartbeatSeen,
            6 => Self::Drain,
            7 => Self::Drained,
            8 => Self::Goodbye,
            9 => Self::Retract,
            10 => Self::GaveBack,
            11 => Self::Wants,
            12 => Self::Granted,
            _ => return None,
        })
    }
}

/// What stands before the arguments of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RequestHeader {
    /// tarpc's id of the request, unique on this connection.
    pub(crate) request: u64,
    /// The method, as the registration named it.
    pub(crate) method: u64,
    /// The call, as the master counts them.
    pub(crate) call: u64,
    /// Which attempt at it this is, from 1.
    pub(crate) attempt: u32,
    /// 1 for a call by itself. More: a batch of so many, `call` being the first of them and the others
    /// those that follow; the payload has the length of each before its arguments, in four bytes.
    pub(crate) count: u32,
    /// How many calls of a batch may be started before the node has asked for more with
    /// [`Control::Wants`]. 1 for a call by itself.
    pub(crate) granted: u32,
    /// What is left of the caller's timeout, in microseconds.
    pub(crate) timeout: Option<u64>,
    /// The trace the call belongs to, where there is one.
    pub(crate) trace: Option<Trace>,
}

/// A trace context: trace, span, and whether it is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trace {
    pub(crate) trace: u128,
    pub(crate) span: u64,
    pub(crate) sampled: bool,
}

/// What stands before the value of a reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ResponseHeader {
    /// The request that is answered.
    pub(crate) request: u64,
    /// How long the handler ran, in microseconds.
    pub(crate) run: u64,
    /// How many calls of the request were started: 1 but for batches.
    pub(crate) count: u32,
    /// How many of those of a batch panicked.
    pub(crate) panicked: u32,
    /// How it ended.
    pub(crate) outcome: Outcome,
}

/// How a request ended on the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// The payload is the method's value.
    Value,
    /// The payload is the method's own error.
    Error,
    /// The handler panicked, with this message.
    Panicked(String),
    /// The handler was not started.
    Refused(Refusal),
    /// The handler ran, and its reply could not be encoded.
    Encode(String),
    /// The handler ran, and its reply is larger than the master takes.
    TooLarge {
        /// Bytes of the reply.
        size: u64,
        /// Bytes that fit.
        limit: u64,
    },
    /// The request was cancelled, or its time was up, after it was started.
    Stopped,
    /// The handler was started and cannot go on, for this reason; it may have done its work or not.
    Lost(String),
}

/// Why a node did not start a handler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    /// It serves no such method.
    UnknownMethod,
    /// It runs as many async calls as it may.
    Busy,
    /// It is leaving.
    Draining,
    /// The arguments could not be decoded; no other node could either.
    Decode(String),
    /// Cancelled, or out of time, before it was started.
    Stopped,
    /// The master asked for it back.
    Returned,
    /// The runtime that its async handlers ran on has ended. The node drains itself.
    Ended,
}

/// A node's answer to a request, as the layers above see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) outcome: Outcome,
    /// How long the handler ran, decoding and encoding included; over all calls of a batch.
    pub(crate) run: Duration,
    /// How many calls of a batch were started.
    pub(crate) count: u32,
    /// How many of these panicked, each for itself.
    pub(crate) panicked: u32,
    pub(crate) payload: Payload,
}

impl Reply {
    /// What a handler has left with the encoder.
    pub(crate) fn new(outcome: Outcome, run: Duration, encoder: Encoder) -> Self {
        if !matches!(outcome, Outcome::Value | Outcome::Error) {
            return Self::without_payload(outcome, run);
        }
        let limit = encoder.limit();
        match encoder.finish() {
            Ok(payload) => Self { outcome, run, count: 1, panicked: 0, payload },
            Err(EncodePayloadError::TooLarge(size)) => Self::without_payload(Outcome::TooLarge { size, limit }, run),
            Err(EncodePayloadError::Codec(error)) => Self::without_payload(Outcome::Encode(error.to_string()), run),
        }
    }

    pub(crate) fn without_payload(outcome: Outcome, run: Duration) -> Self {
        Self { outcome, run, count: 1, panicked: 0, payload: Payload::EMPTY }
    }

    pub(crate) fn refused(refusal: Refusal) -> Self {
        Self::without_payload(Outcome::Refused(refusal), Duration::ZERO)
    }
}

/// What a node says about its work with each heartbeat. Only `stale` is acted on, and can do no harm but
/// to the node's own share of the work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Compute handlers running.
    pub(crate) computing: u32,
    /// Compute calls that wait for a slot on the node.
    pub(crate) waiting: u32,
    /// Async handlers running.
    pub(crate) asynchronous: u32,
    /// Compute handlers that still run for an earlier connection, and hold slots.
    pub(crate) stale: u32,
    /// How often an async handler was seen to block its thread since the node was started.
    pub(crate) blocked: u32,
}

/// A frame that manages the connection and carries no call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    /// Master to node: stop this call; its answer is still awaited.
    Cancel { call: u64, attempt: u32 },
    /// Node to master: alive, and this busy.
    Heartbeat(Load),
    /// Master to node: alive too. Sent as often as the node's, and of the master's own accord, so that it
    /// comes also while a long reply is under way in the other direction.
    HeartbeatSeen,
    /// Node to master: send no new calls.
    Drain,
    /// Master to node: nothing of yours is in flight any more, and nothing follows.
    Drained,
    /// Master to node: answer the calls you have not started with [`Refusal::Returned`].
    Retract,
    /// Node to master: of this batch I start the first `kept` calls only. Its response, which is yet to
    /// come, holds so many.
    GaveBack { call: u64, attempt: u32, kept: u32 },
    /// Node to master: I am about to start this many calls of the batch.
    Wants { call: u64, attempt: u32, upto: u32 },
    /// Master to node: start this many calls of the batch, and no more before you have asked again. If the
    /// node dies, those behind them are known not to have been started.
    Granted { call: u64, attempt: u32, upto: u32 },
    /// Either way: the connection ends here, and on purpose.
    Goodbye,
}

#[derive(Serialize, Deserialize)]
struct CancelBody {
    call: u64,
    attempt: u32,
}

#[derive(Serialize, Deserialize)]
struct GaveBackBody {
    call: u64,
    attempt: u32,
    kept: u32,
}

/// How far a batch goes, or is to go.
#[derive(Serialize, Deserialize)]
struct ExtentBody {
    call: u64,
    attempt: u32,
    upto: u32,
}

impl Control {
    /// Appends the whole frame to `buffer`.
    pub(crate) fn encode(&self, buffer: &mut BytesMut) -> Result<(), CodecError> {
        let kind = match self {
            Self::Cancel { .. } => Kind::Cancel,
            Self::Heartbeat(_) => Kind::Heartbeat,
            Self::HeartbeatSeen => Kind::HeartbeatSeen,
            Self::Drain => Kind::Drain,
            Self::Drained => Kind::Drained,
            Self::Goodbye => Kind::Goodbye,
            Self::Retract => Kind::Retract,
            Self::GaveBack { .. } => Kind::GaveBack,
            Self::Wants { .. } => Kind::Wants,
            Self::Granted { .. } => Kind::Granted,
        };
        encode_frame(buffer, kind, 0, |body| match self {
            Self::Cancel { call, attempt } => encode_header(&CancelBody { call: *call, attempt: *attempt }, body),
            Self::Heartbeat(load) => encode_header(load, body),
            Self::GaveBack { call, attempt, kept } => {
                encode_header(&GaveBackBody { call: *call, attempt: *attempt, kept: *kept }, body)
            }
            Self::Wants { call, attempt, upto } | Self::Granted { call, attempt, upto } => {
                encode_header(&ExtentBody { call: *call, attempt: *attempt, upto: *upto }, body)
            }
            Self::HeartbeatSeen | Self::Drain | Self::Drained | Self::Goodbye | Self::Retract => Ok(()),
        })
    }

    /// The control frame of this kind and body; `None` where the kind is a call's.
    pub(crate) fn decode(kind: Kind, body: &[u8]) -> Result<Option<Self>, CodecError> {
        let body = &body[..body.len().min(BODY_HEADER_LIMIT)];
        Ok(Some(match kind {
            Kind::Request | Kind::Response => return Ok(None),
            Kind::Cancel => {
                let (CancelBody { call, attempt }, _) = decode_prefix(body)?;
                Self::Cancel { call, attempt }
            }
            Kind::Heartbeat => Self::Heartbeat(decode_prefix(body)?.0),
            Kind::HeartbeatSeen => Self::HeartbeatSeen,
            Kind::Drain => Self::Drain,
            Kind::Drained => Self::Drained,
            Kind::Goodbye => Self::Goodbye,
            Kind::Retract => Self::Retract,
            Kind::GaveBack => {
                let (GaveBackBody { call, attempt, kept }, _) = decode_prefix(body)?;
                Self::GaveBack { call, attempt, kept }
            }
            Kind::Wants => {
                let (ExtentBody { call, attempt, upto }, _) = decode_prefix(body)?;
                Self::Wants { call, attempt, upto }
            }
            Kind::Granted => {
                let (ExtentBody { call, attempt, upto }, _) = decode_prefix(body)?;
                Self::Granted { call, attempt, upto }
            }
        }))
    }
}

/// Appends a frame whose body `header` writes, leaving room in its length for `payload` bytes that the
/// caller sends behind it.
pub(crate) fn encode_frame(
    buffer: &mut BytesMut,
    kind: Kind,
    payload: usize,
    header: impl FnOnce(&mut BytesMut) -> Result<(), CodecError>,
) -> Result<(), CodecError> {
    let start = buffer.len();
    buffer.put_u32_le(0);
    buffer.put_u8(kind as u8);
    header(buffer)?;
    let body = buffer.len() - start - FRAME_HEADER + payload;
    let length = u32::try_from(body).map_err(|_| CodecError::new("the frame is over 4 GiB"))?;
    buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// Splits a body into its header and the payload behind it, which keeps the frame's own memory.
pub(crate) fn split_body<T: serde::de::DeserializeOwned>(mut body: Bytes) -> Result<(T, Bytes), CodecError> {
    // Only what a header may take is shown to the decoder, so that a length in it which lies is judged by
    // that and not by the payload's size.
    let (header, read) = decode_prefix(&body[..body.len().min(BODY_HEADER_LIMIT)])
        .map_err(|error| CodecError::new(format!("a frame's header cannot be decoded: {error}")))?;
    body.advance(read);
    Ok((header, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn control(control: Control) -> String {
        let mut buffer = BytesMut::new();
        control.encode(&mut buffer).expect("encodes");
        let kind = Kind::from_byte(buffer[4]).expect("known");
        assert_eq!(Control::decode(kind, &buffer[FRAME_HEADER..]).expect("decodes"), Some(control));
        hex(&buffer)
    }

    #[test]
    fn control_frames_have_these_bytes() {
        assert_eq!(control(Control::Cancel { call: 300, attempt: 2 }), "0400000003fb2c0102");
        assert_eq!(
            control(Control::Heartbeat(Load { computing: 2, waiting: 0, asynchronous: 255, stale: 1, blocked: 3 })),
            "07000000040200fbff000103"
        );
        assert_eq!(control(Control::HeartbeatSeen), "0000000005");
        assert_eq!(control(Control::Drain), "0000000006");
        assert_eq!(control(Control::Drained), "0000000007");
        assert_eq!(control(Control::Goodbye), "0000000008");
        assert_eq!(control(Control::Retract), "0000000009");
        assert_eq!(control(Control::GaveBack { call: 300, attempt: 2, kept: 7 }), "050000000afb2c010207");
        assert_eq!(control(Control::Wants { call: 300, attempt: 2, upto: 7 }), "050000000bfb2c010207");
        assert_eq!(control(Control::Granted { call: 300, attempt: 2, upto: 7 }), "050000000cfb2c010207");
    }

    fn header<T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) -> String {
        let mut buffer = BytesMut::new();
        encode_header(value, &mut buffer).expect("encodes");
        let text = hex(&buffer);
        buffer.put_slice(b"payload");
        let (back, payload) = split_body::<T>(buffer.freeze()).expect("decodes");
        assert_eq!((&back, &payload[..]), (value, &b"payload"[..]));
        text
    }

    #[test]
    fn requests_and_responses_have_these_bytes() {
        let request = RequestHeader {
            request: 1,
            method: 0x0123_4567_89ab_cdef,
            call: 9,
            attempt: 1,
            count: 1,
            granted: 1,
            timeout: None,
            trace: None,
        };
        assert_eq!(header(&request), "01fdefcdab896745230109010101".to_owned() + "0000");
        let traced = RequestHeader {
            timeout: Some(1_500_000),
            trace: Some(Trace { trace: 1, span: 2, sampled: true }),
            ..request
        };
        assert_eq!(header(&traced), "01fdefcdab89674523010901010101fc60e3160001010201");
        for (outcome, bytes) in [
            (Outcome::Value, "070a010000"),
            (Outcome::Error, "070a010001"),
            (Outcome::Panicked("oh".to_owned()), "070a010002026f68"),
            (Outcome::Refused(Refusal::UnknownMethod), "070a01000300"),
            (Outcome::Refused(Refusal::Busy), "070a01000301"),
            (Outcome::Refused(Refusal::Draining), "070a01000302"),
            (Outcome::Refused(Refusal::Decode("x".to_owned())), "070a010003030178"),
            (Outcome::Refused(Refusal::Stopped), "070a01000304"),
            (Outcome::Refused(Refusal::Returned), "070a01000305"),
            (Outcome::Refused(Refusal::Ended), "070a01000306"),
            (Outcome::Encode("x".to_owned()), "070a0100040178"),
            (Outcome::TooLarge { size: 3, limit: 2 }, "070a0100050302"),
            (Outcome::Stopped, "070a010006"),
            (Outcome::Lost("x".to_owned()), "070a0100070178"),
        ] {
            assert_eq!(header(&ResponseHeader { request: 7, run: 10, count: 1, panicked: 0, outcome }), bytes);
        }
    }

    #[test]
    fn a_frame_states_the_length_of_header_and_payload() {
        let mut buffer = BytesMut::new();
        encode_frame(&mut buffer, Kind::Request, 1000, |body| {
            body.put_slice(b"abc");
            Ok(())
        })
        .expect("encodes");
        assert_eq!(&buffer[..], [0xeb, 0x03, 0, 0, 1, b'a', b'b', b'c']);
    }
}
