//! A sample of each error, event and reason that users read, for the test that lists all messages.

use std::{fmt::Display, io, iter, time::Duration};

use crate::{
    administration::{LogLevel, LogRecord, ThreadState, WaitReason},
    error::{
        self, AdminError, CallStage, CodecError, Endpoint, Error, Execution, GoneReason, KeyedError, LimitOf, Part,
        QueueUnit,
    },
    id::{CallId, MethodName, NodeId, NodeIdentity},
    many::Progress,
    security::{Access, CallerRights, Principal},
    view::{NodeEvent, NodeState},
};

/// A sample of what is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The type and the variant: `CallError::Overloaded`.
    pub name: &'static str,
    /// What it prints, with its sources.
    pub text: String,
}

impl Message {
    fn of(name: &'static str, value: &dyn Display) -> Self {
        Self { name, text: value.to_string() }
    }

    /// As a program prints it that prints an error with its sources.
    fn with_sources(name: &'static str, error: &dyn std::error::Error) -> Self {
        let sources = iter::successors(error.source(), |&source| source.source());
        let text = iter::once(error.to_string()).chain(sources.map(ToString::to_string)).collect::<Vec<_>>().join(": ");
        Self { name, text }
    }
}

/// Names a value by its type and variant, as they are written.
macro_rules! samples {
    ($make:path: $($type:ident::$variant:ident $(($($value:expr),*))? $({$($fields:tt)*})?),* $(,)?) => {
        [$($make(
            concat!(stringify!($type), "::", stringify!($variant)),
            &$type::$variant $(($($value),*))? $({$($fields)*})?,
        )),*]
    };
}

/// A sample of each variant of the public types that print as text.
pub fn messages() -> Vec<Message> {
    let mut all = Vec::new();
    all.extend(call_errors());
    all.extend(errors());
    all.extend(samples![Message::of:
        CallStage::Queued, CallStage::Retrying(node(1)), CallStage::Sent(node(1)), CallStage::AtMaster,
        Endpoint::Master, Endpoint::Node, Endpoint::Caller,
        Execution::NotRun, Execution::MayHaveRun, Execution::Ran,
        QueueUnit::Calls, QueueUnit::Bytes,
        LimitOf::Caller, LimitOf::Master, LimitOf::Credential, LimitOf::Session, LimitOf::Disconnected,
        Part::Arguments, Part::Reply, Part::Item,
        NodeState::Alive, NodeState::Suspect, NodeState::Disconnected, NodeState::Draining,
        Access::Nodes, Access::Callers, Access::Admins, Access::Viewers,
        LogLevel::Trace, LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error,
        ThreadState::Running, ThreadState::Sleeping, ThreadState::Disk, ThreadState::Stopped, ThreadState::Unknown,
    ]);
    all.extend(admin_errors());
    all.extend(wait_reasons());
    all.extend(gone_reasons());
    all.extend(node_events());
    all.push(Message::of("NodeId", &node(1).id));
    all.push(Message::of("NodeIdentity", &node(1)));
    let note = "1,234 records were dropped: they were read too slowly".to_owned();
    all.push(Message::of("LogRecord", &LogRecord::note(node(1), Duration::ZERO, note)));
    all.push(Message::of("Principal", &Principal::open()));
    all.push(Message::of("CallerRights", &CallerRights::new().service("Arith").deny_on().max_calls(100)));
    let keyed =
        KeyedError { key: "north", error: error::CallError::<String>::Handler("the key `k1` does not exist".into()) };
    all.push(Message::with_sources("KeyedError", &keyed));
    all.push(Message::of("Progress", &progress()));
    all.push(Message::of("MethodName", &method()));
    all.push(Message::of("CallIdentity", &call()));
    all.push(Message::of("CallId", &CallId::first(0x91_c2a7)));
    all.push(Message::of("CodecError", &codec_error()));
    all.extend("n1".parse::<NodeId>().err().map(|error| Message::of("ParseNodeIdError", &error)));
    all.extend("n1".parse::<CallId>().err().map(|error| Message::of("ParseCallIdError", &error)));
    all
}

fn call() -> error::CallIdentity {
    error::CallIdentity::new(Some(CallId::first(0x91_c2a7)), method())
}

fn method() -> MethodName {
    MethodName::new("Arith", "sum")
}

fn node(number: u32) -> NodeIdentity {
    NodeIdentity::new(NodeId::new(0x5f3a_91c2, number), &format!("n{number}"), ([10, 0, 0, 2], 41_312).into())
}

fn codec_error() -> CodecError {
    CodecError::new("unexpected end of the bytes")
}

fn io_error() -> io::Error {
    io::Error::from(io::ErrorKind::PermissionDenied)
}

fn progress() -> Progress {
    Progress {
        done: 120,
        failed: 2,
        running: 8,
        waiting: 70,
        oldest: Some(Duration::from_millis(2_500)),
        total: Some(200),
        elapsed: Duration::from_secs(6),
        rate: 20.0,
        time_left: Some(Duration::from_secs(4)),
        nodes: vec![(node(1), 80), (node(2), 40)],
    }
}

fn call_errors() -> impl IntoIterator<Item = Message> {
    type CallError = error::CallError<String>;
    let second = Duration::from_secs(1);
    samples![Message::with_sources:
        CallError::Handler("the key `k1` does not exist".into()),
        CallError::Panicked { call: call(), node: node(1), message: "index out of bounds".into() },
        CallError::NoNode { call: call(), wanted: "no registered node serves it".into(), waited: second },
        CallError::Overloaded {
            call: call(),
            limit_of: LimitOf::Master,
            queued: 10_000,
            limit: 10_000,
            unit: QueueUnit::Calls,
        },
        CallError::Overloaded {
            call: call(),
            limit_of: LimitOf::Caller,
            queued: 250_000_000,
            limit: 268_435_456,
            unit: QueueUnit::Bytes,
        },
        CallError::Overloaded {
            call: call(),
            limit_of: LimitOf::Session,
            queued: 327_680,
            limit: 327_680,
            unit: QueueUnit::Calls,
        },
        CallError::Overloaded {
            call: call(),
            limit_of: LimitOf::Credential,
            queued: 100,
            limit: 100,
            unit: QueueUnit::Calls,
        },
        CallError::TimedOut { call: call(), timeout: second, stage: CallStage::Sent(node(1)) },
        CallError::NodeLost { call: call(), node: node(1), attempts: 2, reason: GoneReason::Disconnected },
        CallError::Poisoned { call: call(), nodes: vec![node(1), node(2), node(3)] },
        CallError::TooLarge { call: call(), part: Part::Arguments, size: 70_000_000, limit: 67_108_864 },
        CallError::Incompatible {
            call: call(),
            expected: "fn(Vec<i64>) -> i64, version 1".into(),
            found: "fn(Vec<i64>) -> i64, version 2".into(),
            difference: "version 1 here, version 2 on n1".into(),
        },
        CallError::Encode { call: call(), part: Part::Reply, source: codec_error() },
        CallError::Decode { call: call(), part: Part::Arguments, source: codec_error() },
        CallError::Decode { call: call(), part: Part::Item, source: codec_error() },
        CallError::NotIdempotent { call: call(), option: "attempts".into() },
        CallError::MasterLost {
            call: call(),
            master: "10.0.0.1:3000".to_owned(),
            reason: "it closed the connection without a goodbye".to_owned(),
            execution: Execution::MayHaveRun,
        },
        CallError::TooDeep { call: call(), limit: 256 },
        CallError::TooManyWaiting { call: call(), limit: 1024 },
        CallError::Denied { call: call(), reason: "token 1a2b3c4d is for nodes, and only callers and admins may make calls".to_owned() },
        CallError::InvalidOption { call: call(), option: "attempts".into(), value: "0".into(), reason: "a call needs at least one".into() },
        CallError::Cancelled {
            call: call(),
            by: "an administrator at the master".into(),
            execution: Execution::MayHaveRun,
        },
        CallError::Cancelled { call: call(), by: crate::error::ITS_MAKER.into(), execution: Execution::NotRun },
        CallError::Shutdown { call: call(), execution: Execution::MayHaveRun },
    ]
}

fn errors() -> impl IntoIterator<Item = Message> {
    let master = || "10.0.0.1:3000".to_owned();
    let all = samples![Message::with_sources:
        Error::Bind { addr: "10.0.0.1:80".into(), source: io_error() },
        Error::Setting { name: "slots", value: "0".into(), reason: "a node needs at least one".into() },
        Error::Node { reason: "its name is longer than 256 bytes".into() },
        Error::ServedTwice { method: method() },
        Error::Refused { end: Endpoint::Node, master: master(), reason: "the master is shutting down".into() },
        Error::NoCredential { end: Endpoint::Caller, master: master(), reason: "it requires a join token, and this end has no security".into() },
        Error::Protocol { end: Endpoint::Node, master: master(), reason: "it does not speak this protocol: it began with HTTP".into() },
        Error::Insecure { end: Endpoint::Master, addr: master() },
        Error::Token { place: "DISTRIBUTION_TOKEN", reason: "its last characters are missing".into() },
        Error::TokenFile { file: "cluster.token".into(), reason: "it does not exist".into() },
        Error::Certificates { file: "node.pem".into(), reason: "it has no certificate in it".into() },
        Error::Untrusted { end: Endpoint::Node, master: master(), reason: "its certificate has expired".into() },
        Error::ConnectTimeout {
            end: Endpoint::Node,
            master: master(),
            timeout: Duration::from_secs(60),
            last_failure: "cannot connect: Connection refused (os error 111)".into(),
        },
        Error::MasterLost {
            master: master(),
            timeout: Duration::from_secs(30),
            last_failure: "cannot connect: Connection refused (os error 111)".into(),
        },
        Error::RuntimeEnded {},
        Error::Thread { what: "threads", source: io_error() },
    ];
    let end = Endpoint::Caller;
    let elsewhere = [
        ("Error::Insecure", Error::Insecure { end: Endpoint::Node, addr: master() }),
        ("Error::Insecure", Error::Insecure { end, addr: master() }),
        (
            "Error::Refused",
            Error::Refused { end, master: master(), reason: "10000 callers are connected already".into() },
        ),
        (
            "Error::ConnectTimeout",
            Error::ConnectTimeout {
                end,
                master: master(),
                timeout: Duration::from_secs(30),
                last_failure: "cannot connect: Connection refused (os error 111)".into(),
            },
        ),
    ];
    all.into_iter().chain(elsewhere.map(|(name, error)| Message::with_sources(name, &error)))
}

fn admin_errors() -> impl IntoIterator<Item = Message> {
    samples![Message::with_sources:
        AdminError::UnknownNode { node: node(1).id },
        AdminError::UnknownCall { call: CallId::first(0x91_c2a7) },
        AdminError::AlreadyEnded { call: CallId::first(0x91_c2a7), node: node(1) },
        AdminError::InBatch { call: CallId(CallId::first(0x91_c2a7).0 + 12), batch: CallId::first(0x91_c2a7), count: 40 },
        AdminError::NotProfiled { node: node(1), reason: "another profile of its process is being taken".to_owned() },
        AdminError::Failed,
    ]
}

fn wait_reasons() -> impl IntoIterator<Item = Message> {
    let labels = [("gpu".to_owned(), "a100".to_owned())];
    samples![Message::of:
        WaitReason::NoNode,
        WaitReason::NoLabel { labels: labels.clone().into(), nodes: 1 },
        WaitReason::NoLabel { labels: labels.into(), nodes: 4 },
        WaitReason::AllBusy { nodes: 1 },
        WaitReason::AllBusy { nodes: 4 },
        WaitReason::AllCordoned { nodes: 1 },
        WaitReason::AllCordoned { nodes: 4 },
        WaitReason::NoneTakesIt { busy: 2, suspect: 1, cordoned: 1, ejected: 0, avoided: 1 },
        WaitReason::NoneTakesIt { busy: 0, suspect: 1, cordoned: 0, ejected: 0, avoided: 0 },
        WaitReason::NodeBusy { node: node(1) },
        WaitReason::NodeSuspect { node: node(1) },
        WaitReason::NodeDisconnected { node: node(1) },
        WaitReason::NodeCordoned { node: node(1) },
        WaitReason::BackingOff { attempt: 2, node: node(1), left: Duration::from_millis(300) },
        WaitReason::Placing,
    ]
}

fn gone_reasons() -> impl IntoIterator<Item = Message> {
    samples![Message::of:
        GoneReason::Disconnected,
        GoneReason::Broken("connection reset by peer".into()),
        GoneReason::Silent(Duration::from_millis(6_200)),
        GoneReason::Left,
        GoneReason::Violation("a reply to a call that it was not sent".into()),
        GoneReason::Replaced,
        GoneReason::Revoked,
        GoneReason::Expired,
        GoneReason::Displaced,
        GoneReason::DisconnectedByMaster,
        GoneReason::Kicked,
        GoneReason::Shutdown,
        GoneReason::Dropped("the runtime that its async handlers ran on has ended".into()),
    ]
}

fn node_events() -> impl IntoIterator<Item = Message> {
    samples![Message::of:
        NodeEvent::Present { node: node(1), principal: Principal::open(), state: NodeState::Alive, is_ejected: false, is_cordoned: false },
        NodeEvent::Present { node: node(1), principal: Principal::open(), state: NodeState::Alive, is_ejected: true, is_cordoned: true },
        NodeEvent::Disconnected { node: node(1), reason: GoneReason::Disconnected, in_flight: 2 },
        NodeEvent::Resumed { node: node(1), in_flight: 1 },
        NodeEvent::Joined { node: node(1), principal: Principal::open() },
        NodeEvent::Suspect { node: node(1), silent_for: Duration::from_secs(3) },
        NodeEvent::Recovered { node: node(1) },
        NodeEvent::Draining { node: node(1) },
        NodeEvent::Gone { node: node(1), reason: GoneReason::Left, in_flight: 0 },
        NodeEvent::Gone { node: node(1), reason: GoneReason::Disconnected, in_flight: 1 },
        NodeEvent::Gone { node: node(1), reason: GoneReason::Silent(Duration::from_secs(6)), in_flight: 12 },
        NodeEvent::Ejected { node: node(1), rest: Duration::from_secs(10), why: "Arith.sum panics there".into() },
        NodeEvent::Restored { node: node(1) },
        NodeEvent::Cordoned { node: node(1) },
        NodeEvent::Uncordoned { node: node(1) },
        NodeEvent::Missed(12),
    ]
}
