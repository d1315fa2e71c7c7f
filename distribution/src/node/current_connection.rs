//! The connection that a node has now. Handlers outlive a connection, and tell the master on the current one that they wait or
//! go on.

use std::sync::{Arc, Mutex, PoisonError};

use crate::wire::{Control, connection_state::ConnectionState, streams::CallStreams, transport::AttemptKey};

/// Where control frames of a session go.
#[derive(Debug, Default)]
pub(super) struct CurrentConnection(Mutex<Option<Arc<ConnectionState>>>);

impl CurrentConnection {
    /// Sends a control frame. Without a connection it is dropped: what the master has to know is told again on the next one.
    pub(super) fn send(&self, control: Control) {
        if let Some(connection) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            connection.send(control);
        }
    }

    /// Opens the streams of a call on the connection. Without one they are broken.
    pub(super) fn open_streams(&self, key: AttemptKey, streams: &CallStreams) {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(connection) => connection.open_streams_of_handler(key, streams),
            None => streams.break_off(),
        }
    }

    /// The handler of a call has returned.
    pub(super) fn close_streams(&self, key: AttemptKey) {
        if let Some(connection) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            connection.close_streams(key);
        }
    }

    /// From now on this is the connection; `None` if there is none.
    pub(super) fn set(&self, connection: Option<Arc<ConnectionState>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = connection;
    }
}
