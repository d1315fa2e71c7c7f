//! What a request is told that is not answered as it was meant: a status and a sentence.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use distribution::{CallError, error::AdminError};

/// Why a request is not answered as it was meant. It goes out as `{"error":"a sentence"}`.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) sentence: String,
    /// In how many seconds it may be tried again.
    pub(crate) retry_after: Option<u64>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, sentence: impl Into<String>) -> Self {
        Self { status, sentence: sentence.into(), retry_after: None }
    }

    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Json(serde_json::json!({ "error": self.sentence }));
        let mut response = (self.status, body).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"distribution\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// How a call of the admin service has failed.
impl From<CallError> for Refusal {
    fn from(error: CallError) -> Self {
        Self::new(status_of(&error), error.to_string())
    }
}

/// The same, for a call that can fail by itself.
impl From<CallError<AdminError>> for Refusal {
    fn from(error: CallError<AdminError>) -> Self {
        let status = match &error {
            CallError::Handler(AdminError::UnknownNode { .. } | AdminError::UnknownCall { .. }) => {
                StatusCode::NOT_FOUND
            }
            CallError::Handler(
                AdminError::AlreadyEnded { .. } | AdminError::InBatch { .. } | AdminError::NotProfiled { .. },
            ) => StatusCode::CONFLICT,
            error => status_of(error),
        };
        let sentence = match error {
            CallError::Handler(error) => error.to_string(),
            error => error.to_string(),
        };
        Self::new(status, sentence)
    }
}

fn status_of<E: std::fmt::Display>(error: &CallError<E>) -> StatusCode {
    match error {
        CallError::Denied { .. } => StatusCode::FORBIDDEN,
        CallError::MasterLost { .. } | CallError::Shutdown { .. } | CallError::Overloaded { .. } => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
