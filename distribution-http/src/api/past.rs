//! What has been: the history, the timeline of slots, and the calls that failed.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use distribution::{
    NodeId,
    administration::{HistoryFilter, Resolution, TimelineFilter},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::query::Query;
use crate::{app::App, refusal::Refusal};

/// The most spans of one answer.
const MOST_SPANS: usize = 20_000;

pub(super) async fn failures(State(app): State<Arc<App>>) -> Result<impl IntoResponse, Refusal> {
    Ok(Json(json!({ "failures": app.admin.failures().await? })))
}

/// Which part of the history is wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedHistory {
    #[serde(default)]
    resolution: Resolution,
    #[serde(default)]
    from: u64,
    #[serde(default)]
    nodes: bool,
    #[serde(default)]
    methods: bool,
}

pub(super) async fn history(
    State(app): State<Arc<App>>,
    Query(wanted): Query<WantedHistory>,
) -> Result<impl IntoResponse, Refusal> {
    let mut filter = HistoryFilter::default().resolution(wanted.resolution).from(wanted.from);
    filter = if wanted.nodes { filter.nodes() } else { filter };
    filter = if wanted.methods { filter.methods() } else { filter };
    Ok(Json(app.admin.history(filter).await?))
}

/// Which part of the timeline is wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedTimeline {
    /// What an earlier answer has called `next`.
    after: Option<String>,
    node: Option<String>,
    /// In seconds.
    within: Option<f64>,
}

/// Spans as short as they can be, because there are many: `[node, row, method, start, length, busy, calls, failed]`. Nodes and
/// methods are places in lists, -1 for several methods, and times are seconds.
pub(super) async fn timeline(
    State(app): State<Arc<App>>,
    Query(wanted): Query<WantedTimeline>,
) -> Result<Json<Value>, Refusal> {
    let bad = |error: String| Refusal::new(StatusCode::BAD_REQUEST, error);
    let mut filter = TimelineFilter::default().limit(MOST_SPANS);
    if let Some(after) = &wanted.after {
        filter = filter.after(serde_json::from_str(after).map_err(|error| bad(format!("`after`: {error}")))?);
    }
    if let Some(node) = wanted.node.filter(|node| !node.is_empty()) {
        filter = filter.node(node.parse::<NodeId>().map_err(|error| bad(error.to_string()))?);
    }
    if let Some(seconds) = wanted.within {
        filter = filter.within(Duration::try_from_secs_f64(seconds).map_err(|error| bad(error.to_string()))?);
    }
    let page = app.admin.timeline(filter).await?;
    let (mut nodes, mut places) = (Vec::new(), HashMap::new());
    let spans: Vec<_> = page
        .spans
        .iter()
        .map(|span| {
            let node = *places.entry(span.node).or_insert_with(|| {
                nodes.push(span.node);
                nodes.len() - 1
            });
            let method = span.method.map_or(-1, i32::from);
            let [start, length, busy] = [span.start, span.length, span.busy].map(|time| {
                // To a tenth of a millisecond: a pixel is more.
                (time.as_secs_f64() * 1e4).round() / 1e4
            });
            json!([node, span.row, method, start, length, busy, span.calls, span.failed])
        })
        .collect();
    Ok(Json(json!({
        "started": page.started.as_secs_f64(),
        "nodes": nodes,
        "methods": page.methods,
        "spans": spans,
        // As a text: it may be larger than a number of JavaScript can be.
        "next": serde_json::to_string(&page.next).unwrap_or_default(),
        "has_more": page.has_more,
    })))
}
