//! The certificate of the page's server, from its files.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    version::TLS13,
};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;

use crate::error::Error;

/// Where a certificate and its key are, in PEM. May be one file.
#[derive(Debug)]
pub(crate) struct CertificateFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl CertificateFiles {
    /// Reads both, and gives SHA-256 of the certificate too.
    pub(crate) fn load(&self) -> Result<(TlsAcceptor, String), Error> {
        let chain = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unusable(&self.certificate, in_words(error)))?;
        let Some(own) = chain.first() else {
            return Err(unusable(&self.certificate, "there is no certificate in it".to_owned()));
        };
        let digest = Sha256::digest(own);
        let fingerprint = digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| unusable(&self.key, in_words(error)))?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
        let mut config = config.map_err(|error| unusable(&self.certificate, error.to_string()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok((TlsAcceptor::from(Arc::new(config)), fingerprint))
    }
}

fn unusable(file: &Path, reason: String) -> Error {
    Error::Certificate { file: file.to_owned(), reason }
}

/// Without what is in the file, which may be a key.
fn in_words(error: pem::Error) -> String {
    match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => "there is no key or certificate in it".to_owned(),
        _ => "it is not in the form PEM".to_owned(),
    }
}
