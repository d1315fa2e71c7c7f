//! Who a request comes from, and what it may do. Only this file decides it, and everything that it does not allow is refused.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use axum::{
    extract::ConnectInfo,
    http::{HeaderMap, HeaderName, Method, StatusCode, header, request::Parts},
};

use crate::{
    failures::Failures,
    refusal::Refusal,
    tokens::{Accepted, Fingerprint, Role, Tokens, fingerprint},
};

/// Longer than any token.
const LONGEST_TOKEN: usize = 1024;

/// What a proxy adds to the requests of others.
const FORWARDED: [HeaderName; 4] = [
    header::FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-real-ip"),
];

/// Decides who may do what.
#[derive(Debug, Default)]
pub(crate) struct Access {
    pub(crate) tokens: Tokens,
    failures: Failures,
    /// Changes that were asked for without a token: the audit log has the first of an address, and not a flood of them.
    without_token: Failures,
}

/// Who a request comes from.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    pub(crate) role: Role,
    /// What logs call it.
    pub(crate) name: Arc<str>,
    pub(crate) peer: Option<SocketAddr>,
    /// Of the token that it has sent, if tokens are demanded.
    token: Option<Fingerprint>,
}

impl Visitor {
    /// Refuses one that may not change anything, and writes that into the audit log. What is done, the master writes there.
    pub(crate) fn may_change(&self, action: &str, on: &str) -> Result<(), Refusal> {
        if self.role == Role::Admin {
            return Ok(());
        }
        let address = self.peer.map(tracing::field::display);
        tracing::warn!(target: "distribution::audit", by = %self.name, address, action, on, "the page has refused this: the token is for viewers");
        let sentence =
            format!("{} is for viewers, who may change nothing. Log in with a token for admins to do this.", self.name);
        Err(Refusal::new(StatusCode::FORBIDDEN, sentence))
    }
}

impl Access {
    /// Refuses a request whatever it asks for, if there are no tokens and it is not from this machine.
    pub(crate) fn check_peer(&self, parts: &Parts) -> Result<(), Refusal> {
        if self.tokens.are_demanded() {
            return Ok(());
        }
        let refuse = |sentence| Err(Refusal::new(StatusCode::FORBIDDEN, sentence));
        match peer_of(parts) {
            None => refuse(
                "This page has no tokens, so it answers this machine only, and the program does not tell it where requests \
                 come from: serve the router with `into_make_service_with_connect_info::<SocketAddr>()`, or set a token.",
            ),
            Some(peer) if !peer.ip().to_canonical().is_loopback() => {
                refuse("This page has no tokens, so it answers requests from its own machine only.")
            }
            Some(_) if FORWARDED.iter().any(|name| parts.headers.contains_key(name)) => refuse(
                "This page has no tokens, so it answers requests from its own machine only, and this one came through a \
                 proxy. Set a token to use it behind a proxy.",
            ),
            Some(_) => Ok(()),
        }
    }

    /// Who a request of the API comes from.
    ///
    /// # Errors
    ///
    /// 401 without a token that is accepted, and 429 after many wrong ones. A right token is let in all the same, so that
    /// nobody can lock others out who have the same address.
    pub(crate) async fn visitor(&self, parts: &Parts) -> Result<Visitor, Refusal> {
        let peer = peer_of(parts);
        if !self.tokens.are_demanded() {
            let name = "this machine".into();
            return Ok(Visitor { role: Role::Admin, name, peer, token: None });
        }
        let Some(token) = bearer(&parts.headers) else {
            // A page that is opened asks without a token first, and that is nothing to report.
            let address = peer.map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.ip());
            if parts.method == Method::POST && self.without_token.count(address, Instant::now()).is_none() {
                let (address, path) = (peer.map(tracing::field::display), parts.uri.path());
                tracing::warn!(target: "distribution::audit", address, path, "the page has refused a change: it came without a token");
            }
            let sentence = format!("A token for admins or viewers is needed; {}.", self.tokens.how_to_get_one());
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, sentence));
        };
        let token = fingerprint(token);
        if let Some(Accepted { role, name, .. }) = self.tokens.find(&token).await {
            return Ok(Visitor { role, name, peer, token: Some(token) });
        }
        let address = peer.map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.ip());
        Err(match self.failures.count(address, Instant::now()) {
            None => {
                tracing::warn!(target: "distribution::audit", %address, "a wrong token for the page");
                let sentence = format!(
                    "This token is not accepted: it is for nodes or callers, of another cluster, or was revoked; {}.",
                    self.tokens.how_to_get_one()
                );
                Refusal::new(StatusCode::UNAUTHORIZED, sentence)
            }
            Some(seconds) => {
                let sentence = "There were too many wrong tokens from this address. Wait, and try again.";
                Refusal::new(StatusCode::TOO_MANY_REQUESTS, sentence).retry_after(seconds)
            }
        })
    }

    /// Whether a visitor may still be here: its token may have been revoked.
    pub(crate) async fn still_accepts(&self, visitor: &Visitor) -> bool {
        match &visitor.token {
            None => true,
            Some(token) => self.tokens.find(token).await.is_some_and(|accepted| accepted.role == visitor.role),
        }
    }
}

fn peer_of(parts: &Parts) -> Option<SocketAddr> {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= LONGEST_TOKEN).then_some(token)
}
