//! The headers of a caller's requests and of the responses to them.
//!
//! A caller names a method by its id, and has declared it before ([`Control::Declare`](super::kind::Control::Declare)). The
//! master passes arguments and results on as they are.

use serde::{Deserialize, Serialize};

use super::call::Trace;

/// What a caller's request has before the arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CallerRequestHeader {
    /// tarpc's id of the request, unique on this connection.
    pub(crate) request: u64,
    pub(crate) body: CallerRequestBody,
}

/// What a caller asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CallerRequestBody {
    /// A call, or a batch of calls.
    Call(CallRequest),
    /// The nodes that serve a method now and have these labels.
    Serving {
        /// The method.
        method: u64,
        /// Labels and their values.
        labels: Vec<(String, String)>,
    },
    /// The end of a call that was sent on an earlier connection of the session.
    AskAgain {
        /// The number of the call, or of the first of a batch.
        call: u64,
    },
    /// A call, or a batch of calls, whose payload has this many bytes, more than 1 MiB, and is not here: the master fetches it, as a
    /// stream of the call, when a node takes the call.
    LargeCall { call: CallRequest, length: u64 },
}

/// A call as its caller wants it to be made. The caller sets nothing here that is the master's to decide: the master checks
/// the number, and knows by itself how often the call was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CallRequest {
    /// The id of a method that the caller has declared.
    pub(crate) method: u64,
    /// The call's number: one of those that the master gave to the caller's session.
    pub(crate) call: u64,
    /// How many calls it is. More than 1: a batch of the calls from `call` on, in whose payload the arguments of each stand
    /// behind their length in four bytes.
    pub(crate) count: u32,
    /// Whether it may be run again if a node is lost with it.
    pub(crate) idempotent: bool,
    /// The time that is left until the caller's timeout, in microseconds, and the timeout that was set.
    pub(crate) timeout: Option<(u64, u64)>,
    /// The one node that it is for.
    pub(crate) node: Option<u64>,
    /// How often it may be sent to a node.
    pub(crate) attempts: Option<u32>,
    /// Labels that its node must have.
    pub(crate) labels: Vec<(String, String)>,
    /// The hash of its affinity key.
    pub(crate) affinity: Option<u64>,
    /// Whether it is tried again after a panic.
    pub(crate) retry_panics: bool,
    /// Whether it is a part of a broadcast.
    pub(crate) is_broadcast: bool,
    /// The call that it is a second copy of, and the time since that was made in microseconds.
    pub(crate) hedge_of: Option<(u64, u64)>,
    /// The number that it had as a part of a batch that was lost. The master knows the attempts that failed.
    pub(crate) continues: Option<u64>,
    /// The call whose handler makes it, on a connection for nested calls.
    pub(crate) parent: Option<u64>,
    /// Keys and values that travel to its handler, in the order of the keys.
    pub(crate) metadata: Vec<(String, String)>,
    /// The trace that it belongs to, if any.
    pub(crate) trace: Option<Trace>,
}

#[cfg(test)]
impl CallRequest {
    /// One call, without options.
    pub(crate) fn bare(method: u64, call: u64) -> Self {
        Self {
            method,
            call,
            count: 1,
            idempotent: false,
            timeout: None,
            node: None,
            attempts: None,
            labels: Vec::new(),
            affinity: None,
            retry_panics: false,
            is_broadcast: false,
            hedge_of: None,
            continues: None,
            parent: None,
            metadata: Vec::new(),
            trace: None,
        }
    }
}

/// What the response to a caller's request has before the payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CallerResponseHeader {
    /// The request that it answers.
    pub(crate) request: u64,
    pub(crate) end: CallerEnd,
}

/// How a caller's request ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CallerEnd {
    /// The payload is the method's value or its own error; of a batch, the outcomes of its calls.
    Answered {
        /// Whether it is the method's own error.
        is_error: bool,
        /// How many calls of a batch were started; 1 of a single call.
        count: u32,
        /// The id and the name of the node.
        node: (u64, String),
        /// The node's address, if the master tells callers.
        addr: Option<std::net::SocketAddr>,
        /// How often the call was sent to a node.
        attempts: u32,
        /// From when the master took the call until it had the reply, in microseconds.
        elapsed: u64,
        /// How long the handler ran, in microseconds.
        run: u64,
    },
    /// The payload is the error of the call.
    Failed {
        /// How many attempts at it failed.
        failed_attempts: u32,
    },
    /// The payload is a list of nodes.
    Nodes,
    /// The call that was asked for again never arrived.
    NotReceived,
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};

    use super::*;
    use crate::wire::{codec::encode_header, frame::layout::split_body};

    fn header<T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) -> String {
        let mut buffer = BytesMut::new();
        encode_header(value, &mut buffer).expect("encodes");
        let text = buffer.iter().map(|byte| format!("{byte:02x}")).collect();
        buffer.put_slice(b"payload");
        let (back, payload) = split_body::<T>(buffer.freeze()).expect("decodes");
        assert_eq!((&back, &payload[..]), (value, &b"payload"[..]));
        text
    }

    #[test]
    fn a_callers_requests_and_their_responses_have_these_bytes() {
        let call = CallRequest { idempotent: true, ..CallRequest::bare(7, 9) };
        let request = |body| CallerRequestHeader { request: 1, body };
        assert_eq!(header(&request(CallerRequestBody::Call(call.clone()))), "010007090101000000000000000000000000");
        let full = CallRequest {
            timeout: Some((200, 250)),
            node: Some(5),
            attempts: Some(2),
            labels: vec![("a".to_owned(), "b".to_owned())],
            affinity: Some(3),
            retry_panics: true,
            is_broadcast: true,
            hedge_of: Some((8, 3)),
            continues: Some(6),
            parent: Some(4),
            metadata: vec![("k".to_owned(), "v".to_owned())],
            ..call
        };
        assert_eq!(
            header(&request(CallerRequestBody::Call(full))),
            "010007090101".to_owned()
                + "01c8fa"
                + "01050102"
                + "0101610162"
                + "01030101"
                + "010803"
                + "0106"
                + "0104"
                + "01016b0176"
                + "00"
        );
        let serving = CallerRequestBody::Serving { method: 7, labels: Vec::new() };
        assert_eq!(header(&request(serving)), "01010700");
        assert_eq!(header(&request(CallerRequestBody::AskAgain { call: 9 })), "010209");
        let large = CallerRequestBody::LargeCall { call: CallRequest::bare(7, 9), length: 2_000_000 };
        assert_eq!(header(&request(large)), "010307090100000000000000000000000000fc80841e00");
        let response = |end| CallerResponseHeader { request: 1, end };
        let answered = CallerEnd::Answered {
            is_error: false,
            count: 1,
            node: (5, "n".to_owned()),
            addr: None,
            attempts: 1,
            elapsed: 20,
            run: 10,
        };
        assert_eq!(header(&response(answered)), "0100000105016e0001140a");
        assert_eq!(header(&response(CallerEnd::Failed { failed_attempts: 2 })), "010102");
        assert_eq!(header(&response(CallerEnd::Nodes)), "0102");
        assert_eq!(header(&response(CallerEnd::NotReceived)), "0103");
    }
}
