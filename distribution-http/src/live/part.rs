//! A part of the page, and the events of the stream that bring it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::Value;

use super::change::change;

/// One part of the page in its newest state.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    /// Grows by one with each change.
    version: u64,
    content: Arc<Value>,
    /// The event that brings all of it. Made when a viewer needs it; all viewers share the bytes.
    whole: Arc<OnceLock<Bytes>>,
    /// The event that makes this state of the last one.
    change: Option<Bytes>,
}

impl Part {
    /// Its first state. Each reader of the master has versions of its own: a change must not be taken for that of another reader.
    pub(super) fn new(name: &'static str, version: u64, content: Value) -> Self {
        Self { name, version, content: Arc::new(content), whole: Arc::default(), change: None }
    }

    /// Gives it this content, which is a change if it is another one.
    pub(super) fn set(&mut self, content: Value) {
        if *self.content == content {
            return;
        }
        let change = change(self.name, &self.content, &content).map(|change| event("change", &change));
        *self = Self { change, ..Self::new(self.name, self.version + 1, content) };
    }

    /// What a viewer has to get who has been sent this version of it, and the version that it has then. `None` if it has the
    /// newest.
    pub(super) fn event_after(&self, sent: Option<u64>) -> Option<(u64, Bytes)> {
        if sent == Some(self.version) {
            return None;
        }
        let follows = sent.is_some_and(|sent| sent + 1 == self.version);
        let change = self.change.clone().filter(|_| follows);
        let whole = || self.whole.get_or_init(|| event(self.name, &self.content)).clone();
        Some((self.version, change.unwrap_or_else(whole)))
    }
}

/// JSON as it is written here has no line breaks, so it is one line of an event.
fn event(name: &str, content: &Value) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {content}\n\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_viewer_gets_all_of_a_part_once_and_then_what_has_changed_unless_it_has_missed_some() {
        let rows = |calls: u32| json!({ "nodes": [{ "id": "a", "slots": 1, "name": "n", "calls": calls }] });
        let text = |event: Option<(u64, Bytes)>| {
            event.map(|(version, bytes)| (version, String::from_utf8(bytes.to_vec()).expect("text")))
        };
        let mut part = Part::new("nodes", 1, rows(0));
        let whole = format!("event: nodes\ndata: {}\n\n", rows(0));
        assert_eq!(text(part.event_after(None)), Some((1, whole)));
        part.set(rows(0));
        assert_eq!(text(part.event_after(Some(1))), None);
        part.set(rows(1));
        let (version, change) = text(part.event_after(Some(1))).expect("has changed");
        assert!(version == 2 && change.starts_with("event: change\ndata: {") && !change.contains("slots"), "{change}");
        part.set(rows(2));
        let (version, whole) = text(part.event_after(Some(1))).expect("has changed");
        assert!(version == 3 && whole.starts_with("event: nodes\n") && whole.contains("slots"), "{whole}");
    }
}
