//! What a report has in it: everything that the page shows or asks for, as the page's scripts read it.

use std::time::{Duration, SystemTime};

use distribution::{
    AdminClient, CallError, LogFilter, NodeId,
    administration::{HistoryFilter, NodePoint, Resolution, TimelineFilter},
};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Map, Value, json};

use super::sized::{Newest, keep_first};
use crate::{
    live::{Answers, Measured},
    past::{Timeline, past_events},
};

/// The most rows and bytes of each list.
const MOST_ROWS: usize = 2000;
const ROWS_BYTES: usize = 2 << 20;

/// The most spans of the task stream. Each takes some 50 bytes.
const MOST_SPANS: usize = 60_000;

/// How many of them are asked for at a time.
const SPANS_AT_A_TIME: usize = 20_000;

/// The most log records, and their bytes.
const MOST_RECORDS: usize = 5000;
const RECORDS_BYTES: usize = 4 << 20;

/// The most nodes whose load has a history, and the points of all of them of one resolution. Each takes some 50 bytes.
const MOST_NODES: usize = 250;
const NODE_POINTS: usize = 60_000;

/// How many nodes' points are asked for at the same time.
const AT_ONCE: usize = 8;

const HOUR: Duration = Duration::from_secs(3600);

/// Asks a master for everything. What did not fit is said in `left_out`.
pub(super) async fn gather(admin: &AdminClient) -> Result<Value, CallError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let mut left_out = Vec::new();
    let (answers, methods) = Answers::ask(admin, MOST_ROWS).await?;
    let mut measured = Measured::default();
    let parts = answers.into_parts(now, Value::Null, &measured.whole(methods), MOST_ROWS);
    let mut parts: Map<String, Value> = parts.into_iter().map(|(name, part)| (name.to_owned(), part)).collect();
    for (name, part) in &mut parts {
        left_out.extend(cut(name, part));
    }
    let mut events = past_events(admin).await?;
    events.reverse();
    parts.insert("events".to_owned(), json!({ "events": events }));
    let history = history(admin, &parts["nodes"], &mut left_out).await?;
    let timeline = timeline(admin, &mut left_out).await?;
    let logs = logs(admin, &mut left_out).await?;
    Ok(json!({
        "made": now,
        "version": env!("CARGO_PKG_VERSION"),
        "left_out": left_out,
        "parts": parts,
        "history": history,
        "timeline": timeline,
        "logs": logs,
    }))
}

/// Cuts a list, and says so.
fn cut(name: &str, part: &mut Value) -> Option<String> {
    let total = part["total"].as_u64();
    let has_more = part["has_more"] == true;
    let rows = part.get_mut(name)?.as_array_mut()?;
    let all = rows.len();
    let kept = keep_first(rows, ROWS_BYTES);
    match total {
        Some(total) if total > kept as u64 => Some(format!("{kept} of {total} {name}")),
        None if !has_more && kept == all => None,
        None if matches!(name, "running" | "waiting" | "stopping") => {
            Some(format!("only {kept} of the calls that are {name}, the oldest"))
        }
        None => Some(format!("only {kept} of the {name}")),
        _ => None,
    }
}

/// The history of the cluster as a whole, and of its nodes.
async fn history(admin: &AdminClient, nodes: &Value, left_out: &mut Vec<String>) -> Result<Value, CallError> {
    let rows = nodes["nodes"].as_array().map_or(&[][..], |rows| rows);
    let ids: Vec<NodeId> = rows.iter().filter_map(|row| row["id"].as_str()?.parse().ok()).take(MOST_NODES).collect();
    if ids.len() < rows.len() {
        left_out.push(format!("the load over time of {} of {} nodes", rows.len() - ids.len(), rows.len()));
    }
    let mut history = Map::new();
    let mut of_nodes = Map::new();
    for (name, resolution, most, unit) in
        [("second", Resolution::Second, 3600, "seconds"), ("minute", Resolution::Minute, 1440, "minutes")]
    {
        let filter = HistoryFilter::default().resolution(resolution);
        let cluster = admin.history(filter).await?;
        let each = (NODE_POINTS / ids.len().max(1)).min(most);
        let from = cluster.next.saturating_sub(each as u64);
        if each < most && cluster.next > each as u64 {
            left_out.push(format!("the load of nodes before the last {each} {unit}"));
        }
        let points = stream::iter(ids.clone()).map(|id| async move {
            let history = admin.history(filter.from(from).node(id)).await?;
            let points = history.nodes.into_iter().flat_map(|node| node.points).map(|point| row(&point)).collect();
            Ok::<_, CallError>((id.to_string(), Value::Array(points)))
        });
        let points: Map<String, Value> = points.buffered(AT_ONCE).try_collect().await?;
        of_nodes.insert(name.to_owned(), Value::Object(points));
        history.insert(name.to_owned(), json!(cluster));
    }
    history.insert("nodes".to_owned(), Value::Object(of_nodes));
    Ok(Value::Object(history))
}

/// A point as short as it can be, because there are many.
fn row(point: &NodePoint) -> Value {
    let rounded = |number: f32| (f64::from(number) * 1e3).round() / 1e3;
    json!([
        point.number,
        point.ended,
        point.failed,
        rounded(point.busy),
        rounded(point.cpu),
        point.memory,
        rounded(point.lag)
    ])
}

/// The newest spans of the last hour.
async fn timeline(admin: &AdminClient, left_out: &mut Vec<String>) -> Result<Value, CallError> {
    let mut timeline = Timeline::default();
    let mut filter = TimelineFilter::default().limit(SPANS_AT_A_TIME).within(HOUR);
    loop {
        let page = admin.timeline(filter).await?;
        filter = filter.after(page.next);
        let has_more = page.has_more;
        timeline.add(&page);
        timeline.keep_newest(MOST_SPANS);
        if !has_more {
            break;
        }
    }
    if timeline.dropped > 0 {
        left_out.push(format!("the oldest {} bars of the task stream", timeline.dropped));
    }
    Ok(timeline.into_json())
}

/// The newest log records, the oldest of them first.
async fn logs(admin: &AdminClient, left_out: &mut Vec<String>) -> Result<Vec<Value>, CallError> {
    let mut filter = LogFilter::default();
    // One more, to see whether there are more.
    filter.past = MOST_RECORDS + 1;
    let mut newest = Newest::new(MOST_RECORDS, RECORDS_BYTES);
    let mut records = admin.logs(filter);
    while let Some(record) = records.try_next().await? {
        newest.push(&record);
    }
    if newest.dropped > 0 {
        left_out.push("older log records".to_owned());
    }
    Ok(newest.into_rows())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_is_said() {
        let mut part = json!({ "nodes": [1, 2], "total": 2 });
        assert_eq!(cut("nodes", &mut part), None);
        let mut part = json!({ "nodes": [1, 2], "total": 7 });
        assert_eq!(cut("nodes", &mut part).as_deref(), Some("2 of 7 nodes"));
        let mut part = json!({ "running": ["x".repeat(ROWS_BYTES), "y"] });
        assert_eq!(cut("running", &mut part).as_deref(), Some("only 0 of the calls that are running, the oldest"));
        assert_eq!(part["running"], json!([]));
        let mut part = json!({ "warnings": ["x".repeat(ROWS_BYTES)] });
        assert_eq!(cut("warnings", &mut part).as_deref(), Some("only 0 of the warnings"));
        let mut part = json!({ "at": 3 });
        assert_eq!(cut("status", &mut part), None);
    }
}
