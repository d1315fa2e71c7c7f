//! Lists that are cut so that a report does not grow without bound.

use std::collections::VecDeque;

use serde::Serialize;
use serde_json::Value;

/// How many bytes a value takes in a report, where each `<` is written as six characters.
fn size(value: &impl Serialize) -> usize {
    serde_json::to_string(value).map_or(0, |json| json.len() + 5 * json.matches('<').count() + 1)
}

/// Cuts the end of a list off, so that it has at most this many bytes. Returns how many rows are left.
pub(super) fn keep_first(rows: &mut Vec<Value>, bytes: usize) -> usize {
    let mut sum = 0;
    let fitting = rows.iter().take_while(|row| {
        sum += size(row);
        sum <= bytes
    });
    let kept = fitting.count();
    rows.truncate(kept);
    kept
}

/// The newest of some records, which come the oldest first.
#[derive(Debug)]
pub(super) struct Newest {
    rows: VecDeque<(usize, Value)>,
    most: usize,
    bytes: usize,
    left: usize,
    /// How many older ones were dropped.
    pub(super) dropped: usize,
}

impl Newest {
    /// Keeps at most this many records, and bytes.
    pub(super) fn new(most: usize, bytes: usize) -> Self {
        Self { rows: VecDeque::new(), most, bytes, left: bytes, dropped: 0 }
    }

    pub(super) fn push(&mut self, row: &impl Serialize) {
        let Ok(row) = serde_json::to_value(row) else { return };
        let bytes = size(&row);
        if bytes > self.bytes {
            self.dropped += 1;
            return;
        }
        self.rows.push_back((bytes, row));
        while self.rows.len() > self.most || self.left < bytes {
            let Some((freed, _)) = self.rows.pop_front() else { break };
            self.left += freed;
            self.dropped += 1;
        }
        self.left -= bytes;
    }

    pub(super) fn into_rows(self) -> Vec<Value> {
        self.rows.into_iter().map(|(_, row)| row).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_is_cut_by_the_bytes_that_it_takes_when_it_is_escaped() {
        let mut rows = vec![json!("aaaa"), json!("<<<<"), json!("b")];
        assert_eq!(keep_first(&mut rows, 33), 1, "7 and 27 bytes");
        let mut rows = vec![json!("aaaa"), json!("<<<<"), json!("b")];
        assert_eq!((keep_first(&mut rows, 34), rows.len()), (2, 2));
    }

    #[test]
    fn of_records_the_newest_are_kept() {
        let mut newest = Newest::new(3, 1000);
        (0..5).for_each(|at| newest.push(&at));
        assert_eq!((newest.dropped, newest.into_rows()), (2, vec![json!(2), json!(3), json!(4)]));
        let mut newest = Newest::new(100, 20);
        ["aaaa", "bbbb", "cccc"].iter().for_each(|text| newest.push(text));
        assert_eq!(newest.dropped, 1, "each takes 7 bytes");
        newest.push(&"x".repeat(100));
        assert_eq!((newest.dropped, newest.into_rows()), (2, vec![json!("bbbb"), json!("cccc")]));
    }
}
