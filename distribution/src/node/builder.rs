//! `NodeBuilder`: the settings of a node, and its start.

#[cfg(feature = "tls")]
use std::path::PathBuf;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use tokio::sync::{oneshot, watch};

use super::{
    compute::ComputePool,
    handle::Node,
    handler_runtime::HandlerRuntime,
    lifecycle::start_threads,
    nested::NestedCalls,
    panic_log,
    runner::Runner,
    settings::{TimeoutSettings, check_async_limit, check_max_waiting},
    signals::Signals,
    state::{DesiredState, NodeShared, Status},
    waker::WatchdogWaker,
};
#[cfg(feature = "tls")]
use crate::security::{Certificates, TokenText};
use crate::{
    cluster::{NestedCaller, NestedCallerSetup},
    config::{MAX_DEPTH, MAX_MESSAGE_SIZE, MAX_SLOTS, check_max_depth, check_max_message_size, check_slots},
    error::Error,
    log_queue::NodeLogs,
    process_name::default_name,
    security::{Access, SecurityConfig},
    service::{Routes, Service, router::Router},
    wire::{authenticator::PeerAuthenticator, channel::Connector, dial::check_address, handshake::Registration},
};

/// The default of `async_limit`: high, because async handlers mostly wait, and low enough to bound their memory.
const ASYNC_LIMIT: usize = 1024;

/// The default of `max_waiting_handlers`: each is a thread that waits, with its stack.
const MAX_WAITING_HANDLERS: usize = 1024;

/// Configures and starts a node. Made by [`Node::builder`].
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until `spawn` or `run`"]
pub struct NodeBuilder {
    services: Vec<Routes>,
    name: Option<String>,
    slots: Option<usize>,
    async_limit: Option<usize>,
    max_waiting_handlers: Option<usize>,
    max_message_size: Option<usize>,
    max_depth: Option<u16>,
    timeouts: TimeoutSettings,
    labels: BTreeMap<String, String>,
    security: SecurityConfig,
    pub(super) connector: Option<Connector>,
}

impl Node {
    /// A builder with default settings and no services.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    /// Serves one service at the master at this address (`host:port`), with default settings: without security on
    /// loopback, and by the token in `DISTRIBUTION_TOKEN` anywhere. Returns once the node is registered, and waits as long
    /// as it takes for a master that is not up yet.
    ///
    /// # Errors
    ///
    /// Those of [`NodeBuilder::spawn`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the node.
    pub async fn spawn(master: impl fmt::Display, service: impl Service) -> Result<Self, Error> {
        Self::builder().serve(service).spawn(master).await
    }
}

impl NodeBuilder {
    /// Adds a service that the node serves.
    pub fn serve(mut self, service: impl Service) -> Self {
        self.services.push(service.routes());
        self
    }

    /// The node's name in errors, logs and lists: 1 to 128 bytes without blanks. Host name and process number by default.
    /// Nodes with the same credential may have the same name. The master refuses a name that a node with another
    /// credential uses.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How many compute calls run at a time, each on a thread of its own: 1 to 65,536, one per core by default. A master
    /// refuses a node with more slots than its
    /// [`max_slots_per_node`](crate::MasterBuilder::max_slots_per_node), which is 1,024 by default. The parallel iterators
    /// of a handler run on rayon's global pool, as in any program.
    pub fn slots(mut self, slots: usize) -> Self {
        self.slots = Some(slots);
        self
    }

    /// How many async calls run at a time: at least 1, and 1,024 by default.
    pub fn async_limit(mut self, calls: usize) -> Self {
        self.async_limit = Some(calls);
        self
    }

    /// How many compute handlers may wait for [nested calls](crate::CurrentCall#impl-Caller-for-CurrentCall) at a time: from 0
    /// to 16,384, and 1,024 by default. Each of them holds a thread. A nested call beyond that ends as
    /// [`CallError::TooManyWaiting`](crate::CallError::TooManyWaiting).
    pub fn max_waiting_handlers(mut self, handlers: usize) -> Self {
        self.max_waiting_handlers = Some(handlers);
        self
    }

    /// The largest message that the node takes, in bytes, which limits the arguments of a call: 16 KiB to 4 GiB - 1, and
    /// 1 GiB by default. The master's setting of this name limits replies.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = Some(bytes);
        self
    }

    /// How deeply a value may be nested, in levels of sequences, maps, structs, enums and options: 1 to 512, and 128 by
    /// default. Arguments that are nested more deeply end their call as [`CallError::Decode`](crate::CallError::Decode), a
    /// reply as [`CallError::Encode`](crate::CallError::Encode). Each level takes stack while a value is encoded or
    /// decoded, and several times as much in a build without optimisation. A value whose levels take more than 1 MiB of
    /// stack ends its call the same way. A master has a [limit of its own](crate::MasterBuilder::max_depth).
    pub fn max_depth(mut self, levels: u16) -> Self {
        self.max_depth = Some(levels);
        self
    }

    /// How long the first registration may take; without a limit by default, so that nodes can be started before their
    /// master. With it, a wrong address becomes [`Error::ConnectTimeout`]. It must be above zero. Once the node is
    /// registered it has no effect: see [`end_with_master`](Self::end_with_master).
    ///
    /// ```
    /// # use distribution::{Error, Node, service};
    /// # use std::time::Duration;
    /// # #[service]
    /// # pub trait Arith { fn sum(&self, values: Vec<i64>) -> i64; }
    /// # struct Calculator;
    /// # impl Arith for Calculator { fn sum(&self, values: Vec<i64>) -> i64 { values.iter().sum() } }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let socket = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let wrong_address = socket.local_addr()?;
    /// # drop(socket);
    /// let node = Node::builder().serve(ArithServer::new(Calculator)).connect_timeout(Duration::from_millis(500));
    /// let error = node.spawn(wrong_address).await.unwrap_err();
    /// assert!(matches!(error, Error::ConnectTimeout { .. }));
    /// # Ok(()) }
    /// ```
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.timeouts.connect_timeout = Some(time);
        self
    }

    /// How long a node that drains waits for running calls: up to a year, and 30 s by default. Zero does not wait.
    pub fn drain_timeout(mut self, time: Duration) -> Self {
        self.timeouts.drain_timeout = Some(time);
        self
    }

    /// Ends the node with its master, for batch jobs in which a master and its nodes are started for one calculation.
    /// Without it, a node that has lost its master dials again for ever.
    ///
    /// - If the master [shuts down](crate::Master::shutdown), the node ends too, and [`run`](Self::run) and [`Node::wait`]
    ///   return `Ok(())`. The master has finished the running calls by then.
    /// - If the connection is lost in another way, the node dials again. If it is not registered within 30 s, or
    ///   [`master_timeout`](Self::master_timeout), it ends, and `run` and `wait` return [`Error::MasterLost`].
    ///
    /// Neither concerns a node that has not been registered yet: a node of a batch job may well be started before its
    /// master, and waits for it. Set [`connect_timeout`](Self::connect_timeout) too, so that the node does not wait for a
    /// master that never comes.
    ///
    /// ```no_run
    /// # use distribution::{Node, service};
    /// # use std::time::Duration;
    /// # #[service]
    /// # pub trait Arith { fn sum(&self, values: Vec<i64>) -> i64; }
    /// # struct Calculator;
    /// # impl Arith for Calculator { fn sum(&self, values: Vec<i64>) -> i64 { values.iter().sum() } }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), distribution::Error> {
    /// Node::builder()
    ///     .serve(ArithServer::new(Calculator))
    ///     .connect_timeout(Duration::from_secs(600))
    ///     .end_with_master()
    ///     .run("10.0.0.1:3000")
    ///     .await
    /// # }
    /// ```
    pub fn end_with_master(mut self) -> Self {
        self.timeouts.end_with_master = true;
        self
    }

    /// How long the master may be away before a node with [`end_with_master`](Self::end_with_master) ends: above zero, up
    /// to a year, and 30 s by default. The time begins when the connection is lost, and stops while the node
    /// is registered. It begins anew once the node has been registered for 15 heartbeats of the master: one that registers
    /// the node and drops it at once does not keep it for ever. It is an error to set it without
    /// `end_with_master`.
    pub fn master_timeout(mut self, time: Duration) -> Self {
        self.timeouts.master_timeout = Some(time);
        self
    }

    /// Adds a label, which the master shows.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Registers by this token, over TLS 1.3: the line that the master printed at its first start. Node and master each
    /// check by it that the other one is genuine. `DISTRIBUTION_TOKEN` in the environment does the same for a node without
    /// other security settings; if it is set and empty, that is an error.
    ///
    /// A node ends with an error when the master no longer accepts its token: see [`Token::issue`](crate::Token::issue).
    /// To change the token of a running node, use a [token file](Self::token_file).
    ///
    /// Child processes inherit the environment, and the token with it. If handlers start other programs, remove it with
    /// [`Command::env_remove`](std::process::Command::env_remove), or use a [token file](Self::token_file).
    #[cfg(feature = "tls")]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.security.token = Some(TokenText::new(token.into()));
        self
    }

    /// Registers by a token in this file, over TLS 1.3. The file holds the line that the master printed. Of several tokens
    /// the node takes the first one that was [issued for](crate::Token::issue_for_node) its name, or else the first one for
    /// any node. (The master's own file works too, but also contains the tokens for other uses.) `DISTRIBUTION_TOKEN_FILE`
    /// in the environment does the same for a node without other security settings.
    ///
    /// The node reads the file before each connection attempt, so that a running node takes a new token up. A node that has
    /// been registered goes on trying when the master refuses its token, because its file may be replaced later than the
    /// master's.
    ///
    /// The file is used only if nobody but the node's user and root can have put it there or changed it: see
    /// [`MasterBuilder::token_file`](crate::MasterBuilder::token_file).
    #[cfg(feature = "tls")]
    pub fn token_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.security.token_file = Some(file.into());
        self
    }

    /// Registers by a certificate of your own authority, over TLS 1.3.
    #[cfg(feature = "tls")]
    pub fn certificates(mut self, certificates: Certificates) -> Self {
        self.security.certificates = Some(certificates);
        self
    }

    /// Connects to masters on other machines without any security: any program at the master's address can run calls on
    /// this node, and anybody on the network can read and change the traffic. Logs a warning at each start.
    pub fn insecure(mut self) -> Self {
        self.security.insecure = true;
        self
    }

    /// For a node in the same process as its master: uses these security settings, and does not read the environment.
    pub(crate) fn beside(mut self, security: SecurityConfig) -> Self {
        self.security = security;
        self
    }

    /// Starts the node, and returns once it is registered at the master at this address (`host:port`). Waits for a master
    /// that is not up yet, for [`connect_timeout`](Self::connect_timeout) if that is set. The host name is resolved again
    /// for each attempt.
    ///
    /// # Errors
    ///
    /// - [`Error::Setting`] (also for an address that is not `host:port`), [`Error::Node`], [`Error::ServedTwice`],
    ///   [`Error::Token`], [`Error::TokenFile`] and [`Error::Certificates`], before anything is started.
    /// - [`Error::Thread`]: the system starts no more threads.
    /// - [`Error::Insecure`]: the address is not on loopback, and the node has no security settings.
    /// - [`Error::NoCredential`]: the master requires a token or a certificate, and the node was given none, or
    ///   one of the other kind.
    /// - [`Error::Refused`], [`Error::Protocol`] and [`Error::Untrusted`]: the master refuses the node for good, or cannot
    ///   prove its identity.
    /// - [`Error::ConnectTimeout`]: the node was not registered within `connect_timeout`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the node.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, which async handlers need.
    pub async fn spawn(self, master: impl fmt::Display) -> Result<Node, Error> {
        let node = self.start(master.to_string())?;
        node.wait_until_registered().await?;
        Ok(node)
    }

    /// Starts the node and serves until SIGTERM or ctrl-c, which [drain](Node::drain) it. A second signal ends it at once.
    /// Returns when the node has ended.
    ///
    /// # Errors
    ///
    /// Those of [`spawn`](Self::spawn) and [`Node::wait`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the node at once.
    ///
    /// # Panics
    ///
    /// As [`spawn`](Self::spawn).
    pub async fn run(self, master: impl fmt::Display) -> Result<(), Error> {
        // Before the node is started, so that no signal comes too early.
        let mut signals = Signals::new();
        let node = self.start(master.to_string())?;
        let (drain, first_signal) = oneshot::channel();
        let second_signal = async {
            let signal = signals.next().await;
            tracing::info!(node = node.name(), signal, "draining; a second signal ends the node at once");
            let _ = drain.send(());
            signals.next().await
        };
        tokio::select! {
            ended = node.drain_after(first_signal) => ended,
            signal = second_signal => {
                tracing::warn!(node = node.name(), signal, "ending at once");
                node.stop();
                node.wait().await
            }
        }
    }

    /// Starts the node and serves until `shutdown` ends, then [drains](Node::drain) it. Returns when the node has ended.
    /// Does what [`run`](Self::run) does, but catches no signals.
    ///
    /// ```
    /// # use distribution::{Master, Node, service};
    /// # #[service]
    /// # pub trait Arith { fn sum(&self, values: Vec<i64>) -> i64; }
    /// # struct Calculator;
    /// # impl Arith for Calculator { fn sum(&self, values: Vec<i64>) -> i64 { values.iter().sum() } }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let master = Master::bind("127.0.0.1:0").await?;
    /// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    /// let node = Node::builder().serve(ArithServer::new(Calculator)).run_until(master.local_addr(), stopped);
    /// let node = tokio::spawn(node);
    /// assert_eq!(ArithClient::new(&master).sum(vec![2, 4, 6]).await?, 12);
    /// drop(stop);
    /// node.await??;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`spawn`](Self::spawn) and [`Node::wait`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the node at once.
    ///
    /// # Panics
    ///
    /// As [`spawn`](Self::spawn).
    pub async fn run_until(self, master: impl fmt::Display, shutdown: impl Future) -> Result<(), Error> {
        self.start(master.to_string())?.drain_after(shutdown).await
    }

    pub(super) fn start(self, master: String) -> Result<Node, Error> {
        if self.connector.is_none() {
            check_address(&master, "a node")?;
        }
        let timeouts = self.timeouts.check()?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let slots = check_slots("slots", self.slots.unwrap_or(cores.min(MAX_SLOTS as usize)))?;
        let async_limit = check_async_limit(self.async_limit.unwrap_or(ASYNC_LIMIT))?;
        let max_waiting = check_max_waiting(self.max_waiting_handlers.unwrap_or(MAX_WAITING_HANDLERS))?;
        let max_message_size = check_max_message_size(self.max_message_size.unwrap_or(MAX_MESSAGE_SIZE))?;
        let max_depth = check_max_depth(self.max_depth.unwrap_or(MAX_DEPTH))?;
        let router = Router::new(self.services)?;
        let name = self.name.unwrap_or_else(|| default_name("node"));
        let registration = Registration {
            name: name.clone(),
            instance: rand::random(),
            slots,
            busy: 0,
            async_limit,
            max_message_size: max_message_size as u64,
            labels: self.labels.into_iter().collect(),
            methods: router.offers(),
            session: None,
        };
        registration.check().map_err(|reason| Error::Node { reason })?;
        let authenticator = PeerAuthenticator::new(&self.security, &name, &[Access::Nodes])?;
        if self.security.insecure {
            tracing::warn!(
                node = name,
                master,
                "`.insecure()` is set: any program at the master's address can run calls on this node"
            );
        }
        let setup = NestedCallerSetup {
            master: master.clone(),
            name: name.clone(),
            instance: registration.instance,
            max_message_size: registration.max_message_size,
            max_depth,
            authenticator: authenticator.clone(),
            connector: self.connector.clone(),
        };
        let logs = Arc::new(NodeLogs::new(&name));
        let nested =
            NestedCalls::new(move |runtime| NestedCaller::open(&setup, runtime), max_waiting, Arc::clone(&logs));
        let (waker, messages) = WatchdogWaker::new();
        let handler_runtime = Arc::new(HandlerRuntime::new(tokio::runtime::Handle::current()));
        let (desired_sender, desired) = watch::channel(DesiredState::Serve);
        let (status_sender, status) = watch::channel(Status::Connecting);
        let id = Arc::new(AtomicU64::new(0));
        let shared = NodeShared {
            master: master.clone(),
            connector: self.connector,
            authenticator,
            registration,
            router,
            compute_pool: Arc::new(ComputePool::new(slots as usize, Arc::clone(&handler_runtime), Arc::clone(&waker))),
            runner: Arc::new(Runner::new(Arc::clone(&handler_runtime), Arc::clone(&waker))),
            handler_runtime,
            waker,
            blocked: Arc::default(),
            stale: Arc::default(),
            nested: Arc::new(nested),
            logs: Arc::clone(&logs),
            max_waiting: max_waiting as usize,
            max_message_size,
            max_depth,
            timeouts,
            drain_requested: Arc::default(),
            drain_deadline: OnceLock::new(),
            status: status_sender,
            id: Arc::clone(&id),
        };
        panic_log::install();
        #[cfg(feature = "logs")]
        crate::log_queue::register(&logs);
        start_threads(shared, messages, desired)?;
        Ok(Node::new(name, master, desired_sender, status, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LONGEST_TIME;

    #[tokio::test]
    async fn a_setting_that_cannot_work_is_an_error_that_names_it() {
        let node = Node::builder;
        let (long, zero) = (LONGEST_TIME + Duration::from_nanos(1), Duration::ZERO);
        for (name, builder) in [
            ("slots", node().slots(0)),
            ("slots", node().slots(65_537)),
            ("slots", node().slots(usize::MAX)),
            ("async_limit", node().async_limit(0)),
            ("async_limit", node().async_limit(usize::MAX)),
            ("max_message_size", node().max_message_size(0)),
            ("max_depth", node().max_depth(0)),
            ("connect_timeout", node().connect_timeout(zero)),
            ("connect_timeout", node().connect_timeout(long)),
            ("drain_timeout", node().drain_timeout(long)),
            ("master_timeout", node().end_with_master().master_timeout(zero)),
            ("master_timeout", node().end_with_master().master_timeout(long)),
            ("master_timeout", node().master_timeout(Duration::from_secs(1))),
        ] {
            let error = builder.spawn("127.0.0.1:1").await.expect_err(name);
            assert!(matches!(error, Error::Setting { name: named, .. } if named == name), "{name}: {error}");
            assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
        }
    }
}
