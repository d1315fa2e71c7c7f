//! The same tests over plain TCP and over TLS: a test takes the [`Transport`] it is to use, and
//! [`over_tcp_and_tls`](crate::over_tcp_and_tls) makes two tests of it.

use distribution::{Access, Master, MasterBuilder, Node, NodeBuilder, Token};
use tempfile::TempDir;

/// What the connections of a test go over.
#[derive(Debug)]
pub enum Transport {
    /// Plain TCP.
    Tcp,
    /// TLS, with a join token.
    Tls(Credential),
}

/// A token file that is removed with it.
#[derive(Debug)]
pub struct Credential {
    folder: TempDir,
    token: Token,
}

impl Transport {
    /// TLS with a token of its own.
    ///
    /// # Panics
    ///
    /// If the token file cannot be written.
    pub fn tls() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let token = Token::issue(folder.path().join("cluster.token"), Access::Nodes).expect("writes");
        Self::Tls(Credential { folder, token })
    }

    /// A master that takes connections over it.
    pub fn master(&self) -> MasterBuilder {
        match self {
            Self::Tcp => Master::builder(),
            Self::Tls(Credential { folder, .. }) => Master::builder().token_file(folder.path().join("cluster.token")),
        }
    }

    /// A node that connects over it.
    pub fn node(&self) -> NodeBuilder {
        match self {
            Self::Tcp => Node::builder(),
            Self::Tls(Credential { token, .. }) => Node::builder().token(token.expose()),
        }
    }

    /// The environment of a process whose node connects over it.
    pub fn environment(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Tcp => None,
            Self::Tls(Credential { token, .. }) => Some(("DISTRIBUTION_TOKEN", token.expose())),
        }
    }
}

/// Makes two tests of each of these async functions that take a [`Transport`](crate::transport::Transport) by reference:
/// one in a module `tcp`, one in a module `tls`. The compiler warns of a function that is not in the list.
#[macro_export]
macro_rules! over_tcp_and_tls {
    ($($name:ident),* $(,)?) => {
        mod tcp {
            $(#[::tokio::test] async fn $name() { super::$name(&$crate::transport::Transport::Tcp).await; })*
        }

        mod tls {
            $(#[::tokio::test] async fn $name() { super::$name(&$crate::transport::Transport::tls()).await; })*
        }
    };
}
