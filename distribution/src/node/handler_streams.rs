//! The streams of a call that a node runs.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{runtime::Handle, task::AbortHandle};

use super::{current::CurrentCall, current_connection::CurrentConnection};
use crate::wire::{handshake::StreamShape, streams::CallStreams};

/// The streams of a call, from when it arrives until its handler has returned. They end with [`end`](Self::end), or when this is
/// dropped.
#[derive(Debug)]
pub(super) struct HandlerStreams {
    streams: CallStreams,
    key: (u64, u32),
    connection: Arc<CurrentConnection>,
    watch: Mutex<Option<AbortHandle>>,
}

impl HandlerStreams {
    /// `None` if the method has no streams. They go over the connection that the call has come on.
    pub(super) fn open(shape: StreamShape, call: &CurrentCall, connection: &Arc<CurrentConnection>) -> Option<Self> {
        if shape == StreamShape::default() {
            return None;
        }
        let (streams, key) = (CallStreams::new(shape), call.key());
        connection.open_streams(key, &streams);
        Some(Self { streams, key, connection: Arc::clone(connection), watch: Mutex::default() })
    }

    pub(super) fn streams(&self) -> CallStreams {
        self.streams.clone()
    }

    /// Whether the connection that the call has come on is broken.
    pub(super) fn are_broken(&self) -> bool {
        self.streams.are_broken()
    }

    /// A compute handler blocks for them. It goes on when the call is cancelled, or its time is up.
    pub(super) fn end_with(&self, call: &CurrentCall, node_runtime: &Handle) {
        let (call, streams) = (call.clone(), self.streams.clone());
        let watch = node_runtime.spawn(async move {
            call.stopped().await;
            streams.on_handler_stopped();
        });
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch.abort_handle());
    }

    /// Nothing of them is sent any more. Before the call is answered: a handler that is aborted may still be running.
    pub(super) fn end(&self) {
        if let Some(watch) = self.watch.lock().unwrap_or_else(PoisonError::into_inner).take() {
            watch.abort();
        }
        self.streams.stop();
        self.connection.close_streams(self.key);
    }
}

impl Drop for HandlerStreams {
    fn drop(&mut self) {
        self.end();
    }
}
