//! What a connection has to pass before anything is known of the peer but that it may come in: TLS, the prefaces, and
//! the proof of a secret or of a name.
//!
//! All that is read of a peer up to there has a fixed size or is TLS's own, and none of it is serde's.

use std::{fmt, net::SocketAddr, time::Duration};
#[cfg(feature = "tls")]
use std::{
    io::{ErrorKind, Write},
    path::Path,
    sync::Arc,
};

#[cfg(feature = "tls")]
use rustls::{ClientConfig, ServerConfig, pki_types::ServerName, server::Acceptor};
#[cfg(feature = "tls")]
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
#[cfg(feature = "tls")]
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, TlsStream};

use super::{
    channel::Channel,
    credential::Credential,
    hello::{HelloError, NODE_TIME, Security, busy, greet, welcome, within},
};
#[cfg(feature = "tls")]
use super::{
    credential::{Generation, Shown, TokenServer},
    hello::{Admission, read_exact},
    proof::{self, BINDING_LABEL, Binding},
    tls,
};
#[cfg(feature = "tls")]
use crate::hash::key_of;
#[cfg(feature = "tls")]
use crate::security::{Certificates, Contents, OnTrouble, TOKEN_VARIABLE, Token, Watched, token_file};
use crate::{
    error::Error,
    security::{Access, SecurityConfig, beyond_loopback},
};

/// What a master demands of those that dial it.
#[derive(Clone)]
pub(crate) enum MasterAuthenticator {
    /// Nothing: only this machine reaches it, or its owner wants it so.
    Open,
    #[cfg(feature = "tls")]
    Token(Arc<Watched<TokenServer>>),
    #[cfg(feature = "tls")]
    Certificates(Arc<CertificateFiles>, Option<ServerName<'static>>),
}

/// A master's certificates. Whom it takes does not hang on what it shows itself.
#[cfg(feature = "tls")]
pub(crate) struct CertificateFiles {
    authority: Arc<Watched<tls::Authority>>,
    /// Certificate and key are two files that are replaced one by one.
    own: Arc<Watched<tls::OwnCertificate>>,
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
        Ok(Self { authority: Arc::new(authority), own: Arc::new(own) })
    }
}

impl fmt::Debug for MasterAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A peer that was let in.
pub(crate) struct Admitted {
    pub(crate) channel: Channel,
    pub(crate) credential: Credential,
}

/// A peer that was turned away, and the connection to it where there is something left to say.
pub(crate) struct TurnedAway {
    pub(crate) error: HelloError,
    pub(crate) channel: Option<Channel>,
}

#[cfg(feature = "tls")]
impl From<HelloError> for TurnedAway {
    fn from(error: HelloError) -> Self {
        Self { error, channel: None }
    }
}

impl MasterAuthenticator {
    /// Reads or makes the files that the choices name.
    pub(crate) fn new(choices: &SecurityConfig) -> Result<Self, Error> {
        choices.check()?;
        #[cfg(feature = "tls")]
        if let Some(file) = &choices.token_file {
            return Self::with_token_file(file);
        }
        #[cfg(feature = "tls")]
        if let Some(certificates) = &choices.certificates {
            let name = certificates.checked_peer_name()?;
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

    /// What it is called in a log.
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

    /// A key for hashes of names that no node knows, and that stays the same as long as the private key does.
    pub(crate) fn placing(&self) -> Option<[u8; 32]> {
        match self {
            Self::Open => None,
            #[cfg(feature = "tls")]
            Self::Token(watched) => Some(watched.current().placing()),
            #[cfg(feature = "tls")]
            Self::Certificates(files, _) => Some(files.own.current().placing),
        }
    }

    /// Whether who was admitted has proven something.
    pub(crate) fn demands_proof(&self) -> bool {
        !matches!(self, Self::Open)
    }

    /// What tells a peer, instead of all else, that there is no room before this time has passed.
    pub(crate) fn busy(&self, after: Duration) -> Vec<u8> {
        match self {
            Self::Open => busy(after),
            // Before TLS has begun, so that it costs nothing. Anybody on the way can say the same, and with as much
            // effort let no byte through.
            #[cfg(feature = "tls")]
            _ => tls::busy_alert(after).to_vec(),
        }
    }

    /// Has the peer show that it may come in, and in which role. Where that takes a signature of the master's, it is made
    /// after `may_sign`, which is awaited once the peer has said what it costs it little to say.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    #[cfg_attr(not(feature = "tls"), expect(unused_variables, reason = "nothing is signed then"))]
    pub(crate) async fn admit(
        &self,
        stream: TcpStream,
        may_sign: impl Future<Output = ()>,
    ) -> Result<Admitted, TurnedAway> {
        match self {
            Self::Open => {
                let mut channel = Channel::Open(stream);
                let welcomed = welcome(&mut channel, Security::Open).await;
                done(welcomed.map(Credential::open), channel)
            }
            #[cfg(feature = "tls")]
            Self::Token(watched) => {
                let server = look(watched).await?;
                if server.tokens().is_empty() {
                    // Not that its token is wrong, which would end the node: the file may be about to be written.
                    let reason = "there is no token in the token file, so that nobody can be let in".to_owned();
                    return Err(HelloError::NotReady(reason).into());
                }
                let (mut channel, binding, _) = accept(server.config(), stream, may_sign).await?;
                let proven = async {
                    let access = welcome(&mut channel, Security::Token).await?;
                    let token = proof::demand(&mut channel, access, server.tokens(), &binding).await?;
                    Ok(Credential::of_token(access, token))
                };
                let proven = proven.await;
                done(proven, channel)
            }
            #[cfg(feature = "tls")]
            Self::Certificates(files, name) => {
                let (authority, own) = (look(&files.authority).await?, look(&files.own).await?);
                let config = tls::certificate_server(&authority, &own);
                let config = config.map_err(|error| HelloError::NotReady(error.to_string()))?;
                let (mut channel, _, shown) = accept(Arc::new(config), stream, may_sign).await?;
                let named = async {
                    let access = welcome(&mut channel, Security::Certificates).await?;
                    let admission = match name {
                        // Which certificates are for callers or administrators, nobody can say yet.
                        _ if access != Access::Nodes => Admission::WrongAccess,
                        Some(name) if !tls::is_for(shown.as_deref(), name) => Admission::WrongName,
                        _ => Admission::Admitted,
                    };
                    channel.write_all(&[admission as u8]).await.map_err(HelloError::Io)?;
                    channel.flush().await.map_err(HelloError::Io)?;
                    match admission {
                        Admission::Admitted => Ok(Credential::of_certificates(access, shown)),
                        refused => Err(HelloError::NotAdmitted(refused)),
                    }
                };
                let named = named.await;
                done(named, channel)
            }
        }
    }

    /// Whether a node that came by this may have this name, as far as the files know.
    ///
    /// # Errors
    ///
    /// That another credential was issued for the name, for the node to read.
    #[cfg_attr(not(feature = "tls"), expect(unused_variables, reason = "nothing is issued then"))]
    pub(crate) fn check_name(&self, name: &str, credential: &Credential) -> Result<(), String> {
        match self {
            #[cfg(feature = "tls")]
            Self::Token(watched) if watched.current().is_for_a_node(name) && !credential.principal.is_for(name) => {
                Err(format!(
                    "the name `{name}` is kept for the node that a token was issued for, and this one came by {}. Give the \
                     node that token, or another name",
                    credential.principal
                ))
            }
            _ => Ok(()),
        }
    }

    /// What the files hold now, as far as they can be used: to be compared with what they held before.
    #[cfg(feature = "tls")]
    pub(crate) async fn look(&self) -> Option<Generation> {
        match self {
            Self::Open => None,
            Self::Token(watched) => watched.look_in_turn().await.ok().map(Generation::Token),
            Self::Certificates(files, _) => files.authority.look_in_turn().await.ok().map(Generation::Certificates),
        }
    }

    /// What the files held when they were looked at last.
    #[cfg(feature = "tls")]
    pub(crate) fn current(&self) -> Option<Generation> {
        match self {
            Self::Open => None,
            Self::Token(watched) => Some(Generation::Token(watched.current())),
            Self::Certificates(files, _) => Some(Generation::Certificates(files.authority.current())),
        }
    }
}

fn done(passed: Result<Credential, HelloError>, channel: Channel) -> Result<Admitted, TurnedAway> {
    match passed {
        Ok(credential) => Ok(Admitted { channel, credential }),
        Err(error) => Err(TurnedAway { error, channel: Some(channel) }),
    }
}

#[cfg(feature = "tls")]
async fn accept(
    config: Arc<ServerConfig>,
    stream: TcpStream,
    may_sign: impl Future<Output = ()>,
) -> Result<(Channel, Binding, Shown), TurnedAway> {
    let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), stream);
    let hello = match (&mut acceptor).await {
        Ok(hello) => hello,
        Err(error) => {
            return Err(TurnedAway { error: tls::at_master(error), channel: acceptor.take_io().map(Channel::Open) });
        }
    };
    tokio::select! {
        biased;
        () = end_of(&hello.io) => return Err(HelloError::Closed("TLS handshake").into()),
        () = may_sign => {}
    }
    let stream = hello
        .into_stream(config)
        .into_fallible()
        .await
        .map_err(|(error, stream)| TurnedAway { error: tls::at_master(error), channel: Some(Channel::Open(stream)) })?;
    let connection = stream.get_ref().1;
    let binding = connection.export_keying_material([0; 32], BINDING_LABEL, None);
    let shown: Shown = connection.peer_certificates().map(Arc::from);
    let channel = Channel::Tls(Box::new(TlsStream::Server(stream)));
    match binding {
        Ok(binding) => Ok((channel, binding, shown)),
        Err(error) => Err(TurnedAway { error: HelloError::Tls(error.to_string()), channel: Some(channel) }),
    }
}

/// Waits until the peer has closed the connection, while it is to say nothing.
#[cfg(feature = "tls")]
async fn end_of(stream: &TcpStream) {
    if stream.peek(&mut [0]).await.is_ok_and(|read| read > 0) {
        // Against TLS, which will say so when it reads on.
        std::future::pending().await
    }
}

/// What a node shows to its master, and demands of it.
pub(crate) enum NodeAuthenticator {
    /// Nothing, and so on this machine alone, unless its owner wants it otherwise.
    Open { insecure: bool },
    #[cfg(feature = "tls")]
    Token(Arc<Watched<TokenClient>>),
    #[cfg(feature = "tls")]
    Certificates(Arc<Watched<Arc<ClientConfig>>>, Option<ServerName<'static>>),
}

/// What is made of a token.
#[cfg(feature = "tls")]
pub(crate) struct TokenClient {
    config: Arc<ClientConfig>,
    token: Token,
}

#[cfg(feature = "tls")]
impl TokenClient {
    fn new(token: Token) -> Result<Self, Error> {
        let config = tls::token_client(*token.fingerprint())
            .map_err(|error| Error::Token { place: "the token", reason: error.to_string() })?;
        Ok(Self { config: Arc::new(config), token })
    }
}

impl NodeAuthenticator {
    /// Reads what the choices name; where they name nothing, the environment.
    ///
    /// `name` is the node's: a file may hold a token for it.
    #[cfg_attr(not(feature = "tls"), expect(unused_variables, reason = "no token is for a name then"))]
    pub(crate) fn new(choices: &SecurityConfig, name: &str) -> Result<Self, Error> {
        choices.check()?;
        #[cfg(feature = "tls")]
        if !choices.insecure {
            if let Some(certificates) = &choices.certificates {
                let name = certificates.checked_peer_name()?;
                let (read, load) = (certificates.clone(), certificates.clone());
                let watched = Watched::new(
                    certificates.files(),
                    OnTrouble::Keep,
                    move || read.read(),
                    move |contents| tls::certificate_client(&load, contents).map(Arc::new),
                )?;
                return Ok(Self::Certificates(Arc::new(watched), name));
            }
            if let Some(file) = choices.given_token_file()? {
                let read_from = file.clone();
                let read = move || Ok([token_file::read_tokens(&read_from)?]);
                let name = name.to_owned();
                let load = move |contents: &[Contents; 1]| {
                    contents.iter().for_each(Contents::warn_if_readable);
                    TokenClient::new(token_file::node_token(&contents[0], &name)?)
                };
                return Ok(Self::Token(Arc::new(Watched::new(vec![file], OnTrouble::Keep, read, load)?)));
            }
            if let Some(token) = choices.given_token()? {
                let load = move |_: &[Contents; 0]| TokenClient::new(token.clone());
                return Ok(Self::Token(Arc::new(Watched::new(Vec::new(), OnTrouble::Keep, || Ok([]), load)?)));
            }
        }
        Ok(Self::Open { insecure: choices.insecure })
    }

    /// Whether what answers has to prove that it is the master.
    pub(crate) fn knows_master(&self) -> bool {
        !matches!(self, Self::Open { .. })
    }

    /// Whether the node may have another credential the next time, since it is in a file.
    pub(crate) fn may_change(&self) -> bool {
        match self {
            Self::Open { .. } => false,
            #[cfg(feature = "tls")]
            Self::Token(watched) => watched.may_change(),
            #[cfg(feature = "tls")]
            Self::Certificates(watched, _) => watched.may_change(),
        }
    }

    /// Whether the node may dial these.
    ///
    /// # Errors
    ///
    /// The one that it must not.
    pub(crate) fn check_addresses(&self, addrs: &[SocketAddr]) -> Result<(), SocketAddr> {
        match self {
            Self::Open { insecure: false } => beyond_loopback(addrs).map_or(Ok(()), Err),
            _ => Ok(()),
        }
    }

    /// Greets the master on a new connection to this host, and has both show who they are.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub(crate) async fn join(&self, stream: TcpStream, host: &str) -> Result<Channel, HelloError> {
        within(NODE_TIME, "hello", self.join_patiently(stream, host)).await
    }

    #[cfg_attr(not(feature = "tls"), expect(unused_variables, reason = "no certificate is for a host then"))]
    async fn join_patiently(&self, stream: TcpStream, host: &str) -> Result<Channel, HelloError> {
        match self {
            Self::Open { .. } => {
                let mut channel = Channel::Open(stream);
                greet(&mut channel, Access::Nodes, Security::Open).await?;
                Ok(channel)
            }
            #[cfg(feature = "tls")]
            Self::Token(watched) => {
                let client = look(watched).await?;
                let joined = async {
                    let unnamed = ServerName::from(std::net::Ipv4Addr::UNSPECIFIED);
                    let (mut channel, binding) = connect(&client.config, unnamed, stream).await?;
                    greet(&mut channel, Access::Nodes, Security::Token).await?;
                    proof::prove(&mut channel, Access::Nodes, client.token.secret(), &binding).await?;
                    Ok(channel)
                };
                joined.await.map_err(|error| tls::at_node(error, true))
            }
            #[cfg(feature = "tls")]
            Self::Certificates(watched, name) => {
                let config = look(watched).await?;
                let name = match name {
                    Some(name) => name.clone(),
                    None => ServerName::try_from(host.to_owned()).map_err(|_| {
                        HelloError::Untrusted(format!(
                            "`{host}` is no name that a certificate could be for; name one by `Certificates::peer_name`"
                        ))
                    })?,
                };
                let joined = async {
                    let (mut channel, _) = connect(&config, name, stream).await?;
                    greet(&mut channel, Access::Nodes, Security::Certificates).await?;
                    let mut admission = [0];
                    read_exact(&mut channel, &mut admission, "admission").await?;
                    match Admission::from_byte(admission[0]) {
                        Admission::Admitted => Ok(channel),
                        refused => Err(HelloError::NotAdmitted(refused)),
                    }
                };
                joined.await.map_err(|error| tls::at_node(error, false))
            }
        }
    }
}

/// Looks at files without holding up other connections.
#[cfg(feature = "tls")]
async fn look<T: Send + Sync + 'static>(watched: &Arc<Watched<T>>) -> Result<Arc<T>, HelloError> {
    watched.look_in_turn().await.map_err(|reason| HelloError::NotReady(reason.to_string()))
}

#[cfg(feature = "tls")]
async fn connect(
    config: &Arc<ClientConfig>,
    name: ServerName<'static>,
    stream: TcpStream,
) -> Result<(Channel, Binding), HelloError> {
    let connected = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
    let stream = connected.map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe => HelloError::NoHandshake,
        _ => HelloError::Io(error),
    })?;
    let binding = stream.get_ref().1.export_keying_material([0; 32], BINDING_LABEL, None);
    let binding = binding.map_err(|error| HelloError::Tls(error.to_string()))?;
    Ok((Channel::Tls(Box::new(TlsStream::Client(stream))), binding))
}
