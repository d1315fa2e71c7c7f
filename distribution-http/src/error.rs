//! Why a page cannot be served.

use std::{io, net::SocketAddr, path::PathBuf};

/// Why a page cannot be served as it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting has a value that it cannot have.
    #[error("`{name}` {reason}")]
    #[non_exhaustive]
    Setting {
        /// The setter of [`PageBuilder`](crate::PageBuilder).
        name: &'static str,
        /// What is wrong, and what to do.
        reason: String,
    },

    /// Other machines could reach the page, and it has no TLS or no tokens.
    #[error(
        "the page cannot be served on {addr}, which other machines can reach, without {missing}. Set a certificate with its \
         key and a token file, or serve it on 127.0.0.1"
    )]
    #[non_exhaustive]
    Unprotected {
        /// Where it was to listen.
        addr: SocketAddr,
        /// What is missing.
        missing: &'static str,
    },

    /// The address cannot be listened on.
    #[error("the page cannot be served on {addr}: {source}")]
    #[non_exhaustive]
    Listen {
        /// The address.
        addr: String,
        /// What the system says.
        source: io::Error,
    },

    /// A certificate or its key cannot be used.
    #[error("the page cannot be served with {}: {reason}", file.display())]
    #[non_exhaustive]
    Certificate {
        /// The file in PEM.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// The token file cannot be used.
    #[error(transparent)]
    Tokens(#[from] distribution::Error),
}
