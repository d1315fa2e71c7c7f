//! Frames through all ends of the transport.

use std::{
    fmt,
    future::poll_fn,
    io,
    sync::{Arc, Mutex, PoisonError},
    task::{Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::{Sink, SinkExt, Stream, StreamExt, executor::block_on};
use tarpc::{ClientMessage, Request, Response};
use tokio::time::Instant;

use super::{
    SPLITS, assert_fit_for_a_log,
    caller_frames::{self, CallerRequestFrame, CallerResponseFrame},
    end::{ENDS, End},
    memory::Memory,
    streams::open_streams,
};
use crate::{
    administration::LogLevel,
    config::{LONGEST_TIME, PeerTimeouts, SMALLEST_MESSAGE_LIMIT, from_micros},
    id::MethodName,
    wire::{
        CloseReason, Control, Load, Outcome, Refusal, Reply, VitalsReport,
        connection_state::ConnectionState,
        frame::{call::Trace, layout::LARGEST_WHOLE_PAYLOAD},
        log::SentRecord,
        transport::{
            CallerAtMasterTransport, CallerTransport, IncomingRequest, MasterTransport, NodeTransport, OnControl,
            OutgoingReply, OutgoingRequest, SendPermit,
        },
    },
};

/// A frame as an end of a connection sees it.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame(Content);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Request {
        request: u64,
        names: (u64, u64, u32, u32),
        granted: u32,
        timeout: Option<Duration>,
        metadata: Vec<(String, String)>,
        trace: Option<Trace>,
        payload: Bytes,
    },
    Response {
        request: u64,
        reply: Reply,
    },
    CallerRequest(CallerRequestFrame),
    CallerResponse(CallerResponseFrame),
    Control(Control),
}

impl Frame {
    /// A request: its id; its method, call, attempt and count; how many of these calls may be started; the
    /// microseconds left to it; its metadata; trace, span and whether they are sampled.
    pub fn request(
        request: u64,
        names: (u64, u64, u32, u32),
        granted: u32,
        timeout: Option<u64>,
        metadata: Vec<(String, String)>,
        trace: Option<(u128, u64, bool)>,
        payload: Vec<u8>,
    ) -> Self {
        let trace = trace.map(|(trace, span, sampled)| Trace { trace, span, sampled });
        let timeout = timeout.map(from_micros);
        Self(Content::Request { request, names, granted, timeout, metadata, trace, payload: payload.into() })
    }

    /// A response after `run` microseconds to `count` calls: `how` picks the outcome, which takes what it needs of the
    /// text and the sizes.
    pub fn response(
        request: u64,
        (run, count): (u64, u32),
        how: u8,
        text: String,
        sizes: (u64, u64),
        payload: Vec<u8>,
    ) -> Self {
        let outcome = match how % 15 {
            0 => Outcome::Value,
            1 => Outcome::Error,
            2 => Outcome::Panicked(text),
            3 => Outcome::Encode(text),
            4 => Outcome::TooLarge { size: sizes.0, limit: sizes.1 },
            5 => Outcome::Stopped,
            6 => Outcome::Refused(Refusal::UnknownMethod),
            7 => Outcome::Refused(Refusal::Busy),
            8 => Outcome::Refused(Refusal::Draining),
            9 => Outcome::Refused(Refusal::Decode(text)),
            10 => Outcome::Refused(Refusal::Stopped),
            11 => Outcome::Refused(Refusal::Returned),
            12 => Outcome::Refused(Refusal::Ended),
            13 => Outcome::Refused(Refusal::NotReceived),
            _ => Outcome::Lost(text),
        };
        let reply = Reply {
            outcome,
            run: Duration::from_micros(run),
            count,
            panicked: 0,
            payload: Bytes::from(payload).into(),
        };
        Self(Content::Response { request, reply })
    }

    /// A call of a caller: its request; its method, number and count; its node, affinity, the call that it hedges, and its
    /// earlier number; timeout (what is left and what was set), attempts, and flags; its labels and its metadata.
    pub fn caller_call(
        request: u64,
        names: (u64, u64, u32),
        options: [Option<u64>; 4],
        limits: (Option<(u64, u64)>, Option<u32>, u8),
        texts: [Vec<(String, String)>; 2],
        payload: Vec<u8>,
    ) -> Self {
        Self(Content::CallerRequest(CallerRequestFrame::call(request, names, options, limits, texts, payload)))
    }

    /// A caller's question for the nodes that serve a method and have these labels.
    pub fn caller_question(request: u64, method: u64, labels: Vec<(String, String)>) -> Self {
        Self(Content::CallerRequest(CallerRequestFrame::question(request, method, labels)))
    }

    /// A response to a caller: how the request ended, count and attempts; node, elapsed and run time; the node's name.
    pub fn caller_response(
        request: u64,
        how: (u8, u32, u32),
        numbers: [u64; 3],
        name: String,
        payload: Vec<u8>,
    ) -> Self {
        Self(Content::CallerResponse(CallerResponseFrame::new(request, how, numbers, name, payload)))
    }

    /// A control frame that this end sends: `how` picks which, and it takes what it needs of the numbers.
    pub fn control(from: End, how: u8, call: u64, [first, second, third, fourth]: [u32; 4]) -> Self {
        let load =
            Load { computing: first, waiting: second, asynchronous: third, stale: fourth, blocked: first ^ fourth };
        let reason = CloseReason::new(if call % 2 == 0 { "" } else { "the node was disconnected" });
        let mut controls = vec![
            Control::Cancel { call, attempt: first },
            Control::Heartbeat { load },
            Control::MasterHeartbeat,
            Control::Drain,
            Control::Drained,
            Control::RequestDrain,
            Control::Vitals {
                vitals: VitalsReport { cpu: Some(first), lag: second.into(), ..VitalsReport::default() },
            },
            Control::Logs { records: log_records(call, first, usize::from(how) % 4) },
            Control::TakeProfile { profile: first, milliseconds: second },
            Control::ProfilePart { profile: first, bytes: second.to_le_bytes().to_vec(), is_last: how % 2 == 0 },
            Control::Received { responses: call },
            Control::AskedAgain,
            Control::Retract,
            Control::GiveBack { call, attempt: first, kept: second },
            Control::RequestGrant { call, attempt: first, upto: second },
            Control::Grant { call, attempt: first, upto: second },
            Control::Goodbye { reason, is_shutdown: call % 3 == 0 },
        ];
        controls.extend(caller_frames::controls(call, [first, second, third, fourth]));
        controls.retain(|control| control.kind().travels(from.direction()));
        Self(Content::Control(controls.swap_remove(usize::from(how) % controls.len())))
    }

    /// Whether it is a message that is written in chunks, between which other frames come.
    pub fn is_in_chunks(&self) -> bool {
        let payload = match &self.0 {
            Content::Request { payload, .. } => payload.len(),
            Content::Response { reply, .. } => reply.payload.len(),
            Content::CallerRequest(request) => request.payload.len(),
            Content::CallerResponse(response) => response.payload.len(),
            Content::Control(_) => 0,
        };
        payload > LARGEST_WHOLE_PAYLOAD
    }

    /// Whether `other` is this frame after a journey, on which time goes by.
    pub fn arrived_as(&self, other: &Self) -> bool {
        if let (Content::CallerRequest(sent), Content::CallerRequest(arrived)) = (&self.0, &other.0) {
            return sent.arrived_as(arrived);
        }
        let mut expected = self.clone();
        if let (Content::Request { timeout: Some(sent), .. }, Content::Request { timeout: Some(arrived), .. }) =
            (&mut expected.0, &other.0)
        {
            *sent = (*sent).min(*arrived);
        }
        expected == *other
    }
}

/// Records of a node's log.
fn log_records(call: u64, attempt: u32, count: usize) -> Vec<SentRecord> {
    let record = |number: usize| SentRecord {
        time: call,
        level: [LogLevel::Trace, LogLevel::Info, LogLevel::Warn, LogLevel::Error][number % 4],
        repeated: attempt,
        call: (number % 2 == 0).then_some((call, attempt)),
        method: "Arith.sum".to_owned(),
        target: "program".to_owned(),
        message: "\u{1b}[2J".repeat(number),
        fields: String::new(),
        backtrace: "at\n".repeat(number),
    };
    (0..count).map(record).collect()
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an end of a connection reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The frames, in order.
    pub frames: Vec<Frame>,
    /// What is wrong behind the last of them, if anything.
    pub end: Result<(), String>,
}

/// Reads frames with bodies of up to `limit` bytes as one end of a connection does.
pub fn read(end: End, bytes: &[u8], pieces: &[usize], limit: usize) -> Reading {
    let memory = Memory::new(bytes, pieces);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let see = {
        let seen = Arc::clone(&seen);
        move |content| seen.lock().unwrap_or_else(PoisonError::into_inner).push(Frame(content))
    };
    let on_control: OnControl = {
        let see = see.clone();
        Box::new(move |control| {
            see(Content::Control(control));
            Ok(())
        })
    };
    let state = ConnectionState::new(PeerTimeouts::default(), None);
    let _streams = open_streams(end, &state);
    let end = block_on(async {
        match end {
            End::Master => {
                collect(MasterTransport::new(memory, state, limit, on_control), |it| see(response(it))).await
            }
            End::Node => {
                collect(NodeTransport::new(memory, state, limit, None, on_control), |it| see(request(it))).await
            }
            End::Caller => {
                let see = |it| see(Content::CallerResponse(CallerResponseFrame::read(it)));
                collect(CallerTransport::new(memory, state, limit, on_control), see).await
            }
            End::MasterOfCaller => {
                let see = |it| see(Content::CallerRequest(CallerRequestFrame::read(it)));
                collect(CallerAtMasterTransport::new(memory, state, limit, None, on_control), see).await
            }
        }
    });
    let frames = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    Reading { frames, end: end.map_err(|error| error.to_string()) }
}

async fn collect<T>(mut messages: impl Stream<Item = io::Result<T>> + Unpin, mut see: impl FnMut(T)) -> io::Result<()> {
    while let Some(message) = messages.next().await {
        see(message?);
    }
    Ok(())
}

fn response(Response { request_id, message }: Response<Reply>) -> Content {
    Content::Response { request: request_id, reply: message.expect("the transport makes no errors of tarpc's") }
}

fn request(message: ClientMessage<IncomingRequest>) -> Content {
    let ClientMessage::Request(Request { id, message, .. }) = message else {
        panic!("the transport makes no cancellations of tarpc's");
    };
    let payload = message.take_payload();
    let IncomingRequest { method, call, attempt, count, granted, timeout, metadata, trace, .. } = message;
    let trace = trace.map(|trace| *trace);
    Content::Request { request: id, names: (method, call, attempt, count), granted, timeout, metadata, trace, payload }
}

/// The bytes that one end of a connection sends for these frames, without those that only the other sends.
pub fn write(end: End, frames: &[Frame], pieces: &[usize]) -> Vec<u8> {
    let mut memory = Memory::new(&[], pieces);
    let state = ConnectionState::new(PeerTimeouts::default(), None);
    let ignored: OnControl = Box::new(|_| Ok(()));
    let written = block_on(async {
        match end {
            End::Master => {
                let transport = MasterTransport::new(&mut memory, Arc::clone(&state), SMALLEST_MESSAGE_LIMIT, ignored);
                send(transport, &state, frames, outgoing).await
            }
            End::Node => {
                let transport =
                    NodeTransport::new(&mut memory, Arc::clone(&state), SMALLEST_MESSAGE_LIMIT, None, ignored);
                send(transport, &state, frames, reply).await
            }
            End::Caller => {
                let transport = CallerTransport::new(&mut memory, Arc::clone(&state), SMALLEST_MESSAGE_LIMIT, ignored);
                let message = |content: &Content| match content {
                    Content::CallerRequest(request) => Some(request.outgoing(Arc::new(Carrying(Vec::new(), None)))),
                    _ => None,
                };
                send(transport, &state, frames, message).await
            }
            End::MasterOfCaller => {
                let transport = CallerAtMasterTransport::new(
                    &mut memory,
                    Arc::clone(&state),
                    SMALLEST_MESSAGE_LIMIT,
                    None,
                    ignored,
                );
                let message = |content: &Content| match content {
                    Content::CallerResponse(response) => Some(response.outgoing(&state)),
                    _ => None,
                };
                send(transport, &state, frames, message).await
            }
        }
    });
    written.expect("memory takes everything");
    match end {
        End::Caller => caller_frames::without_declarations(&memory.written),
        _ => memory.written,
    }
}

async fn send<M>(
    mut transport: impl Sink<M, Error = io::Error> + Unpin,
    state: &ConnectionState,
    frames: &[Frame],
    message: impl Fn(&Content) -> Option<M>,
) -> io::Result<()> {
    for Frame(content) in frames {
        if let Content::Control(control) = content {
            // Some of them take requests back that are not completely written.
            transport.flush().await?;
            state.send(control.clone());
            // Else it would travel with the next write, behind calls that come later.
            transport.flush().await?;
        } else if let Some(message) = message(content) {
            room(&mut transport).await?;
            transport.start_send_unpin(message)?;
        }
    }
    transport.close().await
}

/// Waits as tarpc does, which flushes a transport that is not ready. Ours relies on it.
async fn room<M>(transport: &mut (impl Sink<M, Error = io::Error> + Unpin)) -> io::Result<()> {
    poll_fn(|cx| {
        while transport.poll_ready_unpin(cx)?.is_pending() {
            ready!(transport.poll_flush_unpin(cx))?;
        }
        Poll::Ready(Ok(()))
    })
    .await
}

/// The permission to send, which nobody takes back, of a call with this metadata and trace.
#[derive(Debug)]
struct Carrying(Vec<(String, String)>, Option<Trace>);

impl SendPermit for Carrying {
    fn may_begin(&self, _: u32) -> bool {
        true
    }

    fn begin(&self, _: u32) -> bool {
        true
    }

    fn complete(&self, _: u32) -> bool {
        true
    }

    fn metadata(&self) -> &[(String, String)] {
        &self.0
    }

    fn trace(&self) -> Option<Trace> {
        self.1
    }
}

fn outgoing(content: &Content) -> Option<ClientMessage<Box<OutgoingRequest>>> {
    let Content::Request { request, names: (method, call, attempt, count), granted, timeout, metadata, trace, payload } =
        content.clone()
    else {
        return None;
    };
    let message = Box::new(OutgoingRequest {
        method,
        call,
        attempt,
        count,
        granted,
        deadline: timeout.map(|timeout| Instant::now() + timeout),
        payload: payload.into(),
        arguments: None,
        name: MethodName::new("Fuzzed", "method"),
        permit: Arc::new(Carrying(metadata, trace)),
    });
    Some(ClientMessage::Request(Request { context: tarpc::context::current(), id: request, message }))
}

fn reply(content: &Content) -> Option<Response<OutgoingReply>> {
    let Content::Response { request, reply } = content.clone() else { return None };
    Some(Response { request_id: request, message: Ok(OutgoingReply { key: (0, 0), reply }) })
}

/// The law for any bytes as frames: at each end, how they are cut up makes no difference, and what was
/// read can be written and read again as it was.
pub fn frames(bytes: &[u8]) {
    for end in ENDS {
        let reading = read(end, bytes, SPLITS[0], SMALLEST_MESSAGE_LIMIT);
        for pieces in &SPLITS[1..] {
            assert_eq!(read(end, bytes, pieces, SMALLEST_MESSAGE_LIMIT), reading);
        }
        if let Err(reason) = &reading.end {
            assert_fit_for_a_log(reason);
        }
        for frame in &reading.frames {
            if let Content::Request { timeout: Some(timeout), .. } = frame.0 {
                assert!(timeout <= LONGEST_TIME, "{timeout:?}");
            }
        }
        let written = write(end.other(), &reading.frames, SPLITS[2]);
        assert!(written.len() <= bytes.len(), "{} bytes became {}", bytes.len(), written.len());
        let again = read(end, &written, SPLITS[0], SMALLEST_MESSAGE_LIMIT);
        assert_eq!((again.frames.len(), again.end), (reading.frames.len(), Ok(())));
        for (first, second) in reading.frames.iter().zip(&again.frames) {
            assert!(first.arrived_as(second), "{first:?} became {second:?}");
        }
    }
}
