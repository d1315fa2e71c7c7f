//! What changes the cluster: only for admins. The master writes it to the audit log, with the name of the page's visitor.

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use distribution::{Call, CallError, CallId, NodeId, administration::ON_BEHALF_OF, error::AdminError};
use serde::de::DeserializeOwned;
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
    visitor.may_change("cancel", &id)?;
    let call: CallId = id.parse().map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, format!("{error}")))?;
    done("cancel", &id, on_behalf(app.admin.cancel(call), &visitor).await)
}

/// Steps in at a node.
pub(super) async fn on_node(
    State(app): State<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    Path((id, action)): Path<(String, String)>,
    _body: Bytes,
) -> Done {
    visitor.may_change(&action, &id)?;
    let node: NodeId = id.parse().map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, format!("{error}")))?;
    let result = match &*action {
        "drain" => on_behalf(app.admin.drain(node), &visitor).await,
        "cordon" => on_behalf(app.admin.cordon(node), &visitor).await,
        "uncordon" => on_behalf(app.admin.uncordon(node), &visitor).await,
        "kick" => on_behalf(app.admin.kick(node), &visitor).await,
        _ => {
            let sentence = "A node can be drained, cordoned, uncordoned and kicked: drain, cordon, uncordon, kick.";
            return Err(Refusal::new(StatusCode::NOT_FOUND, sentence));
        }
    };
    done(&action, &id, result)
}

/// The same call, whose line in the audit log names the visitor.
pub(super) fn on_behalf<T: DeserializeOwned>(call: Call<T, AdminError>, visitor: &Visitor) -> Call<T, AdminError> {
    let of = match visitor.peer {
        Some(peer) => format!("{} through the page, from {peer}", visitor.name),
        None => format!("{} through the page", visitor.name),
    };
    call.metadata(ON_BEHALF_OF, of)
}

fn done(action: &str, on: &str, result: Result<(), CallError<AdminError>>) -> Done {
    result?;
    Ok(Json(json!({ "action": action, "on": on })))
}
