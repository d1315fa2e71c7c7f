//! The sizes and times that a handshake may take.

use std::time::Duration;

/// The most bytes of a registration, and of the reply to it.
pub(crate) const REGISTRATION_LIMIT: usize = 1024 * 1024;

/// The most bytes of the structure of one method.
pub(crate) const STRUCTURE_LIMIT: usize = 8 * 1024;

/// The most bytes of the structures of all methods of a node, which leaves room for the rest of the registration.
pub(crate) const STRUCTURES_LIMIT: usize = 256 * 1024;

/// How long a node may take to read the master's reply.
pub(crate) const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a node waits for each half of the handshake. It is longer than the master's limit, because a master may be slow
/// to answer under load.
pub(crate) const NODE_TIMEOUT: Duration = Duration::from_secs(10);
