//! The same tests over plain TCP and over TLS: which it is, the environment says, so that a program of tests can run
//! itself once more.

use std::{process::Command, sync::LazyLock};

use distribution::{Access, Master, MasterBuilder, Node, NodeBuilder, Token};
use tempfile::TempDir;

const VARIABLE: &str = "DISTRIBUTION_TEST_OVER_TLS";

/// A token file for this process, where it tests over TLS.
static TOKEN: LazyLock<Option<(TempDir, Token)>> = LazyLock::new(|| {
    std::env::var_os(VARIABLE)?;
    let folder = tempfile::tempdir().expect("a folder");
    let token = Token::issue(folder.path().join("cluster.token"), Access::Nodes).expect("writes");
    Some((folder, token))
});

/// A master over what is tested.
pub fn master() -> MasterBuilder {
    match &*TOKEN {
        Some((folder, _)) => Master::builder().token_file(folder.path().join("cluster.token")),
        None => Master::builder(),
    }
}

/// A node over what is tested.
pub fn node() -> NodeBuilder {
    match &*TOKEN {
        Some((_, token)) => Node::builder().token(token.expose()),
        None => Node::builder(),
    }
}

/// What the environment of a process has to say, so that its nodes may join.
pub fn token_for_children() -> Option<(&'static str, &'static str)> {
    TOKEN.as_ref().map(|(_, token)| ("DISTRIBUTION_TOKEN", token.expose()))
}

/// Runs all tests of this program but the one that asks for it, over TLS.
///
/// # Panics
///
/// If one of them fails, with what they print.
pub fn run_all_over_tls(but: &str) {
    if TOKEN.is_some() {
        return;
    }
    let program = std::env::current_exe().expect("a test has a path");
    let ran = Command::new(program).args(["--skip", but]).env(VARIABLE, "yes").output().expect("starts");
    let printed = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{printed}{}", String::from_utf8_lossy(&ran.stderr));
    assert!(!printed.contains(" 0 passed"), "{printed}");
}
