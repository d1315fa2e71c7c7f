//! Sends the master what the node and its handlers have logged: in small frames, behind all else, and only as fast as the
//! connection takes them.

use std::{backtrace::Backtrace, sync::Arc, time::Duration};

use tokio::{sync::Notify, task::JoinHandle, time::timeout};

use crate::{
    log_queue::{NodeLogs, QueuedRecord},
    text::cut,
    wire::{
        Control,
        connection_state::ConnectionState,
        log::{LONGEST_RECORD, SentRecord},
    },
};

/// Records gather for this long before the next frame, unless there are enough for one.
const GATHER: Duration = Duration::from_millis(50);

/// How long the goodbye of a node waits for its last records. Backtraces take longest.
const LAST_RECORDS_TIMEOUT: Duration = Duration::from_secs(5);

/// A frame of fewer bytes than this is not full.
const FULL: usize = 6 * 1024;

/// The task that sends records over one connection. Ends when this is dropped.
pub(super) struct SendingLogs {
    task: JoinHandle<()>,
    connection: Arc<ConnectionState>,
    /// Told to end the task once it has sent what it holds.
    end: Arc<Notify>,
}

impl SendingLogs {
    /// Must be called on the node's runtime.
    pub(super) fn start(logs: &Arc<NodeLogs>, connection: &Arc<ConnectionState>) -> Self {
        let end = Arc::new(Notify::new());
        let task = tokio::spawn(send(Arc::clone(logs), Arc::clone(connection), Arc::clone(&end)));
        Self { task, connection: Arc::clone(connection), end }
    }

    /// Sends what is left, in front of the goodbye.
    pub(super) async fn send_rest(mut self, logs: &NodeLogs, connection: &ConnectionState) {
        // Nothing is written until the goodbye, so nothing would take another frame.
        if let Some(waiting) = connection.spare().close() {
            connection.send(waiting);
        }
        self.end.notify_one();
        let rest = async {
            let _ = (&mut self.task).await;
            while let Some(frame) = logs.take_frame() {
                connection.send(Control::Logs { records: written_out(frame).await });
            }
        };
        let _ = timeout(LAST_RECORDS_TIMEOUT, rest).await;
    }
}

impl Drop for SendingLogs {
    fn drop(&mut self) {
        self.task.abort();
        // For others that still wait for room.
        self.connection.spare().close();
    }
}

async fn send(logs: Arc<NodeLogs>, connection: Arc<ConnectionState>, end: Arc<Notify>) {
    loop {
        // Nothing is taken before the connection has room, so that little is lost with it.
        let ready = async {
            logs.wait().await;
            connection.spare().room().await;
        };
        tokio::select! {
            () = ready => {}
            () = end.notified() => return,
        }
        let Some(frame) = logs.take_frame() else { continue };
        let records = written_out(frame).await;
        let bytes: usize = records.iter().map(SentRecord::size).sum();
        if let Err(refused) = connection.send_spare(Control::Logs { records }).await {
            connection.send(refused);
        }
        if bytes < FULL {
            tokio::select! {
                () = tokio::time::sleep(GATHER) => {}
                () = end.notified() => return,
            }
        }
    }
}

/// The records with their backtraces as text.
async fn written_out(frame: Vec<QueuedRecord>) -> Vec<SentRecord> {
    let write = |frame: Vec<QueuedRecord>| -> Vec<SentRecord> {
        let written = frame.into_iter().map(|QueuedRecord { mut record, backtrace, .. }| {
            if let Some(backtrace) = backtrace {
                record.backtrace = text_of(&backtrace);
                let room = LONGEST_RECORD.saturating_sub(record.message.len() + record.fields.len());
                cut(&mut record.backtrace, room);
            }
            record
        });
        written.collect()
    };
    match frame.iter().any(|queued| queued.backtrace.is_some()) {
        false => write(frame),
        // Names of functions and lines are looked up in the program's file, which takes the longer the larger it is.
        true => tokio::task::spawn_blocking(move || write(frame)).await.unwrap_or_default(),
    }
}

/// A backtrace from the place that panicked on: what the standard library and this crate's hook add is left out.
fn text_of(backtrace: &Backtrace) -> String {
    let text = crate::security::without_tokens(&backtrace.to_string()).into_owned();
    let mut starts = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let name = line.trim_start().trim_start_matches(|letter: char| letter.is_ascii_digit());
        if name.len() < line.trim_start().len() && name.starts_with(": ") {
            starts.push((at, &name[2..]));
        }
        at += line.len();
    }
    let is_of_panicking = |name: &str| {
        let name = name.trim_start_matches('<');
        ["core::panicking::", "core::option::", "core::result::", "std::panicking::"]
            .iter()
            .any(|module| name.starts_with(module))
    };
    let Some(begun) = starts.iter().position(|(_, name)| name.contains("rust_begin_unwind")) else { return text };
    match starts[begun + 1..].iter().find(|(_, name)| !is_of_panicking(name)) {
        Some((at, _)) => text[*at..].trim_end().to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_written_out_with_the_place_that_panicked_first() {
        let backtrace = Backtrace::force_capture().to_string();
        assert_eq!(
            text_of(&Backtrace::force_capture()).lines().count(),
            backtrace.lines().count(),
            "nothing has panicked"
        );
    }
}
