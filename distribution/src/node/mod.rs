//! A node: dials its master, registers, and runs the calls it is sent.
//!
//! The connection lives on threads of its own ([`register`] dials and redials, [`serve`] runs one
//! connection), so nothing that a handler does can delay a heartbeat. Compute handlers run on threads of
//! the node ([`compute`], [`slots`]), async handlers on the runtime that the node was started from
//! ([`users`]), unless they are done at once ([`runner`], [`turns`]). [`supervise`] looks after those that
//! hold up others.

mod backoff;
mod batch;
mod compute;
pub(crate) mod current;
mod extent;
mod flag;
#[cfg(feature = "simulation")]
pub(crate) mod light;
mod register;
mod runner;
mod running;
mod serve;
mod slots;
mod supervise;
mod turns;
mod users;

#[cfg(feature = "tls")]
use std::path::PathBuf;
use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

#[cfg(feature = "tls")]
use crate::security::{Certificates, TokenText};
use crate::{
    config::{MAX_DEPTH, MAX_MESSAGE_SIZE, check_max_depth, check_max_message_size},
    error::{Endpoint, Error},
    id::NodeId,
    security::SecurityConfig,
    service::{Routes, Service, router::Router},
    text::is_shown,
    wire::{authenticator::NodeAuthenticator, hello::Registration},
};

/// Async handlers that run at once unless told otherwise: many, because they mostly wait, and few
/// enough that their memory stays in bounds.
const ASYNC_LIMIT: u32 = 1024;

/// How long a draining node waits for its running calls unless told otherwise.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// What the owner wants of the node's thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Serve,
    Drain,
    /// Say goodbye and go, whatever is running.
    Leave,
}

/// How the node's thread is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Status {
    /// Not registered: not yet, or not at the moment.
    Dialling,
    Registered,
    /// For good; with the reason if it was not the owner's wish.
    Ended(Option<Final>),
}

/// Why a node cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Final {
    Refused(String),
    Protocol(String),
    Untrusted(String),
    /// The address, which is not on loopback.
    Insecure(String),
    /// That of the async handlers.
    RuntimeEnded,
}

impl fmt::Display for Final {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) | Self::Protocol(reason) | Self::Untrusted(reason) => f.write_str(reason),
            Self::RuntimeEnded => f.write_str("the runtime that its async handlers ran on has ended"),
            Self::Insecure(addr) => write!(f, "the master would be at {addr}, which needs security to be dialled"),
        }
    }
}

/// All that a connection needs, the same for each.
struct Setup {
    master: String,
    authenticator: NodeAuthenticator,
    registration: Registration,
    router: Router,
    pool: Arc<compute::Pool>,
    /// Where async handlers run.
    users: Arc<users::Users>,
    runner: Arc<runner::Runner>,
    alarm: Arc<supervise::Alarm>,
    /// How often an async handler was seen to block.
    blocked: Arc<AtomicU32>,
    /// Compute handlers that have outlived their connection, and hold slots.
    stale: Arc<AtomicU32>,
    max_message_size: usize,
    max_depth: u16,
    drain_timeout: Duration,
    status: watch::Sender<Status>,
    /// Bits of the newest node id.
    id: Arc<AtomicU64>,
}

impl Setup {
    fn supervised(&self) -> supervise::Supervised {
        supervise::Supervised {
            runner: Arc::clone(&self.runner),
            pool: Arc::clone(&self.pool),
            users: Arc::clone(&self.users),
            alarm: Arc::clone(&self.alarm),
            blocked: Arc::clone(&self.blocked),
            node: self.registration.name.clone(),
        }
    }
}

/// A running node: a member of a master's cluster that serves calls.
///
/// It stays registered until it is drained, refused for good, or dropped. When the connection breaks
/// it redials for ever. Dropping it says goodbye at once: calls that were running on it are lost to
/// their callers, so [`drain`](Node::drain) first where that matters.
///
/// ```
/// # use distribution::{Master, Node, service};
/// # #[service]
/// # pub trait Arith { fn sum(&self, values: Vec<i64>) -> i64; }
/// # struct Calculator;
/// # impl Arith for Calculator { fn sum(&self, values: Vec<i64>) -> i64 { values.iter().sum() } }
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let master = Master::bind("127.0.0.1:0").await?;
/// let node = Node::spawn(master.local_addr(), ArithServer::new(Calculator)).await?;
/// assert_eq!(ArithClient::new(&master).sum(vec![2, 4, 6]).await?, 12);
/// node.drain().await;
/// # Ok(()) }
/// ```
pub struct Node {
    name: String,
    master: String,
    wish: watch::Sender<Wish>,
    status: watch::Receiver<Status>,
    id: Arc<AtomicU64>,
}

impl Node {
    /// A builder with no services yet.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    /// Serves one service at the master at this address (`host:port`), with all settings at their
    /// defaults: on loopback, or anywhere by the token in `DISTRIBUTION_TOKEN`. Returns once registered, waiting
    /// as long as it takes for a master that is not up yet.
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

    /// The id under which the node registered last. It changes when the node has to register again.
    pub fn id(&self) -> NodeId {
        NodeId::from_bits(self.id.load(Ordering::Acquire))
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the node is registered at this moment.
    pub fn is_registered(&self) -> bool {
        *self.status.borrow() == Status::Registered
    }

    /// Leaves in good order: no new calls are taken, those running finish and are answered (for
    /// 30 s unless [`NodeBuilder::drain_timeout`] says otherwise), then the node says goodbye.
    ///
    /// Returns when the node has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the node draining.
    pub async fn drain(&self) {
        self.wish.send_if_modified(|wish| {
            let changes = *wish == Wish::Serve;
            if changes {
                *wish = Wish::Drain;
            }
            changes
        });
        // Why it ended is `wait`'s to tell.
        let _ = self.wait().await;
    }

    /// Waits until the node has ended: it was drained, or refused for good.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] or [`Error::Protocol`] where the master turned the node away for good. That something else
    /// answers in its place is none: the node goes on trying. [`Error::RuntimeEnded`] if the runtime that the node was
    /// started from has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn wait(&self) -> Result<(), Error> {
        self.wait_until(|status| matches!(status, Status::Ended(_))).await
    }

    async fn wait_until(&self, reached: impl Fn(&Status) -> bool) -> Result<(), Error> {
        let mut status = self.status.clone();
        let reached = status.wait_for(|status| reached(status) || matches!(status, Status::Ended(_))).await;
        match reached.as_deref() {
            Ok(Status::Ended(Some(Final::Refused(reason)))) => {
                Err(Error::Refused { master: self.master.clone(), reason: reason.clone() })
            }
            Ok(Status::Ended(Some(Final::Protocol(reason)))) => {
                Err(Error::Protocol { master: self.master.clone(), reason: reason.clone() })
            }
            Ok(Status::Ended(Some(Final::Untrusted(reason)))) => {
                Err(Error::Untrusted { master: self.master.clone(), reason: reason.clone() })
            }
            Ok(Status::Ended(Some(Final::Insecure(addr)))) => {
                Err(Error::Insecure { end: Endpoint::Node, addr: addr.clone() })
            }
            Ok(Status::Ended(Some(Final::RuntimeEnded))) => Err(Error::RuntimeEnded {}),
            Ok(_) => Ok(()),
            Err(_) => {
                let source = io::Error::other("it ended unexpectedly; its panic is on standard error");
                Err(Error::Thread { what: "link thread", source })
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.wish.send_replace(Wish::Leave);
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("name", &self.name).field("master", &self.master).finish_non_exhaustive()
    }
}

/// Sets a node up. Made by [`Node::builder`].
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until `spawn` or `run`"]
pub struct NodeBuilder {
    services: Vec<Routes>,
    name: Option<String>,
    slots: Option<usize>,
    async_limit: Option<usize>,
    max_message_size: Option<usize>,
    max_depth: Option<u16>,
    drain_timeout: Option<Duration>,
    labels: BTreeMap<String, String>,
    security: SecurityConfig,
}

impl NodeBuilder {
    /// Serves this service too.
    pub fn serve(mut self, service: impl Service) -> Self {
        self.services.push(service.routes());
        self
    }

    /// The name by which people know the node: in errors, logs and lists, 1 to 128 bytes without blanks. Host name and
    /// process number unless set. Several nodes that came by the same credential may have the same name; one that is in use
    /// by another credential is refused.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How many compute calls run at once, each on a thread of its own; from 1 to 65,536. One per core unless set. A
    /// master refuses a node with more than its [`max_slots_per_node`](crate::MasterBuilder::max_slots_per_node), which is
    /// 1,024 unless set. A handler's own parallel iterators run on rayon's global pool, as in any program.
    pub fn slots(mut self, slots: usize) -> Self {
        self.slots = Some(slots);
        self
    }

    /// How many async calls run at once; 1,024 unless set.
    pub fn async_limit(mut self, calls: usize) -> Self {
        self.async_limit = Some(calls);
        self
    }

    /// The largest frame the node takes, in bytes: what bounds a call's arguments. From 16 KiB to
    /// 4 GiB - 1; 64 MiB unless set. Replies are bounded by the master's.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = Some(bytes);
        self
    }

    /// How deeply a value may be nested, in levels of sequences, maps, structs, enums and options; 128 unless set, from 1
    /// to 512. Arguments that are nested more deeply end their call as [`CallError::Decode`](crate::CallError::Decode), a
    /// reply as [`CallError::Encode`](crate::CallError::Encode). Each level takes stack while a value is encoded or
    /// decoded, and without optimisation several times as much: one whose levels take more than 1 MiB of it together ends
    /// its call the same way. A master has a [limit of its own](crate::MasterBuilder::max_depth).
    pub fn max_depth(mut self, levels: u16) -> Self {
        self.max_depth = Some(levels);
        self
    }

    /// How long [`Node::drain`] waits for running calls; 30 s unless set.
    pub fn drain_timeout(mut self, time: Duration) -> Self {
        self.drain_timeout = Some(time);
        self
    }

    /// Adds a label, which the master shows.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Registers by this token, the line that the master printed at its first start, over TLS 1.3: the node checks the
    /// master by it, and the master the node. `DISTRIBUTION_TOKEN` in the environment does the same for a node that is
    /// told nothing else; set and empty, it is an error.
    ///
    /// A node whose token the master does not take any more ends with an error: see [`Token::issue`](crate::Token::issue).
    /// One that is to go on with a newer token is given a [token file](Self::token_file).
    ///
    /// Processes that the program starts inherit its environment, and the token with it. Where handlers start other
    /// programs, take it out by [`Command::env_remove`](std::process::Command::env_remove), or use a
    /// [token file](Self::token_file).
    #[cfg(feature = "tls")]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.security.token = Some(TokenText::new(token.into()));
        self
    }

    /// Registers by a token in this file, which holds the line that the master printed: by the first one that was
    /// [issued for](crate::Token::issue_for_node) the node's name, or else by the first one for any node. (The master's
    /// own file would do as well, and has the tokens for all other uses too.) The file is looked at with each dial, so
    /// that a node which runs takes a new token up. Once it has been registered, it goes on trying where the master refuses
    /// the token: its own file may be replaced later than the master's. `DISTRIBUTION_TOKEN_FILE` in the environment does
    /// the same for a node that is told nothing else.
    ///
    /// The file is used only if nobody but the node's user and root could have put it there or written to it: see
    /// [`MasterBuilder::token_file`](crate::MasterBuilder::token_file).
    #[cfg(feature = "tls")]
    pub fn token_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.security.token_file = Some(file.into());
        self
    }

    /// Registers by a certificate of an authority of one's own, over TLS 1.3.
    #[cfg(feature = "tls")]
    pub fn certificates(mut self, certificates: Certificates) -> Self {
        self.security.certificates = Some(certificates);
        self
    }

    /// Dials beyond loopback without any security: whatever answers at the master's address can run calls on this node,
    /// and all that travels can be read and changed on the way. Logs a warning at each start.
    pub fn insecure(mut self) -> Self {
        self.security.insecure = true;
        self
    }

    /// In one process with its master: registers with what that demands, and asks no environment.
    pub(crate) fn beside(mut self, choices: SecurityConfig) -> Self {
        self.security = choices;
        self
    }

    /// Starts the node and returns once it is registered at the master at this address (`host:port`).
    /// A master that is not up yet is waited for; its name is resolved anew with each try.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] (also for an address that is no `host:port`), [`Error::ServedTwice`], [`Error::Token`],
    /// [`Error::TokenFile`] and [`Error::Certificates`] before anything is started; [`Error::Thread`]; [`Error::Insecure`] if the address is not on loopback and there is no
    /// security; [`Error::Refused`], [`Error::Protocol`] or [`Error::Untrusted`] if the master turns the node away for
    /// good, or does not prove to be the master.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the node.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, on which async handlers are to run.
    pub async fn spawn(self, master: impl fmt::Display) -> Result<Node, Error> {
        let node = self.start(master.to_string())?;
        node.wait_until(|status| *status == Status::Registered).await?;
        Ok(node)
    }

    /// Starts the node and serves until it has ended. SIGTERM and ctrl-c drain it; a second one ends
    /// it at once.
    ///
    /// # Errors
    ///
    /// Those of [`spawn`](Self::spawn) and [`Node::wait`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the node.
    pub async fn run(self, master: impl fmt::Display) -> Result<(), Error> {
        // Caught before the node can be known to anybody, so that none is too early.
        let mut signals = Signals::new();
        let node = self.start(master.to_string())?;
        tokio::select! {
            ended = node.wait() => return ended,
            signal = signals.next() => tracing::info!(node = node.name, signal, "draining; a second signal ends it at once"),
        }
        tokio::select! {
            () = node.drain() => node.wait().await,
            signal = signals.next() => {
                tracing::warn!(node = node.name, signal, "ending at once");
                node.wish.send_replace(Wish::Leave);
                node.wait().await
            }
        }
    }

    fn start(self, master: String) -> Result<Node, Error> {
        check_master(&master)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let slots = self.slots.unwrap_or(cores);
        let name = self.name.unwrap_or_else(default_name);
        let max_message_size = check_max_message_size(self.max_message_size.unwrap_or(MAX_MESSAGE_SIZE))?;
        let max_depth = check_max_depth(self.max_depth.unwrap_or(MAX_DEPTH))?;
        let router = Router::new(self.services)?;
        let registration = Registration {
            name: name.clone(),
            instance: rand::random(),
            slots: u32::try_from(slots).unwrap_or(u32::MAX),
            busy: 0,
            async_limit: self.async_limit.map_or(ASYNC_LIMIT, |limit| u32::try_from(limit).unwrap_or(u32::MAX)),
            max_message_size: max_message_size as u64,
            labels: self.labels.into_iter().collect(),
            methods: router.offers(),
        };
        registration.check().map_err(|reason| Error::Node { reason })?;
        let authenticator = NodeAuthenticator::new(&self.security, &name)?;
        if self.security.insecure {
            tracing::warn!(
                node = name,
                master,
                "starting without security, as `.insecure()` wants it: whatever answers there can run calls on this node"
            );
        }
        let (alarm, signals) = supervise::Alarm::new();
        let users = Arc::new(users::Users::new(tokio::runtime::Handle::current()));
        let (wish, wishes) = watch::channel(Wish::Serve);
        let (status_sender, status) = watch::channel(Status::Dialling);
        let id = Arc::new(AtomicU64::new(0));
        let setup = Setup {
            master: master.clone(),
            authenticator,
            registration,
            router,
            pool: Arc::new(compute::Pool::new(slots, Arc::clone(&users), Arc::clone(&alarm))),
            runner: Arc::new(runner::Runner::new(Arc::clone(&users), Arc::clone(&alarm))),
            users,
            alarm,
            blocked: Arc::default(),
            stale: Arc::default(),
            max_message_size,
            max_depth,
            drain_timeout: self.drain_timeout.unwrap_or(DRAIN_TIMEOUT).min(crate::config::LONGEST_TIME),
            status: status_sender,
            id: Arc::clone(&id),
        };
        register::start_thread(setup, signals, wishes)?;
        Ok(Node { name, master, wish, status, id })
    }
}

/// `host-process`, and a count for all but the first node of a process.
fn default_name() -> String {
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    let host: String =
        gethostname::gethostname().to_string_lossy().chars().filter(|c| is_shown(*c) && *c != ' ').take(64).collect();
    let host = if host.is_empty() { "node" } else { &host };
    let process = std::process::id();
    match STARTED.fetch_add(1, Ordering::Relaxed) {
        0 => format!("{host}-{process}"),
        nth => format!("{host}-{process}-{nth}"),
    }
}

/// The signals that ask a process to end.
struct Signals {
    #[cfg(unix)]
    terminate: Option<tokio::signal::unix::Signal>,
    #[cfg(unix)]
    interrupt: Option<tokio::signal::unix::Signal>,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let catch = |kind, name| {
            signal(kind)
                .inspect_err(|error| tracing::warn!(%error, "{name} cannot be caught, so it will not drain"))
                .ok()
        };
        Self {
            terminate: catch(SignalKind::terminate(), "SIGTERM"),
            interrupt: catch(SignalKind::interrupt(), "ctrl-c"),
        }
    }

    #[cfg(not(unix))]
    fn new() -> Self {
        Self {}
    }

    #[cfg(unix)]
    async fn next(&mut self) -> &'static str {
        async fn caught(signal: &mut Option<tokio::signal::unix::Signal>) {
            match signal {
                Some(signal) => _ = signal.recv().await,
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            () = caught(&mut self.terminate) => "SIGTERM",
            () = caught(&mut self.interrupt) => "ctrl-c",
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> &'static str {
        match tokio::signal::ctrl_c().await {
            Ok(()) => "ctrl-c",
            Err(_) => std::future::pending().await,
        }
    }
}
/// Looks whether an address can be one at all: what cannot be dialled today or ever is no reason to wait for a master.
fn check_master(addr: &str) -> Result<(), Error> {
    let is_host = |host: &str| match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        // A zone may follow, as in `fe80::1%2`.
        Some(host) => host.split('%').next().is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok()),
        None => !host.is_empty() && !host.contains([':', '/', '@', '[', ']']) && !host.contains(char::is_whitespace),
    };
    let fits = |(host, port): (&str, &str)| is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0);
    if addr.rsplit_once(':').is_some_and(fits) {
        return Ok(());
    }
    let reason = "a node dials a `host:port`, such as 10.0.0.1:3000, [fd00::1]:3000 or master.example:3000";
    Err(Error::Setting { name: "master", value: format!("{addr:?}"), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_not_dialled() {
        for addr in ["10.0.0.1:3000", "localhost:1", "[::1]:65535", "[fe80::1%2]:3000", "a-b.example:80"] {
            assert!(check_master(addr).is_ok(), "{addr}");
        }
        let wrong =
            ["", ":", "hello", "127.0.0.1", "127.0.0.1:", ":3000", "127.0.0.1:99999", "127.0.0.1:0", "::1:3000"];
        for addr in wrong.into_iter().chain(["http://10.0.0.1:3000", "[::1:3000", "a b:3000", "10.0.0.1:3000/"]) {
            let error = check_master(addr).expect_err(addr).to_string();
            assert!(error.contains(&format!("{addr:?}")) && error.contains("`host:port`"), "{error}");
        }
    }
}
