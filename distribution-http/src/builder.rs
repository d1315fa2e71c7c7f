//! `PageBuilder`: for whom the page is, and what it may cost.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use axum::Router;
use distribution::{AdminClient, Caller};

use crate::{
    access::Access,
    app::App,
    error::Error,
    limits::{Limits, VIEWERS},
    live::Hub,
    origin::Hosts,
    server::{CertificateFiles, Server},
    tokens::{Accepted, Role},
};

/// The fewest characters of a token that a program sets itself: 160 bits in base64 or 128 in base16.
const SHORTEST_TOKEN: usize = 32;

/// Configures a page. [`router`](Self::router) makes a router of it for a program's own server, and [`bind`](Self::bind) a
/// server.
///
/// ```
/// # use distribution_http::PageBuilder;
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let master = distribution::Master::bind("127.0.0.1:0").await?;
/// # let (secret, secret_of_viewers) = ("a".repeat(40), "b".repeat(40));
/// let page = PageBuilder::new(&master).admin_token(secret).viewer_token(secret_of_viewers).host("dash.internal");
/// let server = page.bind("127.0.0.1:0").await?;
/// println!("the page: {}", server.url());
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until `router` or `bind`"]
pub struct PageBuilder {
    admin: AdminClient,
    hosts: Vec<String>,
    token_file: Option<PathBuf>,
    tokens: Vec<(&'static str, Role, String)>,
    max_viewers: usize,
    certificate: Option<CertificateFiles>,
}

impl PageBuilder {
    /// A page for the cluster behind this caller: a [`Master`](distribution::Master), or a [`Cluster`](distribution::Cluster)
    /// that may administer.
    pub fn new(caller: &impl Caller) -> Self {
        Self {
            admin: AdminClient::new(caller),
            hosts: Vec::new(),
            token_file: None,
            tokens: Vec::new(),
            max_viewers: VIEWERS,
            certificate: None,
        }
    }

    /// A host name or an address under which the page is reached, without a port. May be set several times. Addresses of
    /// loopback and `localhost` are always taken, and so is the address that a [`Server`] listens on. Requests that name
    /// another host are answered with 421, because a web page of anybody could have its name resolve to this machine.
    pub fn host(mut self, name: impl Into<String>) -> Self {
        self.hosts.push(name.into());
        self
    }

    /// Lets requests in that have a token of this file, as a master has one: those for admins may do everything. None by
    /// default: then requests from this machine are let in without a token. The file is read
    /// again when it has changed; a token that is removed from it is refused a second later, and its pages are closed.
    pub fn token_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.token_file = Some(file.into());
        self
    }

    /// Lets requests in that have this token, and lets them change everything. It needs at least 32 characters; draw them at
    /// random.
    pub fn admin_token(mut self, token: impl Into<String>) -> Self {
        self.tokens.push(("admin_token", Role::Admin, token.into()));
        self
    }

    /// Lets requests in that have this token. They see everything, and change nothing. It needs at least 32 characters.
    pub fn viewer_token(mut self, token: impl Into<String>) -> Self {
        self.tokens.push(("viewer_token", Role::Viewer, token.into()));
        self
    }

    /// How many viewers may have the page open; 64 by default, from 1 to 4,096. More are answered with 503.
    pub fn max_viewers(mut self, viewers: usize) -> Self {
        self.max_viewers = viewers;
        self
    }

    /// For [`bind`](Self::bind): serves HTTPS (TLS 1.3) with this certificate (with those between it and its authority) and
    /// its key, both in PEM. The two may be one file. They are read once, when the server starts. None by default, which only
    /// does on loopback.
    pub fn certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.certificate = Some(CertificateFiles { certificate: certificate.into(), key: key.into() });
        self
    }

    /// The page and its API as a router, for a program's own server.
    ///
    /// Without tokens it has to be told where requests come from:
    /// [`into_make_service_with_connect_info::<SocketAddr>()`](axum::Router::into_make_service_with_connect_info).
    /// [`certificate`](Self::certificate) has no part in it.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for a value that cannot be, and [`Error::Tokens`] if the token file cannot be used.
    pub fn router(self) -> Result<Router, Error> {
        Ok(self.app(None)?.into_router())
    }

    /// The router of a page with default settings, which cannot be wrong.
    pub(crate) fn open_router(self) -> Router {
        let hub = Hub::new(self.admin.clone());
        let (access, hosts, limits) = (Access::default(), Hosts::default(), Limits::new(VIEWERS));
        App { admin: self.admin, access, hosts, limits, hub }.into_router()
    }

    /// Listens on this address (`host:port`; port 0 lets the system choose one). [`Server::run_until`] serves the page then.
    ///
    /// # Errors
    ///
    /// Those of [`router`](Self::router), [`Error::Unprotected`] if other machines can reach the address and there is no
    /// certificate or no token, [`Error::Certificate`] if the certificate or its key cannot be used, and
    /// [`Error::Listen`] if the address cannot be listened on.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing listens.
    pub async fn bind(self, addr: impl AsRef<str>) -> Result<Server, Error> {
        Server::bind(self, addr.as_ref()).await
    }

    pub(crate) fn certificate_files(&self) -> Option<&CertificateFiles> {
        self.certificate.as_ref()
    }

    /// Whether requests will have to bring a token.
    pub(crate) fn demands_tokens(&self) -> bool {
        self.token_file.is_some() || !self.tokens.is_empty()
    }

    pub(crate) fn app(self, served_on: Option<SocketAddr>) -> Result<App, Error> {
        let mut access = Access::default();
        for (name, role, token) in self.tokens {
            let token = token.trim();
            if token.len() < SHORTEST_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                let reason = format!("must have at least {SHORTEST_TOKEN} characters of ASCII, without blanks");
                return Err(Error::Setting { name, reason });
            }
            access.tokens.give(Accepted::new(role, &format!("the {} token", role.name()), token));
        }
        if let Some(file) = self.token_file {
            access.tokens.open_file(file)?;
        }
        if !(1..=4096).contains(&self.max_viewers) {
            let reason = format!("cannot be {}: it must be from 1 to 4096", self.max_viewers);
            return Err(Error::Setting { name: "max_viewers", reason });
        }
        let mut hosts = Hosts::default();
        for name in &self.hosts {
            if name.is_empty() || name.contains(['/', '@', ' ', '*']) {
                let reason = format!("cannot be `{name}`: it must be a host name or an address, without a port");
                return Err(Error::Setting { name: "host", reason });
            }
            hosts.allow(name);
        }
        if let Some(addr) = served_on {
            hosts.allow_address(addr.ip());
        }
        let (limits, hub) = (Limits::new(self.max_viewers), Hub::new(self.admin.clone()));
        Ok(App { admin: self.admin, access, hosts, limits, hub: Arc::clone(&hub) })
    }
}
