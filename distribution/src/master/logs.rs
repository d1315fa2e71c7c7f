//! Reads the records that nodes have logged: those that are kept, and then those that come.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt, stream};
use tokio::time::timeout;

use super::{event_log::time, log_store::Numbered, shared::Shared};
use crate::administration::{LogCursor, LogFilter, LogPage, LogRecord};

/// Records that are looked at at a time, between which other tasks run.
const LOOKED_AT: usize = 256;

/// The most records on a page, and about the most bytes.
const MOST_ON_PAGE: usize = 500;
const MOST_BYTES_ON_PAGE: usize = 256 * 1024;

/// How long a reader waits before another one that waits has its turn.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Reads records, page by page.
pub(super) struct LogReader {
    shared: Arc<Shared>,
    filter: LogFilter,
    /// The number of the last record that was looked at; `None` before it has begun.
    read: Option<u64>,
    /// Records up to this one are of the past: if one of them is not kept, nothing was missed.
    past: u64,
    has_ended: bool,
}

impl LogReader {
    /// Begins with the past, or goes on after a page.
    pub(super) fn new(shared: Arc<Shared>, filter: LogFilter, after: Option<LogCursor>) -> Self {
        let is_of_this_run =
            |after: &LogCursor| after.master == shared.identity.id && after.number <= shared.logs.last();
        let read = after.filter(is_of_this_run).map(|after| after.number);
        Self { filter, read, past: read.unwrap_or(0), has_ended: false, shared }
    }

    /// The next page. `None` once the master has ended, or, unless the reader follows, there are no more.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may lose records.
    pub(super) async fn next_page(&mut self) -> Option<LogPage> {
        let mut read = match self.read {
            Some(read) => read,
            None => self.begin().await,
        };
        let (mut records, mut bytes, mut missed) = (Vec::new(), 0, 0);
        while !self.has_ended && records.len() < MOST_ON_PAGE && bytes < MOST_BYTES_ON_PAGE {
            let slice = self.shared.logs.after(read, LOOKED_AT);
            if slice.is_empty() {
                if !self.filter.follow {
                    self.has_ended = true;
                } else if records.is_empty() && missed == 0 && !self.wait_after(read).await {
                    return None;
                } else if !records.is_empty() || missed > 0 {
                    break;
                }
                continue;
            }
            let now = time();
            for (number, record) in slice {
                missed += (number - (read + 1)).min(number.saturating_sub(self.past + 1));
                read = number;
                if self.filter.admits(&record, now) {
                    bytes +=
                        record.message.len() + record.fields.len() + record.backtrace.as_ref().map_or(0, String::len);
                    records.push(LogRecord::clone(&record));
                }
                if records.len() == MOST_ON_PAGE {
                    break;
                }
            }
            tokio::task::yield_now().await;
        }
        self.read = Some(read);
        let identity = &self.shared.identity;
        let next = LogCursor { master: identity.id, number: read };
        let missed = if self.filter.follow { missed } else { 0 };
        let is_last = self.has_ended && records.is_empty();
        (!is_last).then(|| LogPage { records, missed, next, master: (identity.clone(), time()) })
    }

    /// Finds the first of the newest records that are wanted, and returns the number before it.
    async fn begin(&mut self) -> u64 {
        self.past = self.shared.logs.last();
        let (mut read, mut wanted) = (self.past, 0);
        let mut upto = self.past;
        while wanted < self.filter.past {
            let slice: Vec<Numbered> = self.shared.logs.up_to(upto, LOOKED_AT);
            let Some((oldest, _)) = slice.last() else { break };
            upto = oldest.saturating_sub(1);
            let now = time();
            for (number, _) in slice.iter().filter(|(_, record)| self.filter.admits(record, now)) {
                read = number.saturating_sub(1);
                wanted += 1;
                if wanted == self.filter.past {
                    break;
                }
            }
            tokio::task::yield_now().await;
        }
        read
    }

    /// Waits for another record; false once the master has ended.
    async fn wait_after(&self, read: u64) -> bool {
        let _turn = self.shared.following.acquire().await;
        tokio::select! {
            _ = timeout(LONGEST_WAIT, self.shared.logs.wait_after(read)) => {}
            () = self.shared.closed.cancelled() => {}
        }
        !self.shared.closed.is_cancelled() && !self.shared.events.has_ended()
    }
}

/// The records that a filter wants.
pub(super) fn records(shared: Arc<Shared>, filter: LogFilter) -> impl Stream<Item = LogRecord> + Send + Unpin + use<> {
    let reader = LogReader::new(shared, filter, None);
    let pages = stream::unfold(reader, |mut reader| async move {
        let page = reader.next_page().await?;
        Some((stream::iter(page.into_records()), reader))
    });
    pages.flatten().boxed()
}
