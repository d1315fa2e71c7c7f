//! The caller's end of a connection: sends requests to the master and receives the responses.

use std::{
    collections::HashSet,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use futures::{Sink, Stream};
use tarpc::{ClientMessage, Request, RequestName, Response};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use super::{
    frame_stream::{FrameStream, OnControl, invalid},
    master::{AttemptGivenUp, not_sent},
    outgoing::{Outgoing, Owner},
};
use crate::{
    config::to_micros,
    id::{CallId, MethodName},
    wire::{
        codec::encode_header,
        connection_state::ConnectionState,
        frame::{
            caller::{CallRequest, CallerEnd, CallerRequestBody, CallerRequestHeader, CallerResponseHeader},
            kind::{Control, Direction, FrameKind},
            layout::{BODY_HEADER_LIMIT, split_body},
        },
        handshake::{Definition, MethodOffer},
        incoming_memory::RESERVED_ABOVE,
        payload::Payload,
        send_permit::{ONLY_ATTEMPT, SendPermit},
    },
};

/// Once the texts of all methods that were declared have this many bytes, structures are left out: they are for people, and a
/// master accepts 512 KiB in all.
const MOST_DECLARED: usize = 256 * 1024;

/// A request as a caller gives it to tarpc.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are calls")]
pub(crate) enum OutgoingCallerRequest {
    Call {
        /// Without the time that is left, which is set as it is written.
        request: CallRequest,
        deadline: Option<Instant>,
        payload: Payload,
        /// The method's name in tarpc's log.
        name: MethodName,
        /// What the master has to know of the method before its first call.
        describe: Describe,
        /// Asked before the request is written.
        permit: Arc<dyn SendPermit>,
    },
    Serving {
        method: u64,
        labels: Vec<(String, String)>,
    },
    /// For the end of a call that was sent on an earlier connection.
    AskAgain {
        call: CallId,
        permit: Arc<dyn SendPermit>,
        /// The arguments, if the master fetches them. It may need them again.
        arguments: Option<Payload>,
    },
}

/// Describes a method to the master.
pub(crate) struct Describe(pub(crate) Box<dyn Fn() -> MethodOffer + Send + Sync>);

impl std::fmt::Debug for Describe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Describe")
    }
}

impl RequestName for OutgoingCallerRequest {
    fn name(&self) -> &str {
        match self {
            Self::Call { name, .. } => name.method(),
            Self::Serving { .. } => "nodes that serve a method",
            Self::AskAgain { .. } => "end of an earlier call",
        }
    }
}

/// Whether these arguments stay at the caller until the master fetches them.
pub(crate) fn is_fetched(arguments: &Payload) -> bool {
    arguments.len() > RESERVED_ABOVE - BODY_HEADER_LIMIT
}

/// How a request ended, with its payload.
#[derive(Debug)]
pub(crate) struct CallerReply {
    pub(crate) end: CallerEnd,
    pub(crate) payload: Bytes,
}

/// The caller's end of a connection: sends requests, receives responses.
pub(crate) struct CallerTransport<Io> {
    frames: FrameStream<Io>,
    /// The methods that the master knows of, and the bytes of all their texts.
    declared: HashSet<u64>,
    declared_bytes: usize,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> CallerTransport<Io> {
    /// Receives frames with bodies of up to `max_message_size` bytes.
    pub(crate) fn new(io: Io, state: Arc<ConnectionState>, max_message_size: usize, on_control: OnControl) -> Self {
        let frames = FrameStream::new(io, Direction::MasterToCaller, state, max_message_size, on_control);
        Self { frames, declared: HashSet::new(), declared_bytes: 0 }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Stream for CallerTransport<Io> {
    type Item = io::Result<Response<CallerReply>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(request_id) = self.frames.take_not_sent() {
            return Poll::Ready(Some(Ok(Response { request_id, message: Err(not_sent()) })));
        }
        Poll::Ready(ready!(self.frames.poll_message(cx)).map(|body| {
            let (header, payload) = split_body::<CallerResponseHeader>(body?).map_err(invalid)?;
            self.frames.state.on_response_arrived(payload.len());
            Ok(Response { request_id: header.request, message: Ok(CallerReply { end: header.end, payload }) })
        }))
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Sink<ClientMessage<OutgoingCallerRequest>> for CallerTransport<Io> {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_ready()
    }

    fn start_send(mut self: Pin<&mut Self>, message: ClientMessage<OutgoingCallerRequest>) -> io::Result<()> {
        let ClientMessage::Request(Request { id, message, .. }) = message else {
            // As at the master: calls are cancelled by a control frame, which is answered.
            return Ok(());
        };
        // When a call is to end, and one whose arguments are fetched.
        let (mut ends, mut offered) = (None, None);
        let (body, payload, permit) = match message {
            OutgoingCallerRequest::Serving { method, labels } => {
                (CallerRequestBody::Serving { method, labels }, Payload::EMPTY, None)
            }
            OutgoingCallerRequest::AskAgain { call, permit, arguments } => {
                let _ = permit.begin(ONLY_ATTEMPT);
                if let Some(arguments) = arguments {
                    self.frames.state.streams().offer(call.0, arguments, None);
                }
                (CallerRequestBody::AskAgain { call: call.0 }, Payload::EMPTY, None)
            }
            OutgoingCallerRequest::Call { request, deadline, payload, describe, permit, .. } => {
                // A large one begins with its last chunk.
                let is_large = Outgoing::is_large(&payload);
                if !(if is_large { permit.may_begin(ONLY_ATTEMPT) } else { permit.begin(ONLY_ATTEMPT) }) {
                    return Err(io::Error::other(AttemptGivenUp));
                }
                if self.declared.insert(request.method) {
                    let mut method = (describe.0)();
                    if self.declared_bytes + method.size() > MOST_DECLARED {
                        method.structure = vec![Definition::left_out()];
                    }
                    self.declared_bytes += method.size();
                    self.frames.queue_control(&Control::Declare { method }).map_err(invalid)?;
                }
                let call = request.call;
                ends = deadline;
                if is_fetched(&payload) {
                    let length = payload.len() as u64;
                    self.frames.state.streams().offer(call, payload, Some(Arc::clone(&permit)));
                    offered = Some((call, permit));
                    (CallerRequestBody::LargeCall { call: request, length }, Payload::EMPTY, None)
                } else {
                    (CallerRequestBody::Call(request), payload, Some((call, permit)))
                }
            }
        };
        let mut header = CallerRequestHeader { request: id, body };
        let encode = move |body: &mut BytesMut| {
            if let CallerRequestBody::Call(request) | CallerRequestBody::LargeCall { call: request, .. } =
                &mut header.body
            {
                let left = |at: Instant| to_micros(at.saturating_duration_since(Instant::now()));
                request.timeout = ends.zip(request.timeout).map(|(at, (_, set))| (left(at), set));
            }
            encode_header(&header, body)
        };
        let permit = match permit {
            Some((call, permit)) if Outgoing::is_large(&payload) => {
                let detach = Some(Control::Detach { call });
                let owner = Owner::Request { request: id, attempt: ONLY_ATTEMPT, permit, detach };
                self.frames.outgoing().push_large((call, ONLY_ATTEMPT), payload, None, encode, owner);
                return Ok(());
            }
            permit => permit,
        };
        self.frames.frames().push(FrameKind::CallerRequest, payload, encode).map_err(invalid)?;
        if let Some((_, permit)) = &permit {
            self.frames.frames().ask_before_last_byte(ONLY_ATTEMPT, Arc::clone(permit));
        }
        if let Some((call, permit)) = permit.or(offered) {
            // Looked at once the request is in the buffer: a frame that says so before may have overtaken it, and one that
            // says so later comes behind it.
            if permit.is_detached() {
                self.frames.queue_control(&Control::Detach { call }).map_err(invalid)?;
            }
        }
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::{SinkExt, StreamExt};

    use super::*;
    use crate::{administration::MethodKind, config::PeerTimeouts, wire::transport::CallerAtMasterTransport};

    #[derive(Debug)]
    struct Always;

    impl SendPermit for Always {
        fn may_begin(&self, _: u32) -> bool {
            true
        }

        fn begin(&self, _: u32) -> bool {
            true
        }

        fn complete(&self, _: u32) -> bool {
            true
        }

        fn is_detached(&self) -> bool {
            true
        }
    }

    fn offer(id: u64) -> MethodOffer {
        let text = "x".repeat(4000);
        MethodOffer {
            id,
            service: "S".to_owned(),
            version: 1,
            name: "f".to_owned(),
            signature: "fn()".to_owned(),
            types: 0,
            structure: vec![Definition { name: String::new(), text }],
            kind: MethodKind::Compute,
            idempotent: false,
            streams: crate::wire::handshake::StreamShape::default(),
        }
    }

    fn call(method: u64) -> ClientMessage<OutgoingCallerRequest> {
        let message = OutgoingCallerRequest::Call {
            request: CallRequest::bare(method, 9),
            deadline: None,
            payload: Payload::EMPTY,
            name: MethodName::new("S", "f"),
            describe: Describe(Box::new(move || offer(method))),
            permit: Arc::new(Always),
        };
        ClientMessage::Request(Request { context: tarpc::context::current(), id: method, message })
    }

    #[tokio::test]
    async fn a_method_is_declared_once_before_its_first_call_and_a_detached_call_says_so_behind_it() {
        let (near, far) = tokio::io::duplex(16 << 20);
        let state = || ConnectionState::new(PeerTimeouts::default(), None);
        let mut caller = CallerTransport::new(near, state(), 1 << 20, Box::new(|_| Ok(())));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let on_control: OnControl = {
            let seen = Arc::clone(&seen);
            Box::new(move |control| {
                seen.lock().expect("is whole").push(control);
                Ok(())
            })
        };
        for method in (0..200).chain(0..200) {
            caller.start_send_unpin(call(method)).expect("is queued");
            caller.flush().await.expect("is written");
        }
        drop(caller);
        let mut master = CallerAtMasterTransport::new(far, state(), 1 << 20, None, on_control);
        let mut calls = 0;
        while let Some(request) = master.next().await {
            request.expect("is right");
            calls += 1;
            let declared =
                seen.lock().expect("is whole").iter().filter(|one| matches!(one, Control::Declare { .. })).count();
            assert_eq!(declared, calls.min(200), "each before its first call");
        }
        let seen = std::mem::take(&mut *seen.lock().expect("is whole"));
        assert_eq!((calls, seen.iter().filter(|one| **one == Control::Detach { call: 9 }).count()), (400, 400));
        let size = |control: &Control| if let Control::Declare { method } = control { method.size() } else { 0 };
        let bytes: usize = seen.iter().map(size).sum();
        assert!((200 * 1024..300 * 1024).contains(&bytes), "{bytes}");
    }
}
