//! The event stream of one viewer: server-sent events, one for each part that has changed.

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::Response,
};
use bytes::{Bytes, BytesMut};
use futures::stream;
use tokio::sync::OwnedSemaphorePermit;

use super::hub::Look;
use crate::{access::Visitor, app::App};

/// After this time without anything new a viewer gets a line all the same, so that both sides notice a dead connection.
const IDLE: Duration = Duration::from_secs(10);

/// What a viewer holds while it looks.
pub(crate) struct Watching {
    pub(crate) app: Arc<App>,
    pub(crate) visitor: Visitor,
    pub(crate) look: Look,
    pub(crate) counted: OwnedSemaphorePermit,
}

/// A response that goes on until the viewer leaves, its token is revoked, or the router is gone. A viewer that reads slowly
/// misses states in between, and costs no memory.
pub(crate) fn stream(watching: Watching) -> Response {
    let begin = (watching, HashMap::new(), false);
    let events = stream::unfold(begin, |(mut watching, mut sent, is_over)| async move {
        if is_over {
            return None;
        }
        let _ = tokio::time::timeout(IDLE, watching.look.parts.changed()).await;
        if !watching.app.access.still_accepts(&watching.visitor).await {
            let goodbye = Bytes::from_static(b"event: revoked\ndata: {}\n\n");
            return Some((goodbye, (watching, sent, true)));
        }
        let parts = Arc::clone(&watching.look.parts.borrow_and_update());
        let mut events = BytesMut::new();
        for part in parts.iter() {
            if let Some((version, event)) = part.event_after(sent.get(part.name).copied()) {
                events.extend_from_slice(&event);
                sent.insert(part.name, version);
            }
        }
        if events.is_empty() {
            events.extend_from_slice(b": nothing new\n\n");
        }
        let _ = &watching.counted;
        Some((events.freeze(), (watching, sent, false)))
    });
    let events = futures::StreamExt::map(events, Ok::<_, Infallible>);
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // A proxy that gathers would hold the page up.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
