//! A profile of a node: only for admins, because its process is interrupted for it.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use distribution::{NodeId, administration::Profile};
use serde::Deserialize;

use super::act::on_behalf;
use crate::{access::Visitor, app::App, limits::PROFILE_ANSWER_TIME, refusal::Refusal};

/// For how many seconds samples are taken, at least, at most, and unless asked otherwise.
const LEAST: f64 = 1.0;
const MOST: f64 = 30.0;
const USUAL: f64 = 5.0;

/// What is wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    seconds: f64,
}

/// Takes a profile, which takes as long as it is to be and some seconds more.
pub(super) async fn profile(
    State(app): State<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Profile>, Refusal> {
    let bad = |sentence: String| Refusal::new(StatusCode::BAD_REQUEST, sentence);
    let node: NodeId = id.parse().map_err(|error| bad(format!("{error}")))?;
    visitor.may_change("profile", &id)?;
    let wanted = match body.is_empty() {
        true => Wanted { seconds: USUAL },
        false => serde_json::from_slice(&body).map_err(|error| {
            bad(format!("The body must be JSON such as {{\"seconds\":{USUAL}}}, and it cannot be read: {error}."))
        })?,
    };
    if !(LEAST..=MOST).contains(&wanted.seconds) {
        return Err(bad(format!("A profile takes {LEAST} to {MOST} seconds, and not {}.", wanted.seconds)));
    }
    let length = Duration::from_secs_f64(wanted.seconds);
    let call = app.admin.profile(node, length).timeout(length + PROFILE_ANSWER_TIME);
    Ok(Json(on_behalf(call, &visitor).await?))
}
