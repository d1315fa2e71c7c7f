//! The same tests over plain TCP and over TLS, with callers in the master's process and elsewhere: a test takes the
//! [`Transport`] it is to use, and [`over_tcp_and_tls`](crate::over_tcp_and_tls) or
//! [`over_tcp_tls_and_from_elsewhere`](crate::over_tcp_tls_and_from_elsewhere) makes several tests of it.

use std::sync::{Arc, Mutex, PoisonError};

use distribution::{Access, Caller, Cluster, Master, MasterBuilder, Node, NodeBuilder, Token};
use tempfile::TempDir;

/// What the connections of a test go over, and where its calls are made.
#[derive(Debug)]
pub struct Transport {
    security: Security,
    /// The connections of callers elsewhere, if calls are made there. Kept for as long as the test runs.
    elsewhere: Option<Mutex<Vec<Cluster>>>,
}

#[derive(Debug)]
enum Security {
    /// Plain TCP.
    Tcp,
    /// TLS, with join tokens.
    Tls(Credential),
}

/// A token file that is removed with it.
#[derive(Debug)]
pub struct Credential {
    folder: TempDir,
    token: Token,
    callers: Token,
}

impl Transport {
    /// Plain TCP.
    pub fn tcp() -> Self {
        Self { security: Security::Tcp, elsewhere: None }
    }

    /// The same, with calls that are made over a connection to the master.
    #[must_use]
    pub fn from_elsewhere(self) -> Self {
        Self { elsewhere: Some(Mutex::default()), ..self }
    }

    /// Whether calls are made in the master's process.
    pub fn is_in_process(&self) -> bool {
        self.elsewhere.is_none()
    }

    /// What the calls of a test are made through.
    ///
    /// # Panics
    ///
    /// If a caller elsewhere cannot connect.
    pub async fn caller(&self, master: &Master) -> Arc<dyn Caller + Send + Sync> {
        let Some(elsewhere) = &self.elsewhere else { return Arc::new(master.clone()) };
        let builder = match &self.security {
            Security::Tcp => Cluster::builder(),
            Security::Tls(Credential { callers, .. }) => Cluster::builder().token(callers.expose()),
        };
        let cluster = builder.connect(master.local_addr()).await.expect("connects");
        elsewhere.lock().unwrap_or_else(PoisonError::into_inner).push(cluster.clone());
        Arc::new(cluster)
    }

    /// TLS with tokens of its own.
    ///
    /// # Panics
    ///
    /// If the token file cannot be written.
    pub fn tls() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let token = Token::issue(folder.path().join("cluster.token"), Access::Nodes).expect("writes");
        let callers = Token::issue(folder.path().join("cluster.token"), Access::Callers).expect("writes");
        Self { security: Security::Tls(Credential { folder, token, callers }), elsewhere: None }
    }

    /// A master that takes connections over it.
    pub fn master(&self) -> MasterBuilder {
        match &self.security {
            Security::Tcp => Master::builder(),
            Security::Tls(Credential { folder, .. }) => {
                Master::builder().token_file(folder.path().join("cluster.token"))
            }
        }
    }

    /// A node that connects over it.
    pub fn node(&self) -> NodeBuilder {
        match &self.security {
            Security::Tcp => Node::builder(),
            Security::Tls(Credential { token, .. }) => Node::builder().token(token.expose()),
        }
    }

    /// The environment of a process whose node connects over it.
    pub fn environment(&self) -> Option<(&'static str, &str)> {
        match &self.security {
            Security::Tcp => None,
            Security::Tls(Credential { token, .. }) => Some(("DISTRIBUTION_TOKEN", token.expose())),
        }
    }
}

/// Makes two tests of each of these async functions that take a [`Transport`](crate::transport::Transport) by reference:
/// one in a module `tcp`, one in a module `tls`. The compiler warns of a function that is not in the list.
#[macro_export]
macro_rules! over_tcp_and_tls {
    ($($name:ident),* $(,)?) => {
        mod tcp {
            $(#[::tokio::test] async fn $name() { super::$name(&$crate::transport::Transport::tcp()).await; })*
        }

        mod tls {
            $(#[::tokio::test] async fn $name() { super::$name(&$crate::transport::Transport::tls()).await; })*
        }
    };
}

/// Makes four tests of each of these functions: those of [`over_tcp_and_tls`](crate::over_tcp_and_tls), and two in which the calls are made over a
/// connection to the master, in the modules `elsewhere` and `elsewhere_tls`.
#[macro_export]
macro_rules! over_tcp_tls_and_from_elsewhere {
    ($($name:ident),* $(,)?) => {
        $crate::over_tcp_and_tls! { $($name),* }

        mod elsewhere {
            $(#[::tokio::test] async fn $name() {
                super::$name(&$crate::transport::Transport::tcp().from_elsewhere()).await;
            })*
        }

        mod elsewhere_tls {
            $(#[::tokio::test] async fn $name() {
                super::$name(&$crate::transport::Transport::tls().from_elsewhere()).await;
            })*
        }
    };
}
