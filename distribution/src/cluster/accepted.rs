//! What a master says when it accepts a caller.

use std::time::Duration;

use crate::{
    config::{LARGEST_MAX_DEPTH, ValueLimits, from_micros},
    id::CallId,
    wire::{
        frame::layout::BODY_HEADER_LIMIT,
        handshake::{CallerWelcome, SessionOffer},
    },
};

/// What the master said when it accepted the caller.
pub(super) struct Accepted {
    pub(super) first_call: CallId,
    pub(super) heartbeat: Duration,
    pub(super) silence: Duration,
    pub(super) limits: ValueLimits,
    /// The timeout of calls without one of their own.
    pub(super) default_timeout: Option<Duration>,
    /// The session, if the master waits for callers whose connection breaks.
    pub(super) session: Option<SessionOffer>,
}

impl Accepted {
    /// Reads what the master said; `own_limit` is the largest frame that this end sends.
    pub(super) fn new(welcome: &CallerWelcome, own_limit: u64) -> Option<Self> {
        let CallerWelcome::Accepted {
            first_call,
            heartbeat,
            silence,
            max_message_size,
            max_depth,
            default_timeout,
            session,
        } = welcome
        else {
            return None;
        };
        let heartbeat = from_micros(*heartbeat).max(Duration::from_millis(1));
        let bytes = usize::try_from((*max_message_size).min(own_limit)).unwrap_or(usize::MAX);
        Some(Self {
            first_call: CallId(*first_call),
            heartbeat,
            // Less than two heartbeats would not be silence.
            silence: from_micros(*silence).max(heartbeat.saturating_mul(2)),
            limits: ValueLimits {
                bytes: bytes.saturating_sub(BODY_HEADER_LIMIT),
                // A deeper value could overflow the stack here.
                depth: (*max_depth).min(LARGEST_MAX_DEPTH),
            },
            default_timeout: default_timeout.map(from_micros),
            session: *session,
        })
    }
}
