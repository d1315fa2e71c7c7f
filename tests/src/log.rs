//! What is logged while a test looks.

use std::{
    io,
    sync::{Arc, Mutex, Once, PoisonError},
};

/// A place in the code that logs is looked at by `tracing` once. If no subscriber wants it in that moment, and another thread
/// sets one in the same moment, the place stays silent. With one that wants everything and does nothing with it, each is wanted.
static WANTS_ALL: Once = Once::new();

/// Lines of log, for [`tracing_subscriber`] to write and for a test to read.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Gathers what this thread logs, from now until the guard is dropped. What a node's own threads log is not in it.
    pub fn gather() -> (Self, tracing::subscriber::DefaultGuard) {
        WANTS_ALL.call_once(|| {
            // Fails only if the test has set one that wants what it looks for.
            let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry());
        });
        let log = Self::default();
        let sink = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_writer(move || sink.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// All of it so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
