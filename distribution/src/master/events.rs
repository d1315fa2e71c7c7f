//! The stream of a master's events: first the nodes that are registered, then each change.
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
};

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::shared::{Numbered, Shared};
use crate::{core::NodeSnapshot, id::NodeId, view::NodeEvent};

/// A stream of [`NodeEvent`]s; see [`Master::events`](crate::Master::events). Ends with the master.
#[must_use = "streams do nothing unless polled"]
pub struct Events(BoxStream<'static, NodeEvent>);

impl Events {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        // Subscribed first, so that every event after the first page is read is received.
        let Some(receiver) = shared.subscribe() else { return Self(stream::empty().boxed()) };
        let subscription = Subscription { snapshot: Snapshot::take(shared), receiver, shared: Arc::clone(shared) };
        let events = stream::unfold(subscription, |mut subscription| async move {
            let event = subscription.next().await?;
            Some((event, subscription))
        });
        Self(events.boxed())
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

struct Subscription {
    snapshot: Snapshot,
    receiver: Receiver<Numbered>,
    shared: Arc<Shared>,
}

impl Subscription {
    async fn next(&mut self) -> Option<NodeEvent> {
        loop {
            if let Some(event) = self.snapshot.unread.pop_front() {
                return Some(event);
            }
            match self.receiver.recv().await {
                Ok((number, event)) if self.snapshot.shows(number, &event) => {}
                Ok((_, event)) => return Some(event),
                Err(RecvError::Lagged(missed)) => {
                    // The oldest event that the receiver still has happened before this, so that none is missing between.
                    self.snapshot = Snapshot::take(&self.shared);
                    return Some(NodeEvent::Missed(missed));
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// The nodes that were registered, read page by page.
struct Snapshot {
    unread: VecDeque<NodeEvent>,
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
        let mut snapshot = Self { unread: VecDeque::new(), pages: Vec::new() };
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
        self.unread.extend(page.rows.iter().map(NodeSnapshot::present));
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
