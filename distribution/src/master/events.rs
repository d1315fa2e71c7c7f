//! A reader of a master's events first gets the nodes that are registered, then each change.
//!
//! The registry is too large to copy under one hold of the core's lock, so it is read page by page while nodes come and
//! go. Events are numbered, and each page says which event was the last before it was read. An event about a node is left
//! out if the page that the node is in, or would be in, was read after it: the page shows its result already. So for each
//! node nothing is missing and nothing is told twice. Nodes are listed in the order of their ids, and ids are never used
//! again, so the pages divide all ids that there will ever be.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use tokio::time::timeout;

use super::{
    event_log::{Next, time},
    shared::Shared,
};
use crate::{
    administration::{EventCursor, EventPage, TimedEvent},
    core::NodeSnapshot,
    id::NodeId,
    view::NodeEvent,
};

/// How long a reader in another process waits for an event, before it is answered all the same: so long that its questions
/// cost nothing, and so short that none waits here for a reader that is gone.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// A stream of [`NodeEvent`]s; see [`Master::events`](crate::Master::events). Ends with the master.
#[must_use = "streams do nothing unless polled"]
pub struct Events(BoxStream<'static, NodeEvent>);

impl Events {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        if shared.events.has_ended() {
            return Self(stream::empty().boxed());
        }
        Reader::from_now(Arc::clone(shared)).into_stream()
    }
}

impl Stream for Events {
    type Item = NodeEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<NodeEvent>> {
        self.0.poll_next_unpin(cx)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

impl Shared {
    /// The newest events, at most this many, and where those follow that come.
    pub(super) fn past_events(&self, most: usize) -> EventPage {
        let (events, number) = self.events.newest(most);
        EventPage { events, next: EventCursor { master: self.identity.id, number } }
    }

    /// What has happened after this place, or, without one, the nodes that are registered. Waits some seconds for something
    /// to tell.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub(super) async fn events_after(self: &Arc<Self>, after: Option<EventCursor>) -> EventPage {
        let is_of_this_run =
            |after: &EventCursor| after.master == self.identity.id && after.number <= self.events.last();
        let mut reader = match after {
            Some(after) if is_of_this_run(&after) => Reader::after(Arc::clone(self), after.number),
            Some(_) => Reader::that_missed(Arc::clone(self), 0),
            None => Reader::from_now(Arc::clone(self)),
        };
        let mut events = Vec::new();
        // A cluster without nodes has none to begin with, and its reader has to know from where to go on.
        if after.is_some() {
            // What comes too late for this page is on the next one.
            events.extend(timeout(LONGEST_WAIT, reader.next()).await.ok().flatten());
        }
        while let Some(event) = reader.next_ready() {
            events.push(event);
        }
        EventPage { events, next: EventCursor { master: self.identity.id, number: reader.read } }
    }
}

/// Reads the events of a master, from its nodes on.
struct Reader {
    shared: Arc<Shared>,
    snapshot: Snapshot,
    /// The number of the last event that was read.
    read: u64,
}

impl Reader {
    /// Begins with the nodes that are registered now.
    fn from_now(shared: Arc<Shared>) -> Self {
        let mut reader = Self::after(shared, 0);
        reader.begin_again();
        reader
    }

    /// Goes on after an event.
    fn after(shared: Arc<Shared>, read: u64) -> Self {
        Self { shared, snapshot: Snapshot::default(), read }
    }

    /// Begins with the number of events that it has missed, and the nodes that are registered now.
    fn that_missed(shared: Arc<Shared>, count: u64) -> Self {
        let mut reader = Self::from_now(shared);
        reader.snapshot.unread.push_front(TimedEvent::new(time(), NodeEvent::Missed(count)));
        reader
    }

    /// Reads the nodes. What had happened before the first page of them was read is shown by all pages.
    fn begin_again(&mut self) {
        self.snapshot = Snapshot::take(&self.shared);
        self.read = self.snapshot.pages.first().map_or(0, |page| page.last_event);
    }

    /// The next event; `None` once the master has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no event.
    async fn next(&mut self) -> Option<TimedEvent> {
        loop {
            if let Some(event) = self.next_ready() {
                return Some(event);
            }
            if self.shared.events.has_ended() {
                return None;
            }
            self.shared.events.wait_after(self.read).await;
        }
    }

    /// The next event that has happened already.
    fn next_ready(&mut self) -> Option<TimedEvent> {
        loop {
            if let Some(event) = self.snapshot.unread.pop_front() {
                return Some(event);
            }
            match self.shared.events.after(self.read) {
                Next::Event(event) => {
                    self.read += 1;
                    if !self.snapshot.shows(self.read, &event.event) {
                        return Some(event);
                    }
                }
                Next::Missed(count) => {
                    self.begin_again();
                    return Some(TimedEvent::new(time(), NodeEvent::Missed(count)));
                }
                Next::Nothing => return None,
            }
        }
    }

    fn into_stream(self) -> Events {
        let events = stream::unfold(self, |mut reader| async move {
            let event = reader.next().await?;
            Some((event.event, reader))
        });
        Events(events.boxed())
    }
}

/// The nodes that were registered, read page by page.
#[derive(Default)]
struct Snapshot {
    unread: VecDeque<TimedEvent>,
    pages: Vec<Page>,
}

/// Which nodes a page is about: those after the page before it, up to and including `last`; all if there is no `last`.
struct Page {
    last: Option<NodeId>,
    /// The last event that had happened when the page was read.
    last_event: u64,
}

impl Snapshot {
    fn take(shared: &Shared) -> Self {
        let mut snapshot = Self::default();
        let mut after = None;
        loop {
            after = snapshot.read_page(shared, after);
            if after.is_none() {
                return snapshot;
            }
        }
    }

    /// Reads the page after this node, and returns the last node on it.
    fn read_page(&mut self, shared: &Shared, after: Option<NodeId>) -> Option<NodeId> {
        let page = shared.node_page(after, None);
        let now = time();
        self.unread.extend(page.rows.iter().map(NodeSnapshot::present).map(|event| TimedEvent::new(now, event)));
        self.pages.push(Page { last: page.last, last_event: page.last_event });
        page.last
    }

    /// Whether the snapshot shows the result of this event already.
    fn shows(&self, number: u64, event: &NodeEvent) -> bool {
        let Some(node) = event.node() else { return false };
        let at = self.pages.partition_point(|page| page.last.is_some_and(|last| last < node.id));
        self.pages.get(at).is_some_and(|page| number <= page.last_event)
    }
}

#[cfg(test)]
mod tests;
