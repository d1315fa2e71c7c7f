//! TLS 1.3 for both ends: by a token's fingerprint, or by certificates of an authority.
//!
//! No sessions are resumed: a resumed one would not look at certificates again, and connections here live long.

use std::{io, sync::Arc, time::Duration};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, PeerIncompatible,
    ServerConfig, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};

use super::handshake::HandshakeError;
use crate::{
    error::Error,
    hash::key_of,
    security::{self, Certificates, Contents, CredentialId, Fingerprint, fingerprint_of, id_of_key},
};

const NO_TLS_1_3: &str =
    "the two ends have no TLS 1.3 in common; something between them, or in place of the master, is too old";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A master's end with tokens: any peer may open TLS, and then has to prove a token.
pub(super) fn token_server(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate], key)?;
    Ok(without_resumption(config))
}

fn without_resumption(mut config: ServerConfig) -> ServerConfig {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

/// A node's end with a token: it knows the master's certificate by the fingerprint.
pub(super) fn token_client(fingerprint: Fingerprint) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let verifier = Pinned { fingerprint, algorithms: provider.signature_verification_algorithms };
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13])?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
    config.resumption = Resumption::disabled();
    // The master has one certificate, and its name says nothing.
    config.enable_sni = false;
    Ok(config)
}

/// Accepts one certificate, from the owner of its key.
#[derive(Debug)]
struct Pinned {
    fingerprint: Fingerprint,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        // Neither is a secret, so how long it takes to compare them tells nothing.
        if fingerprint_of(certificate) == self.fingerprint {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(TlsError::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(TlsError::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Verifies the certificates of peers, by the authority that the master trusts.
pub(super) type Authority = Arc<dyn ClientCertVerifier>;

/// The certificate and the key of a master.
pub(super) struct OwnCertificate {
    pair: Arc<SingleCertAndKey>,
    /// See [`MasterAuthenticator::placing`](super::authenticator::MasterAuthenticator::placing).
    pub(super) placing: [u8; 32],
}

pub(super) fn authority(contents: &Contents) -> Result<Authority, Error> {
    let roots = Arc::new(security::authority(contents)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
    verifier.build().map_err(|error| security::certificate_error(contents.file(), error))
}

pub(super) fn own_certificate(certificates: &Certificates, contents: &[Contents; 2]) -> Result<OwnCertificate, Error> {
    let (chain, key) = security::own_pair(contents.each_ref())?;
    let placing = key_of(key.secret_der());
    let pair = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| certificates.mismatch(error))?;
    Ok(OwnCertificate { pair: Arc::new(pair.into()), placing })
}

/// A master's end with certificates: it accepts those of this authority. Cheap, because the expensive parts were made before.
pub(super) fn certificate_server(authority: &Authority, own: &OwnCertificate) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
    Ok(without_resumption(builder.with_client_cert_verifier(Arc::clone(authority)).with_cert_resolver(Arc::<
        SingleCertAndKey,
    >::clone(
        &own.pair
    ))))
}

/// A node's end with certificates: it accepts a master whose certificate is of its authority, and shows its own.
pub(super) fn certificate_client(certificates: &Certificates, contents: &[Contents; 3]) -> Result<ClientConfig, Error> {
    let [authority, certificate, key] = contents;
    let (chain, key) = security::own_pair([certificate, key])?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(security::authority(authority)?), provider())
        .build()
        .map_err(|error| certificates.mismatch(error))?;
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
    let mut config = builder
        .and_then(|builder| builder.with_webpki_verifier(verifier).with_client_auth_cert(chain, key))
        .map_err(|error| certificates.mismatch(error))?;
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Whether a certificate that was verified is for this name.
pub(super) fn is_for(certificates: Option<&[CertificateDer<'_>]>, name: &ServerName<'_>) -> bool {
    let Some(certificate) = certificates.and_then(<[_]>::first) else { return false };
    let Ok(parsed) = ParsedCertificate::try_from(certificate) else { return false };
    rustls::client::verify_server_name(&parsed, name).is_ok()
}

/// The DNS names that a certificate is for, without those with a `*`, which cannot be names of nodes.
pub(super) fn names_of(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return Vec::new() };
    certificate.valid_dns_names().filter(|name| !name.starts_with("*.")).map(str::to_owned).collect()
}

/// Identifies the owner of a certificate that was verified.
pub(super) fn id_of(certificate: &CertificateDer<'_>) -> CredentialId {
    match webpki::EndEntityCert::try_from(certificate) {
        Ok(parsed) => id_of_key(&parsed.subject_public_key_info()),
        Err(_) => id_of_key(certificate),
    }
}

/// The TLS error in an I/O error, if any.
fn tls_error(error: &io::Error) -> Option<&TlsError> {
    error.get_ref()?.downcast_ref()
}

/// The first of the alert numbers, unused by TLS, by which a master asks a node to come again later. The number `n` above it
/// asks for [`SHORTEST_BUSY`] times [`BUSY_STEP`] to the power of `n`.
const FIRST_BUSY: u8 = 192;
const SHORTEST_BUSY: Duration = Duration::from_millis(100);
const BUSY_STEP: f64 = 1.1;

/// A TLS record, in the clear because the handshake begins, with a fatal alert that asks the node to come again after this
/// time or a little more.
pub(super) fn busy_alert(after: Duration) -> [u8; 7] {
    let steps = (after.as_secs_f64() / SHORTEST_BUSY.as_secs_f64()).max(1.0).log(BUSY_STEP).ceil();
    // The last one of all is 40 s.
    let steps = steps.clamp(0.0, f64::from(u8::MAX - FIRST_BUSY)) as u8;
    [21, 3, 3, 0, 2, 2, FIRST_BUSY + steps]
}

/// The time that such an alert asks for.
fn busy_time(alert: u8) -> Option<Duration> {
    let steps = alert.checked_sub(FIRST_BUSY)?;
    Some(SHORTEST_BUSY.mul_f64(BUSY_STEP.powi(steps.into())))
}

/// Explains an error to a node that dialled, and what can be done.
pub(super) fn at_node(error: HandshakeError, has_token: bool) -> HandshakeError {
    let HandshakeError::Io(io) = &error else { return error };
    let Some(tls) = tls_error(io) else { return error };
    match tls {
        TlsError::InvalidMessage(_) => HandshakeError::NoTls,
        TlsError::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => HandshakeError::Untrusted(
            "its certificate is not the one that the token was made for. If the master has made new token files, \
             take the token from there; if it takes certificates and no tokens, give .certificates(..); if neither, something else answers there"
                .to_owned(),
        ),
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) if !has_token => HandshakeError::Untrusted(
            "its certificate is not from the authority that this node trusts. Give master and node the same one, the \
             first file of `Certificates::new`; if they have it, something else answers there"
                .to_owned(),
        ),
        TlsError::InvalidCertificate(reason) => {
            let way_on = match reason {
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => {
                    "Give the master a new one (it need not be restarted), or set this machine's clock right"
                }
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    "Dial a name that it is for, or name one by `Certificates::peer_name`"
                }
                _ => "Give the master one that is good for servers",
            };
            HandshakeError::Untrusted(format!("its certificate was not accepted: {reason}. {way_on}"))
        }
        TlsError::AlertReceived(AlertDescription::Unknown(alert)) if busy_time(*alert).is_some() => {
            HandshakeError::Busy(busy_time(*alert).unwrap_or(SHORTEST_BUSY))
        }
        TlsError::AlertReceived(alert) => HandshakeError::TlsRefused(match alert {
            AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                "it does not know the authority of this node's certificate. Give master and node the same one, the first \
                 file of `Certificates::new`"
                    .to_owned()
            }
            AlertDescription::CertificateExpired => {
                "this node's certificate has expired. Put a new one in its place, or set the clocks right".to_owned()
            }
            AlertDescription::BadCertificate | AlertDescription::UnsupportedCertificate => {
                "this node's certificate is not good for clients. Have one made with the extended key usage \
                 `clientAuth`; if it has that, the master's log says more"
                    .to_owned()
            }
            AlertDescription::ProtocolVersion => NO_TLS_1_3.to_owned(),
            alert => format!("TLS alert {alert:?}; the master's log says more"),
        }),
        TlsError::PeerIncompatible(reason) => {
            HandshakeError::TlsRefused(format!("{NO_TLS_1_3} ({reason:?})"))
        }
        other => HandshakeError::Tls(other.to_string()),
    }
}

/// Explains an error to a master that was dialled.
pub(super) fn at_master(error: io::Error) -> HandshakeError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return HandshakeError::Closed("TLS handshake");
    }
    let Some(tls) = tls_error(&error) else { return HandshakeError::Io(error) };
    HandshakeError::Tls(match tls {
        TlsError::InvalidMessage(_) => {
            "it does not speak TLS; a node needs the token or a certificate to join here".to_owned()
        }
        TlsError::NoCertificatesPresented => "it showed no certificate".to_owned(),
        TlsError::PeerIncompatible(reason) => format!("it speaks no TLS 1.3 ({reason:?})"),
        TlsError::AlertReceived(alert) => format!("it does not take this master's certificate ({alert:?})"),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn a_certificate_is_identified_by_its_key() {
        let [key, other] = [(); 2].map(|()| KeyPair::generate().expect("a key"));
        let certificate = |name: &str, key: &KeyPair| {
            let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
            params.self_signed(key).expect("signs").der().clone()
        };
        let id = id_of(&certificate("n1", &key));
        assert_eq!(id, id_of(&certificate("renewed", &key)));
        assert_ne!(id, id_of(&certificate("n1", &other)));
    }

    #[test]
    fn an_alert_asks_for_the_time_or_a_little_more() {
        for asked in [0, 1, 100, 101, 730, 12_345, 30_000].map(Duration::from_millis) {
            let [.., alert] = busy_alert(asked);
            let heard = busy_time(alert).expect("one of these");
            let least = asked.max(SHORTEST_BUSY);
            assert!((least.mul_f64(0.999)..least.mul_f64(1.11)).contains(&heard), "{asked:?} became {heard:?}");
        }
        assert_eq!(busy_alert(Duration::from_secs(3600))[6], u8::MAX);
        assert_eq!(busy_alert(Duration::ZERO), [21, 3, 3, 0, 2, 2, 192]);
        // All alerts of TLS are below.
        assert_eq!(busy_time(u8::from(AlertDescription::NoApplicationProtocol)), None);
        assert!(matches!(AlertDescription::from(FIRST_BUSY), AlertDescription::Unknown(_)));
    }
}
