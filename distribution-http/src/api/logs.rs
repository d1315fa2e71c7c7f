//! What nodes have logged: the newest records that fit.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State, http::StatusCode};
use distribution::{CallId, LogFilter, administration::LogLevel};
use futures::TryStreamExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::query::Query;
use crate::{app::App, refusal::Refusal};

/// How many records are read unless asked otherwise, and at most.
const RECORDS: usize = 200;
const MOST_RECORDS: usize = 2000;

/// Which records are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedLogs {
    node: Option<String>,
    method: Option<String>,
    call: Option<CallId>,
    level: Option<LogLevel>,
    contains: Option<String>,
    /// In seconds.
    newer_than: Option<f64>,
    limit: Option<usize>,
}

/// The newest records that fit, the oldest of them first.
pub(super) async fn logs(
    State(app): State<Arc<App>>,
    Query(wanted): Query<WantedLogs>,
) -> Result<Json<Value>, Refusal> {
    let mut filter = LogFilter::default();
    filter.past = wanted.limit.unwrap_or(RECORDS).min(MOST_RECORDS);
    filter.node = wanted.node.filter(|text| !text.is_empty());
    filter.method = wanted.method.filter(|text| !text.is_empty());
    filter.contains = wanted.contains.filter(|text| !text.is_empty());
    filter.call = wanted.call;
    filter.level = wanted.level.unwrap_or_default();
    if let Some(seconds) = wanted.newer_than {
        let time = Duration::try_from_secs_f64(seconds);
        filter.newer_than =
            Some(time.map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, format!("`newer_than`: {error}")))?);
    }
    let most = filter.past;
    let mut logs = app.admin.logs(filter);
    let mut records = Vec::new();
    while records.len() < most {
        match logs.try_next().await? {
            Some(record) => records.push(record),
            None => break,
        }
    }
    Ok(Json(json!({ "logs": records })))
}
