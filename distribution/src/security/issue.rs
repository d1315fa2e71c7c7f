//! Issues, lists and revokes the tokens of a master's token file.

use std::path::Path;

use super::{
    policy::Access,
    rights::CallerRights,
    token::Token,
    token_file::{invalid, keys, make_key, new_token, read, read_tokens, tokens, unreadable, unwritable, write},
    trusted_file,
};
use crate::{
    error::Error,
    text::{check_node_name, in_one_line},
};

/// Tokens for the same access and name that are valid at a time: the newest, and the one before it.
const VALID: usize = 2;

/// The most bytes that an error shows of an id that does not exist.
const ID_LIMIT: usize = 64;

impl Token {
    /// Puts a new token into a master's token file, which is made where there is none. The newest one before it for
    /// the same access stays valid, and any older ones are dropped: so two are valid at a time, and nodes can be given
    /// the new one before the old one ends.
    ///
    /// A running master takes the new token with the next connection. Nodes that came by one that was dropped are
    /// disconnected within a heartbeat. Those that were given it as text
    /// ([`NodeBuilder::token`](crate::NodeBuilder::token) or `DISTRIBUTION_TOKEN`) then end with an error; those that read
    /// it from a file go on trying until the file holds a valid one. Nodes that came by a token that is still valid stay.
    /// So give every node the new token before you issue another.
    ///
    /// # Errors
    ///
    /// [`Error::TokenFile`] where the file cannot be read or written, holds something else, or could be another user's
    /// (see [`MasterBuilder::token_file`](crate::MasterBuilder::token_file)): tokens have to be issued by the user that the
    /// master runs as, or by root in folders of root's.
    pub fn issue(file: impl AsRef<Path>, access: Access) -> Result<Self, Error> {
        issue(file.as_ref(), access, None, CallerRights::new())
    }

    /// Does the same for the node of this name alone: the master takes a node that registers with this token under no
    /// other name, and from now on no node with another token under this one. One that has the name already is disconnected
    /// once a node with this token comes. The newest token before it for the same name stays valid.
    ///
    /// The name stands behind the token in the master's file, and not in the token.
    ///
    /// # Errors
    ///
    /// Those of [`issue`](Self::issue), and [`Error::Setting`] for a name that no node can have: it has 1 to 128 bytes,
    /// neither control nor invisible characters, and no spaces.
    pub fn issue_for_node(file: impl AsRef<Path>, name: &str) -> Result<Self, Error> {
        issue(file.as_ref(), Access::Nodes, Some(name), CallerRights::new())
    }

    /// Does the same for callers with these rights. The newest token before it for callers with the same rights stays valid.
    ///
    /// The rights stand behind the token in the master's file, and not in the token. If you change them there, the master
    /// disconnects the callers that came by the token within a heartbeat; they connect again with the new rights.
    ///
    /// ```
    /// use distribution::{CallerRights, Token};
    /// # let folder = tempfile::tempdir()?;
    /// # let file = folder.path().join("cluster.token");
    ///
    /// let token = Token::issue_for_caller(&file, CallerRights::new().service("Arith").max_calls(100))?;
    /// assert_eq!(token.rights().to_string(), "services=Arith max_calls=100");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`issue`](Self::issue), and [`Error::Setting`] for rights that cannot be, such as a limit of 0 calls.
    pub fn issue_for_caller(file: impl AsRef<Path>, rights: CallerRights) -> Result<Self, Error> {
        issue(file.as_ref(), Access::Callers, None, rights)
    }

    /// The tokens of a master's token file, in the order of its lines: the newest first.
    ///
    /// # Errors
    ///
    /// [`Error::TokenFile`] where the file cannot be read, or could be another user's.
    pub fn list(file: impl AsRef<Path>) -> Result<Vec<Self>, Error> {
        tokens(&read_tokens(file.as_ref())?)
    }

    /// Removes the token with this [`id`](Self::id) from a master's token file, and returns what was removed. A running
    /// master disconnects within a heartbeat all peers that came by it.
    ///
    /// # Errors
    ///
    /// Those of [`issue`](Self::issue), and [`Error::TokenFile`] if the file has no such token: then nothing is changed.
    pub fn revoke(file: impl AsRef<Path>, id: &str) -> Result<Self, Error> {
        let file = file.as_ref();
        let (mut revoked, left) = Self::list(file)?.into_iter().partition::<Vec<_>, _>(|token| token.id() == id);
        let Some(token) = revoked.pop() else {
            return Err(invalid(file, format!("it has no token with the id `{}`", in_one_line(id, ID_LIMIT))));
        };
        write(file, &left, true).map_err(|error| unwritable(file, error))?;
        Ok(token)
    }
}

fn issue(file: &Path, access: Access, name: Option<&str>, rights: CallerRights) -> Result<Token, Error> {
    if let Some(name) = name {
        check_node_name(name).map_err(|reason| Error::setting("name", format_args!("{name:?}"), reason))?;
    }
    rights.check()?;
    // Of a file that is there, the key must be too: a new one would make a token that the master does not take.
    let (certificate, before) = match trusted_file::exists(file).map_err(|error| unreadable(file, error))? {
        true => keys(&read(file)?).map(|keys| (keys.certificate, keys.tokens))?,
        false => (make_key(file)?, Vec::new()),
    };
    let token = new_token(file, access, &certificate)?.for_node(name).with_rights(rights);
    let mut tokens = vec![token.clone()];
    for old in before {
        let is_alike =
            |other: &Token| other.access() == access && other.name() == name && other.rights() == token.rights();
        if !is_alike(&old) || tokens.iter().filter(|token| is_alike(token)).count() < VALID {
            tokens.push(old);
        }
    }
    write(file, &tokens, true).map_err(|error| unwritable(file, error))?;
    Ok(token)
}
