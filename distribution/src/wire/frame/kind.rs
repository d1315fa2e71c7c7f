//! The table of frame kinds, and the check of which frames an end of a connection may receive.
//!
//! To add a control frame, add a line to the table, send it with
//! [`ConnectionState::send`](crate::wire::connection_state::ConnectionState::send), and handle it where its receiver
//! handles control frames. If a release without it can do its work, give it a number from 128 on: such a release skips it.

use bytes::BytesMut;

use super::{
    control::{CloseReason, Load},
    layout::{CONTROL_LIMIT, encode_frame},
};
use crate::{
    error::{CodecError, Endpoint},
    wire::codec::{decode_prefix, encode_header},
};

/// Set in the number of a kind that a receiver may skip if it does not know it.
const OPTIONAL: u8 = 0x80;

/// Which end sends frames of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    MasterToNode,
    NodeToMaster,
    Both,
}

impl Direction {
    fn leads_to(self, receiver: Endpoint) -> bool {
        match self {
            Self::MasterToNode => receiver == Endpoint::Node,
            Self::NodeToMaster => receiver == Endpoint::Master,
            Self::Both => true,
        }
    }
}

/// Makes [`FrameKind`] and [`Control`] of the table below: number, name, direction and, of control frames, the fields, which
/// are the frame's body in this order.
macro_rules! frames {
    (
        calls { $($(#[$call_doc:meta])* $call:ident = $call_number:literal, $call_name:literal, $call_direction:ident;)* }
        control {
            $($(#[$doc:meta])*
            $kind:ident $({ $($field:ident: $type:ty),* })? = $number:literal, $name:literal, $direction:ident;)*
        }
    ) => {
        /// The fifth byte of a frame.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum FrameKind {
            $($(#[$call_doc])* $call = $call_number,)*
            $($(#[$doc])* $kind = $number,)*
        }

        impl FrameKind {
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$call,)* $(Self::$kind,)*];

            fn from_byte(byte: u8) -> Option<Self> {
                match byte {
                    $($call_number => Some(Self::$call),)*
                    $($number => Some(Self::$kind),)*
                    _ => None,
                }
            }

            /// As it stands in error messages.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$call => $call_name,)*
                    $(Self::$kind => $name,)*
                }
            }

            fn direction(self) -> Direction {
                match self {
                    $(Self::$call => Direction::$call_direction,)*
                    $(Self::$kind => Direction::$direction,)*
                }
            }

            fn is_control(self) -> bool {
                match self {
                    $(Self::$call => false,)*
                    $(Self::$kind => true,)*
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
    }
    control {
        /// Stop this call. Its response is still awaited.
        Cancel { call: u64, attempt: u32 } = 3, "cancel", MasterToNode;
        /// The node is alive, and this is its load.
        Heartbeat { load: Load } = 4, "heartbeat", NodeToMaster;
        /// The master is alive. It does not answer the node's heartbeats: it sends its own at the same interval, so that
        /// one comes also while a long response is under way to it.
        MasterHeartbeat = 5, "master heartbeat", MasterToNode;
        /// The node takes no new calls.
        Drain = 6, "drain", NodeToMaster;
        /// No call of the node is in flight any more, and none follows.
        Drained = 7, "drained", MasterToNode;
        /// The sender closes the connection on purpose.
        Goodbye { reason: CloseReason, is_shutdown: bool } = 8, "goodbye", Both;
        /// Answer the calls that are not started yet with [`Refusal::Returned`](super::call::Refusal::Returned).
        Retract = 9, "retract", MasterToNode;
        /// Of this batch the node starts the first `kept` calls only, and its response has `kept` outcomes.
        GiveBack { call: u64, attempt: u32, kept: u32 } = 10, "give back", NodeToMaster;
        /// The node asks to start the calls of this batch up to this number.
        RequestGrant { call: u64, attempt: u32, upto: u32 } = 11, "request grant", NodeToMaster;
        /// The node may start the calls of this batch up to this number. If it dies, it is known that those behind were not
        /// started.
        Grant { call: u64, attempt: u32, upto: u32 } = 12, "grant", MasterToNode;
    }
}

impl FrameKind {
    /// Whether the frames of this kind are for this end.
    pub(crate) fn is_for(self, receiver: Endpoint) -> bool {
        self.direction().leads_to(receiver)
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
    #[error("it sent a `{}` frame, which only the other end of a connection may send", .0.name())]
    WrongDirection(FrameKind),
    #[error("it announced a `{name}` frame of {length} bytes; the limit of control frames is {CONTROL_LIMIT}")]
    TooLong { name: &'static str, length: usize },
}

/// The kind of a frame that `receiver` is about to read; `None` if it must read the frame and drop it.
///
/// # Errors
///
/// If the sender breaks the protocol with it.
pub(crate) fn check(receiver: Endpoint, byte: u8, length: usize) -> Result<Option<FrameKind>, FrameError> {
    let kind = FrameKind::from_byte(byte);
    match kind {
        Some(kind) if !kind.is_for(receiver) => return Err(FrameError::WrongDirection(kind)),
        None if byte & OPTIONAL == 0 => return Err(FrameError::Unknown(byte)),
        _ => {}
    }
    if length > CONTROL_LIMIT && kind.is_none_or(FrameKind::is_control) {
        return Err(FrameError::TooLong { name: kind.map_or("unknown", FrameKind::name), length });
    }
    Ok(kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::layout::FRAME_HEADER;

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
        assert_eq!(bytes(Control::Cancel { call: 300, attempt: 2 }), "0400000003fb2c0102");
        let load = Load { computing: 2, waiting: 0, asynchronous: 255, stale: 1, blocked: 3 };
        assert_eq!(bytes(Control::Heartbeat { load }), "07000000040200fbff000103");
        assert_eq!(bytes(Control::MasterHeartbeat), "0000000005");
        assert_eq!(bytes(Control::Drain), "0000000006");
        assert_eq!(bytes(Control::Drained), "0000000007");
        assert_eq!(bytes(Control::Goodbye { reason: CloseReason::default(), is_shutdown: false }), "02000000080000");
        assert_eq!(bytes(Control::Goodbye { reason: CloseReason::new("oh"), is_shutdown: true }), "0400000008026f6801");
        assert_eq!(bytes(Control::Retract), "0000000009");
        assert_eq!(bytes(Control::GiveBack { call: 300, attempt: 2, kept: 7 }), "050000000afb2c010207");
        assert_eq!(bytes(Control::RequestGrant { call: 300, attempt: 2, upto: 7 }), "050000000bfb2c010207");
        assert_eq!(bytes(Control::Grant { call: 300, attempt: 2, upto: 7 }), "050000000cfb2c010207");
    }

    #[test]
    fn each_kind_may_come_from_its_sender_only() {
        let at_both = |kind: &FrameKind| [Endpoint::Master, Endpoint::Node].map(|end| check(end, *kind as u8, 0));
        let mut refused = Vec::new();
        for kind in FrameKind::ALL {
            let [at_master, at_node] = at_both(kind);
            match (at_master, at_node) {
                (Ok(Some(one)), Ok(Some(other))) => assert_eq!([one, other], [*kind; 2]),
                (Ok(Some(known)), Err(error)) | (Err(error), Ok(Some(known))) => {
                    assert_eq!((known, error), (*kind, FrameError::WrongDirection(*kind)));
                    assert!(error.to_string().contains(&format!("a `{}` frame", kind.name())), "{error}");
                    refused.push(*kind);
                }
                other => panic!("{kind:?} is refused at both ends: {other:?}"),
            }
        }
        assert_eq!(refused.len(), FrameKind::ALL.len() - 1, "a goodbye may come from both");
        assert!(!refused.contains(&FrameKind::Goodbye));
    }

    #[test]
    fn an_unknown_kind_is_skipped_if_it_is_optional_and_refused_if_not() {
        for byte in 0..=u8::MAX {
            if FrameKind::from_byte(byte).is_some() {
                continue;
            }
            for receiver in [Endpoint::Master, Endpoint::Node] {
                let expected = if byte < 128 { Err(FrameError::Unknown(byte)) } else { Ok(None) };
                assert_eq!(check(receiver, byte, CONTROL_LIMIT), expected);
            }
        }
    }

    #[test]
    fn only_requests_and_responses_may_be_long() {
        for kind in FrameKind::ALL {
            let checked = [Endpoint::Master, Endpoint::Node].map(|end| check(end, *kind as u8, CONTROL_LIMIT + 1));
            assert_eq!(checked.iter().any(Result::is_ok), !kind.is_control(), "{kind:?}");
        }
        let error = check(Endpoint::Node, 200, CONTROL_LIMIT + 1).expect_err("is too long").to_string();
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
