//! The authenticator of a node or a caller: proves its token or certificate to the master, and has the master prove that it is
//! the master.

use std::net::SocketAddr;
#[cfg(feature = "tls")]
use std::{io::ErrorKind, sync::Arc};

#[cfg(feature = "tls")]
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
#[cfg(feature = "tls")]
use tokio_rustls::{TlsConnector, TlsStream};

#[cfg(feature = "tls")]
use super::files::look;
use crate::{
    error::Error,
    security::{Access, SecurityConfig, beyond_loopback},
    wire::{
        channel::Channel,
        handshake::{HandshakeError, Purpose, Security, limits::NODE_TIMEOUT, message::within, preface::send_preface},
    },
};
#[cfg(feature = "tls")]
use crate::{
    security::{Contents, OnTrouble, Token, Watched, token_file},
    wire::{
        handshake::{codes::AuthenticationResult, message::read_exact},
        proof::{self, BINDING_LABEL, Binding},
        tls,
    },
};

/// Authenticates a node or a caller to its master, and the master to it.
#[derive(Clone)]
pub(crate) struct PeerAuthenticator {
    proof: Proof,
    /// The role in which a peer comes whose credential does not say it.
    access: Access,
    purpose: Purpose,
}

/// What the peer proves, and what it requires of the master.
#[derive(Clone)]
enum Proof {
    /// Proves nothing and requires nothing: on this machine only, unless the owner wants otherwise.
    Open { insecure: bool },
    #[cfg(feature = "tls")]
    Token(Arc<Watched<TokenClient>>),
    #[cfg(feature = "tls")]
    Certificates(Arc<Watched<Arc<ClientConfig>>>, Option<ServerName<'static>>),
}

/// The TLS side and the secret of a token.
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

impl PeerAuthenticator {
    /// Reads what the security config names, or else the environment.
    ///
    /// `roles` are those in which the peer may come. A token says for which role it is, and otherwise the peer comes in the
    /// first. `name` is a node's name: a file may hold a token for it.
    pub(crate) fn new(config: &SecurityConfig, name: &str, roles: &'static [Access]) -> Result<Self, Error> {
        config.check()?;
        Ok(Self {
            proof: Self::proof(config, name, roles)?,
            access: roles.first().copied().unwrap_or(Access::Nodes),
            purpose: Purpose::OfRole,
        })
    }

    /// For the second connection of a node, on which its handlers make nested calls.
    pub(crate) fn for_nested_calls(self) -> Self {
        Self { purpose: Purpose::NestedCalls, ..self }
    }

    #[cfg_attr(not(feature = "tls"), expect(unused_variables, reason = "no token is for a name then"))]
    fn proof(config: &SecurityConfig, name: &str, roles: &'static [Access]) -> Result<Proof, Error> {
        #[cfg(feature = "tls")]
        if !config.insecure {
            if let Some(certificates) = &config.certificates {
                let name = certificates.checked_peer_name()?;
                let (read, load) = (certificates.clone(), certificates.clone());
                let watched = Watched::new(
                    certificates.files(),
                    OnTrouble::Keep,
                    move || read.read(),
                    move |contents| tls::certificate_client(&load, contents).map(Arc::new),
                )?;
                return Ok(Proof::Certificates(Arc::new(watched), name));
            }
            if let Some(file) = config.given_token_file()? {
                let read_from = file.clone();
                let read = move || Ok([token_file::read_tokens(&read_from)?]);
                let name = name.to_owned();
                let load = move |contents: &[Contents; 1]| {
                    contents.iter().for_each(Contents::warn_if_readable);
                    TokenClient::new(token_file::own_token(&contents[0], &name, roles)?)
                };
                return Ok(Proof::Token(Arc::new(Watched::new(vec![file], OnTrouble::Keep, read, load)?)));
            }
            if let Some(token) = config.given_token(roles)? {
                let load = move |_: &[Contents; 0]| TokenClient::new(token.clone());
                return Ok(Proof::Token(Arc::new(Watched::new(Vec::new(), OnTrouble::Keep, || Ok([]), load)?)));
            }
        }
        Ok(Proof::Open { insecure: config.insecure })
    }

    /// Whether the other end has to prove that it is the master.
    pub(crate) fn knows_master(&self) -> bool {
        !matches!(self.proof, Proof::Open { .. })
    }

    /// Whether the peer may have another credential the next time, because it is in a file.
    pub(crate) fn may_change(&self) -> bool {
        match &self.proof {
            Proof::Open { .. } => false,
            #[cfg(feature = "tls")]
            Proof::Token(watched) => watched.may_change(),
            #[cfg(feature = "tls")]
            Proof::Certificates(watched, _) => watched.may_change(),
        }
    }

    /// Checks whether the peer may dial these addresses.
    ///
    /// # Errors
    ///
    /// The address that it must not dial without security.
    pub(crate) fn check_addresses(&self, addrs: &[SocketAddr]) -> Result<(), SocketAddr> {
        match self.proof {
            Proof::Open { insecure: false } => beyond_loopback(addrs).map_or(Ok(()), Err),
            _ => Ok(()),
        }
    }

    /// Authenticates both ends on a new connection to this host.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub(crate) async fn authenticate(&self, stream: TcpStream, host: &str) -> Result<Channel, HandshakeError> {
        within(NODE_TIMEOUT, "handshake", self.authenticate_unlimited(stream, host)).await
    }

    #[cfg_attr(not(feature = "tls"), expect(unused_variables, reason = "no certificate is for a host then"))]
    async fn authenticate_unlimited(&self, stream: TcpStream, host: &str) -> Result<Channel, HandshakeError> {
        match &self.proof {
            Proof::Open { .. } => {
                let mut channel = Channel::Open(stream);
                send_preface(&mut channel, self.access, self.purpose, Security::Open).await?;
                Ok(channel)
            }
            #[cfg(feature = "tls")]
            Proof::Token(watched) => {
                let client = look(watched).await?;
                let joined = async {
                    let unnamed = ServerName::from(std::net::Ipv4Addr::UNSPECIFIED);
                    let (mut channel, binding) = connect(&client.config, unnamed, stream).await?;
                    send_preface(&mut channel, client.token.access(), self.purpose, Security::Token).await?;
                    proof::prove(&mut channel, client.token.access(), client.token.secret(), &binding).await?;
                    Ok(channel)
                };
                joined.await.map_err(|error| tls::at_node(error, true))
            }
            #[cfg(feature = "tls")]
            Proof::Certificates(watched, name) => {
                let config = look(watched).await?;
                let name = match name {
                    Some(name) => name.clone(),
                    None => ServerName::try_from(host.to_owned()).map_err(|_| {
                        HandshakeError::Untrusted(format!(
                            "a certificate cannot be for the name `{host}`; set one with `Certificates::peer_name`"
                        ))
                    })?,
                };
                let joined = async {
                    let (mut channel, _) = connect(&config, name, stream).await?;
                    send_preface(&mut channel, self.access, self.purpose, Security::Certificates).await?;
                    let mut admission = [0];
                    read_exact(&mut channel, &mut admission, "admission").await?;
                    match AuthenticationResult::from_byte(admission[0]) {
                        AuthenticationResult::Accepted => Ok(channel),
                        refused => Err(HandshakeError::NotAuthenticated(refused)),
                    }
                };
                joined.await.map_err(|error| tls::at_node(error, false))
            }
        }
    }
}

#[cfg(feature = "tls")]
async fn connect(
    config: &Arc<ClientConfig>,
    name: ServerName<'static>,
    stream: TcpStream,
) -> Result<(Channel, Binding), HandshakeError> {
    let connected = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
    let stream = connected.map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe => HandshakeError::NoHandshake,
        _ => HandshakeError::Io(error),
    })?;
    let binding = stream.get_ref().1.export_keying_material([0; 32], BINDING_LABEL, None);
    let binding = binding.map_err(|error| HandshakeError::Tls(error.to_string()))?;
    Ok((Channel::Tls(Box::new(TlsStream::Client(stream))), binding))
}
