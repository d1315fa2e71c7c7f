//! The signals that ask a process to end.

/// Catches SIGTERM and ctrl-c from the moment it is made.
pub(super) struct Signals {
    #[cfg(unix)]
    terminate: Option<tokio::signal::unix::Signal>,
    #[cfg(unix)]
    interrupt: Option<tokio::signal::unix::Signal>,
}

impl Signals {
    #[cfg(unix)]
    pub(super) fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let catch = |kind, name| {
            signal(kind)
                .inspect_err(
                    |error| tracing::warn!(signal = name, reason = %error, "cannot catch a signal: it will end the node without a drain"),
                )
                .ok()
        };
        Self {
            terminate: catch(SignalKind::terminate(), "SIGTERM"),
            interrupt: catch(SignalKind::interrupt(), "ctrl-c"),
        }
    }

    #[cfg(not(unix))]
    pub(super) fn new() -> Self {
        Self {}
    }

    /// Waits for the next signal, and returns its name.
    #[cfg(unix)]
    pub(super) async fn next(&mut self) -> &'static str {
        async fn caught(signal: &mut Option<tokio::signal::unix::Signal>) {
            match signal {
                Some(signal) => _ = signal.recv().await,
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            () = caught(&mut self.terminate) => "SIGTERM",
            () = caught(&mut self.interrupt) => "ctrl-c",
        }
    }

    #[cfg(not(unix))]
    pub(super) async fn next(&mut self) -> &'static str {
        match tokio::signal::ctrl_c().await {
            Ok(()) => "ctrl-c",
            Err(_) => std::future::pending().await,
        }
    }
}
