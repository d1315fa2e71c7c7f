//! The page that `distribution master` serves: where, for whom, and with which certificate.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use clap::Args;
use distribution::Master;
use distribution_http::{PageBuilder, Server};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    arguments::CertificateFiles,
    failure::{Failure, Kind},
};

/// Where the page is unless said otherwise.
const DEFAULT: &str = "127.0.0.1:3080";

/// The settings of the page. Each is described at the method of `PageBuilder` that has its name.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "The page in the browser")]
pub(crate) struct PageOptions {
    /// Where the page is served, or `none`. On loopback at port 3080 by default, if that is free. Beyond loopback it needs a
    /// token file, and it uses the master's own certificate unless another one is given.
    #[arg(long, value_name = "HOST:PORT", env = "DISTRIBUTION_HTTP")]
    http: Option<String>,
    /// A name under which the page is reached, besides its address and localhost. May be given several times.
    #[arg(long, value_name = "NAME", env = "DISTRIBUTION_HTTP_HOST", value_delimiter = ',')]
    http_host: Vec<String>,
    /// The certificate of the page in PEM, for browsers.
    #[arg(long, value_name = "FILE", env = "DISTRIBUTION_HTTP_CERTIFICATE", requires = "http_key")]
    http_certificate: Option<PathBuf>,
    /// The key of that certificate, in PEM.
    #[arg(long, value_name = "FILE", env = "DISTRIBUTION_HTTP_KEY", requires = "http_certificate")]
    http_key: Option<PathBuf>,
    /// A file with the tokens for admins by which people log in; the master's own token file by default.
    #[arg(long, value_name = "FILE", env = "DISTRIBUTION_HTTP_TOKEN_FILE")]
    http_token_file: Option<PathBuf>,
}

/// What the page is served with.
#[derive(Debug)]
pub(crate) struct Page {
    options: PageOptions,
    /// Whether the master demands credentials. Then the page does too.
    is_secured: bool,
    /// The one that was given for the page.
    own_certificate: Option<(PathBuf, PathBuf)>,
    /// The master's, for a page that other machines reach.
    certificate: Option<(PathBuf, PathBuf)>,
}

impl PageOptions {
    /// Takes over what the master has: its token file, and its certificate.
    pub(crate) fn with_credentials_of_master(mut self, files: &CertificateFiles, token_file: Option<&Path>) -> Page {
        let own_certificate = self.http_certificate.clone().zip(self.http_key.clone());
        // The token file's key is in a file beside it, with the certificate.
        let beside = |file: &Path| {
            let mut path = file.as_os_str().to_owned();
            path.push(".key");
            (PathBuf::from(path.clone()), PathBuf::from(path))
        };
        let certificate = files.own_pair().or_else(|| token_file.map(beside));
        self.http_token_file = self.http_token_file.or_else(|| token_file.map(Path::to_owned));
        Page { options: self, is_secured: files.is_set() || token_file.is_some(), own_certificate, certificate }
    }
}

impl Page {
    /// Serves it, unless it is not wanted, or cannot be served where nobody has asked for it.
    pub(crate) async fn serve(self, master: &Master) -> Result<Option<ServedPage>, Failure> {
        let Self {
            options: PageOptions { http, http_host, http_token_file, .. },
            is_secured,
            own_certificate,
            certificate,
        } = self;
        let is_asked_for = http.is_some();
        let addr = http.unwrap_or_else(|| DEFAULT.to_owned());
        if addr == "none" {
            return Ok(None);
        }
        if is_secured && http_token_file.is_none() {
            // Programs on this machine need a certificate to administer, and the page must not be a way around that.
            let sentence = "the page needs tokens, because this master demands certificates: give it a file of its own, \
                            which `distribution token issue --token-file FILE --for admins` makes, with --http-token-file";
            if is_asked_for {
                return Err(Failure::new(Kind::Usage, sentence));
            }
            tracing::info!(reason = sentence, "no page is served");
            return Ok(None);
        }
        let mut page = http_host.into_iter().fold(PageBuilder::new(master), PageBuilder::host);
        if let Some(file) = http_token_file {
            page = page.token_file(file);
        }
        // On this machine the token is not read by others, and a browser would not know the certificate.
        if let Some((certificate, key)) = own_certificate.or(certificate.filter(|_| !is_loopback(&addr))) {
            page = page.certificate(certificate, key);
        }
        match page.bind(&addr).await {
            Ok(server) => Ok(Some(ServedPage::start(server))),
            Err(error) if is_asked_for => Err(Failure::new(Kind::Usage, error.to_string())),
            Err(error) => {
                tracing::warn!(reason = %error, "no page is served; choose another place with --http");
                Ok(None)
            }
        }
    }
}

fn is_loopback(addr: &str) -> bool {
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback())
}

/// A page that is served.
#[derive(Debug)]
pub(crate) struct ServedPage {
    url: String,
    fingerprint: Option<String>,
    end: CancellationToken,
    serving: JoinHandle<()>,
}

impl ServedPage {
    fn start(server: Server) -> Self {
        let (url, fingerprint) = (server.url(), server.certificate_fingerprint().map(str::to_owned));
        let end = CancellationToken::new();
        let serving = tokio::spawn(server.run_until(end.clone().cancelled_owned()));
        Self { url, fingerprint, end, serving }
    }

    /// Where it is.
    pub(crate) fn greeting(&self) -> String {
        match &self.fingerprint {
            Some(fingerprint) => format!("the page: {} (SHA-256 of its certificate: {fingerprint})\n", self.url),
            None => format!("the page: {}\n", self.url),
        }
    }

    /// Ends it, with what is under way.
    pub(crate) async fn end(self) {
        self.end.cancel();
        let _ = self.serving.await;
    }
}
