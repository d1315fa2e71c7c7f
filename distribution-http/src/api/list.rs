//! Lists: what the cluster has and does, by a text or as a filter chooses.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::IntoResponse,
};
use distribution::{
    CallFilter, NodeId,
    administration::{CallCursor, StatusFilter},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::query::Query;
use crate::{
    app::App,
    live::{CallRow, MOST_ROWS, Measured, MethodRow, NodeRow, RunRow, Versions, WarningRow, by_id},
    refusal::Refusal,
};

/// The most rows that a request may ask for.
const MOST_ASKED: usize = 1000;

/// The longest text that is searched for, in bytes.
const LONGEST_TEXT: usize = 256;

type Answer = Result<Json<Value>, Refusal>;

/// A text to search for, and how many rows are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    #[serde(default)]
    q: String,
    limit: Option<usize>,
}

impl Search {
    /// Those rows in which one of some texts has the one that is searched for, and how many there are.
    fn rows<T, R: Serialize>(
        &self,
        name: &str,
        all: Vec<T>,
        texts: impl Fn(&T) -> Vec<String>,
        row: impl Fn(T) -> R,
    ) -> Answer {
        if self.q.len() > LONGEST_TEXT {
            let sentence = format!("`q` may have {LONGEST_TEXT} bytes.");
            return Err(Refusal::new(StatusCode::BAD_REQUEST, sentence));
        }
        let wanted = self.q.to_lowercase();
        let fits = |item: &T| wanted.is_empty() || texts(item).iter().any(|text| text.to_lowercase().contains(&wanted));
        let fitting: Vec<T> = all.into_iter().filter(fits).collect();
        let total = fitting.len();
        let rows: Vec<R> = fitting.into_iter().take(limit(self.limit)).map(row).collect();
        Ok(Json(json!({ name: rows, "total": total })))
    }
}

fn limit(asked: Option<usize>) -> usize {
    asked.unwrap_or(MOST_ROWS).min(MOST_ASKED)
}

pub(super) async fn status(State(app): State<Arc<App>>) -> Answer {
    let (status, stats) = futures::try_join!(async { app.admin.status().await }, async { app.admin.stats().await })?;
    Ok(Json(json!({ "status": status, "stats": stats })))
}

pub(super) async fn nodes(State(app): State<Arc<App>>, Query(search): Query<Search>) -> Answer {
    let texts = |node: &distribution::NodeInfo| {
        let labels = node.labels.iter().map(|(key, value)| format!("{key}={value}"));
        let services = node.services.iter().map(|service| service.name.clone());
        let state = if node.is_cordoned { "cordoned".to_owned() } else { node.state.to_string() };
        let own =
            [node.name.to_string(), node.id.to_string(), node.addr.to_string(), node.principal.to_string(), state];
        own.into_iter().chain(labels).chain(services).collect()
    };
    let (status, nodes, metrics) =
        futures::try_join!(async { app.admin.status().await }, async { app.admin.nodes().await }, async {
            app.admin.metrics().await
        },)?;
    let versions = Versions::of(&status.version, &nodes);
    let metrics = by_id(&metrics.nodes);
    search.rows("nodes", nodes, texts, |node| {
        let metrics = metrics.get(&node.id).copied();
        NodeRow::new(node, &versions, metrics)
    })
}

/// One node with all that is known of it.
pub(super) async fn node(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<impl IntoResponse, Refusal> {
    let id: NodeId = id.parse().map_err(bad)?;
    let node = app.admin.nodes().await?.into_iter().find(|node| node.id == id);
    node.map(Json).ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, format!("No node {id} is registered.")))
}

/// Which calls are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedCalls {
    method: Option<String>,
    /// An id, or a name.
    node: Option<String>,
    status: Option<StatusFilter>,
    /// In seconds.
    older_than: Option<f64>,
    after: Option<CallCursor>,
    limit: Option<usize>,
}

pub(super) async fn calls(State(app): State<Arc<App>>, Query(wanted): Query<WantedCalls>) -> Answer {
    let mut filter = CallFilter::default().limit(limit(wanted.limit));
    if let Some(method) = wanted.method.filter(|method| !method.is_empty()) {
        filter = filter.method(method);
    }
    if let Some(node) = wanted.node.filter(|node| !node.is_empty()) {
        // A name may look like an id, as `be-1` does.
        let nodes = app.admin.nodes().await?;
        let named = nodes.iter().find(|info| *info.name == *node).map(|info| info.id);
        let missing = || Refusal::new(StatusCode::NOT_FOUND, format!("No node `{node}` is registered."));
        filter = filter.node(named.or_else(|| node.parse().ok()).ok_or_else(missing)?);
    }
    if let Some(status) = wanted.status {
        filter = filter.status(status);
    }
    if let Some(seconds) = wanted.older_than {
        filter = filter.older_than(
            Duration::try_from_secs_f64(seconds).map_err(|_| bad("`older_than` is a number of seconds, 0 or more."))?,
        );
    }
    if let Some(after) = wanted.after {
        filter = filter.after(after);
    }
    let page = app.admin.calls(filter).await?;
    let calls: Vec<CallRow> = page.calls.into_iter().map(CallRow::new).collect();
    Ok(Json(json!({ "calls": calls, "next": page.next })))
}

pub(super) async fn methods(State(app): State<Arc<App>>, Query(search): Query<Search>) -> Answer {
    let texts = |row: &distribution::administration::MethodSummary| {
        vec![format!("{}.{}", row.service, row.name), row.signature.clone()]
    };
    let (methods, metrics) =
        futures::try_join!(async { app.admin.methods().await }, async { app.admin.metrics().await })?;
    let (looked, mut whole) = (app.hub.measured(), Measured::default());
    let window = looked.last().unwrap_or_else(|| whole.whole(metrics.methods));
    search.rows("methods", methods, texts, |method| MethodRow::new(method, &window))
}

pub(super) async fn services(State(app): State<Arc<App>>, Query(search): Query<Search>) -> Answer {
    let texts = |row: &distribution::administration::ServiceSummary| vec![row.name.clone()];
    search.rows("services", app.admin.services().await?, texts, |row| row)
}

pub(super) async fn callers(State(app): State<Arc<App>>, Query(search): Query<Search>) -> Answer {
    let texts = |row: &distribution::administration::CallerInfo| {
        vec![row.name.to_string(), row.addr.to_string(), row.principal.to_string()]
    };
    search.rows("callers", app.admin.callers().await?, texts, |row| row)
}

/// What looks wrong, the most urgent first.
pub(super) async fn warnings(State(app): State<Arc<App>>) -> Answer {
    let warnings = app.admin.warnings().await?;
    Ok(Json(json!({ "warnings": warnings.into_iter().map(WarningRow::new).collect::<Vec<_>>() })))
}

/// The runs of many calls that have a name.
pub(super) async fn runs(State(app): State<Arc<App>>) -> Answer {
    let runs = app.admin.runs().await?;
    Ok(Json(json!({ "total": runs.len(), "runs": runs.into_iter().map(RunRow::new).collect::<Vec<_>>() })))
}

/// What a request says that cannot be understood.
fn bad(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, error.to_string())
}
