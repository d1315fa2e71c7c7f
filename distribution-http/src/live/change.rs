//! What has changed in a part of the page, so that viewers who have its last state get only that.

use serde_json::{Map, Value, json};

/// The change from one state of a part to the next, as `{"part":name,"set":{..},"rows":[[place,{..}],..],"length":rows}`: the
/// fields that are others, those of rows by the row's place in the list that has the part's name. `None` if the part has no such
/// list, or if most of it has changed.
pub(super) fn change(name: &str, before: &Value, now: &Value) -> Option<Value> {
    let (before, now) = (before.as_object()?, now.as_object()?);
    let (old, new) = (before.get(name)?.as_array()?, now.get(name)?.as_array()?);
    let others = now.iter().filter(|(key, value)| *key != name && before.get(*key) != Some(value));
    let set: Map<String, Value> = others.map(|(key, value)| (key.clone(), value.clone())).collect();
    let (mut rows, mut changed, mut all) = (Vec::new(), 0, 0);
    for (place, row) in new.iter().enumerate() {
        let row = row.as_object()?;
        let fields = match old.get(place) {
            Some(before) => fields(before.as_object()?, row)?,
            None => row.clone(),
        };
        changed += fields.len();
        all += row.len();
        if !fields.is_empty() {
            rows.push(json!([place, fields]));
        }
    }
    // Whole rows are read faster.
    (changed * 4 <= all * 3).then(|| json!({ "part": name, "set": set, "rows": rows, "length": new.len() }))
}

/// The fields of a row that are others than before; `None` if it has not the same ones.
fn fields(before: &Map<String, Value>, now: &Map<String, Value>) -> Option<Map<String, Value>> {
    let is_known = before.len() == now.len() && now.keys().all(|key| before.contains_key(key));
    let others = now.iter().filter(|(key, value)| before.get(*key) != Some(value));
    is_known.then(|| others.map(|(key, value)| (key.clone(), value.clone())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, calls: u32) -> Value {
        json!({ "name": name, "version": 1, "nodes": 2, "calls": calls })
    }

    #[test]
    fn only_fields_that_are_others_are_part_of_a_change() {
        let before = json!({ "services": [row("a", 0), row("b", 0), row("c", 0)], "total": 3 });
        let now = json!({ "services": [row("a", 0), row("b", 7)], "total": 2 });
        let expected = json!({ "part": "services", "set": { "total": 2 }, "rows": [[1, { "calls": 7 }]], "length": 2 });
        assert_eq!(change("services", &before, &now), Some(expected));
        let now = json!({ "services": [row("a", 0), row("b", 0), row("c", 0), row("d", 1)], "total": 3 });
        let expected = json!({ "part": "services", "set": {}, "rows": [[3, row("d", 1)]], "length": 4 });
        assert_eq!(change("services", &before, &now), Some(expected));
    }

    #[test]
    fn what_has_no_rows_or_other_rows_is_sent_as_a_whole() {
        let whole = |before: Value, now: Value| change("services", &before, &now).is_none();
        assert!(whole(json!({ "at": 1 }), json!({ "at": 2 })));
        assert!(whole(json!({ "services": [] }), json!({ "services": [row("a", 0)] })), "all of it is new");
        let other = json!({ "name": "a", "version": 1, "nodes": 2 });
        assert!(whole(json!({ "services": [row("a", 0)] }), json!({ "services": [other] })), "a field is gone");
    }
}
