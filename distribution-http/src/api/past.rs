//! What has been: the history, the timeline of slots, and the calls that failed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use bytes::Bytes;
use distribution::{
    NodeId,
    administration::{HistoryFilter, Resolution, TimelineFilter},
};
use futures::stream;
use serde::Deserialize;
use serde_json::{Value, json};

use super::query::Query;
use crate::{
    app::App,
    limits::{REPORT_PIECE, REPORT_SEND_TIME},
    past::{Timeline, past_events},
    refusal::Refusal,
};

/// The most spans of one answer.
const MOST_SPANS: usize = 20_000;

pub(super) async fn failures(State(app): State<Arc<App>>) -> Result<impl IntoResponse, Refusal> {
    Ok(Json(json!({ "failures": app.admin.failures().await? })))
}

/// What has happened to nodes, the newest first.
pub(super) async fn events(State(app): State<Arc<App>>) -> Result<impl IntoResponse, Refusal> {
    let mut events = past_events(&app.admin).await?;
    events.reverse();
    Ok(Json(json!({ "events": events })))
}

/// The page in one file, to be saved.
pub(super) async fn report(State(app): State<Arc<App>>) -> Result<impl IntoResponse, Refusal> {
    let counted = app.limits.report()?;
    let html = Bytes::from(crate::report(&app.admin).await?);
    // It counts until the last byte is written, because it takes memory until then.
    let end = Instant::now() + REPORT_SEND_TIME;
    let pieces = stream::unfold((html, counted), move |(mut rest, counted)| async move {
        if rest.is_empty() {
            return None;
        }
        if Instant::now() > end {
            return Some((Err(SentTooSlowly), (Bytes::new(), counted)));
        }
        let piece = rest.split_to(rest.len().min(REPORT_PIECE));
        Some((Ok(piece), (rest, counted)))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        // It must not run as a part of this page: it is another program's data.
        (header::CONTENT_DISPOSITION, "attachment; filename=\"cluster.html\""),
    ];
    Ok((headers, Body::from_stream(pieces)))
}

/// A report was read too slowly.
#[derive(Debug, thiserror::Error)]
#[error("the report was not read within {} s", REPORT_SEND_TIME.as_secs())]
struct SentTooSlowly;

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
    /// The points of this node only.
    node: Option<NodeId>,
    #[serde(default)]
    methods: bool,
}

pub(super) async fn history(
    State(app): State<Arc<App>>,
    Query(wanted): Query<WantedHistory>,
) -> Result<impl IntoResponse, Refusal> {
    let mut filter = HistoryFilter::default().resolution(wanted.resolution).from(wanted.from);
    filter = if wanted.nodes { filter.nodes() } else { filter };
    filter = wanted.node.map_or(filter, |node| filter.node(node));
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

/// Spans as [`Timeline`] writes them, and where the next ones begin.
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
    let mut timeline = Timeline::default();
    timeline.add(&page);
    let mut answer = timeline.into_json();
    // As a text: it may be larger than a number of JavaScript can be.
    answer["next"] = serde_json::to_string(&page.next).unwrap_or_default().into();
    answer["has_more"] = page.has_more.into();
    Ok(Json(answer))
}
