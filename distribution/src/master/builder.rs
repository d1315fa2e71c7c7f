//! Sets a master up.

#[cfg(feature = "tls")]
use std::path::PathBuf;
use std::{fmt, io, net::SocketAddr, time::Duration};

use tokio::net::TcpListener;

use super::{
    handle::Master,
    in_process::IN_PROCESS,
    settings::{MAX_QUEUED_BYTES, MAX_QUEUED_CALLS, Values},
};
#[cfg(feature = "tls")]
use crate::security::Certificates;
use crate::{
    error::{Endpoint, Error},
    security::{SecurityConfig, beyond_loopback},
    wire::authenticator::MasterAuthenticator,
};

mod start;

impl Master {
    /// Listens on this address of loopback (`host:port`; port 0 lets the system choose) with all settings at their
    /// defaults. A master that other machines can reach needs [a token file](MasterBuilder::token_file) or
    /// [certificates](MasterBuilder::certificates).
    ///
    /// # Errors
    ///
    /// [`Error::Bind`] if the address cannot be listened on; [`Error::Insecure`] if other machines could reach it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: if the future is dropped, the master does not start.
    pub async fn bind(addr: impl fmt::Display) -> Result<Self, Error> {
        Self::builder().bind(addr).await
    }

    /// A builder with all settings at their defaults.
    pub fn builder() -> MasterBuilder {
        MasterBuilder::default()
    }
}

/// Sets a master up. Made by [`Master::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `bind`"]
pub struct MasterBuilder {
    values: Values,
    max_queued_calls: usize,
    max_queued_bytes: usize,
    max_queued_calls_per_caller: Option<usize>,
    max_queued_bytes_per_caller: Option<usize>,
    seed: Option<u64>,
    security: SecurityConfig,
    bind_names: bool,
    restricted_labels: Vec<(String, String, Vec<String>)>,
}

impl Default for MasterBuilder {
    fn default() -> Self {
        Self {
            values: Values::default(),
            max_queued_calls: MAX_QUEUED_CALLS,
            max_queued_bytes: MAX_QUEUED_BYTES,
            max_queued_calls_per_caller: None,
            max_queued_bytes_per_caller: None,
            seed: None,
            security: SecurityConfig::default(),
            bind_names: false,
            restricted_labels: Vec::new(),
        }
    }
}

impl MasterBuilder {
    /// How often each node sends a heartbeat; 1 s by default, from 10 ms to 365 days. A node that is silent for three
    /// heartbeats gets no new calls; one that is silent for six is disconnected. A shorter heartbeat notices a dead node
    /// sooner, and takes a stalled machine for a dead one sooner.
    pub fn heartbeat(mut self, time: Duration) -> Self {
        self.values.heartbeat = time;
        self
    }

    /// How long a call waits if no node serves its method; 5 s by default, up to 365 days. With zero it fails at once; with
    /// [`Duration::MAX`] it waits without a limit (365 days, the longest time that timers are set for).
    pub fn no_node_timeout(mut self, time: Duration) -> Self {
        self.values.no_node_timeout = time;
        self
    }

    /// How long the master waits for a node whose connection has broken while it had calls; 2 s by default, up to 365 days.
    ///
    /// The node's process may live: its handlers go on, it connects again, and delivers the results. Until then its calls
    /// count as running, and it gets no new ones. When the time is over, the node is gone, and with it the calls that it
    /// had. So this is also the time after which the end of a node's process is noticed, if the node has calls. With zero, a
    /// node whose connection breaks is gone at once, and its handlers are cancelled.
    ///
    /// A node without calls is gone at once in any case, and registers again. So is one that broke the protocol, said
    /// goodbye, or was silent for too long.
    pub fn reconnect_grace(mut self, time: Duration) -> Self {
        self.values.limits.reconnect_grace = time;
        self
    }

    /// How long the master keeps the calls of a caller in another process whose connection has broken; 30 s by default, up to
    /// 365 days. Its calls go on, and their results wait for it, up to 64 MiB of them. When the time is over, its calls are
    /// cancelled, apart from those that it has [detached](crate::CallHandle::detach). With zero, that happens at once.
    pub fn resume_timeout(mut self, time: Duration) -> Self {
        self.values.limits.resume_timeout = time;
        self
    }

    /// How many calls may wait at the master; 65,536 by default. One more ends at once as
    /// [`CallError::Overloaded`](crate::CallError::Overloaded). With 0 no call waits: one that cannot be sent to a node at
    /// once ends so.
    pub fn max_queued_calls(mut self, calls: usize) -> Self {
        self.max_queued_calls = calls;
        self
    }

    /// How many bytes of arguments may wait at the master; 1 GiB by default. A call beyond that ends at once as
    /// [`CallError::Overloaded`](crate::CallError::Overloaded). With 0 no call that has arguments waits.
    pub fn max_queued_bytes(mut self, bytes: usize) -> Self {
        self.max_queued_bytes = bytes;
        self
    }

    /// How many calls of one caller in another process may wait at the master; by default a quarter of
    /// [`max_queued_calls`](Self::max_queued_calls), rounded up. One more ends at once as
    /// [`CallError::Overloaded`](crate::CallError::Overloaded), so that no caller can fill the queue for others. With 0 none
    /// waits; a value above `max_queued_calls` does not matter. Calls that are made in the master's own process, and calls
    /// that a handler makes, do not count.
    pub fn max_queued_calls_per_caller(mut self, calls: usize) -> Self {
        self.max_queued_calls_per_caller = Some(calls);
        self
    }

    /// How many bytes of arguments of one caller in another process may wait at the master; by default a quarter of
    /// [`max_queued_bytes`](Self::max_queued_bytes), rounded up. A call beyond that ends at once as
    /// [`CallError::Overloaded`](crate::CallError::Overloaded). With 0 no call that has arguments waits; a value above
    /// `max_queued_bytes` does not matter. Calls that are made in the master's own process, and calls that a handler makes,
    /// do not count.
    pub fn max_queued_bytes_per_caller(mut self, bytes: usize) -> Self {
        self.max_queued_bytes_per_caller = Some(bytes);
        self
    }

    /// The largest message that the master accepts or sends, in bytes: limits the arguments of a call and its reply. From
    /// 16 KiB to 4 GiB - 1; 1 GiB by default.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.values.max_message_size = bytes;
        self
    }

    /// How many bytes of large messages the master may be receiving at a time; 1 GiB by default, or
    /// [`max_message_size`](Self::max_message_size) if that is more. At least `max_message_size`; more than 4 TiB counts as
    /// 4 TiB.
    ///
    /// A message of more than 1 MiB counts with its whole size until it is complete. If there is no room for it, its sender waits
    /// after the first 64 KiB until other messages are complete, in the order in which they began. Everything else on the same
    /// connection goes on meanwhile. Smaller messages do not wait and are not counted.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), distribution::Error> {
    /// let master = distribution::Master::builder().max_message_size(64 << 20).max_in_flight_bytes(256 << 20);
    /// let master = master.bind("127.0.0.1:0").await?;
    /// # Ok(()) }
    /// ```
    pub fn max_in_flight_bytes(mut self, bytes: usize) -> Self {
        self.values.max_in_flight_bytes = Some(bytes);
        self
    }

    /// How deeply a value may be nested, in levels of sequences, maps, structs, enums and options; 128 by default, from 1
    /// to 512. A call whose arguments are nested more deeply ends as [`CallError::Encode`](crate::CallError::Encode), one
    /// whose reply is as [`CallError::Decode`](crate::CallError::Decode).
    ///
    /// Each level takes stack while a value is encoded or decoded, and several times as much in a build without
    /// optimisation. A value whose levels together take more than 1 MiB of stack ends its call with the same errors. Nodes
    /// have a [limit of their own](crate::NodeBuilder::max_depth).
    pub fn max_depth(mut self, levels: u16) -> Self {
        self.values.limits.max_depth = levels;
        self
    }

    /// How many pending handshakes there may be: open connections that have neither registered nor proved that they may;
    /// 256 by default, at least 1. Four times as many connections may be open that have proved it and have not registered
    /// yet.
    ///
    /// If there are as many, a new connection replaces the oldest one of the network that has most (a /24 of IPv4, a /48
    /// of IPv6), and there of the address that has most, until its own network has as many. Then it replaces a connection
    /// that has had more time than a handshake takes. If there is none, it is told when to try again, which nodes do. An
    /// eighth of the places is reserved for addresses from which a peer was registered in the last hour.
    pub fn max_handshakes(mut self, connections: usize) -> Self {
        self.values.limits.max_handshakes = connections;
        self
    }

    /// How many pending handshakes one address may have (of IPv6: one /64); 32 by default, at least 1.
    pub fn max_handshakes_per_address(mut self, connections: usize) -> Self {
        self.values.limits.max_handshakes_per_address = connections;
        self
    }

    /// How many TLS handshakes the master begins in a second, from all addresses together; 1,000 by default, at least 1.
    /// Others wait for their turn. A quarter is reserved for addresses from which a peer was registered in the last hour.
    /// Each handshake costs the master a signature and a key exchange, about 0.1 ms, before the peer has proved anything.
    ///
    /// ```
    /// let builder = distribution::Master::builder().max_handshakes_per_second(200);
    /// ```
    pub fn max_handshakes_per_second(mut self, handshakes: u32) -> Self {
        self.values.limits.max_handshakes_per_second = handshakes;
        self
    }

    /// How long a connection may take to register before it is closed; 5 s by default, from 10 ms to 365 days.
    pub fn handshake_timeout(mut self, time: Duration) -> Self {
        self.values.limits.handshake_timeout = time;
        self
    }

    /// How many handshakes a minute from one address (of IPv6: one /64) may fail before the next ones are delayed; 10 by
    /// default. With 0 the first failure delays the next handshake. The delay is 100 ms at first and doubles with each
    /// failure up to 5 s.
    ///
    /// A handshake fails if the peer does not prove that it may register, or begins a TLS handshake and does not finish it.
    /// A connection that sends nothing does not count. Each node that registers from the address makes up for one failure.
    pub fn max_handshake_failures(mut self, failures: u32) -> Self {
        self.values.limits.max_handshake_failures = failures;
        self
    }

    /// How many nodes may be registered at a time; 16,384 by default, at least 1. One more is refused, and tries again
    /// until another node is gone. Each node costs some kilobytes and a file descriptor.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let master = distribution::Master::builder().max_nodes(100).bind("127.0.0.1:0").await?;
    /// # drop(master);
    /// # Ok(()) }
    /// ```
    pub fn max_nodes(mut self, nodes: usize) -> Self {
        self.values.max_nodes = nodes;
        self
    }

    /// How many slots one node may have; 1,024 by default, from 1 to 65,536. A node with more is refused, and its
    /// [`spawn`](crate::NodeBuilder::spawn) fails. A node gets its share of the calls by its slots, so this limits how many
    /// calls a node can hold that states more slots than it has. A new node gets few calls at first in any case, and more
    /// as it answers them.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let master = distribution::Master::builder().max_slots_per_node(64).bind("127.0.0.1:0").await?;
    /// # drop(master);
    /// # Ok(()) }
    /// ```
    pub fn max_slots_per_node(mut self, slots: u32) -> Self {
        self.values.max_slots_per_node = slots;
        self
    }

    /// The timeout of calls that have no [`timeout`](crate::Call::timeout) of their own, from 1 ms to 365 days; without
    /// this setting they have none. A call that has not ended by then ends as
    /// [`CallError::TimedOut`](crate::CallError::TimedOut), so that no node can keep it for ever.
    /// `.distribute()` then sends each call alone and not in batches, so that a call which takes too long does not take the
    /// results of others with it. That costs time where calls take far less than a millisecond.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let hour = Duration::from_secs(3600);
    /// let master = distribution::Master::builder().default_timeout(hour).bind("127.0.0.1:0").await?;
    /// # drop(master);
    /// # Ok(()) }
    /// ```
    pub fn default_timeout(mut self, time: Duration) -> Self {
        self.values.limits.default_timeout = Some(time);
        self
    }

    /// How many nodes may be registered at a time with one credential (a token or a certificate), at least 1; by default as
    /// many as may be registered in all. One more is refused until another node is gone. Without security all nodes count
    /// together.
    pub fn max_nodes_per_credential(mut self, nodes: usize) -> Self {
        self.values.max_nodes_per_credential = Some(nodes);
        self
    }

    /// Accepts a node only under a name that its credential is for: the name that its token was
    /// [issued for](crate::Token::issue_for_node), or a DNS name of its certificate.
    ///
    /// Without this setting, a token that was issued for a name is only for that name; other credentials are for all names
    /// except those that tokens were issued for. In any case, a name that a node with another credential has is refused,
    /// unless the new node's credential is for the name and the other's is not: then the other node is disconnected.
    pub fn bind_names(mut self) -> Self {
        self.bind_names = true;
        self
    }

    /// Allows a label only to nodes whose credential is for one of these names, as [`bind_names`](Self::bind_names)
    /// describes. Use it for labels that keep calls to trusted nodes. If it is called several times for the same label and
    /// value, all the names are allowed. Other labels, and other values of this label, are allowed to all nodes. A key or a
    /// value that no node can have as a label is an error: each has 1 to 128 bytes, no spaces at its ends, and no control or
    /// invisible characters.
    pub fn restrict_label(
        mut self,
        key: impl Into<String>,
        value: impl Into<String>,
        names: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        self.restricted_labels.push((key.into(), value.into(), names));
        self
    }

    /// Accepts only peers that have a token of this file, over TLS 1.3. This or [`certificates`](Self::certificates) is
    /// needed to listen beyond loopback.
    ///
    /// If the file does not exist, the master makes a token for nodes, writes it there, and prints it on standard error: it
    /// is the one line that a node needs. It makes a key and a certificate in a file beside it, with `.key` appended to the
    /// name. Only their owner can read the two files. Nodes take the token from
    /// [`NodeBuilder::token`](crate::NodeBuilder::token), [`NodeBuilder::token_file`](crate::NodeBuilder::token_file) or the
    /// environment variable `DISTRIBUTION_TOKEN`.
    ///
    /// The file is checked with each connection, so tokens can be changed while the master runs: see [`Token::issue`]. If
    /// the line of a token is removed, no peer can register with it any more, and nodes that registered with it are
    /// disconnected within a heartbeat. The same happens to tokens that [`Token::issue`] drops, the third-newest for the
    /// same use. Nodes that were given such a token as text then end with an error; those that read it from a file go on
    /// trying. If the file has no line, no node can register. The text after `id=` in a line is how logs and
    /// [`Principal::credential`](crate::Principal::credential) name the token.
    ///
    /// On Unix the two files are used only if no user other than the process's own and root could have written to them or
    /// replaced them. They must be regular files that belong to one of these two users, and so must each folder above them.
    /// No other user may be able to write to a file, or to a folder unless it has the sticky bit, as `/tmp` has. Symbolic
    /// links are followed if they belong to the same two users, so the files may be a secret that Kubernetes has mounted; a
    /// new token is written to the file that a link leads to. Anything else is an error that says what to do. While a
    /// master runs, such an error is logged, and no node can register until it is repaired; registered nodes stay.
    ///
    /// [`Token::issue`]: crate::Token::issue
    #[cfg(feature = "tls")]
    pub fn token_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.security.token_file = Some(file.into());
        self
    }

    /// Accepts only peers that have a certificate of your own authority, over TLS 1.3.
    #[cfg(feature = "tls")]
    pub fn certificates(mut self, certificates: Certificates) -> Self {
        self.security.certificates = Some(certificates);
        self
    }

    /// Allows the master to listen beyond loopback without any security: anyone who can reach the port can register a node
    /// and is given calls with their arguments, and anyone on the way can read and change all data. A warning is logged at
    /// each start.
    pub fn insecure(mut self) -> Self {
        self.security.insecure = true;
        self
    }

    /// How long a node may take to finish a message that it has begun, or to send 16 KiB of it for each second of this
    /// time, before its connection is closed; 30 s by default, from 10 ms to 365 days.
    ///
    /// So a large message may take as long as it needs at 16 KiB/s, and a network may fail for a while. It has less time while
    /// other connections wait for [the memory](Self::max_in_flight_bytes) that it takes: then 48 KiB must come each second, and a
    /// connection that receives one large message must have all of it after four times this time; one that receives `n` of
    /// them, after `n` times as long.
    pub fn read_timeout(mut self, time: Duration) -> Self {
        self.values.limits.peer_timeouts.read_timeout = time;
        self
    }

    /// How long a node may read nothing of what it is sent before its connection is closed; 10 s by default, from 10 ms to
    /// 365 days. While a large message is on its way, that may be noticed after up to twelve times as long.
    pub fn write_timeout(mut self, time: Duration) -> Self {
        self.values.limits.peer_timeouts.write_timeout = time;
        self
    }

    /// How long [`Master::shutdown`] waits for calls in flight; 30 s by default, up to 365 days. With zero it does not wait;
    /// with [`Duration::MAX`] it waits without a limit (365 days, the longest time that timers are set for).
    pub fn shutdown_timeout(mut self, time: Duration) -> Self {
        self.values.shutdown_timeout = time;
        self
    }

    /// Tells callers in other processes the addresses of nodes, in answers, errors and lists. Without it they see the
    /// nodes' names and ids only. The master's own process always sees them.
    pub fn expose_node_addresses(mut self) -> Self {
        self.values.limits.expose_node_addresses = true;
        self
    }

    /// Seeds the random choice between equally loaded nodes, and the place of each node's name among the keys of
    /// [`affinity`](crate::Call::affinity), so that a run can be repeated. Without it each master draws its own seed; places
    /// are then derived from the private key, if the master has one. A node that knows the seed can choose a name with
    /// which it gets the keys of another node.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Starts the master and listens on this address: `host:port`; with port 0 the system chooses one, which
    /// [`Master::local_addr`] returns.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] if a setting has a value that cannot work; [`Error::Bind`] if the address cannot be listened on;
    /// [`Error::Insecure`] if other machines can reach it and no security is set up; [`Error::TokenFile`] and
    /// [`Error::Certificates`] if a file cannot be used.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the master does not start. The files of a new token may have been written.
    pub async fn bind(self, addr: impl fmt::Display) -> Result<Master, Error> {
        let values = self.check()?;
        let addr = addr.to_string();
        let failed = |source: io::Error| Error::Bind { addr: addr.clone(), source };
        let addrs: Vec<SocketAddr> = tokio::net::lookup_host(&addr).await.map_err(failed)?.collect();
        // Checked before the port is opened, so that it is not open even for a moment.
        if let Some(addr) = beyond_loopback(&addrs).filter(|_| !self.security.is_made()) {
            return Err(Error::Insecure { end: Endpoint::Master, addr: addr.to_string() });
        }
        let listener = TcpListener::bind(&addrs[..]).await.map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        // After the port is open, because a new token is printed once, and not by a master that cannot start. No
        // connection is accepted yet.
        let authenticator = MasterAuthenticator::new(&self.security)?;
        if self.security.insecure {
            tracing::warn!(
                address = %local_addr,
                "listening without security because of `.insecure()`: anyone who can reach this port can register a node"
            );
        }
        let security = authenticator.name();
        let master = self.start(values, authenticator, Some(listener), local_addr);
        tracing::info!(address = %local_addr, security, "listening for nodes");
        Ok(master)
    }

    /// Starts the master without a listener and without security. Nodes in this process register through
    /// [`Master::connector`].
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] if a setting has a value that cannot work.
    pub(crate) fn start_in_process(self) -> Result<Master, Error> {
        let values = self.check()?;
        let authenticator = MasterAuthenticator::new(&self.security)?;
        Ok(self.start(values, authenticator, None, IN_PROCESS))
    }
}
