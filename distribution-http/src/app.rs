//! The router: what each request passes on its way, and where it goes.

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use distribution::AdminClient;

use crate::{
    access::Access,
    api, assets,
    limits::{BODY, Limits, PROFILE_TIME, REPORT_TIME, REQUEST_TIME},
    live::Hub,
    metrics,
    origin::{Hosts, check_page},
    refusal::Refusal,
};

/// What requests are answered with.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) admin: AdminClient,
    pub(crate) access: Access,
    pub(crate) hosts: Hosts,
    pub(crate) limits: Limits,
    pub(crate) hub: Arc<Hub>,
}

impl App {
    /// The routes, with what guards them. A request is checked from the outside in: its host, the page that makes it, where it
    /// comes from, and, for the API, its token.
    pub(crate) fn into_router(self) -> Router {
        let app = Arc::new(self);
        Router::new()
            .nest("/api", api::routes(&app))
            .route("/metrics", axum::routing::get(metrics::serve).with_state(Arc::clone(&app)))
            .fallback(assets::serve)
            .layer(DefaultBodyLimit::max(BODY))
            .layer(middleware::from_fn_with_state(app, guard))
    }
}

/// What each response says to the browser.
const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; object-src 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// Checks a request before anything else sees it, and completes the response.
async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_api = matches!(path, "/api" | "/metrics") || path.starts_with("/api/");
    let time = match path {
        "/api/report" => REPORT_TIME,
        path if path.starts_with("/api/nodes/") && path.ends_with("/profile") => PROFILE_TIME,
        _ => REQUEST_TIME,
    };
    let (parts, body) = request.into_parts();
    let mut response = match check(&app, &parts, is_api) {
        Err(refusal) => refusal.into_response(),
        Ok(()) => {
            let request = Request::from_parts(parts, body);
            match (app.limits.request(), tokio::time::timeout(time, next.run(request))) {
                (Err(refusal), _) => refusal.into_response(),
                (Ok(_counted), answer) => answer.await.unwrap_or_else(|_| {
                    let sentence = format!("The request took longer than {} s.", time.as_secs());
                    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, sentence).into_response()
                }),
            }
        }
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // What has no rule of its own is not kept by anybody.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn check(app: &App, parts: &Parts, is_api: bool) -> Result<(), Refusal> {
    let host = app.hosts.check(&parts.uri, &parts.headers)?;
    check_page(&parts.method, &parts.headers, &host, is_api)?;
    if !matches!(parts.method, Method::GET | Method::HEAD | Method::POST) {
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "Only GET and POST are answered here."));
    }
    app.access.check_peer(parts)
}
