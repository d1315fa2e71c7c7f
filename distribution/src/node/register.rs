//! Registers a node on a connection to its master.

use std::time::Duration;

use super::{
    connect::{RegisterError, classify},
    state::EndReason,
};
use crate::{
    config::from_micros,
    id::NodeId,
    text::{LONGEST, in_one_line},
    wire::{
        authenticator::PeerAuthenticator,
        channel::Channel,
        handshake::{HandshakeError, Registration, RegistrationReply, SessionOffer, register as send_registration},
    },
};

/// A connection on which the node is registered.
pub(super) struct Registered {
    pub(super) channel: Channel,
    pub(super) id: NodeId,
    pub(super) heartbeat: Duration,
    /// How long the master may be silent before the node gives the connection up.
    pub(super) silence: Duration,
    /// The largest reply frame that the master takes, in bytes.
    pub(super) reply_limit: usize,
    /// The session, if the master waits for nodes whose connection breaks.
    pub(super) session: Option<SessionOffer>,
}

/// Registers on a connection that was opened with this authenticator.
pub(super) async fn register(
    registration: &Registration,
    mut channel: Channel,
    authenticator: &PeerAuthenticator,
) -> Result<Registered, RegisterError> {
    match send_registration(&mut channel, registration).await {
        Ok(RegistrationReply::Accepted { node, heartbeat, silence, max_message_size, session }) => Ok(Registered {
            channel,
            id: NodeId::from_bits(node),
            heartbeat: from_micros(heartbeat).max(Duration::from_millis(1)),
            // Less than two heartbeats would not be silence.
            silence: from_micros(silence).max(from_micros(heartbeat).saturating_mul(2)),
            reply_limit: usize::try_from(max_message_size)
                .unwrap_or(usize::MAX)
                .min(crate::config::LARGEST_MESSAGE_LIMIT),
            session,
        }),
        Ok(RegistrationReply::Refused { reason, for_good: true }) => {
            let reason = EndReason::Refused(in_one_line(&reason, LONGEST));
            let first_only = !authenticator.knows_master() || authenticator.may_change();
            Err(RegisterError::Permanent { reason, first_only })
        }
        Ok(RegistrationReply::Busy { retry_after }) => Err(RegisterError::Busy(from_micros(retry_after))),
        Ok(RegistrationReply::Refused { reason, for_good: false }) => {
            Err(RegisterError::Passing(format!("the master says: {}", in_one_line(&reason, LONGEST))))
        }
        Err(error @ HandshakeError::TooLong { what: "registration", .. }) => {
            let reason = EndReason::Protocol(format!("this node's own registration is too long: {error}"));
            Err(RegisterError::Permanent { reason, first_only: false })
        }
        Err(error) => Err(classify(&error, authenticator)),
    }
}
