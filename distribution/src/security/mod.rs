//! Security as people set it up: join tokens and certificates, and the rule that without either only this machine is
//! reached.
//!
//! `wire/authenticator/` applies it to connections.

#[cfg(feature = "tls")]
mod certificates;
#[cfg(feature = "tls")]
mod issue;
mod policy;
mod principal;
mod redacted;
mod rights;
#[cfg(feature = "tls")]
mod token;
#[cfg(feature = "tls")]
pub(crate) mod token_file;
#[cfg(feature = "tls")]
mod trusted_file;
#[cfg(feature = "tls")]
mod watched;

use std::net::SocketAddr;
#[cfg(feature = "tls")]
use std::{ffi::OsString, fmt, path::PathBuf, sync::Arc};

#[cfg(feature = "tls")]
use zeroize::Zeroizing;

#[cfg(feature = "tls")]
use self::policy::in_words;
#[cfg(feature = "tls")]
pub use self::{certificates::Certificates, token::Token};
#[cfg(feature = "tls")]
pub(crate) use self::{
    certificates::{CertifiedCaller, authority, failed as certificate_error, own_pair},
    token::{Fingerprint, Secret, fingerprint_of, id_of_key},
    trusted_file::Contents,
    watched::{OnTrouble, Watched},
};
pub use self::{
    policy::Access,
    principal::{Principal, PrincipalKind},
    rights::CallerRights,
};
pub(crate) use self::{
    policy::{Operation, WantedCall},
    principal::CredentialId,
    redacted::without_tokens,
};
use crate::error::Error;
pub(crate) use crate::source::Source;

/// The environment variable with a node's token, if nothing else is set.
#[cfg(feature = "tls")]
pub(crate) const TOKEN_VARIABLE: &str = "DISTRIBUTION_TOKEN";

/// The environment variable with the path of a node's token file. Processes that the node starts inherit the path, and not the
/// token.
#[cfg(feature = "tls")]
const TOKEN_FILE_VARIABLE: &str = "DISTRIBUTION_TOKEN_FILE";

/// What a builder was told about tokens and certificates.
#[derive(Clone, Debug, Default)]
pub(crate) struct SecurityConfig {
    pub(crate) insecure: bool,
    /// It is for a cluster in one process, to which the environment's token does not apply.
    #[cfg(feature = "tls")]
    pub(crate) local: bool,
    #[cfg(feature = "tls")]
    pub(crate) token: Option<TokenText>,
    #[cfg(feature = "tls")]
    pub(crate) token_file: Option<PathBuf>,
    #[cfg(feature = "tls")]
    pub(crate) certificates: Option<Certificates>,
}

impl SecurityConfig {
    /// What was set, by the names of the setters.
    fn made(&self) -> impl Iterator<Item = &'static str> {
        [
            ("insecure", self.insecure),
            #[cfg(feature = "tls")]
            ("token", self.token.is_some()),
            #[cfg(feature = "tls")]
            ("token_file", self.token_file.is_some()),
            #[cfg(feature = "tls")]
            ("certificates", self.certificates.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, is_made)| is_made.then_some(name))
    }

    /// Refuses two at once, because their owner could not know which one counts.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let mut made = self.made();
        match (made.next(), made.next()) {
            (Some(first), Some(second)) => Err(Error::setting(
                second,
                format_args!("set beside `{first}`"),
                "only one kind of security can be set",
            )),
            _ => Ok(()),
        }
    }

    /// The config of a node in the same process, for a master with this one.
    pub(crate) fn beside(&self) -> Self {
        let mut config = self.clone();
        config.insecure = false;
        #[cfg(feature = "tls")]
        {
            config.local = true;
        }
        config
    }

    /// Whether anything was set.
    pub(crate) fn is_made(&self) -> bool {
        self.made().next().is_some()
    }

    /// The token file that was set, or else that of the environment.
    #[cfg(feature = "tls")]
    pub(crate) fn given_token_file(&self) -> Result<Option<PathBuf>, Error> {
        if self.local || self.is_made() {
            return Ok(self.token_file.clone());
        }
        match (variable(TOKEN_FILE_VARIABLE)?, variable(TOKEN_VARIABLE)?) {
            (Some(file), Some(_)) => Err(Error::setting(
                TOKEN_FILE_VARIABLE,
                format_args!("set to {file:?} beside `{TOKEN_VARIABLE}`"),
                "only one of the two can be set",
            )),
            (file, _) => Ok(file.map(PathBuf::from)),
        }
    }

    /// The token that was set, or else that of the environment; for one of these roles.
    #[cfg(feature = "tls")]
    pub(crate) fn given_token(&self, roles: &[Access]) -> Result<Option<Token>, Error> {
        let (text, place) = match &self.token {
            Some(text) => (Some(text.clone()), "what `.token(..)` was given"),
            None if self.local => (None, TOKEN_VARIABLE),
            None => {
                // What is not a text is not a token either; the error of the token says so.
                let set = variable(TOKEN_VARIABLE)?.map(|text| text.to_string_lossy().into_owned());
                (set.map(TokenText::new), TOKEN_VARIABLE)
            }
        };
        let token = text.map(|text| text.parse(place)).transpose()?;
        match &token {
            Some(token) if !roles.contains(&token.access()) => {
                let reason = format!(
                    "it is for {}s, and a token for {} is needed here, which `Token::issue` or `distribution token \
                         issue` makes",
                    token.access(),
                    in_words(roles)
                );
                Err(Error::Token { place, reason })
            }
            _ => Ok(token),
        }
    }
}

/// The value of an environment variable. An empty one is an error: it comes from a script that failed to fill it, and the node
/// must not run without security because of that.
#[cfg(feature = "tls")]
fn variable(name: &'static str) -> Result<Option<OsString>, Error> {
    match std::env::var_os(name) {
        Some(text) if text.to_string_lossy().trim().is_empty() => {
            let reason = "it is set to nothing in the environment; unset it or give it a value";
            Err(Error::setting(name, "empty", reason))
        }
        set => Ok(set),
    }
}

/// The first address that is not a loopback address: other machines reach it, or it is another machine.
pub(crate) fn beyond_loopback(addrs: &[SocketAddr]) -> Option<SocketAddr> {
    addrs.iter().copied().find(|addr| !addr.ip().to_canonical().is_loopback())
}

/// The text of a token, before it is parsed.
#[cfg(feature = "tls")]
#[derive(Clone)]
pub(crate) struct TokenText(Arc<Zeroizing<String>>);

#[cfg(feature = "tls")]
impl TokenText {
    pub(crate) fn new(text: String) -> Self {
        Self(Arc::new(Zeroizing::new(text)))
    }

    /// Parses it; `place` says where it is from.
    fn parse(&self, place: &'static str) -> Result<Token, Error> {
        Token::parse(&self.0).map_err(|reason| Error::Token { place, reason })
    }
}

#[cfg(feature = "tls")]
impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_addresses_are_known_in_all_forms() {
        let far = |addr: &str| beyond_loopback(&[addr.parse().expect("an address")]).is_some();
        for addr in ["127.0.0.1:1", "127.9.8.7:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(!far(addr), "{addr}");
        }
        for addr in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1", "[fe80::1]:1", "128.0.0.1:1"] {
            assert!(far(addr), "{addr}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn two_kinds_of_security_at_once_are_an_error() {
        let both = SecurityConfig {
            insecure: true,
            token: Some(TokenText::new("secret".to_owned())),
            ..SecurityConfig::default()
        };
        let error = both.check().expect_err("which one?").to_string();
        assert!(error.contains("`token` cannot be set beside `insecure`"), "{error}");
        assert!(!format!("{both:?}").contains("secret"));
    }
}
