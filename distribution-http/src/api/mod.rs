//! The API in JSON: what the page asks for, and what scripts can.

mod act;
mod list;
mod logs;
mod past;
mod profile;
mod query;

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;

use crate::{
    access::Visitor,
    app::App,
    live::{Watching, stream},
    refusal::Refusal,
};

/// The routes, below `/api`.
pub(crate) fn routes(app: &Arc<App>) -> Router {
    Router::new()
        .route("/me", get(me))
        .route("/status", get(list::status))
        .route("/nodes", get(list::nodes))
        .route("/nodes/{id}", get(list::node))
        .route("/nodes/{id}/profile", post(profile::profile))
        .route("/nodes/{id}/{action}", post(act::on_node))
        .route("/calls", get(list::calls))
        .route("/calls/{id}/cancel", post(act::cancel))
        .route("/methods", get(list::methods))
        .route("/services", get(list::services))
        .route("/callers", get(list::callers))
        .route("/logs", get(logs::logs))
        .route("/failures", get(past::failures))
        .route("/history", get(past::history))
        .route("/timeline", get(past::timeline))
        .route("/warnings", get(list::warnings))
        .route("/runs", get(list::runs))
        .route("/events", get(past::events))
        .route("/report", get(past::report))
        .route("/stream", get(watch))
        .fallback(|| async { Refusal::new(StatusCode::NOT_FOUND, "The API has no such path.") })
        .method_not_allowed_fallback(|| async {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "This path is asked with GET, or changed with POST.")
        })
        .layer(middleware::from_fn_with_state(Arc::clone(app), identify))
        .with_state(Arc::clone(app))
}

/// Finds out who a request comes from, before anything is done for it.
async fn identify(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match app.access.visitor(&parts).await {
        Ok(visitor) => {
            let mut request = Request::from_parts(parts, body);
            request.extensions_mut().insert(visitor);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// Who the request comes from, and what it may do.
async fn me(State(app): State<Arc<App>>, Extension(visitor): Extension<Visitor>) -> impl IntoResponse {
    Json(json!({
        "role": visitor.role.name(),
        "name": visitor.name,
        "demands_token": app.access.tokens.are_demanded(),
        "version": env!("CARGO_PKG_VERSION"),
    }))
}

/// The event stream.
async fn watch(State(app): State<Arc<App>>, Extension(visitor): Extension<Visitor>) -> Result<Response, Refusal> {
    let counted = app.limits.viewer()?;
    let look = app.hub.look();
    Ok(stream(Watching { app, visitor, look, counted }))
}
