//! Why a master, a node or a caller could not start, or had to stop.

use std::{borrow::Cow, fmt, io, path::PathBuf, time::Duration};

use crate::id::MethodName;

/// Why a master, a node or a caller could not start, or had to stop for good.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The master could not listen on its address.
    #[error("cannot listen on {addr}")]
    #[non_exhaustive]
    Bind {
        /// The address that was given.
        addr: String,
        /// The error that the operating system reported.
        source: io::Error,
    },

    /// A setting has a value that cannot work.
    #[error("the setting `{name}` cannot be {value}: {reason}")]
    #[non_exhaustive]
    Setting {
        /// The setter's name.
        name: &'static str,
        /// The value that was given.
        value: String,
        /// Why it cannot work, and which values can.
        reason: Cow<'static, str>,
    },

    /// The node's name, labels or services are such that every master would refuse it.
    #[error("the node cannot register as it is set up: {reason}")]
    #[non_exhaustive]
    Node {
        /// What is wrong, and what to do.
        reason: String,
    },

    /// Two services of one node have the same method of the same name and version.
    #[error(
        "this node serves `{}` twice (its method `{}`); serve it once, or give one of the two another name with \
         #[service(name = \"..\")]", .method.service(), .method.method()
    )]
    #[non_exhaustive]
    ServedTwice {
        /// The first method that clashes.
        method: MethodName,
    },

    /// The master refused the node or the caller for good. Connecting again would not help.
    #[error("the master at {master} refused this {end}: {reason}")]
    #[non_exhaustive]
    Refused {
        /// Which end was refused.
        end: Endpoint,
        /// The master's address as it was given.
        master: String,
        /// The master's reason.
        reason: String,
    },

    /// The master requires a token or a certificate, and the node or the caller was given none, or one of the other kind.
    #[error("this {end} has no credential that the master at {master} takes: {reason}")]
    #[non_exhaustive]
    NoCredential {
        /// Which end has none.
        end: Endpoint,
        /// The master's address as it was given.
        master: String,
        /// What the master requires, and what to do.
        reason: String,
    },

    /// Master and node speak different versions of the protocol, or the peer is not a master.
    #[error("{master} cannot be this {end}'s master: {reason}")]
    #[non_exhaustive]
    Protocol {
        /// Which end found that.
        end: Endpoint,
        /// The master's address as it was given.
        master: String,
        /// What was received instead.
        reason: String,
    },

    /// The address is not on loopback, and neither a token nor certificates are set.
    #[error("{}", without_security(*.end, .addr))]
    #[non_exhaustive]
    Insecure {
        /// Which end has no security.
        end: Endpoint,
        /// The address that is not on loopback.
        addr: String,
    },

    /// A text is not a join token, or only a part of one.
    #[error(
        "{place} cannot be used as a join token: {reason}. Take the line that the master printed, or a line of its \
         token file that begins with `dtok1_`"
    )]
    #[non_exhaustive]
    Token {
        /// Where the token is from: a setter, or the environment variable.
        place: &'static str,
        /// What is wrong with it.
        reason: String,
    },

    /// A token file, or the key file beside it, cannot be used.
    #[error("the token file {}: {reason}", .file.display())]
    #[non_exhaustive]
    TokenFile {
        /// The file.
        file: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },

    /// A certificate or key file cannot be used.
    #[error("the certificates in {}: {reason}", .file.display())]
    #[non_exhaustive]
    Certificates {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },

    /// The peer at the master's address has not proven that it is the master.
    #[error("the peer at {master} has not proven that it is this {end}'s master: {reason}")]
    #[non_exhaustive]
    Untrusted {
        /// Which end found that.
        end: Endpoint,
        /// The master's address as it was given.
        master: String,
        /// What it showed instead, and what to do.
        reason: String,
    },

    /// The node was not registered within its [`connect_timeout`](crate::NodeBuilder::connect_timeout), or the caller was not
    /// connected within [its own](crate::ClusterBuilder::connect_timeout).
    #[error(
        "the {end} was not {} the master at {master} within {timeout:?}: {last_failure}; check the address, and whether the master runs there",
        joined(*.end)
    )]
    #[non_exhaustive]
    ConnectTimeout {
        /// Which end it was.
        end: Endpoint,
        /// The master's address as it was given.
        master: String,
        /// The timeout that was set.
        timeout: Duration,
        /// Why the last attempt failed.
        last_failure: String,
    },

    /// The master of a node with [`end_with_master`](crate::NodeBuilder::end_with_master) was away for longer than its
    /// [`master_timeout`](crate::NodeBuilder::master_timeout).
    #[error("the node ended because the master at {master} was away for longer than {timeout:?}: {last_failure}")]
    #[non_exhaustive]
    MasterLost {
        /// The master's address as it was given.
        master: String,
        /// The timeout that was set.
        timeout: Duration,
        /// Why the last attempt to register again failed, or why the connection was lost.
        last_failure: String,
    },

    /// The runtime that the node was started from, and on which its async handlers ran, ended before the node did. The node
    /// took no new calls and left. Calls whose handlers had not started went to other nodes.
    #[error(
        "the node left because the runtime of its async handlers has ended; keep the runtime that `spawn` was awaited on for as long as the node"
    )]
    #[non_exhaustive]
    RuntimeEnded {},

    /// A thread could not be started.
    #[error("cannot start the {what} of the node")]
    #[non_exhaustive]
    Thread {
        /// Which threads.
        what: &'static str,
        /// The error that the operating system reported.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn setting(name: &'static str, value: impl fmt::Display, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Setting { name, value: value.to_string(), reason: reason.into() }
    }
}

/// Which end of a connection an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A master, which listens.
    Master,
    /// A node, which connects to the master.
    Node,
    /// A caller in another process, which connects to the master.
    Caller,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "master",
            Self::Node => "node",
            Self::Caller => "caller",
        })
    }
}

fn joined(end: Endpoint) -> &'static str {
    match end {
        Endpoint::Node => "registered at",
        Endpoint::Master | Endpoint::Caller => "connected to",
    }
}

/// What could happen without security, and what to do.
fn without_security(end: Endpoint, addr: &str) -> String {
    let (risk, token, own, near) = match end {
        Endpoint::Master => (
            format!(
                "will not listen on {addr} without security: any program that can reach it could join as a node and get calls"
            ),
            "Master::builder().token_file(\"cluster.token\"), which makes the token and prints what nodes need",
            "Master::builder().certificates(Certificates::new(\"ca.pem\", \"master.pem\", \"master.key\"))",
            "listen on 127.0.0.1 or [::1], which only this machine can reach",
        ),
        Endpoint::Node => (
            format!(
                "will not connect to {addr} without security: any program that answers there could run calls on this node"
            ),
            "DISTRIBUTION_TOKEN, .token(..) or .token_file(..), with the line that the master printed at its first start",
            "Node::builder().certificates(Certificates::new(\"ca.pem\", \"node.pem\", \"node.key\"))",
            "connect to 127.0.0.1 or [::1], with a master on this machine",
        ),
        Endpoint::Caller => (
            format!(
                "will not connect to {addr} without security: any program that answers there could read the arguments of calls and make up their results"
            ),
            "DISTRIBUTION_TOKEN, .token(..) or .token_file(..), with a token for callers: Token::issue(\"cluster.token\", Access::Callers)",
            "Cluster::builder().certificates(Certificates::new(\"ca.pem\", \"caller.pem\", \"caller.key\"))",
            "connect to 127.0.0.1 or [::1], with a master on this machine",
        ),
    };
    let feature = if cfg!(feature = "tls") { "" } else { " (needs the feature `tls`, which is off in this build)" };
    format!(
        "{risk}. There are three ways to go on:\n  \
         - a join token{feature}: {token}\n  \
         - certificates of your own{feature}: {own}\n  \
         - this machine only: {near}\n\
         On a private network there is a fourth: .insecure()"
    )
}
