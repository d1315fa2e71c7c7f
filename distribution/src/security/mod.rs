//! What keeps strangers out, as people set it up: join tokens and certificates, and the rule that nothing but this
//! machine is reached without either.
//!
//! How it is done on a connection is `wire/authenticator.rs`'s business.

#[cfg(feature = "tls")]
mod certificates;
mod policy;
mod principal;
mod source;
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
pub use self::{certificates::Certificates, token::Token};
#[cfg(feature = "tls")]
pub(crate) use self::{
    certificates::{authority, failed as certificate_error, own_pair},
    token::{Fingerprint, Secret, fingerprint_of, id_of_key},
    trusted_file::Contents,
    watched::{OnTrouble, Watched},
};
pub use self::{
    policy::Access,
    principal::{Principal, PrincipalKind},
};
pub(crate) use self::{policy::Operation, principal::CredentialId, source::Source};
use crate::error::Error;

/// Where a node finds its token if it is given nothing else.
#[cfg(feature = "tls")]
pub(crate) const TOKEN_VARIABLE: &str = "DISTRIBUTION_TOKEN";

/// Where a node finds the path of its token file. Processes that it starts are given the path, and not what is in the file.
#[cfg(feature = "tls")]
const TOKEN_FILE_VARIABLE: &str = "DISTRIBUTION_TOKEN_FILE";

/// What a builder was told.
#[derive(Clone, Debug, Default)]
pub(crate) struct SecurityConfig {
    pub(crate) insecure: bool,
    /// It is for a cluster in one process, which the environment is not about.
    pub(crate) local: bool,
    #[cfg(feature = "tls")]
    pub(crate) token: Option<TokenText>,
    #[cfg(feature = "tls")]
    pub(crate) token_file: Option<PathBuf>,
    #[cfg(feature = "tls")]
    pub(crate) certificates: Option<Certificates>,
}

impl SecurityConfig {
    /// Which were made, by the names of their setters.
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

    /// Refuses two at once: whoever sets them does not know which one holds.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let mut made = self.made();
        match (made.next(), made.next()) {
            (Some(first), Some(second)) => Err(Error::setting(
                second,
                format_args!("set beside `{first}`"),
                "one kind of security is enough: choose",
            )),
            _ => Ok(()),
        }
    }

    /// What a node registers with in the process of a master that was told this.
    pub(crate) fn beside(&self) -> Self {
        let mut choices = self.clone();
        (choices.local, choices.insecure) = (true, false);
        choices
    }

    /// Whether anything was chosen.
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
                "one of the two is enough: choose",
            )),
            (file, _) => Ok(file.map(PathBuf::from)),
        }
    }

    /// The token that was set, or else that of the environment.
    #[cfg(feature = "tls")]
    pub(crate) fn given_token(&self) -> Result<Option<Token>, Error> {
        let (text, place) = match &self.token {
            Some(text) => (Some(text.clone()), "what `.token(..)` was given"),
            None if self.local => (None, TOKEN_VARIABLE),
            None => {
                // What is no text is no token either, and says so there.
                let set = variable(TOKEN_VARIABLE)?.map(|text| text.to_string_lossy().into_owned());
                (set.map(TokenText::new), TOKEN_VARIABLE)
            }
        };
        let token = text.map(|text| text.parse(place)).transpose()?;
        match &token {
            Some(token) if token.access() != Access::Nodes => {
                let reason = format!("it is for {}s, and a node cannot register with it", token.access());
                Err(Error::Token { place, reason })
            }
            _ => Ok(token),
        }
    }
}

/// What a variable of the environment is set to. One that is set to nothing comes from a script that failed to fill it, and
/// must not make a node that has no security of one that was to have some.
#[cfg(feature = "tls")]
fn variable(name: &'static str) -> Result<Option<OsString>, Error> {
    match std::env::var_os(name) {
        Some(text) if text.to_string_lossy().trim().is_empty() => {
            let reason = "it is set in the environment, and to nothing; unset it, or give it what belongs there";
            Err(Error::setting(name, "empty", reason))
        }
        set => Ok(set),
    }
}

/// Finds among addresses one that other machines can reach, or that is one.
pub(crate) fn beyond_loopback(addrs: &[SocketAddr]) -> Option<SocketAddr> {
    addrs.iter().copied().find(|addr| !addr.ip().to_canonical().is_loopback())
}

/// What is taken for a token and was not looked at yet.
#[cfg(feature = "tls")]
#[derive(Clone)]
pub(crate) struct TokenText(Arc<Zeroizing<String>>);

#[cfg(feature = "tls")]
impl TokenText {
    pub(crate) fn new(text: String) -> Self {
        Self(Arc::new(Zeroizing::new(text)))
    }

    /// Reads it; `place` says where it is from.
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
    fn loopback_is_known_in_all_its_forms() {
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
    fn one_kind_of_security_is_enough() {
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
