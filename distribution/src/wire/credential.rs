//! The credential of a peer, and whether it is still valid by the master's files.

#[cfg(feature = "tls")]
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

#[cfg(feature = "tls")]
use rustls::{
    CertificateError, Error as TlsError, ServerConfig,
    pki_types::{CertificateDer, UnixTime},
};

#[cfg(feature = "tls")]
use super::tls;
use crate::security::{Access, CallerRights, CredentialId, Principal, PrincipalKind};
#[cfg(feature = "tls")]
use crate::{
    error::GoneReason,
    security::{CertifiedCaller, Token},
};

/// The credential and the role with which a peer has authenticated itself. It is checked again while the connection lasts.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    pub(crate) access: Access,
    pub(crate) principal: Principal,
    /// What a caller may do; `None` of a peer that has not proven itself, which may do what its role may.
    pub(crate) grant: Option<CallerGrant>,
    #[cfg(feature = "tls")]
    certificates: PeerCertificates,
}

/// What a credential allows a caller, and whose limits it shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallerGrant {
    pub(crate) rights: Arc<CallerRights>,
    pub(crate) holder: GrantHolder,
}

/// Whose calls and connections are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "nothing is proven then"))]
pub(crate) enum GrantHolder {
    /// Those that came by this token.
    Token(CredentialId),
    /// Those with a certificate for this name.
    Name(String),
}

/// Certificates that a peer showed, in the order of TLS.
#[cfg(feature = "tls")]
pub(super) type PeerCertificates = Option<Arc<[CertificateDer<'static>]>>;

impl Credential {
    pub(crate) fn open(access: Access) -> Self {
        Self {
            access,
            principal: Principal::open(),
            grant: None,
            #[cfg(feature = "tls")]
            certificates: None,
        }
    }

    #[cfg(feature = "tls")]
    pub(super) fn of_token(access: Access, token: &Token) -> Self {
        let names = token.name().map(str::to_owned).into_iter().collect();
        let principal = Principal::new(PrincipalKind::Token, token.credential_id(), names);
        let holder = GrantHolder::Token(token.credential_id());
        let grant = (access == Access::Callers).then(|| CallerGrant { rights: token.shared_rights(), holder });
        Self { access, principal, grant, certificates: None }
    }

    /// By certificates that TLS has verified. `caller` is what they give a caller.
    #[cfg(feature = "tls")]
    pub(super) fn of_certificates(access: Access, shown: PeerCertificates, caller: Option<CertifiedCaller>) -> Self {
        let principal = match shown.as_deref().and_then(<[_]>::first) {
            Some(own) => Principal::new(PrincipalKind::Certificate, tls::id_of(own), tls::names_of(own)),
            // TLS requires one.
            None => Principal::open(),
        };
        let caller = caller.filter(|_| access == Access::Callers);
        let grant =
            caller.map(|CertifiedCaller { rights, name }| CallerGrant { rights, holder: GrantHolder::Name(name) });
        Self { access, principal, grant, certificates: shown }
    }

    /// Checks whether a node may register with it under this name.
    ///
    /// # Errors
    ///
    /// Why not, as a sentence for the node.
    pub(crate) fn check_name(&self, name: &str, must_be_bound: bool) -> Result<(), String> {
        let Principal { kind, names, .. } = &self.principal;
        match kind {
            PrincipalKind::Token if names.is_empty() && must_be_bound => Err(format!(
                "the master requires tokens that were issued for the node's name, and {} is for any name. \
                 `Token::issue_for_node` makes one for `{name}`",
                self.principal
            )),
            PrincipalKind::Token if !names.is_empty() && !self.principal.is_for(name) => Err(format!(
                "{} was issued for the node `{}`, and this node is called `{name}`. Give it that name, or another token",
                self.principal,
                names.join("`, `")
            )),
            PrincipalKind::Certificate if must_be_bound && !self.principal.is_for(name) => Err(format!(
                "the master requires certificates that are for the node's name, and {} is not for `{name}`. Give the node a \
                 name that its certificate is for",
                self.principal
            )),
            PrincipalKind::Open if must_be_bound => {
                Err("the master requires names that are in the nodes' credentials, and has no security".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// What a line of the file says about its token: the role that it is for, the node, and what callers may do.
#[cfg(feature = "tls")]
type Line = (Access, Option<Arc<str>>, Arc<CallerRights>);

/// The TLS side and the tokens of a master's token file.
#[cfg(feature = "tls")]
pub(crate) struct TokenServer {
    config: Arc<ServerConfig>,
    tokens: Vec<Token>,
    placing: [u8; 32],
    /// Indexed, because thousands of nodes may be checked at once.
    ids: HashMap<CredentialId, Vec<Line>>,
    /// Names of nodes that tokens were issued for.
    names: HashSet<Arc<str>>,
}

#[cfg(feature = "tls")]
impl TokenServer {
    pub(super) fn new(config: ServerConfig, tokens: Vec<Token>, placing: [u8; 32]) -> Self {
        let mut ids: HashMap<_, Vec<_>> = HashMap::new();
        let mut names = HashSet::new();
        for token in &tokens {
            let name = token.name().map(Arc::<str>::from);
            names.extend(name.clone().filter(|_| token.access() == Access::Nodes));
            // The same token may be in two lines, for two names.
            ids.entry(token.credential_id()).or_default().push((token.access(), name, token.shared_rights()));
        }
        Self { config: Arc::new(config), tokens, placing, ids, names }
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// See [`MasterAuthenticator::placing`](super::authenticator::MasterAuthenticator::placing).
    pub(super) fn placing(&self) -> [u8; 32] {
        self.placing
    }

    pub(super) fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// Whether a token was issued for the node of this name.
    pub(super) fn is_for_a_node(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    fn has(&self, Credential { access, principal, grant, .. }: &Credential) -> bool {
        self.ids.get(&principal.id).is_some_and(|lines| {
            lines.iter().any(|(its_access, name, rights)| {
                its_access == access
                    && principal.names.iter().map(String::as_str).eq(name.as_deref())
                    && grant.as_ref().is_none_or(|grant| grant.rights == *rights)
            })
        })
    }
}

/// The credentials that a master's files hold at one time.
#[cfg(feature = "tls")]
#[derive(Clone)]
pub(crate) enum CredentialSet {
    Token(Arc<TokenServer>),
    Certificates(Arc<tls::Authority>),
}

/// Why a credential is not valid any more.
#[cfg(feature = "tls")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Invalid {
    /// The files do not hold it, or its authority, any more.
    Revoked,
    /// Its certificate, or one above it, has expired.
    Expired,
}

#[cfg(feature = "tls")]
impl From<Invalid> for GoneReason {
    fn from(invalid: Invalid) -> Self {
        match invalid {
            Invalid::Revoked => Self::Revoked,
            Invalid::Expired => Self::Expired,
        }
    }
}

#[cfg(feature = "tls")]
impl CredentialSet {
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Token(one), Self::Token(other)) => Arc::ptr_eq(one, other),
            (Self::Certificates(one), Self::Certificates(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Whether no peer can authenticate itself with it.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Token(server) if server.tokens.is_empty())
    }

    /// Whether a credential may become invalid without a change of the files.
    pub(crate) fn expires(&self) -> bool {
        matches!(self, Self::Certificates(_))
    }

    /// Checks whether a credential is still valid.
    ///
    /// # Errors
    ///
    /// Why it is not.
    pub(crate) fn check(&self, credential: &Credential) -> Result<(), Invalid> {
        match self {
            Self::Token(server) => server.has(credential).then_some(()).ok_or(Invalid::Revoked),
            Self::Certificates(authority) => {
                let Some([own, between @ ..]) = credential.certificates.as_deref() else {
                    return Err(Invalid::Revoked);
                };
                let mut time = UnixTime::now();
                loop {
                    match authority.verify_client_cert(own, between, time) {
                        // It was valid when the peer connected, so the clock was set back since. Everything else is checked
                        // at a time at which the certificate is valid.
                        Err(TlsError::InvalidCertificate(CertificateError::NotValidYetContext {
                            not_before, ..
                        })) if not_before > time => time = not_before,
                        verified => break verified,
                    }
                }
                .map(drop)
                .map_err(|error| match error {
                    TlsError::InvalidCertificate(
                        CertificateError::Expired | CertificateError::ExpiredContext { .. },
                    ) => Invalid::Expired,
                    _ => Invalid::Revoked,
                })
            }
        }
    }

    /// Those that are not valid any more. It verifies a signature for each certificate, which takes some 0.1 ms each, so it
    /// must not run on a thread of the runtime.
    pub(crate) fn invalid<K>(&self, open: Vec<(K, Arc<Credential>)>) -> Vec<(K, Arc<Credential>, Invalid)> {
        let mut known = HashMap::new();
        let mut check = |credential: &Credential| match &credential.certificates {
            Some(shown) => *known.entry(Arc::clone(shown)).or_insert_with(|| self.check(credential)),
            None => self.check(credential),
        };
        let with_end = open.into_iter().filter_map(|(key, credential)| {
            let invalid = check(&credential).err()?;
            Some((key, credential, invalid))
        });
        with_end.collect()
    }
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd};

    use super::*;
    use crate::security::{Certificates, token_file};

    fn server(tokens: Vec<Token>) -> TokenServer {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("cluster.token");
        Token::issue(&file, Access::Nodes).expect("writes");
        let keys = token_file::keys(&token_file::read(&file).expect("reads")).expect("are in order");
        TokenServer::new(tls::token_server(keys.certificate, keys.key).expect("fits"), tokens, [0; 32])
    }

    #[test]
    fn thousands_of_nodes_with_thousands_of_tokens_are_checked_at_once() {
        // Comparing each with each took 12 s.
        let name = |number: usize| Some(format!("n{number}"));
        let tokens: Vec<_> = (0..10_000)
            .map(|number| Token::new(Access::Nodes, [7; 32]).expect("random").for_node(name(number).as_deref()))
            .collect();
        let open =
            tokens.iter().map(|token| Arc::new(Credential::of_token(Access::Nodes, token))).enumerate().collect();
        let server = server(tokens.into_iter().skip(3).collect());
        let invalid = CredentialSet::Token(Arc::new(server)).invalid(open);
        let invalid: Vec<_> = invalid.into_iter().map(|(number, _, invalid)| (number, invalid)).collect();
        assert_eq!(invalid, [0, 1, 2].map(|number| (number, Invalid::Revoked)));
    }

    #[test]
    fn a_clock_that_is_set_back_revokes_no_certificate() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ca.pem");
        let authority = || {
            let key = KeyPair::generate().expect("a key");
            let mut params = CertificateParams::new(Vec::new()).expect("no names");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            // From a time on that this clock has not seen, as are those below.
            params.not_before = date_time_ymd(2900, 1, 1);
            params.not_after = date_time_ymd(3000, 1, 1);
            let certificate = params.self_signed(&key).expect("signs");
            std::fs::write(&file, certificate.pem()).expect("writes");
            let contents = Certificates::new(&file, &file, &file).read_authority().expect("reads");
            (
                Issuer::new(params, key),
                CredentialSet::Certificates(Arc::new(tls::authority(&contents[0]).expect("is one"))),
            )
        };
        let ((old, by_old), (_, by_new)) = (authority(), authority());
        let shown = |from, until| {
            let mut params = CertificateParams::new(vec!["n1".to_owned()]).expect("a name");
            (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            let key = KeyPair::generate().expect("a key");
            let certificate = params.signed_by(&key, &old).expect("signs").der().clone();
            Credential::of_certificates(Access::Nodes, Some([certificate].into()), None)
        };
        let young = shown(2950, 2960);
        assert_eq!(by_old.check(&young), Ok(()));
        assert_eq!(by_new.check(&young), Err(Invalid::Revoked), "another authority does not vouch for it");
        assert_eq!(by_old.check(&shown(1990, 2000)), Err(Invalid::Expired));
    }

    #[test]
    fn a_token_whose_line_gets_other_rights_is_not_valid_for_those_that_came_by_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("cluster.token");
        let rights = CallerRights::new().max_calls(1);
        let token = Token::issue_for_caller(&file, rights).expect("writes");
        let text = std::fs::read_to_string(&file).expect("reads");
        let credential = Credential::of_token(Access::Callers, &token);
        for (line, is_valid) in [(text.clone(), true), (text.replace("max_calls=1", "max_calls=2"), false)] {
            std::fs::write(&file, line).expect("writes");
            assert_eq!(server(Token::list(&file).expect("reads")).has(&credential), is_valid);
        }
    }

    #[test]
    fn a_token_is_valid_for_the_access_and_the_name_of_its_line() {
        let token = Token::new(Access::Nodes, [7; 32]).expect("random");
        let credential = |access, name: Option<&str>| Credential::of_token(access, &token.clone().for_node(name));
        let lines = [None, Some("n1")].map(|name| token.clone().for_node(name)).to_vec();
        let server = server(lines);
        assert!(server.has(&credential(Access::Nodes, None)) && server.has(&credential(Access::Nodes, Some("n1"))));
        assert!(!server.has(&credential(Access::Nodes, Some("n2"))));
        assert!(!server.has(&credential(Access::Admins, None)));
    }
}
