//! What tests of security need: tokens of any kind, a certificate authority, and a peer that speaks TLS and sends proofs by
//! hand.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64ct::{Base64UrlUnpadded, Encoding};
use distribution::Certificates;
use hmac::{Hmac, KeyInit, Mac};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
    client::{
        WantsClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    impostor::{preface, registration},
    soon,
};

/// The contents of a token: the secret, and the fingerprint of the master's certificate.
#[derive(Clone, Copy, Debug)]
pub struct TokenContents {
    /// The secret of the cluster.
    pub secret: [u8; 32],
    /// SHA-256 of the master's certificate.
    pub fingerprint: [u8; 32],
}

impl TokenContents {
    /// Decodes a token.
    ///
    /// # Panics
    ///
    /// If it is not a token.
    pub fn of(token: &str) -> Self {
        let encoded = token.trim().rsplit_once('_').map(|_| token.trim().splitn(3, '_').nth(2).expect("three parts"));
        let bytes = Base64UrlUnpadded::decode_vec(encoded.expect("a token")).expect("base64");
        let part = |from: usize| bytes[from..from + 32].try_into().expect("32 bytes");
        Self { secret: part(0), fingerprint: part(32) }
    }

    /// Encodes a token with a valid checksum.
    pub fn token(&self, access: &str) -> String {
        let bytes = [self.secret, self.fingerprint].concat();
        let check = Sha256::new().chain_update("dtok1_").chain_update(access).chain_update(&bytes).finalize();
        let whole = [&bytes[..], &check[..4]].concat();
        format!("dtok1_{access}_{}", Base64UrlUnpadded::encode_string(&whole))
    }
}

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// By a server.
    Server,
    /// By a client.
    Client,
}

/// An authority that issues certificates into a folder.
pub struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes one of this name, with its own certificate in `ca.pem`.
    ///
    /// # Panics
    ///
    /// If the folder cannot be written.
    pub fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::OrganizationName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signs");
        fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("writes");
        Self { folder, issuer }
    }

    /// Its own certificate.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The same as it was first written, in PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Issues a certificate for these names to this holder, in place of an earlier one.
    ///
    /// # Panics
    ///
    /// If the folder cannot be written.
    pub fn issue(&self, holder: &str, purpose: Purpose, names: &[&str]) -> Certificates {
        self.issue_until(holder, purpose, names, 4000)
    }

    /// The same, valid up to the beginning of a year.
    ///
    /// # Panics
    ///
    /// If the folder cannot be written.
    pub fn issue_until(&self, holder: &str, purpose: Purpose, names: &[&str], year: i32) -> Certificates {
        self.issue_up_to(holder, purpose, names, |params| params.not_after = date_time_ymd(year, 1, 1))
    }

    /// The same, valid for this time from now on, to the second.
    ///
    /// # Panics
    ///
    /// If the folder cannot be written.
    pub fn issue_for(&self, holder: &str, purpose: Purpose, names: &[&str], time: Duration) -> Certificates {
        self.issue_up_to(holder, purpose, names, |params| params.not_after = (SystemTime::now() + time).into())
    }

    fn issue_up_to(
        &self,
        holder: &str,
        purpose: Purpose,
        names: &[&str],
        limit: impl FnOnce(&mut CertificateParams),
    ) -> Certificates {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.extended_key_usages = vec![match purpose {
            Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        limit(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signs");
        let (at, key_at) = (self.path(holder, "pem"), self.path(holder, "key"));
        fs::write(&at, certificate.pem()).expect("writes");
        fs::write(&key_at, key.serialize_pem()).expect("writes");
        Certificates::new(self.file(), at, key_at)
    }

    /// The certificate (`pem`) or key (`key`) of a holder.
    pub fn path(&self, holder: &str, kind: &str) -> PathBuf {
        self.folder.path().join(format!("{holder}.{kind}"))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Accepts any certificate.
#[derive(Debug)]
struct TrustAnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnyCertificate {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Dials in TLS of this version without a certificate, and accepts any certificate of the other end.
///
/// # Errors
///
/// What TLS or TCP says.
pub async fn dial(
    addr: SocketAddr,
    version: &'static SupportedProtocolVersion,
) -> std::io::Result<TlsStream<TcpStream>> {
    let config = config_trusting_any(version).with_no_client_auth();
    let stream = TcpStream::connect(addr).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    soon("a TLS handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

/// The first bytes that a peer sends in TLS 1.3, of one that sends nothing more.
///
/// # Panics
///
/// Never.
pub fn client_hello() -> Vec<u8> {
    let config = config_trusting_any(&rustls::version::TLS13).with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let mut connection = ClientConnection::new(Arc::new(config), name).expect("a configuration");
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).expect("into memory");
    bytes
}

/// Dials in TLS 1.3 with the certificate of a holder, and accepts any certificate of the other end.
///
/// # Panics
///
/// If there is no such certificate, or no TLS at the other end.
pub async fn dial_as(holder: &str, authority: &Authority, addr: SocketAddr) -> TlsStream<TcpStream> {
    let read = |kind| fs::read(authority.path(holder, kind)).expect("was issued");
    let certificate = CertificateDer::from_pem_slice(&read("pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(&read("key")).expect("a key");
    let config =
        config_trusting_any(&rustls::version::TLS13).with_client_auth_cert(vec![certificate], key).expect("fits");
    let stream = TcpStream::connect(addr).await.expect("connects");
    let name = ServerName::try_from("localhost").expect("a name");
    soon("a TLS handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await.expect("speaks TLS")
}

fn config_trusting_any(
    version: &'static SupportedProtocolVersion,
) -> rustls::ConfigBuilder<ClientConfig, WantsClientCert> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .expect("the version is there")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustAnyCertificate(provider())))
}

/// The server's end of TLS of this version with the key of a master's token file.
///
/// # Panics
///
/// If the key cannot be read.
pub fn server_of(token_file: &Path, version: &'static SupportedProtocolVersion) -> Arc<ServerConfig> {
    let mut path = token_file.as_os_str().to_owned();
    path.push(".key");
    let text = fs::read(path).expect("reads");
    let certificate = CertificateDer::from_pem_slice(&text).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(&text).expect("a key");
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .expect("the version is there")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key);
    Arc::new(config.expect("fits"))
}

/// A peer that joins a master with a token file step by step, so that it can go wrong at each.
#[derive(Debug)]
pub struct Joiner {
    /// The connection, for tests that send other bytes.
    pub stream: TlsStream<TcpStream>,
    binding: [u8; 32],
    role: u8,
}

impl Joiner {
    /// Dials, and exchanges prefaces as a node.
    ///
    /// # Panics
    ///
    /// If the master does not speak TLS.
    pub async fn greet(master: SocketAddr) -> Self {
        Self::greet_as(2, master).await
    }

    /// Dials, and exchanges prefaces in this role.
    ///
    /// # Panics
    ///
    /// If the master does not speak TLS.
    pub async fn greet_as(role: u8, master: SocketAddr) -> Self {
        let mut stream = dial(master, &rustls::version::TLS13).await.expect("speaks TLS");
        let label = b"EXPORTER-distribution-proof";
        let binding = stream.get_ref().1.export_keying_material([0; 32], label, None).expect("exports");
        stream.write_all(&preface(role, 1)).await.expect("sends");
        let mut theirs = [0; 32];
        soon("the master's preface", stream.read_exact(&mut theirs)).await.expect("reads");
        assert_eq!(theirs, *preface(1, 1));
        Self { stream, binding, role }
    }

    /// The master's nonce.
    ///
    /// # Panics
    ///
    /// If none comes.
    pub async fn challenge(&mut self) -> [u8; 32] {
        let mut nonce = [0; 32];
        soon("the challenge", self.stream.read_exact(&mut nonce)).await.expect("reads");
        nonce
    }

    /// The proof that fits a challenge: by this secret, with this nonce.
    pub fn proof(&self, secret: &[u8], masters: [u8; 32], nodes: [u8; 32]) -> Vec<u8> {
        self.proof_as(self.role, secret, masters, nodes)
    }

    /// The same in another role.
    pub fn proof_as(&self, role: u8, secret: &[u8], masters: [u8; 32], nodes: [u8; 32]) -> Vec<u8> {
        proof(secret, role, self.binding, masters, nodes)
    }

    /// Sends a nonce and a proof, followed by a registration, and returns the master's answer to the proof: 0 if it accepts
    /// the peer.
    ///
    /// # Panics
    ///
    /// If it sends nothing.
    pub async fn show(&mut self, answer: &[u8]) -> u8 {
        self.show_with(answer, &registration("joiner", &[("add", "fn(i64, i64) -> i64")])).await
    }

    /// The same with what a peer in another role says about itself.
    ///
    /// # Panics
    ///
    /// If the master sends nothing.
    pub async fn show_with(&mut self, answer: &[u8], introduction: &[u8]) -> u8 {
        self.stream.write_all(&[answer, introduction].concat()).await.expect("sends");
        let mut theirs = [0; 33];
        soon("the answer", self.stream.read_exact(&mut theirs)).await.expect("reads");
        theirs[0]
    }
}

/// What an end with this role proves that it knows the secret by.
///
/// # Panics
///
/// Never: HMAC takes keys of any length.
pub fn proof(secret: &[u8], role: u8, binding: [u8; 32], masters: [u8; 32], nodes: [u8; 32]) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(secret).expect("any length");
    let mac = mac.chain_update(b"distribution proof 1").chain_update([role]).chain_update(binding);
    mac.chain_update(masters).chain_update(nodes).finalize().into_bytes().to_vec()
}
