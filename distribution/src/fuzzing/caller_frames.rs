//! The frames that carry a caller's calls, at both ends of its connection.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use tarpc::{ClientMessage, Request, Response};
use tokio::time::Instant;

use crate::{
    administration::MethodKind,
    config::from_micros,
    id::{CallId, MethodName},
    wire::{
        CallRequest, CallerEnd, CallerRequestBody, Control, Payload, RunReport, WatchedCapacity,
        connection_state::ConnectionState,
        frame::{call::Trace, kind::FrameKind, layout::FRAME_HEADER},
        handshake::{MethodOffer, StreamShape},
        transport::{
            CallerReply, Describe, IncomingCallerRequest, OutgoingCallerReply, OutgoingCallerRequest, SendPermit,
        },
    },
};

/// A caller's request as an end of the connection sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallerRequestFrame {
    request: u64,
    body: CallerRequestBody,
    pub(super) payload: Bytes,
}

/// The response to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallerResponseFrame {
    request: u64,
    end: CallerEnd,
    pub(super) payload: Bytes,
}

/// The lengths of arguments that are fetched here.
const LARGE: std::ops::Range<u64> = 1 << 20..2 << 20;

impl CallerRequestFrame {
    pub(super) fn new(request: u64, body: CallerRequestBody, payload: Bytes) -> Self {
        // The master refuses other lengths, and nobody here has room for all of those.
        let body = match body {
            CallerRequestBody::LargeCall { call, length } if !LARGE.contains(&length) => CallerRequestBody::Call(call),
            body => body,
        };
        let payload = match &body {
            CallerRequestBody::Call(_) => payload,
            // Nobody looks at what follows a question.
            _ => Bytes::new(),
        };
        Self { request, body, payload }
    }

    /// A call: its request; its number and count; what it asks for.
    pub(super) fn call(
        request: u64,
        (method, call, count): (u64, u64, u32),
        [node, affinity, hedge_of, continues]: [Option<u64>; 4],
        (timeout, attempts, flags): (Option<(u64, u64)>, Option<u32>, u8),
        [labels, metadata]: [Vec<(String, String)>; 2],
        payload: Vec<u8>,
    ) -> Self {
        let trace = (flags & 4 != 0).then_some(Trace { trace: call.into(), span: method, sampled: flags & 8 != 0 });
        let call = CallRequest {
            method,
            call,
            count,
            idempotent: flags & 1 != 0,
            timeout,
            node,
            attempts,
            labels,
            affinity,
            retry_panics: flags & 2 != 0,
            is_broadcast: flags & 16 != 0,
            hedge_of: hedge_of.map(|call| (call, call)),
            parent: hedge_of,
            continues,
            metadata,
            trace,
        };
        Self::new(request, CallerRequestBody::Call(call), payload.into())
    }

    /// A question for nodes; without labels and for an even number, for the end of an earlier call.
    pub(super) fn question(request: u64, method: u64, labels: Vec<(String, String)>) -> Self {
        let body = match labels.is_empty() && method % 2 == 0 {
            true => CallerRequestBody::AskAgain { call: method },
            false => CallerRequestBody::Serving { method, labels },
        };
        Self::new(request, body, Bytes::new())
    }

    pub(super) fn read(message: ClientMessage<IncomingCallerRequest>) -> Self {
        let ClientMessage::Request(Request { id, message, .. }) = message else {
            panic!("the transport makes no cancellations of tarpc's");
        };
        let payload = message.take_payload();
        Self::new(id, message.body, payload)
    }

    /// As a caller gives it to tarpc.
    pub(super) fn outgoing(&self, permit: Arc<dyn SendPermit>) -> ClientMessage<OutgoingCallerRequest> {
        let context = tarpc::context::current();
        let message = match self.body.clone() {
            CallerRequestBody::Serving { method, labels } => OutgoingCallerRequest::Serving { method, labels },
            CallerRequestBody::AskAgain { call } => {
                OutgoingCallerRequest::AskAgain { call: CallId(call), permit, arguments: None }
            }
            CallerRequestBody::Call(request) | CallerRequestBody::LargeCall { call: request, .. } => {
                let id = request.method;
                let payload = match self.body {
                    CallerRequestBody::LargeCall { length, .. } => vec![0; length as usize].into(),
                    _ => self.payload.clone(),
                };
                OutgoingCallerRequest::Call {
                    deadline: request.timeout.map(|(left, _)| Instant::now() + from_micros(left)),
                    request,
                    payload: payload.into(),
                    name: MethodName::new("Fuzzed", "method"),
                    describe: Describe(Box::new(move || declaration(id))),
                    permit,
                }
            }
        };
        ClientMessage::Request(Request { context, id: self.request, message })
    }

    /// Whether `other` is this request after a journey, on which time goes by.
    pub(super) fn arrived_as(&self, other: &Self) -> bool {
        let mut expected = self.clone();
        if let (CallerRequestBody::Call(expected), CallerRequestBody::Call(arrived)) = (&mut expected.body, &other.body)
        {
            if let (Some((sent, _)), Some((arrived, _))) = (&mut expected.timeout, &arrived.timeout) {
                *sent = (*sent).min(*arrived);
            }
        }
        expected == *other
    }
}

impl CallerResponseFrame {
    /// A response: `how` picks how the request ended, which takes what it needs of the rest.
    pub(super) fn new(
        request: u64,
        (how, count, attempts): (u8, u32, u32),
        [node, elapsed, run]: [u64; 3],
        name: String,
        payload: Vec<u8>,
    ) -> Self {
        let end = match how % 4 {
            0 => CallerEnd::Answered {
                is_error: how & 4 != 0,
                count,
                node: (node, name),
                addr: (how & 8 != 0).then(|| ([127, 0, 0, 1], attempts as u16).into()),
                attempts,
                elapsed,
                run,
            },
            1 => CallerEnd::Failed { failed_attempts: attempts },
            2 => CallerEnd::Nodes,
            _ => CallerEnd::NotReceived,
        };
        Self { request, end, payload: payload.into() }
    }

    pub(super) fn read(Response { request_id, message }: Response<CallerReply>) -> Self {
        let CallerReply { end, payload } = message.expect("the transport makes no errors of tarpc's");
        Self { request: request_id, end, payload }
    }

    /// As a master gives it to tarpc.
    pub(super) fn outgoing(&self, state: &ConnectionState) -> Response<OutgoingCallerReply> {
        state.on_response_waits(self.payload.len());
        let reply =
            OutgoingCallerReply { call: None, end: self.end.clone(), payload: Payload::from(self.payload.clone()) };
        Response { request_id: self.request, message: Ok(reply) }
    }
}

/// What a caller here declares of a method before its first call.
fn declaration(id: u64) -> MethodOffer {
    MethodOffer {
        id,
        service: "Fuzzed, and declared by the transport".to_owned(),
        version: 0x5eed,
        name: "method".to_owned(),
        signature: String::new(),
        types: 0,
        structure: Vec::new(),
        kind: MethodKind::Compute,
        idempotent: false,
        streams: StreamShape::default(),
    }
}

/// These bytes of a caller without the frames by which the transport itself has declared methods.
///
/// # Panics
///
/// If a method was declared twice, or these are not frames.
pub(super) fn without_declarations(bytes: &[u8]) -> Vec<u8> {
    let (mut kept, mut declared) = (Vec::new(), HashSet::new());
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = FRAME_HEADER + u32::from_le_bytes(*rest.first_chunk().expect("a header")) as usize;
        let (frame, behind) = rest.split_at(length);
        rest = behind;
        let control = (frame[4] == FrameKind::Declare as u8).then(|| {
            Control::decode(FrameKind::Declare, &frame[FRAME_HEADER..]).expect("was encoded").expect("is control")
        });
        match control {
            Some(Control::Declare { method }) if method == declaration(method.id) => {
                assert!(declared.insert(method.id), "a method is declared once");
            }
            _ => kept.extend_from_slice(frame),
        }
    }
    kept
}

/// A caller's control frames, and its master's.
pub(super) fn controls(call: u64, [first, second, third, fourth]: [u32; 4]) -> Vec<Control> {
    let text = if call % 2 == 0 { "zone" } else { "" };
    let labels = vec![(text.to_owned(), "eu".to_owned()); (first % 3) as usize];
    let capacity = WatchedCapacity { nodes: second, slots: third, free: fourth, compute: call % 3 == 0 };
    let report = RunReport {
        run: call,
        name: text.to_owned(),
        done: first.into(),
        failed: second.into(),
        running: third.into(),
        waiting: fourth.into(),
        total: (call % 3 == 0).then_some(call),
        elapsed: call,
        is_over: first % 2 == 0,
        oldest: vec![call; (second % 3) as usize],
    };
    vec![
        Control::CallerHeartbeat,
        Control::Run { report },
        Control::Declare { method: MethodOffer { version: first, ..declaration(call) } },
        Control::CancelCall { call },
        Control::Detach { call },
        Control::Watch { watch: first, method: call, labels },
        Control::Unwatch { watch: first },
        Control::Capacity { watch: first, capacity },
    ]
}
