//! What changes the cluster: only for admins, and written to the audit log.

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use distribution::{CallError, CallId, NodeId, error::AdminError};
use serde_json::{Value, json};

use crate::{access::Visitor, app::App, refusal::Refusal};

type Done = Result<Json<Value>, Refusal>;

/// Cancels a call. A body is not needed; one that is too large is refused before.
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    _body: Bytes,
) -> Done {
    visitor.may_change()?;
    let call: CallId = id.parse().map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, format!("{error}")))?;
    done(&visitor, "cancel", &id, app.admin.cancel(call).await)
}

/// Steps in at a node.
pub(super) async fn on_node(
    State(app): State<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    Path((id, action)): Path<(String, String)>,
    _body: Bytes,
) -> Done {
    visitor.may_change()?;
    let node: NodeId = id.parse().map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, format!("{error}")))?;
    let result = match &*action {
        "drain" => app.admin.drain(node).await,
        "cordon" => app.admin.cordon(node).await,
        "uncordon" => app.admin.uncordon(node).await,
        "kick" => app.admin.kick(node).await,
        _ => {
            let sentence = "A node can be drained, cordoned, uncordoned and kicked: drain, cordon, uncordon, kick.";
            return Err(Refusal::new(StatusCode::NOT_FOUND, sentence));
        }
    };
    done(&visitor, &action, &id, result)
}

fn done(visitor: &Visitor, action: &str, on: &str, result: Result<(), CallError<AdminError>>) -> Done {
    let peer = visitor.peer.map(tracing::field::display);
    match result {
        Ok(()) => {
            tracing::info!(target: "distribution::audit", by = %visitor.name, peer, action, on, "done through the page");
            Ok(Json(json!({ "action": action, "on": on })))
        }
        Err(error) => {
            tracing::info!(target: "distribution::audit", by = %visitor.name, peer, action, on, %error, "not done through the page");
            Err(error.into())
        }
    }
}
