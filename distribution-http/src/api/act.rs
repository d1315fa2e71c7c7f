//! What changes the cluster: only for admins. The master writes it to the audit log, with the name of the page's visitor.

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use distribution::{AdminClient, Call, CallError, CallId, NodeId, administration::ON_BEHALF_OF, error::AdminError};
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
    // Before the audit log has it: it may be anything.
    let call: CallId = id.parse().map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, format!("{error}")))?;
    visitor.may_change("cancel", &id)?;
    done("cancel", &id, on_behalf(app.admin.cancel(call), &visitor).await)
}

/// Steps in at a node.
pub(super) async fn on_node(
    State(app): State<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    Path((id, action)): Path<(String, String)>,
    _body: Bytes,
) -> Done {
    let node: NodeId = id.parse().map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, format!("{error}")))?;
    let step_in = match &*action {
        "drain" => AdminClient::drain,
        "cordon" => AdminClient::cordon,
        "uncordon" => AdminClient::uncordon,
        "kick" => AdminClient::kick,
        _ => {
            let sentence = "A node can be drained, cordoned, uncordoned and kicked: drain, cordon, uncordon, kick.";
            return Err(Refusal::new(StatusCode::NOT_FOUND, sentence));
        }
    };
    visitor.may_change(&action, &id)?;
    done(&action, &id, on_behalf(step_in(&app.admin, node), &visitor).await)
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
