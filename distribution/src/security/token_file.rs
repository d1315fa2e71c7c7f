//! A master's token file, one token a line, and beside it the key and certificate that the tokens name.
//!
//! The key file is written first: a master that is stopped in between makes a token for the same key next time.

use std::{
    io,
    path::{Path, PathBuf},
};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use zeroize::{Zeroize, Zeroizing};

use super::{
    certificates::pem_fault,
    policy::{Access, in_words},
    token::{ID, NAME, Token, fingerprint_of},
    trusted_file::{self, Contents, FileError},
};
use crate::error::Error;

const HEADING: &str = "\
# Join tokens of a `distribution` master, newest first. Anyone who has one can join the cluster.
# Remove a line to make its token invalid: its nodes are disconnected within a heartbeat.
# `id=` behind a token is what logs and `NodeInfo::principal` call it: it is not secret.
# `name=` behind that says which node it is for.
# Behind the id of a token for callers may stand what these may do, as `CallerRights` prints it.
";

/// What a master needs to take peers in by token.
pub(crate) struct Keys {
    pub(crate) tokens: Vec<Token>,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// Where the key and the certificate are that belong to a token file.
pub(crate) fn key_path(file: &Path) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(".key");
    path.into()
}

/// Makes what is missing at a master's first start, and says whether a token was made.
pub(crate) fn prepare(file: &Path) -> Result<Option<Token>, Error> {
    if trusted_file::exists(file).map_err(|error| unreadable(file, error))? {
        return Ok(None);
    }
    let certificate = make_key(file)?;
    let token = new_token(file, Access::Nodes, &certificate)?;
    match write(file, std::slice::from_ref(&token), false) {
        Ok(()) => Ok(Some(token)),
        // Another master has just made it.
        Err(error) if error.kind() == Some(io::ErrorKind::AlreadyExists) => Ok(None),
        Err(error) => Err(unwritable(file, error)),
    }
}

/// Reads the two files that a master needs: tokens and key.
pub(crate) fn read(file: &Path) -> Result<[Contents; 2], Error> {
    Ok([read_tokens(file)?, read_key(&key_path(file))?])
}

/// Reads the one file that a node needs.
pub(crate) fn read_tokens(file: &Path) -> Result<Contents, Error> {
    trusted_file::read(file).map_err(|error| unreadable(file, error))
}

fn read_key(path: &Path) -> Result<Contents, Error> {
    trusted_file::read(path).map_err(|error| match error.kind() {
        Some(io::ErrorKind::NotFound) => invalid(
            path,
            "it is missing. It belongs beside the token file, where the master runs: put it back, or remove the token \
             file to have both made anew, and give the nodes the new token"
                .to_owned(),
        ),
        _ => unreadable(path, error),
    })
}

/// Makes sense of what [`read`] has read, and checks that it belongs together.
pub(crate) fn keys([token_text, key_text]: &[Contents; 2]) -> Result<Keys, Error> {
    let file = token_text.file();
    let (certificate, key) = key(key_text)?;
    let keys = Keys { tokens: tokens(token_text)?, certificate, key };
    let fingerprint = fingerprint_of(&keys.certificate);
    if let Some(other) = keys.tokens.iter().find(|token| *token.fingerprint() != fingerprint) {
        return Err(invalid(
            file,
            format!(
                "its token {} is for another certificate than the one in {}; put the two files of one master side by \
                 side, or take the line out",
                other.id(),
                key_path(file).display()
            ),
        ));
    }
    Ok(keys)
}

/// The error of a master that is started with a token file without tokens. While a master runs, its owner may remove the last
/// token.
pub(crate) fn without_tokens(file: &Path) -> Error {
    invalid(file, "there is no token in it, so nobody could join; remove it, and a new one is made".to_owned())
}

/// The token with which the node of this name registers: the first one that was issued for it, or else the first one that
/// is for any node.
pub(crate) fn own_token(contents: &Contents, name: &str, roles: &[Access]) -> Result<Token, Error> {
    let mut tokens = tokens(contents)?;
    tokens.retain(|token| roles.contains(&token.access()));
    // A process that may do more is not to do less because a token for viewers stands above its own.
    tokens.sort_by_key(|token| token.access() == Access::Viewers);
    let is_empty = tokens.is_empty();
    let own = tokens.iter().position(|token| token.name() == Some(name));
    match own.or_else(|| tokens.iter().position(|token| token.name().is_none())) {
        Some(at) => Ok(tokens.swap_remove(at)),
        None if is_empty => Err(invalid(contents.file(), format!("there is no token for {} in it", in_words(roles)))),
        None => Err(invalid(
            contents.file(),
            format!(
                "its tokens for nodes were issued for others than `{name}`; `Token::issue_for_node` makes one for it, and \
                 `Token::issue` one for any node"
            ),
        )),
    }
}

pub(super) fn tokens(contents: &Contents) -> Result<Vec<Token>, Error> {
    let file = contents.file();
    let text = std::str::from_utf8(contents.bytes())
        .map_err(|error| invalid(file, format!("it is not valid UTF-8: {error}")))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|(at, line)| Token::parse(line).map_err(|reason| invalid(file, format!("line {}: {reason}", at + 1))))
        .collect()
}

/// The certificate that belongs to a token file, made with its key if there is none.
pub(super) fn make_key(file: &Path) -> Result<CertificateDer<'static>, Error> {
    let path = key_path(file);
    if !trusted_file::exists(&path).map_err(|error| unreadable(&path, error))? {
        let failed = |error: rcgen::Error| unwritable(&path, io::Error::other(error).into());
        let mut key = KeyPair::generate().map_err(failed)?;
        // Nodes know the certificate by its fingerprint, so that its name says nothing.
        let params = CertificateParams::new(vec!["distribution.invalid".to_owned()]).map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        let (key_text, certificate_text) = (Zeroizing::new(key.serialize_pem()), certificate.pem());
        key.zeroize();
        let text = Zeroizing::new([key_text.as_bytes(), certificate_text.as_bytes()].concat());
        match trusted_file::create(&path, &text) {
            Err(error) if error.kind() != Some(io::ErrorKind::AlreadyExists) => return Err(unwritable(&path, error)),
            _ => {}
        }
    }
    let (certificate, mut key) = key(&read_key(&path)?)?;
    key.zeroize();
    Ok(certificate)
}

fn key(contents: &Contents) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), Error> {
    let (path, text) = (contents.file(), contents.bytes());
    let key = PrivateKeyDer::from_pem_slice(text)
        .map_err(|error| invalid(path, format!("its key: {}", pem_fault(&error))))?;
    let certificate = CertificateDer::from_pem_slice(text)
        .map_err(|error| invalid(path, format!("its certificate: {}", pem_fault(&error))))?;
    Ok((certificate, key))
}

pub(super) fn new_token(file: &Path, access: Access, certificate: &CertificateDer<'_>) -> Result<Token, Error> {
    Token::new(access, fingerprint_of(certificate)).map_err(|error| unwritable(file, io::Error::other(error).into()))
}

pub(super) fn write(file: &Path, tokens: &[Token], replace: bool) -> Result<(), FileError> {
    let mut text = Zeroizing::new(HEADING.to_owned());
    // As large as it gets, for the same reason as a token's text.
    text.reserve_exact(
        tokens
            .iter()
            .map(|token| {
                let behind = [(ID, token.id().len()), (NAME, token.name().map_or(0, str::len))];
                let behind = behind.map(|(what, length)| 1 + what.len() + length).iter().sum::<usize>();
                token.expose().len() + behind + 1 + token.rights().to_string().len() + 1
            })
            .sum(),
    );
    for token in tokens {
        text.push_str(token.expose());
        text.extend([" ", ID, &token.id()]);
        if !token.rights().is_unrestricted() {
            text.extend([" ", &token.rights().to_string()]);
        }
        if let Some(name) = token.name() {
            text.extend([" ", NAME, name]);
        }
        text.push('\n');
    }
    match replace {
        true => trusted_file::replace(file, text.as_bytes()),
        false => trusted_file::create(file, text.as_bytes()),
    }
}

pub(super) fn unreadable(file: &Path, error: FileError) -> Error {
    invalid(file, refused("read", error))
}

pub(super) fn unwritable(file: &Path, error: FileError) -> Error {
    invalid(file, refused("written", error))
}

fn refused(done: &str, error: FileError) -> String {
    match error {
        FileError::Io(error) => format!("it cannot be {done}: {error}"),
        FileError::Refused(reason) => reason,
    }
}

pub(super) fn invalid(file: &Path, reason: String) -> Error {
    Error::TokenFile { file: file.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    fn load(file: &Path) -> Result<Keys, Error> {
        keys(&read(file)?)
    }

    fn for_nodes(file: &Path) -> Token {
        own_token(&read_tokens(file).expect("reads"), "n1", &[Access::Nodes]).expect("one for nodes")
    }

    fn ids(file: &Path) -> Vec<String> {
        tokens(&read_tokens(file).expect("reads")).expect("tokens").iter().map(Token::id).collect()
    }

    #[test]
    fn the_first_start_makes_both_files_for_their_owner_alone() {
        let folder = folder();
        let file = folder.path().join("cluster.token");
        let token = prepare(&file).expect("writes").expect("made one");
        assert_eq!(token.access(), Access::Nodes);
        #[cfg(unix)]
        for path in [file.clone(), key_path(&file)] {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o600, "{path:?}");
        }
        assert!(prepare(&file).expect("reads").is_none(), "the second start makes none");
        let keys = load(&file).expect("belongs together");
        assert_eq!(keys.tokens[0].id(), token.id());
        assert_eq!(*token.fingerprint(), fingerprint_of(&keys.certificate));
        assert_eq!(for_nodes(&file).expose(), token.expose());
    }

    #[test]
    fn two_tokens_of_an_access_are_valid_at_once() {
        let folder = folder();
        let file = folder.path().join("cluster.token");
        let first = prepare(&file).expect("writes").expect("made one");
        let caller = Token::issue(&file, Access::Callers).expect("writes");
        let second = Token::issue(&file, Access::Nodes).expect("writes");
        assert_eq!(ids(&file), [second.id(), caller.id(), first.id()]);
        let third = Token::issue(&file, Access::Nodes).expect("writes");
        assert_eq!(ids(&file), [third.id(), second.id(), caller.id()]);
        assert_eq!(for_nodes(&file).id(), third.id());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&file).expect("is there").permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(load(&file).expect("belongs together").tokens.len(), 3);
    }

    #[test]
    fn a_line_says_what_logs_call_its_token() {
        let folder = folder();
        let file = folder.path().join("cluster.token");
        let first = prepare(&file).expect("writes").expect("made one");
        let bound = Token::issue_for_node(&file, "n1").expect("writes");
        let text = fs::read_to_string(&file).expect("reads");
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with("dtok1_")).map(str::to_owned).collect();
        let line = |token: &Token, name: &str| format!("{} id={}{name}", token.expose(), token.id());
        assert_eq!(lines, [line(&bound, " name=n1"), line(&first, "")]);
        // As files were before, and as people write them.
        let without: Vec<_> = lines.iter().map(|line| line.replace(" id=", " id=x")).collect();
        fs::write(&file, without.join("\n")).expect("writes");
        assert_eq!(ids(&file), [bound.id(), first.id()]);
    }

    #[test]
    fn a_token_is_issued_for_names_that_nodes_can_have() {
        let folder = folder();
        let file = folder.path().join("cluster.token");
        for name in ["", "worker 1", " n1", "n\u{200b}1", &"n".repeat(129)] {
            let why = Token::issue_for_node(&file, name).expect_err("no node is called so").to_string();
            assert!(why.contains("`name` cannot be") && why.contains("must have"), "{why}");
        }
        assert!(!file.exists());
        Token::issue_for_node(&file, &"n".repeat(128)).expect("a node may be called so");
    }

    #[test]
    fn a_master_that_was_stopped_in_between_goes_on() {
        let folder = folder();
        let file = folder.path().join("cluster.token");
        prepare(&file).expect("writes");
        fs::remove_file(&file).expect("removes");
        let token = prepare(&file).expect("writes").expect("made one");
        assert_eq!(*token.fingerprint(), fingerprint_of(&load(&file).expect("fits").certificate));
    }

    #[test]
    fn what_does_not_belong_together_is_told() {
        let (folder, other) = (folder(), folder());
        let file = folder.path().join("cluster.token");
        let why = |file: &Path| load(file).err().expect("cannot do").to_string();
        prepare(&file).expect("writes");
        prepare(&other.path().join("cluster.token")).expect("writes");
        fs::copy(other.path().join("cluster.token.key"), key_path(&file)).expect("copies");
        assert!(why(&file).contains("is for another certificate"), "{}", why(&file));
        fs::write(&file, "\ndtok1_node_abc\n").expect("writes");
        assert!(why(&file).contains("line 2: it has 3 characters"), "{}", why(&file));
        fs::remove_file(&file).expect("removes");
        assert!(why(&file).contains("cannot be read"), "{}", why(&file));
    }

    #[test]
    fn a_file_without_tokens_is_one() {
        let folder = folder();
        let file = folder.path().join("cluster.token");
        prepare(&file).expect("writes");
        fs::write(&file, "# nothing\n").expect("writes");
        assert!(load(&file).expect("all lines of it are in order").tokens.is_empty());
        let token = Token::issue(&file, Access::Nodes).expect("writes");
        assert_eq!(ids(&file), [token.id()]);
    }

    #[test]
    fn a_node_takes_the_token_that_is_for_it() {
        let folder = folder();
        let file = folder.path().join("cluster.token");
        let for_node = |name: &str| own_token(&read_tokens(&file).expect("reads"), name, &[Access::Nodes]);
        let other = Token::issue_for_node(&file, "n2").expect("writes");
        let why = for_node("n1").expect_err("is for another").to_string();
        assert!(why.contains("issued for others than `n1`"), "{why}");
        let shared = Token::issue(&file, Access::Nodes).expect("writes");
        Token::issue_for_node(&file, "n3").expect("writes");
        Token::issue(&file, Access::Callers).expect("writes");
        assert_eq!(["n1", "n2"].map(|name| for_node(name).expect("one").id()), [shared.id(), other.id()]);
    }

    #[test]
    fn a_token_is_issued_where_its_key_is() {
        let (folder, other) = (folder(), folder());
        let file = folder.path().join("cluster.token");
        prepare(&file).expect("writes");
        let copy = other.path().join("cluster.token");
        fs::copy(&file, &copy).expect("copies");
        let why = Token::issue(&copy, Access::Nodes).expect_err("the master would not take it").to_string();
        assert!(why.contains("cluster.token.key") && why.contains("where the master runs"), "{why}");
        assert_eq!(ids(&copy), ids(&file), "it is as it was");
        assert!(!key_path(&copy).exists());
    }

    #[test]
    fn a_key_without_line_breaks_is_shown_to_nobody() {
        let folder = folder();
        let file = folder.path().join("cluster.token");
        prepare(&file).expect("writes");
        let text = fs::read_to_string(key_path(&file)).expect("reads");
        for damaged in [text.replace('\n', ""), text.replacen("-----END", "----END", 1), text.replacen('M', "!", 1)] {
            fs::write(key_path(&file), &damaged).expect("writes");
            let error = load(&file).err().expect("is damaged");
            let shown = format!("{error} {error:?}");
            let bytes: Vec<String> = damaged.bytes().skip(27).take(6).map(|byte| byte.to_string()).collect();
            assert!(!shown.contains(&text[40..60]) && !shown.contains(&bytes.join(", ")), "{shown}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_write_is_not_believed() {
        use std::os::unix::fs::PermissionsExt;
        let folder = folder();
        let file = folder.path().join("cluster.token");
        prepare(&file).expect("writes");
        for (path, mode) in [(file.clone(), 0o620), (key_path(&file), 0o602)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changes");
            let why = load(&file).err().expect("could be anybody's").to_string();
            assert!(why.contains("users other than its owner can write to it") && why.contains("chmod go-w"), "{why}");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changes");
        }
        load(&file).expect("is well again");
    }
}
