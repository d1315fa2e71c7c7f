//! The headers of requests and responses, and how a request can end on a node.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::wire::{
    codec::{EncodePayloadError, Encoder},
    payload::Payload,
};

/// What a request has before the arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RequestHeader {
    /// tarpc's id of the request, unique on this connection.
    pub(crate) request: u64,
    /// The method, as the registration named it.
    pub(crate) method: u64,
    /// The master's number of the call.
    pub(crate) call: u64,
    /// The number of the attempt at the call, from 1.
    pub(crate) attempt: u32,
    /// How many calls it is. 1: a single call. More: a batch of the calls from `call` on, in whose payload the arguments of
    /// each stand behind their length in four bytes. 0: no call; it asks again for the response to this attempt, which was
    /// sent on an earlier connection, and has no payload.
    pub(crate) count: u32,
    /// How many calls of a batch may be started before the node has asked for more with
    /// [`Control::RequestGrant`](super::kind::Control::RequestGrant). 1 of a single call.
    pub(crate) granted: u32,
    /// The time that is left until the caller's timeout, in microseconds.
    pub(crate) timeout: Option<u64>,
    /// Keys and values, in the order of the keys.
    pub(crate) metadata: Vec<(String, String)>,
    /// The trace that the call belongs to, if any.
    pub(crate) trace: Option<Trace>,
}

/// A trace context: trace, span, and whether it is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trace {
    pub(crate) trace: u128,
    pub(crate) span: u64,
    pub(crate) sampled: bool,
}

impl Trace {
    /// The id of the trace as people and their tools know it.
    pub(crate) fn id(&self) -> String {
        format!("{:032x}", self.trace)
    }
}

/// What a response has before the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ResponseHeader {
    /// The request that it answers.
    pub(crate) request: u64,
    /// How long the handler ran, in microseconds.
    pub(crate) run: u64,
    /// How many calls of a batch were started; 1 of a single call.
    pub(crate) count: u32,
    /// How many calls of a batch panicked.
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
    /// The handler had begun, and an item of its argument could not be decoded.
    DecodeItem(String),
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
    /// The request never arrived on the earlier connection that it was sent on.
    NotReceived,
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
    /// How long the handler ran for each call.
    pub(crate) fn run_of_each(&self) -> Duration {
        match self.count {
            0 | 1 => self.run,
            count => self.run / count,
        }
    }

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

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};

    use super::*;
    use crate::wire::{codec::encode_header, frame::layout::split_body};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
            metadata: Vec::new(),
            trace: None,
        };
        assert_eq!(header(&request), "01fdefcdab896745230109010101".to_owned() + "000000");
        let labelled = RequestHeader { metadata: vec![("a".to_owned(), "b".to_owned())], ..request.clone() };
        assert_eq!(header(&labelled), "01fdefcdab896745230109010101".to_owned() + "000101610162" + "00");
        let traced = RequestHeader {
            timeout: Some(1_500_000),
            trace: Some(Trace { trace: 1, span: 2, sampled: true }),
            ..request
        };
        assert_eq!(header(&traced), "01fdefcdab89674523010901010101fc60e316000001010201");
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
            (Outcome::Refused(Refusal::NotReceived), "070a01000307"),
            (Outcome::Encode("x".to_owned()), "070a0100040178"),
            (Outcome::TooLarge { size: 3, limit: 2 }, "070a0100050302"),
            (Outcome::Stopped, "070a010006"),
            (Outcome::Lost("x".to_owned()), "070a0100070178"),
            (Outcome::DecodeItem("x".to_owned()), "070a0100080178"),
        ] {
            assert_eq!(header(&ResponseHeader { request: 7, run: 10, count: 1, panicked: 0, outcome }), bytes);
        }
    }
}
