//! What has been, as the page's scripts read it: the task stream, and events.

use std::collections::{HashMap, VecDeque};

use distribution::{AdminClient, CallError, MethodName, NodeId, administration::TimelinePage};
use serde_json::{Value, json};

use crate::live::EventRow;

/// How many of the newest events are read.
const MOST_EVENTS: u64 = 1000;

/// Spans as short as they can be, because there are many: `[node, row, method, start, length, busy, calls, failed]`. Nodes and
/// methods are places in lists, -1 for several methods, and times are seconds.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    started: f64,
    nodes: Places<NodeId>,
    methods: Places<MethodName>,
    spans: VecDeque<Value>,
    /// How many older spans were left out.
    pub(crate) dropped: usize,
}

impl Timeline {
    /// Adds the spans of a page.
    pub(crate) fn add(&mut self, page: &TimelinePage) {
        self.started = page.started.as_secs_f64();
        for span in &page.spans {
            let node = self.nodes.of(&span.node);
            let method = span.method.and_then(|at| page.methods.get(usize::from(at)));
            let method = method.map_or(-1, |method| i64::try_from(self.methods.of(method)).unwrap_or(-1));
            let [start, length, busy] = [span.start, span.length, span.busy].map(|time| {
                // To a tenth of a millisecond: a pixel is more.
                (time.as_secs_f64() * 1e4).round() / 1e4
            });
            self.spans.push_back(json!([node, span.row, method, start, length, busy, span.calls, span.failed]));
        }
    }

    /// Leaves all but the newest out.
    pub(crate) fn keep_newest(&mut self, most: usize) {
        let over = self.spans.len().saturating_sub(most);
        self.spans.drain(..over);
        self.dropped += over;
    }

    pub(crate) fn into_json(self) -> Value {
        json!({
            "started": self.started,
            "nodes": self.nodes.all,
            "methods": self.methods.all,
            "spans": self.spans,
        })
    }
}

/// A list in which each thing is once, and the place that it has.
#[derive(Debug)]
struct Places<T> {
    all: Vec<T>,
    places: HashMap<T, usize>,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { all: Vec::new(), places: HashMap::new() }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Places<T> {
    fn of(&mut self, thing: &T) -> usize {
        if let Some(place) = self.places.get(thing) {
            return *place;
        }
        self.all.push(thing.clone());
        self.places.insert(thing.clone(), self.all.len() - 1);
        self.all.len() - 1
    }
}

/// What has happened to nodes so far, the oldest first.
///
/// # Errors
///
/// Those of a call of the admin service.
pub(crate) async fn past_events(admin: &AdminClient) -> Result<Vec<EventRow>, CallError> {
    let events = admin.past_events(MOST_EVENTS).await?.events;
    Ok(events.iter().zip(1..).map(|(event, number)| EventRow::new(number, event)).collect())
}
