//! A join token: the one line that a peer needs to join a cluster.
//!
//! It reads `dtok1_node_` and 91 characters, which are the base64url of 68 bytes:
//!
//! | bytes | what |
//! |---|---|
//! | 32 | the secret |
//! | 32 | SHA-256 of the master's certificate |
//! | 4 | the first of SHA-256 of the text before and the bytes above, so that a typing error is found at once |

use std::{fmt, str::FromStr, sync::Arc};

use base64ct::{Base64UrlUnpadded, Encoding};
use rand::{TryRng, rngs::SysRng};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{policy::Access, principal::CredentialId, redacted::TOKEN_PREFIX as PREFIX, rights::CallerRights};
use crate::error::Error;

const SECRET: usize = 32;
const FINGERPRINT: usize = 32;
const CHECK: usize = 4;
const BYTES: usize = SECRET + FINGERPRINT + CHECK;

/// What base64 makes of [`BYTES`] bytes.
const CHARACTERS: usize = (BYTES * 8).div_ceil(6);

/// SHA-256 of a certificate.
pub(crate) type Fingerprint = [u8; FINGERPRINT];

/// 256 bits that only the members of a cluster know. Wiped from memory with its last clone.
#[derive(Clone)]
pub(crate) struct Secret(Arc<Zeroizing<[u8; SECRET]>>);

impl Secret {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0[..]
    }

    #[cfg(test)]
    pub(crate) fn from_bytes(bytes: [u8; SECRET]) -> Self {
        Self(Arc::new(Zeroizing::new(bytes)))
    }
}

/// What a peer needs to join a cluster: a secret, and the fingerprint of the master's certificate.
///
/// A master makes one at its first start ([`MasterBuilder::token_file`](crate::MasterBuilder::token_file)). Anyone
/// who has it can join the cluster. So it is not printed or logged by accident: only [`expose`](Token::expose) shows it, and
/// its memory is wiped when the last clone is dropped.
///
/// ```
/// use distribution::{Access, Token};
/// # let folder = tempfile::tempdir()?;
/// # let file = folder.path().join("cluster.token");
///
/// let token = Token::issue(&file, Access::Nodes)?;
/// let same: Token = token.expose().parse()?;
/// assert_eq!(same.id(), token.id());
/// println!("a node joins with DISTRIBUTION_TOKEN={}", token.expose());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Token {
    access: Access,
    secret: Secret,
    fingerprint: Fingerprint,
    text: Arc<Zeroizing<String>>,
    /// What the line of a token file says behind the token.
    name: Option<Arc<str>>,
    rights: Arc<CallerRights>,
}

/// What stands behind the token in a line of a token file, before its id: for people, and not read.
pub(super) const ID: &str = "id=";

/// What stands behind that, before the name of its node.
pub(super) const NAME: &str = "name=";

impl Token {
    /// The name of the node that it is for, as the line of the master's file says.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What a caller that comes by it may do, as the line of the master's file says.
    pub fn rights(&self) -> &CallerRights {
        &self.rights
    }

    /// The same, shared.
    pub(crate) fn shared_rights(&self) -> Arc<CallerRights> {
        Arc::clone(&self.rights)
    }

    /// The same token, for callers with these rights.
    pub(super) fn with_rights(self, rights: CallerRights) -> Self {
        Self { rights: Arc::new(rights), ..self }
    }

    /// The same token, for the node of this name.
    pub(crate) fn for_node(self, name: Option<&str>) -> Self {
        Self { name: name.map(Arc::from), ..self }
    }

    /// The role that it is for.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Eight characters that identify the token in logs and reveal nothing of it.
    pub fn id(&self) -> String {
        self.credential_id().short()
    }

    /// The whole hash of which [`id`](Self::id) is the beginning.
    pub(crate) fn credential_id(&self) -> CredentialId {
        let digest = Sha256::new().chain_update(b"token id").chain_update(self.secret.bytes()).finalize();
        CredentialId::new(digest.into())
    }

    /// The token itself, for a peer that is to join. Keep it like a password.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// A new token, with random bytes of the operating system.
    pub(crate) fn new(access: Access, fingerprint: Fingerprint) -> Result<Self, rand::rngs::SysError> {
        let mut bytes = Zeroizing::new([0; BYTES]);
        SysRng.try_fill_bytes(&mut bytes[..SECRET])?;
        bytes[SECRET..SECRET + FINGERPRINT].copy_from_slice(&fingerprint);
        let check = check(access, &bytes);
        bytes[SECRET + FINGERPRINT..].copy_from_slice(&check);
        let encoded = Zeroizing::new(Base64UrlUnpadded::encode_string(&bytes[..]));
        // Allocated in full at first: if it grew, a part of the secret would stay in the old memory.
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 8 + encoded.len()));
        for part in [PREFIX, access.name(), "_", &encoded] {
            text.push_str(part);
        }
        Ok(Self::from_parts(access, &bytes, text))
    }

    fn from_parts(access: Access, bytes: &[u8; BYTES], text: Zeroizing<String>) -> Self {
        let mut secret = Arc::new(Zeroizing::new([0; SECRET]));
        if let Some(secret) = Arc::get_mut(&mut secret) {
            secret.copy_from_slice(&bytes[..SECRET]);
        }
        let mut fingerprint = [0; FINGERPRINT];
        fingerprint.copy_from_slice(&bytes[SECRET..SECRET + FINGERPRINT]);
        Self { access, secret: Secret(secret), fingerprint, text: Arc::new(text), name: None, rights: Arc::default() }
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        // `DISTRIBUTION_TOKEN=…` is what a master prints, and what people copy.
        let text = text.strip_prefix("DISTRIBUTION_TOKEN=").unwrap_or(text);
        let (text, behind) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let Some(rest) = text.strip_prefix(PREFIX) else {
            let is_quoted = text.starts_with(['"', '\'', '`', '\u{2018}', '\u{201c}', '\u{201e}', '\u{ab}']);
            let hint = if is_quoted { ": take the quotes away" } else { "" };
            return Err(format!("a token begins with `{PREFIX}`, and this does not{hint}"));
        };
        let (name, rights) = split_behind(behind)?;
        let known = Access::ALL.into_iter().find_map(|access| {
            let encoded = rest.strip_prefix(access.name())?.strip_prefix('_')?;
            Some((access, encoded))
        });
        let Some((access, encoded)) = known else {
            return Err(format!("after `{PREFIX}` it must have `node_`, `caller_`, `admin_` or `viewer_`"));
        };
        if encoded.len() != CHARACTERS {
            return Err(format!(
                "it has {} characters after `{PREFIX}{access}_` instead of {CHARACTERS}: it is not whole, or two tokens ran \
                 together",
                encoded.len()
            ));
        }
        let mut bytes = Zeroizing::new([0; BYTES]);
        Base64UrlUnpadded::decode(encoded, &mut bytes[..])
            .map_err(|_| "it has a character that no token has".to_owned())?;
        if bytes[SECRET + FINGERPRINT..] != check(access, &bytes) {
            return Err("its checksum is wrong: a character of it was changed".to_owned());
        }
        let token = Self::from_parts(access, &bytes, Zeroizing::new(text.to_owned())).for_node(name);
        if rights.is_empty() {
            return Ok(token);
        }
        let rights = CallerRights::parse(rights).map_err(|reason| {
            format!(
                "behind the token only `{ID}` with its id, the rights of its callers, and `{NAME}` with the name of a node may \
                 follow, in this order: {reason}"
            )
        })?;
        match access {
            Access::Callers => Ok(token.with_rights(rights)),
            _ => Err(format!("behind the token are rights (`{rights}`), which only tokens for callers have")),
        }
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }

    pub(crate) fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }
}

/// The name of a node and the rights of callers in what stands behind a token: `id=…`, rights, and `name=…`, with each of them
/// left out or not.
fn split_behind(text: &str) -> Result<(Option<&str>, &str), String> {
    let text = text.trim();
    let text = match text.strip_prefix(ID) {
        Some(behind) => behind.split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim()),
        None => text,
    };
    // The name goes on to the end of the line.
    let mut words = text.match_indices(NAME);
    let at = words.find(|(at, _)| text[..*at].chars().next_back().is_none_or(char::is_whitespace));
    let Some((at, _)) = at else { return Ok((None, text)) };
    match text[at + NAME.len()..].trim() {
        "" => Err(format!("behind the token is `{NAME}` without the name of a node")),
        name => Ok((Some(name), text[..at].trim())),
    }
}

fn check(access: Access, bytes: &[u8; BYTES]) -> [u8; CHECK] {
    let digest =
        Sha256::new().chain_update(PREFIX).chain_update(access.name()).chain_update(&bytes[..SECRET + FINGERPRINT]);
    let mut check = [0; CHECK];
    check.copy_from_slice(&digest.finalize()[..CHECK]);
    check
}

/// SHA-256 of a certificate in DER.
pub(crate) fn fingerprint_of(certificate: &[u8]) -> Fingerprint {
    Sha256::digest(certificate).into()
}

/// Identifies a certificate by its public key. The bytes of the certificate do not: anybody can write its signature in another
/// valid way.
pub(crate) fn id_of_key(public_key: &[u8]) -> CredentialId {
    CredentialId::new(Sha256::digest(public_key).into())
}

/// Fails as [`Error::Token`] says.
impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text).map_err(|reason| Error::Token { place: "this text", reason })
    }
}

/// Shows the role and the id, and nothing secret.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("access", &self.access).field("id", &self.id()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(access: Access) -> Token {
        Token::new(access, [7; 32]).expect("the system has random bytes")
    }

    #[test]
    fn a_token_survives_being_written_down() {
        for access in Access::ALL {
            let token = token(access);
            for text in [token.expose().to_owned(), format!(" DISTRIBUTION_TOKEN={}\n", token.expose())] {
                let read = Token::parse(&text).expect("is one");
                assert_eq!((read.access, read.fingerprint, read.id()), (access, [7; 32], token.id()));
                assert_eq!(read.secret.bytes(), token.secret.bytes());
                assert_eq!(read.expose(), token.expose());
            }
            assert!(token.expose().starts_with(&format!("dtok1_{access}_")));
        }
    }

    #[test]
    fn a_name_may_stand_behind_it() {
        let token = token(Access::Nodes);
        let read = Token::parse(&format!("{} name=worker 1 \n", token.expose())).expect("is one");
        assert_eq!((read.name(), read.expose()), (Some("worker 1"), token.expose()));
        for (behind, name) in [(" id=1a2b3c4d", None), ("\tid=x  name=n1\n", Some("n1"))] {
            let read = Token::parse(&format!("DISTRIBUTION_TOKEN={}{behind}", token.expose())).expect("is one");
            assert_eq!((read.name(), read.expose()), (name, token.expose()));
        }
        for behind in [" name=", " worker", " x", " id=1 x", " id=1 name=", " name"] {
            let reason = Token::parse(&format!("{}{behind}", token.expose())).expect_err("is more than a token");
            assert!(reason.contains("behind the token"), "{reason}");
        }
    }

    #[test]
    fn rights_may_stand_behind_a_token_for_callers_and_no_other() {
        let caller = token(Access::Callers);
        for behind in [" id=1a2b3c4d services=Arith max_calls=2", "  max_calls=2\tservices=Arith \n"] {
            let read = Token::parse(&format!("{}{behind}", caller.expose())).expect("is one");
            assert_eq!(read.rights().to_string(), "services=Arith max_calls=2");
            assert_eq!((read.expose(), read.name()), (caller.expose(), None));
        }
        assert!(Token::parse(caller.expose()).expect("is one").rights().is_unrestricted());
        let named = Token::parse(&format!("{} id=1 max_calls=2 name=a name=b", caller.expose())).expect("is one");
        assert_eq!((named.name(), named.rights().max_calls), (Some("a name=b"), Some(2)));
        for access in [Access::Nodes, Access::Admins] {
            let reason = Token::parse(&format!("{} max_calls=2", token(access).expose())).expect_err("are for callers");
            assert!(reason.contains("(`max_calls=2`), which only tokens for callers have"), "{reason}");
        }
    }

    #[test]
    fn every_token_has_a_secret_of_its_own() {
        let [one, other] = [token(Access::Nodes), token(Access::Nodes)];
        assert_ne!(one.secret.bytes(), other.secret.bytes());
        assert_ne!(one.id(), other.id());
        assert_eq!(one.secret.bytes().len() * 8, 256);
    }

    #[test]
    fn a_token_that_is_not_whole_says_so() {
        let whole = token(Access::Nodes).expose().to_owned();
        for end in 0..whole.len() {
            let reason = Token::parse(&whole[..end]).expect_err("is not whole");
            assert!(end < 11 || reason.contains("not whole"), "{reason}");
        }
        assert!(Token::parse(&format!("{whole}{whole}")).expect_err("two").contains("two tokens ran together"));
    }

    #[test]
    fn quotes_around_it_are_told() {
        let whole = token(Access::Nodes).expose().to_owned();
        for quoted in [format!("\"{whole}\""), format!("DISTRIBUTION_TOKEN='{whole}'")] {
            let reason = Token::parse(&quoted).expect_err("is in quotes");
            assert!(reason.contains("take the quotes away"), "{reason}");
        }
        assert!(!Token::parse("x").expect_err("is none").contains("quotes"));
    }

    #[test]
    fn any_changed_character_is_found() {
        let whole = token(Access::Nodes).expose().to_owned();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            let other = if &whole[at..=at] == "A" { "B" } else { "A" };
            changed.replace_range(at..=at, other);
            Token::parse(&changed).expect_err("is not the token");
        }
        Token::parse(&whole.replacen("node", "admin", 1)).expect_err("its access was changed");
    }

    #[test]
    fn nothing_that_is_printed_by_accident_holds_the_secret() {
        let token = token(Access::Admins);
        let shown = format!("{token:?} {:?}", Token::parse(&token.expose()[..50]));
        assert!(!shown.contains(&token.expose()[11..20]), "{shown}");
        assert!(shown.starts_with(&format!("Token {{ access: Admins, id: \"{}\", .. }}", token.id())), "{shown}");
    }
}
