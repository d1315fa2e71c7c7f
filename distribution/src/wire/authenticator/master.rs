//! The master's authenticator: checks the tokens and certificates of peers.
//!
//! Everything that is read of a peer before it has authenticated itself has a fixed size or belongs to TLS, and nothing of it
//! is decoded by serde.

use std::{fmt, time::Duration};
#[cfg(feature = "tls")]
use std::{io::Write, path::Path, sync::Arc};

#[cfg(feature = "tls")]
use rustls::{ServerConfig, pki_types::ServerName, server::Acceptor};
#[cfg(feature = "tls")]
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
#[cfg(feature = "tls")]
use tokio_rustls::{LazyConfigAcceptor, TlsStream};

#[cfg(feature = "tls")]
use super::files::look;
use crate::{
    administration::MasterSecurity,
    error::Error,
    security::SecurityConfig,
    wire::{
        channel::Channel,
        credential::Credential,
        handshake::{Arrival, HandshakeError, Security, busy, preface::answer_preface},
    },
};
#[cfg(feature = "tls")]
use crate::{
    hash::key_of,
    security::{Access, Certificates, Contents, OnTrouble, TOKEN_VARIABLE, Token, Watched, token_file},
    wire::{
        credential::{CredentialSet, PeerCertificates, TokenServer},
        handshake::codes::AuthenticationResult,
        proof::{self, BINDING_LABEL, Binding},
        tls,
    },
};

/// Checks the tokens and certificates of peers, at a master.
#[derive(Clone)]
pub(crate) enum MasterAuthenticator {
    /// Requires nothing: only this machine reaches the master, or its owner wants it so.
    Open,
    #[cfg(feature = "tls")]
    Token(Arc<Watched<TokenServer>>),
    #[cfg(feature = "tls")]
    Certificates(Arc<CertificateFiles>, Option<ServerName<'static>>),
}

/// A master's certificate files. Which peers it accepts depends on the authority alone, and not on its own certificate.
#[cfg(feature = "tls")]
pub(crate) struct CertificateFiles {
    authority: Arc<Watched<tls::Authority>>,
    /// Certificate and key are two files that are replaced one by one.
    own: Arc<Watched<tls::OwnCertificate>>,
    /// What the owner has set, for the roles of peers.
    settings: Certificates,
}

#[cfg(feature = "tls")]
impl CertificateFiles {
    fn new(certificates: &Certificates) -> Result<Self, Error> {
        let read = certificates.clone();
        let authority = Watched::new(
            certificates.authority_files(),
            OnTrouble::Fail,
            move || read.read_authority(),
            |[authority]| tls::authority(authority),
        )?;
        let (read, load) = (certificates.clone(), certificates.clone());
        let own = Watched::new(
            certificates.own_files(),
            OnTrouble::Keep,
            move || read.read_own(),
            move |contents| tls::own_certificate(&load, contents),
        )?;
        Ok(Self { authority: Arc::new(authority), own: Arc::new(own), settings: certificates.clone() })
    }
}

impl fmt::Debug for MasterAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A peer that has authenticated itself.
pub(crate) struct AuthenticatedPeer {
    pub(crate) channel: Channel,
    pub(crate) credential: Credential,
    /// What it comes for, and with.
    pub(crate) arrival: Arrival,
}

/// A peer that has not authenticated itself, and the connection to it if something remains to be sent.
pub(crate) struct RefusedPeer {
    pub(crate) error: HandshakeError,
    pub(crate) channel: Option<Channel>,
}

#[cfg(feature = "tls")]
impl From<HandshakeError> for RefusedPeer {
    fn from(error: HandshakeError) -> Self {
        Self { error, channel: None }
    }
}

impl MasterAuthenticator {
    /// Reads or makes the files that the security config names.
    pub(crate) fn new(config: &SecurityConfig) -> Result<Self, Error> {
        config.check()?;
        #[cfg(feature = "tls")]
        if let Some(file) = &config.token_file {
            return Self::with_token_file(file);
        }
        #[cfg(feature = "tls")]
        if let Some(certificates) = &config.certificates {
            let name = certificates.checked_peer_name()?;
            certificates.check_rights()?;
            return Ok(Self::Certificates(Arc::new(CertificateFiles::new(certificates)?), name));
        }
        Ok(Self::Open)
    }

    #[cfg(feature = "tls")]
    fn with_token_file(file: &Path) -> Result<Self, Error> {
        let made = token_file::prepare(file)?;
        let key = token_file::key_path(file);
        let read_from = file.to_owned();
        let load = move |contents: &[Contents; 2]| {
            contents.iter().for_each(Contents::warn_if_readable);
            let token_file::Keys { tokens, certificate, key: private } = token_file::keys(contents)?;
            let placing = key_of(private.secret_der());
            let config = tls::token_server(certificate, private)
                .map_err(|error| Error::TokenFile { file: key.clone(), reason: error.to_string() })?;
            Ok(TokenServer::new(config, tokens, placing))
        };
        let files = vec![file.to_owned(), token_file::key_path(file)];
        let watched = Watched::new(files, OnTrouble::Fail, move || token_file::read(&read_from), load)?;
        if watched.current().tokens().is_empty() {
            return Err(token_file::without_tokens(file));
        }
        if let Some(token) = made {
            tracing::info!(
                file = %file.display(),
                token = token.id(),
                "made a join token; the line on standard error is what a node needs"
            );
            // Not a log: logs are kept and sent around. Where nobody can read it, the file still has it.
            let _ = writeln!(std::io::stderr(), "{TOKEN_VARIABLE}={}", token.expose());
        }
        Ok(Self::Token(Arc::new(watched)))
    }

    /// Its name in logs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Open => "none",
            #[cfg(feature = "tls")]
            Self::Token(..) => "join tokens",
            #[cfg(feature = "tls")]
            Self::Certificates(..) => "certificates",
        }
    }

    /// The newest token with which nodes may register.
    #[cfg(feature = "tls")]
    pub(crate) fn token(&self) -> Option<Token> {
        let Self::Token(watched) = self else { return None };
        watched
            .look()
            .ok()?
            .tokens()
            .iter()
            .find(|token| token.access() == Access::Nodes && token.name().is_none())
            .cloned()
    }

    /// A key for hashes of names. No node knows it, and it stays the same as long as the private key does.
    pub(crate) fn placing(&self) -> Option<[u8; 32]> {
        match self {
            Self::Open => None,
            #[cfg(feature = "tls")]
            Self::Token(watched) => Some(watched.current().placing()),
            #[cfg(feature = "tls")]
            Self::Certificates(files, _) => Some(files.own.current().placing),
        }
    }

    /// How peers prove who they are, for administrators.
    pub(crate) fn security(&self) -> MasterSecurity {
        match self {
            Self::Open => MasterSecurity::None,
            #[cfg(feature = "tls")]
            Self::Token(..) => MasterSecurity::Tokens,
            #[cfg(feature = "tls")]
            Self::Certificates(..) => MasterSecurity::Certificates,
        }
    }

    /// Whether peers have to prove something.
    pub(crate) fn demands_proof(&self) -> bool {
        !matches!(self, Self::Open)
    }

    /// The bytes that tell a peer to come again after this time, and nothing else.
    pub(crate) fn busy(&self, after: Duration) -> Vec<u8> {
        match self {
            Self::Open => busy(after),
            // Before TLS has begun, so that it costs nothing. Anybody on the network between could send the same, but could
            // as easily let no byte through.
            #[cfg(feature = "tls")]
            _ => tls::busy_alert(after).to_vec(),
        }
    }

    /// Has the peer authenticate itself, in the role that it names. If that takes a signature of the master, `may_sign` is
    /// awaited first, once the peer has begun TLS.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    #[cfg_attr(not(feature = "tls"), expect(unused_variables, reason = "nothing is signed then"))]
    pub(crate) async fn authenticate(
        &self,
        stream: TcpStream,
        may_sign: impl Future<Output = ()>,
    ) -> Result<AuthenticatedPeer, RefusedPeer> {
        match self {
            Self::Open => {
                let mut channel = Channel::Open(stream);
                let welcomed = answer_preface(&mut channel, Security::Open).await;
                done(welcomed.map(|(access, arrival)| (Credential::open(access), arrival)), channel)
            }
            #[cfg(feature = "tls")]
            Self::Token(watched) => {
                let server = look(watched).await?;
                if server.tokens().is_empty() {
                    // The node is not told that its token is wrong, which would end it: the file may be about to be written.
                    let reason = "there is no token in the token file, so no node can register".to_owned();
                    return Err(HandshakeError::NotReady(reason).into());
                }
                let (mut channel, binding, _) = accept(server.config(), stream, may_sign).await?;
                let proven = async {
                    let (access, arrival) = answer_preface(&mut channel, Security::Token).await?;
                    let token = proof::demand(&mut channel, access, server.tokens(), &binding).await?;
                    Ok((Credential::of_token(access, token), arrival))
                };
                let proven = proven.await;
                done(proven, channel)
            }
            #[cfg(feature = "tls")]
            Self::Certificates(files, name) => {
                let (authority, own) = (look(&files.authority).await?, look(&files.own).await?);
                let config = tls::certificate_server(&authority, &own);
                let config = config.map_err(|error| HandshakeError::NotReady(error.to_string()))?;
                let (mut channel, _, shown) = accept(Arc::new(config), stream, may_sign).await?;
                let named = async {
                    let (access, arrival) = answer_preface(&mut channel, Security::Certificates).await?;
                    let names = shown.as_deref().and_then(<[_]>::first).map(tls::names_of).unwrap_or_default();
                    let admission = match name {
                        _ if !files.settings.allow(access, &names) => AuthenticationResult::WrongRole,
                        // The names of other peers are those that they are listed by.
                        Some(name) if access == Access::Nodes && !tls::is_for(shown.as_deref(), name) => {
                            AuthenticationResult::WrongName
                        }
                        _ => AuthenticationResult::Accepted,
                    };
                    channel.write_all(&[admission as u8]).await.map_err(HandshakeError::Io)?;
                    channel.flush().await.map_err(HandshakeError::Io)?;
                    match admission {
                        AuthenticationResult::Accepted => {
                            let caller = files.settings.caller(&names);
                            Ok((Credential::of_certificates(access, shown, caller), arrival))
                        }
                        refused => Err(HandshakeError::NotAuthenticated(refused)),
                    }
                };
                let named = named.await;
                done(named, channel)
            }
        }
    }

    /// Checks whether a node with this credential may have this name, by the files.
    ///
    /// # Errors
    ///
    /// If another credential was issued for the name: a sentence for the node.
    #[cfg_attr(not(feature = "tls"), expect(unused_variables, reason = "nothing is issued then"))]
    pub(crate) fn check_name(&self, name: &str, credential: &Credential) -> Result<(), String> {
        match self {
            #[cfg(feature = "tls")]
            Self::Token(watched) if watched.current().is_for_a_node(name) && !credential.principal.is_for(name) => {
                Err(format!(
                    "a token was issued for the name `{name}`, and this node came with {}. Give the node that token, or another \
                     name",
                    credential.principal
                ))
            }
            _ => Ok(()),
        }
    }

    /// The credentials that the files hold now, to be compared with those before; `None` if the files cannot be used.
    #[cfg(feature = "tls")]
    pub(crate) async fn look(&self) -> Option<CredentialSet> {
        match self {
            Self::Open => None,
            Self::Token(watched) => watched.look_in_turn().await.ok().map(CredentialSet::Token),
            Self::Certificates(files, _) => files.authority.look_in_turn().await.ok().map(CredentialSet::Certificates),
        }
    }

    /// The credentials that the files held when they were read last.
    #[cfg(feature = "tls")]
    pub(crate) fn current(&self) -> Option<CredentialSet> {
        match self {
            Self::Open => None,
            Self::Token(watched) => Some(CredentialSet::Token(watched.current())),
            Self::Certificates(files, _) => Some(CredentialSet::Certificates(files.authority.current())),
        }
    }
}

fn done(
    passed: Result<(Credential, Arrival), HandshakeError>,
    channel: Channel,
) -> Result<AuthenticatedPeer, RefusedPeer> {
    match passed {
        Ok((credential, arrival)) => Ok(AuthenticatedPeer { channel, credential, arrival }),
        Err(error) => Err(RefusedPeer { error, channel: Some(channel) }),
    }
}

#[cfg(feature = "tls")]
async fn accept(
    config: Arc<ServerConfig>,
    stream: TcpStream,
    may_sign: impl Future<Output = ()>,
) -> Result<(Channel, Binding, PeerCertificates), RefusedPeer> {
    let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), stream);
    let hello = match (&mut acceptor).await {
        Ok(hello) => hello,
        Err(error) => {
            return Err(RefusedPeer { error: tls::at_master(error), channel: acceptor.take_io().map(Channel::Open) });
        }
    };
    tokio::select! {
        biased;
        () = end_of(&hello.io) => return Err(HandshakeError::Closed("TLS handshake").into()),
        () = may_sign => {}
    }
    let stream = hello.into_stream(config).into_fallible().await.map_err(|(error, stream)| RefusedPeer {
        error: tls::at_master(error),
        channel: Some(Channel::Open(stream)),
    })?;
    let connection = stream.get_ref().1;
    let binding = connection.export_keying_material([0; 32], BINDING_LABEL, None);
    let shown: PeerCertificates = connection.peer_certificates().map(Arc::from);
    let channel = Channel::Tls(Box::new(TlsStream::Server(stream)));
    match binding {
        Ok(binding) => Ok((channel, binding, shown)),
        Err(error) => Err(RefusedPeer { error: HandshakeError::Tls(error.to_string()), channel: Some(channel) }),
    }
}

/// Waits until the peer has closed the connection, while it should send nothing.
#[cfg(feature = "tls")]
async fn end_of(stream: &TcpStream) {
    if stream.peek(&mut [0]).await.is_ok_and(|read| read > 0) {
        // It breaks TLS, which reports it when it reads on.
        std::future::pending().await
    }
}
