//! The files behind an authenticator.

use std::sync::Arc;

use crate::{security::Watched, wire::handshake::HandshakeError};

/// Reads the files again if they have changed, without delaying other connections.
pub(super) async fn look<T: Send + Sync + 'static>(watched: &Arc<Watched<T>>) -> Result<Arc<T>, HandshakeError> {
    watched.look_in_turn().await.map_err(|reason| HandshakeError::NotReady(reason.to_string()))
}
