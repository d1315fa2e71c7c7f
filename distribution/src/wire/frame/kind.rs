//! The table of frame kinds, and the check of which frames an end of a connection may receive.
//!
//! To add a control frame, add a line to the table, send it with
//! [`ConnectionState::send`](crate::wire::connection_state::ConnectionState::send), and handle it where its receiver
//! handles control frames. If a release without it can do its work, give it a number from 128 on: such a release skips it.

use bytes::BytesMut;

use super::{
    control::{CloseReason, Load, RunReport, VitalsReport, WatchedCapacity},
    layout::{
        CHUNK_HEADER, CONTROL_LIMIT, ITEMS_HEADER, LARGEST_CALL_FRAME, LARGEST_CHUNK, LARGEST_PIECE, encode_frame,
    },
    log::SentRecord,
};
use crate::{
    error::CodecError,
    wire::{
        codec::{decode_prefix, encode_header},
        handshake::MethodOffer,
    },
};

/// Set in the number of a kind that a receiver may skip if it does not know it.
const OPTIONAL: u8 = 0x80;

/// Between which ends frames travel, and which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    MasterToNode,
    NodeToMaster,
    MasterToCaller,
    CallerToMaster,
}

impl Direction {
    const ALL: [Self; 4] = [Self::MasterToNode, Self::NodeToMaster, Self::MasterToCaller, Self::CallerToMaster];
}

/// Makes [`FrameKind`] and [`Control`] of the table below: number, name, direction and, of control frames, the fields, which
/// are the frame's body in this order.
macro_rules! frames {
    (
        calls { $($(#[$call_doc:meta])* $call:ident = $call_number:literal, $call_name:literal, $call_direction:ident;)* }
        parts { $($(#[$part_doc:meta])* $part:ident = $part_number:literal, $part_name:literal, $part_limit:expr;)* }
        control {
            $($(#[$doc:meta])*
            $kind:ident $({ $($field:ident: $type:ty),* })? = $number:literal, $name:literal, [$($direction:ident),*];)*
        }
    ) => {
        /// The fifth byte of a frame.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum FrameKind {
            $($(#[$call_doc])* $call = $call_number,)*
            $($(#[$part_doc])* $part = $part_number,)*
            $($(#[$doc])* $kind = $number,)*
        }

        impl FrameKind {
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$call,)* $(Self::$part,)* $(Self::$kind,)*];

            fn from_byte(byte: u8) -> Option<Self> {
                match byte {
                    $($call_number => Some(Self::$call),)*
                    $($part_number => Some(Self::$part),)*
                    $($number => Some(Self::$kind),)*
                    _ => None,
                }
            }

            /// As it stands in error messages.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$call => $call_name,)*
                    $(Self::$part => $part_name,)*
                    $(Self::$kind => $name,)*
                }
            }

            fn directions(self) -> &'static [Direction] {
                match self {
                    $(Self::$call => &[Direction::$call_direction],)*
                    $(Self::$part => &Direction::ALL,)*
                    $(Self::$kind => &[$(Direction::$direction),*],)*
                }
            }

            /// The kind of the frames that carry calls, or their ends, this way.
            pub(crate) fn of_calls(direction: Direction) -> Self {
                match direction {
                    $(Direction::$call_direction => Self::$call,)*
                }
            }

            /// The most bytes in the body of such a frame.
            fn limit(self) -> usize {
                match self {
                    $(Self::$call => LARGEST_CALL_FRAME,)*
                    $(Self::$part => $part_limit,)*
                    $(Self::$kind => CONTROL_LIMIT,)*
                }
            }
        }

        /// A frame that manages the connection and carries no call.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(crate) enum Control {
            $($(#[$doc])* $kind $({ $($field: $type),* })?,)*
        }

        impl Control {
            pub(crate) fn kind(&self) -> FrameKind {
                match self {
                    $(Self::$kind { .. } => FrameKind::$kind,)*
                }
            }

            fn encode_body(&self, body: &mut BytesMut) -> Result<(), CodecError> {
                match self {
                    $(Self::$kind $({ $($field),* })? => encode_header(&($($($field,)*)?), body),)*
                }
            }

            /// Decodes the body of a control frame; `None` if the kind is not that of a control frame. Fields that a newer
            /// release has added behind those in the table are skipped.
            pub(crate) fn decode(kind: FrameKind, body: &[u8]) -> Result<Option<Self>, CodecError> {
                match kind {
                    $(FrameKind::$call => Ok(None),)*
                    $(FrameKind::$part => Ok(None),)*
                    $(FrameKind::$kind => {
                        let (($($($field,)*)?), _): (($($($type,)*)?), usize) = decode_prefix(body)?;
                        Ok(Some(Self::$kind $({ $($field),* })?))
                    })*
                }
            }
        }
    };
}

frames! {
    calls {
        /// A call or a batch of calls, to be run.
        Request = 1, "request", MasterToNode;
        /// How a request ended.
        Response = 2, "response", NodeToMaster;
        /// A call or a batch of calls, to be sent to a node; or a question.
        CallerRequest = 13, "caller's request", CallerToMaster;
        /// How a caller's request ended.
        CallerResponse = 14, "response to a caller", MasterToCaller;
    }
    parts {
        /// The next bytes of a large message, behind its number.
        Chunk = 29, "chunk", CHUNK_HEADER + LARGEST_CHUNK;
        /// The next bytes of a stream, behind the call and the attempt that it belongs to.
        Items = 31, "items", ITEMS_HEADER + LARGEST_PIECE;
    }
    control {
        /// A message that is too large for one frame, with a body of this many bytes, comes in chunks. Messages of a connection are
        /// numbered from 0 on, for each direction. With `waits`, the sender waits for [`Accept`](Self::Accept) after the first chunk.
        Begin { message: u32, length: u64, waits: bool } = 26, "begin", [MasterToNode, NodeToMaster, MasterToCaller, CallerToMaster];
        /// The receiver has memory for the whole of this message: all its chunks may come.
        Accept { message: u32 } = 27, "accept", [MasterToNode, NodeToMaster, MasterToCaller, CallerToMaster];
        /// The sender has read this many bytes of chunks of this connection. So the other end knows how many are on the way.
        Consumed { bytes: u64 } = 30, "consumed", [MasterToNode, NodeToMaster, MasterToCaller, CallerToMaster];
        /// The rest of this message does not come, and what has come of it is dropped.
        Abandon { message: u32 } = 28, "abandon", [MasterToNode, NodeToMaster, MasterToCaller, CallerToMaster];
        /// The consumer of a stream wants its bytes up to this one, counted from the beginning.
        GrantItems { call: u64, attempt: u32, upto: u64 } = 32, "grant items", [MasterToNode, NodeToMaster, MasterToCaller, CallerToMaster];
        /// A stream of arguments has ended with this many bytes. If it is not whole, its producer has stopped before the end.
        EndItems { call: u64, attempt: u32, length: u64, is_whole: bool } = 33, "end items", [MasterToNode, CallerToMaster];
        /// The handler wants no more of its stream of arguments. Its end is still awaited.
        StopItems { call: u64, attempt: u32 } = 34, "stop items", [NodeToMaster, MasterToCaller];
        /// Stop this call. Its response is still awaited.
        Cancel { call: u64, attempt: u32 } = 3, "cancel", [MasterToNode];
        /// The node is alive, and this is its load.
        Heartbeat { load: Load } = 4, "heartbeat", [NodeToMaster];
        /// The master is alive. It does not answer the heartbeats of others: it sends its own at the same interval, so that
        /// one comes also while a long response is under way to it.
        MasterHeartbeat = 5, "master heartbeat", [MasterToNode, MasterToCaller];
        /// The node takes no new calls.
        Drain = 6, "drain", [NodeToMaster];
        /// No call of the node is in flight any more, and none follows.
        Drained = 7, "drained", [MasterToNode];
        /// The sender closes the connection on purpose.
        Goodbye { reason: CloseReason, is_shutdown: bool } = 8, "goodbye",
            [MasterToNode, NodeToMaster, MasterToCaller, CallerToMaster];
        /// Answer the calls that are not started yet with [`Refusal::Returned`](super::call::Refusal::Returned).
        Retract = 9, "retract", [MasterToNode];
        /// Of this batch the node starts the first `kept` calls only, and its response has `kept` outcomes. A master passes
        /// that on to the caller.
        GiveBack { call: u64, attempt: u32, kept: u32 } = 10, "give back", [NodeToMaster, MasterToCaller];
        /// The node asks to start the calls of this batch up to this number.
        RequestGrant { call: u64, attempt: u32, upto: u32 } = 11, "request grant", [NodeToMaster];
        /// The node may start the calls of this batch up to this number. If it dies, it is known that those behind were not
        /// started.
        Grant { call: u64, attempt: u32, upto: u32 } = 12, "grant", [MasterToNode];
        /// The caller is alive.
        CallerHeartbeat = 15, "caller's heartbeat", [CallerToMaster];
        /// A method that the caller is about to call. Comes once, before its first call.
        Declare { method: MethodOffer } = 16, "declare", [CallerToMaster];
        /// The caller does not want this call any more. Its response is still awaited.
        CancelCall { call: u64 } = 17, "cancel call", [CallerToMaster];
        /// This call runs to its end even if its caller leaves.
        Detach { call: u64 } = 18, "detach", [CallerToMaster];
        /// Tell how many calls of a method can run, now and whenever it changes.
        Watch { watch: u32, method: u64, labels: Vec<(String, String)> } = 19, "watch", [CallerToMaster];
        /// Tell it no more.
        Unwatch { watch: u32 } = 20, "unwatch", [CallerToMaster];
        /// The handler of this call waits for a nested call, and its slot is free for another call.
        Lend { call: u64, attempt: u32 } = 22, "lend", [NodeToMaster];
        /// The handler of this call goes on, and needs its slot again.
        Resume { call: u64, attempt: u32 } = 23, "resume", [NodeToMaster];
        /// The sender has dealt with the first `responses` responses of this connection, so the other end need not keep them.
        Received { responses: u64 } = 24, "received", [MasterToNode, CallerToMaster];
        /// The sender has asked again for all responses of the earlier connection that it still waits for.
        AskedAgain = 25, "asked again", [MasterToNode, CallerToMaster];
        /// How many calls of a watched method can run.
        Capacity { watch: u32, capacity: WatchedCapacity } = 21, "capacity", [MasterToCaller];
        /// An administrator wants the node to drain and end. A node of an older release skips it: it is drained, and stays
        /// connected.
        RequestDrain = 128, "drain request", [MasterToNode];
        /// How the process of the node does. Comes once a second at most.
        Vitals { vitals: VitalsReport } = 129, "vitals", [NodeToMaster];
        /// What the node, or its handlers, have logged. A master of an older release skips it.
        Logs { records: Vec<SentRecord> } = 130, "logs", [NodeToMaster];
        /// How far a run of many calls has come that has a name. A master of an older release skips it, and does not list the run.
        Run { report: RunReport } = 131, "run report", [CallerToMaster];
        /// Take samples of what the process runs, for this many milliseconds. A node of an older release skips it.
        TakeProfile { profile: u32, milliseconds: u32 } = 132, "profile request", [MasterToNode];
        /// The next bytes of a profile that the master has asked for, which is a [`ProfileReply`](super::profile::ProfileReply).
        ProfilePart { profile: u32, bytes: Vec<u8>, is_last: bool } = 133, "profile part", [NodeToMaster];
    }
}

impl FrameKind {
    /// Whether frames of this kind travel this way.
    pub(crate) fn travels(self, direction: Direction) -> bool {
        self.directions().contains(&direction)
    }
}

impl Control {
    /// Appends the whole frame to `buffer`.
    pub(crate) fn encode(&self, buffer: &mut BytesMut) -> Result<(), CodecError> {
        encode_frame(buffer, self.kind() as u8, 0, |body| self.encode_body(body))
    }

    /// The protocol violation where a receiver has nothing to do with this frame. [`check`] refuses those of the wrong
    /// direction before, so only a frame that is new in the table comes here.
    pub(crate) fn unhandled(&self) -> String {
        format!("it sent a `{}` frame, which this end does not handle", self.kind().name())
    }
}

/// Why a frame is a protocol violation, known from its header alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("it sent a frame of kind {0}, which this release does not know and may not skip")]
    Unknown(u8),
    #[error("it sent a `{}` frame, which its end of the connection may not send", .0.name())]
    WrongDirection(FrameKind),
    #[error("it announced a `{name}` frame of {length} bytes; the limit of such frames is {limit}")]
    TooLong { name: &'static str, length: usize, limit: usize },
}

/// The kind of a frame that is about to be read from a connection on which frames travel this way; `None` if it must be read
/// and dropped.
///
/// # Errors
///
/// If the sender breaks the protocol with it.
pub(crate) fn check(direction: Direction, byte: u8, length: usize) -> Result<Option<FrameKind>, FrameError> {
    let kind = FrameKind::from_byte(byte);
    match kind {
        Some(kind) if !kind.travels(direction) => return Err(FrameError::WrongDirection(kind)),
        None if byte & OPTIONAL == 0 => return Err(FrameError::Unknown(byte)),
        _ => {}
    }
    let limit = kind.map_or(CONTROL_LIMIT, FrameKind::limit);
    if length > limit {
        return Err(FrameError::TooLong { name: kind.map_or("unknown", FrameKind::name), length, limit });
    }
    Ok(kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        administration::{LogLevel, MethodKind},
        wire::frame::layout::FRAME_HEADER,
    };

    /// The bytes of a control frame, which it survives.
    fn bytes(control: Control) -> String {
        let mut buffer = BytesMut::new();
        control.encode(&mut buffer).expect("encodes");
        let kind = FrameKind::from_byte(buffer[4]).expect("known");
        assert_eq!(kind, control.kind());
        assert_eq!(Control::decode(kind, &buffer[FRAME_HEADER..]).expect("decodes"), Some(control));
        buffer.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn control_frames_have_these_bytes() {
        assert_eq!(bytes(Control::Begin { message: 2, length: 70_000, waits: true }), "070000001a02fc7011010001");
        assert_eq!(bytes(Control::Accept { message: 2 }), "010000001b02");
        assert_eq!(bytes(Control::Consumed { bytes: 300 }), "030000001efb2c01");
        assert_eq!(bytes(Control::Abandon { message: 2 }), "010000001c02");
        assert_eq!(bytes(Control::GrantItems { call: 300, attempt: 2, upto: 65_536 }), "0900000020fb2c0102fc00000100");
        let whole = Control::EndItems { call: 300, attempt: 2, length: 9, is_whole: true };
        assert_eq!(bytes(whole), "0600000021fb2c01020901");
        assert_eq!(bytes(Control::StopItems { call: 300, attempt: 2 }), "0400000022fb2c0102");
        assert_eq!(bytes(Control::Cancel { call: 300, attempt: 2 }), "0400000003fb2c0102");
        let load = Load { computing: 2, waiting: 0, asynchronous: 255, stale: 1, blocked: 3 };
        assert_eq!(bytes(Control::Heartbeat { load }), "07000000040200fbff000103");
        assert_eq!(bytes(Control::MasterHeartbeat), "0000000005");
        assert_eq!(bytes(Control::Drain), "0000000006");
        assert_eq!(bytes(Control::Drained), "0000000007");
        assert_eq!(bytes(Control::RequestDrain), "0000000080");
        let vitals = VitalsReport { cpu: Some(7), memory: None, time: 300, ..VitalsReport::default() };
        assert_eq!(bytes(Control::Vitals { vitals }), "0b000000810107000000000000fb2c01");
        let record = SentRecord {
            time: 300,
            level: LogLevel::Warn,
            repeated: 2,
            call: Some((300, 2)),
            method: "A.b".to_owned(),
            target: "t".to_owned(),
            message: "m".to_owned(),
            fields: "k=v".to_owned(),
            backtrace: String::new(),
        };
        let logs = Control::Logs { records: vec![record] };
        assert_eq!(bytes(logs), "180000008201fb2c01030201fb2c010203412e620174016d036b3d7600");
        assert_eq!(bytes(Control::Goodbye { reason: CloseReason::default(), is_shutdown: false }), "02000000080000");
        assert_eq!(bytes(Control::Goodbye { reason: CloseReason::new("oh"), is_shutdown: true }), "0400000008026f6801");
        assert_eq!(bytes(Control::Retract), "0000000009");
        assert_eq!(bytes(Control::GiveBack { call: 300, attempt: 2, kept: 7 }), "050000000afb2c010207");
        assert_eq!(bytes(Control::RequestGrant { call: 300, attempt: 2, upto: 7 }), "050000000bfb2c010207");
        assert_eq!(bytes(Control::Grant { call: 300, attempt: 2, upto: 7 }), "050000000cfb2c010207");
        assert_eq!(bytes(Control::CallerHeartbeat), "000000000f");
        let method = MethodOffer {
            id: 7,
            service: "A".to_owned(),
            version: 1,
            name: "f".to_owned(),
            signature: "fn()".to_owned(),
            types: 2,
            structure: Vec::new(),
            kind: MethodKind::Async,
            idempotent: true,
            streams: crate::wire::handshake::StreamShape { items: true, argument: false },
        };
        assert_eq!(bytes(Control::Declare { method }), "110000001007014101016604666e2829020001010100");
        assert_eq!(bytes(Control::CancelCall { call: 300 }), "0300000011fb2c01");
        assert_eq!(bytes(Control::Detach { call: 300 }), "0300000012fb2c01");
        let labels = vec![("zone".to_owned(), "eu".to_owned())];
        assert_eq!(bytes(Control::Watch { watch: 3, method: 7, labels }), "0b00000013030701047a6f6e65026575");
        assert_eq!(bytes(Control::Unwatch { watch: 3 }), "010000001403");
        assert_eq!(bytes(Control::Lend { call: 300, attempt: 2 }), "0400000016fb2c0102");
        assert_eq!(bytes(Control::Resume { call: 300, attempt: 2 }), "0400000017fb2c0102");
        assert_eq!(bytes(Control::Received { responses: 300 }), "0300000018fb2c01");
        assert_eq!(bytes(Control::AskedAgain), "0000000019");
        let report = RunReport {
            run: 7,
            name: "sweep".to_owned(),
            done: 300,
            failed: 1,
            running: 2,
            waiting: 3,
            total: Some(400),
            elapsed: 5,
            is_over: true,
            oldest: vec![9],
        };
        assert_eq!(bytes(Control::Run { report }), "150000008307057377656570fb2c0101020301fb900105010109");
        let capacity = WatchedCapacity { nodes: 2, slots: 8, free: 1, compute: true };
        assert_eq!(bytes(Control::Capacity { watch: 3, capacity }), "05000000150302080101");
    }

    #[test]
    fn each_kind_may_come_from_its_senders_only() {
        for kind in FrameKind::ALL {
            let mut accepted = Vec::new();
            for direction in Direction::ALL {
                match check(direction, *kind as u8, 0) {
                    Ok(known) => {
                        assert_eq!(known, Some(*kind));
                        accepted.push(direction);
                    }
                    Err(error) => {
                        assert_eq!(error, FrameError::WrongDirection(*kind));
                        assert!(error.to_string().contains(&format!("a `{}` frame", kind.name())), "{error}");
                    }
                }
            }
            let expected: &[Direction] = match kind {
                FrameKind::Goodbye
                | FrameKind::Begin
                | FrameKind::Accept
                | FrameKind::Consumed
                | FrameKind::Abandon
                | FrameKind::Chunk
                | FrameKind::Items
                | FrameKind::GrantItems => &Direction::ALL,
                FrameKind::MasterHeartbeat => &[Direction::MasterToNode, Direction::MasterToCaller],
                FrameKind::Received | FrameKind::AskedAgain => &[Direction::MasterToNode, Direction::CallerToMaster],
                FrameKind::EndItems => &[Direction::MasterToNode, Direction::CallerToMaster],
                FrameKind::StopItems => &[Direction::NodeToMaster, Direction::MasterToCaller],
                FrameKind::GiveBack => &[Direction::NodeToMaster, Direction::MasterToCaller],
                _ => &accepted[..1],
            };
            assert_eq!(accepted, expected, "{kind:?}");
        }
    }

    #[test]
    fn an_unknown_kind_is_skipped_if_it_is_optional_and_refused_if_not() {
        for byte in 0..=u8::MAX {
            if FrameKind::from_byte(byte).is_some() {
                continue;
            }
            for direction in Direction::ALL {
                let expected = if byte < 128 { Err(FrameError::Unknown(byte)) } else { Ok(None) };
                assert_eq!(check(direction, byte, CONTROL_LIMIT), expected);
            }
        }
    }

    #[test]
    fn each_kind_has_its_limit() {
        for kind in FrameKind::ALL {
            let limit = match Control::decode(*kind, &[]) {
                Ok(None) if *kind == FrameKind::Chunk => 65_540,
                Ok(None) if *kind == FrameKind::Items => 65_548,
                Ok(None) => 65_536,
                _ => CONTROL_LIMIT,
            };
            for (length, fits) in [(limit, true), (limit + 1, false)] {
                let checked = Direction::ALL.map(|direction| check(direction, *kind as u8, length));
                assert_eq!(checked.iter().any(Result::is_ok), fits, "{kind:?} of {length} bytes");
            }
        }
        let error = check(Direction::MasterToNode, 200, CONTROL_LIMIT + 1).expect_err("is too long").to_string();
        assert!(error.contains("`unknown` frame of 16385 bytes"), "{error}");
    }

    #[test]
    fn names_and_numbers_are_unique() {
        for (at, kind) in FrameKind::ALL.iter().enumerate() {
            assert_eq!(FrameKind::from_byte(*kind as u8), Some(*kind));
            assert!(FrameKind::ALL[..at].iter().all(|other| other.name() != kind.name()), "{}", kind.name());
        }
    }
}
