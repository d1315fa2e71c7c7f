//! A master: nodes register at it, and it sends each call to one of them.
//!
//! [`accept`] takes connections in past the [`admission`], [`link`] runs one, [`tick`] lets time pass, and [`dispatch`] is how
//! calls and all of these reach the [core](crate::core), which decides.

mod accept;
mod admission;
mod claims;
mod dispatch;
mod link;
mod pulse;
#[cfg(feature = "tls")]
mod revocation;
#[cfg(feature = "simulation")]
mod simulated;
mod tick;

#[cfg(feature = "tls")]
use std::path::PathBuf;
use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use claims::Bindings;
use dispatch::Shared;
use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use rand::RngExt;
use tokio::{net::TcpListener, sync::broadcast};

#[cfg(feature = "tls")]
use crate::security::{Certificates, Token};
use crate::{
    config::{LONGEST_TIME, Limits, MAX_MESSAGE_SIZE, check_incoming_bytes, check_max_depth, check_max_message_size},
    core::{SLICE, SLOW_START, Settings},
    error::{Endpoint, Error},
    hash::key_of,
    id::NodeId,
    security::{SecurityConfig, beyond_loopback},
    service::caller::{Caller, Dispatcher},
    view::{NodeEvent, NodeInfo, Stats},
    wire::authenticator::MasterAuthenticator,
};

/// How often nodes are to be heard unless told otherwise.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The shortest heartbeat that timers can keep.
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(10);

/// Below this a limit in time would cut off peers that do nothing wrong.
const SHORTEST_LIMIT: Duration = Duration::from_millis(10);

/// In less than this no call comes to a node and back.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);

/// How long a call waits for a node that serves it unless told otherwise.
const NO_NODE_TIMEOUT: Duration = Duration::from_secs(5);

/// Calls that may wait unless told otherwise. Each costs some hundred bytes and its arguments.
const QUEUE: usize = 65_536;

/// Bytes of arguments that may wait unless told otherwise.
const MAX_QUEUED_BYTES: usize = 1024 * 1024 * 1024;

/// Nodes that may be registered unless told otherwise: half as many again as the master is measured with.
const MAX_NODES: usize = 16_384;

/// Slots that one node may have unless told otherwise: more than the largest machines have threads.
const MAX_SLOTS_PER_NODE: u32 = 1024;

/// The most that a registration may say at all.
const MOST_SLOTS: u32 = 65_536;

/// How long a shutdown waits for calls in flight unless told otherwise.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// Accepts nodes, keeps the registry, and sends calls to nodes.
///
/// A cheap handle: clones share one master, which ends when the last is dropped or by
/// [`shutdown`](Master::shutdown). Stubs do not keep it alive; their calls then end as
/// [`CallError::Shutdown`](crate::CallError::Shutdown).
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let master = distribution::Master::bind("127.0.0.1:0").await?;
/// println!("nodes may dial {}", master.local_addr());
/// assert!(master.nodes().is_empty());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Master {
    shared: Arc<Shared>,
    local_addr: SocketAddr,
    security: Arc<SecurityConfig>,
    /// Ends everything when the last handle goes.
    _last: Arc<LastHandle>,
}

struct LastHandle(Arc<Shared>);

impl Drop for LastHandle {
    fn drop(&mut self) {
        self.0.abandon();
        self.0.end_events();
    }
}

impl Master {
    /// Listens on this address of loopback (`host:port`; port 0 lets the system choose) with all settings at their
    /// defaults. To be reached from other machines it needs [a token file](MasterBuilder::token_file) or
    /// [certificates](MasterBuilder::certificates).
    ///
    /// # Errors
    ///
    /// [`Error::Bind`] where the address cannot be listened on; [`Error::Insecure`] where others could reach it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn bind(addr: impl fmt::Display) -> Result<Self, Error> {
        Self::builder().bind(addr).await
    }

    /// A builder with all settings at their defaults.
    pub fn builder() -> MasterBuilder {
        MasterBuilder::default()
    }

    /// The address that nodes dial.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The registered nodes, in the order they came.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        self.shared.nodes()
    }

    /// The registry's changes from now on. One who reads too slowly is told how many it missed.
    pub fn events(&self) -> Events {
        let events = stream::unfold(self.shared.subscribe(), |events| async move {
            let mut events = events?;
            match events.recv().await {
                Ok(event) => Some((event, Some(events))),
                Err(broadcast::error::RecvError::Lagged(missed)) => Some((NodeEvent::Missed(missed), Some(events))),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        });
        Events(events.boxed())
    }

    /// Waits until at least this many nodes are alive (registered, and neither suspect nor draining), or
    /// the master is shut down.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn wait_for_nodes(&self, count: usize) {
        let mut alive = self.shared.alive();
        tokio::select! {
            // The sender lives in what `self` holds, so this cannot fail.
            _ = alive.wait_for(|alive| *alive >= count) => {}
            () = self.shared.closed.cancelled() => {}
        }
    }

    /// The newest token with which nodes may register; `None` if the master has no
    /// [token file](MasterBuilder::token_file). Reads that file if it has changed.
    #[cfg(feature = "tls")]
    pub fn token(&self) -> Option<Token> {
        self.shared.admission.authenticator.token()
    }

    /// Ends the connection of a node. Its calls end or go elsewhere as those of any node that is lost; see
    /// [`GoneReason::PutOut`](crate::error::GoneReason::PutOut). The node dials again, and is let in: to keep it out, take its
    /// credential back. Says whether the node was registered.
    pub fn disconnect(&self, node: impl Into<NodeId>) -> bool {
        self.shared.disconnect(node.into())
    }

    /// Totals since the master started.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Stops: takes no more nodes and calls, ends queued calls as
    /// [`CallError::Shutdown`](crate::CallError::Shutdown), lets those in flight finish (for 30 s unless
    /// [`MasterBuilder::shutdown_timeout`] says otherwise), says goodbye to the nodes, and returns when the
    /// last connection is closed. Nodes then dial for ever, until a master is there again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the master without a listener, finishing what is in flight.
    pub async fn shutdown(&self) {
        self.shared.shut_down().await;
    }
}

impl Master {
    /// What a node in the same process registers with.
    pub(crate) fn security_config(&self) -> SecurityConfig {
        self.security.beside()
    }
}

#[cfg(feature = "simulation")]
impl Master {
    /// Registers nodes that are not there; see [`simulated`].
    pub(crate) fn simulate_nodes(&self, offers: Vec<crate::wire::hello::MethodOffer>, count: usize) {
        self.shared.track(simulated::run(Arc::clone(&self.shared), offers, count));
    }
}

impl Caller for Master {
    fn dispatcher(&self) -> Arc<dyn Dispatcher> {
        Arc::clone(&self.shared) as Arc<dyn Dispatcher>
    }
}

impl fmt::Debug for Master {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Master").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

/// A stream of [`NodeEvent`]s; see [`Master::events`]. Ends with the master.
pub struct Events(BoxStream<'static, NodeEvent>);

impl Stream for Events {
    type Item = NodeEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<NodeEvent>> {
        self.0.poll_next_unpin(cx)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

/// Sets a master up. Made by [`Master::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `bind`"]
pub struct MasterBuilder {
    heartbeat: Duration,
    no_node_timeout: Duration,
    max_queued_calls: usize,
    max_queued_bytes: usize,
    max_message_size: usize,
    max_incoming_bytes: Option<usize>,
    limits: Limits,
    shutdown_timeout: Duration,
    seed: Option<u64>,
    security: SecurityConfig,
    bindings: Bindings,
    max_nodes: usize,
    max_nodes_per_credential: Option<usize>,
}

impl Default for MasterBuilder {
    fn default() -> Self {
        Self {
            heartbeat: HEARTBEAT,
            no_node_timeout: NO_NODE_TIMEOUT,
            max_queued_calls: QUEUE,
            max_queued_bytes: MAX_QUEUED_BYTES,
            max_message_size: MAX_MESSAGE_SIZE,
            max_incoming_bytes: None,
            limits: Limits::default(),
            shutdown_timeout: SHUTDOWN_TIMEOUT,
            seed: None,
            security: SecurityConfig::default(),
            bindings: Bindings { names: false, labels: Vec::new(), max_slots: MAX_SLOTS_PER_NODE },
            max_nodes: MAX_NODES,
            max_nodes_per_credential: None,
        }
    }
}

impl MasterBuilder {
    /// How often each node is to be heard; 1 s unless set, 10 ms at least. A node that is silent for
    /// three of these gets no new calls, for six is gone. Shorter notices death sooner, and takes a
    /// stalled machine for a dead one sooner.
    pub fn heartbeat(mut self, time: Duration) -> Self {
        self.heartbeat = time;
        self
    }

    /// How long a call waits while no node serves its method; 5 s unless set, zero fails at once.
    pub fn no_node_timeout(mut self, time: Duration) -> Self {
        self.no_node_timeout = time;
        self
    }

    /// How many calls may wait at the master; 65,536 unless set. Beyond it a call ends at once as
    /// [`CallError::Overloaded`](crate::CallError::Overloaded).
    pub fn max_queued_calls(mut self, calls: usize) -> Self {
        self.max_queued_calls = calls;
        self
    }

    /// How many bytes of arguments may wait at the master; 1 GiB unless set. Beyond it a call ends at
    /// once as [`CallError::Overloaded`](crate::CallError::Overloaded).
    pub fn max_queued_bytes(mut self, bytes: usize) -> Self {
        self.max_queued_bytes = bytes;
        self
    }

    /// The largest frame the master takes or sends, in bytes: what bounds a call's arguments and its
    /// reply. From 16 KiB to 4 GiB - 1; 64 MiB unless set.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = bytes;
        self
    }

    /// How many bytes of large frames may be under way to the master at a time; 1 GiB unless set, or four times
    /// [`max_message_size`](Self::max_message_size) if that is more. At least `max_message_size`. Counts frames of more than 1 MiB by the
    /// size that they announce, from their first 64 KiB until they are complete. One that finds no room is not read on
    /// until others are complete, in the order in which they came; its node is not taken for silent meanwhile. Smaller
    /// frames do not wait and are not counted.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), distribution::Error> {
    /// let master = distribution::Master::builder().max_incoming_bytes(256 << 20).bind("127.0.0.1:0").await?;
    /// # Ok(()) }
    /// ```
    pub fn max_incoming_bytes(mut self, bytes: usize) -> Self {
        self.max_incoming_bytes = Some(bytes);
        self
    }

    /// How deeply a value may be nested, in levels of sequences, maps, structs, enums and options; 128 unless set, from 1
    /// to 512. Arguments that are nested more deeply end their call as [`CallError::Encode`](crate::CallError::Encode), a
    /// reply as [`CallError::Decode`](crate::CallError::Decode). Each level takes stack while a value is encoded or
    /// decoded, and without optimisation several times as much: one whose levels take more than 1 MiB of it together ends
    /// its call the same way. Nodes have a [limit of their own](crate::NodeBuilder::max_depth).
    pub fn max_depth(mut self, levels: u16) -> Self {
        self.limits.max_depth = levels;
        self
    }

    /// How many connections may be open that have neither registered nor proven that they may; 256 unless set, 1 at least.
    /// Four times this many may be open that have proven it and are yet to register.
    ///
    /// Where all places are taken, a newcomer gets the oldest one of the network that has most (a /24 of IPv4, a /48 of
    /// IPv6), and there of the address that has most, until its own has as many. Then it gets one that has had more time
    /// than a handshake takes; where there is none, it is asked to come again after a while, which nodes do. An eighth of
    /// the places is kept for addresses from which a peer was registered in the last hour.
    pub fn max_handshakes(mut self, connections: usize) -> Self {
        self.limits.max_handshakes = connections;
        self
    }

    /// How many of these may come from one address (of IPv6: one /64); 32 unless set, 1 at least.
    pub fn max_handshakes_per_address(mut self, connections: usize) -> Self {
        self.limits.max_handshakes_per_address = connections;
        self
    }

    /// How many TLS handshakes the master begins in a second, from all addresses together; 1,000 unless set, 1 at least.
    /// Those beyond it wait in turn. A quarter is kept for addresses from which a peer was registered in the last hour.
    /// Each handshake costs the master a signature and a key exchange, some 0.1 ms, before the peer has proven anything.
    ///
    /// ```
    /// let builder = distribution::Master::builder().max_handshakes_per_second(200);
    /// ```
    pub fn max_handshakes_per_second(mut self, handshakes: u32) -> Self {
        self.limits.max_handshakes_per_second = handshakes;
        self
    }

    /// How long a connection may take to register before it is closed; 5 s unless set.
    pub fn handshake_timeout(mut self, time: Duration) -> Self {
        self.limits.handshake_timeout = time.min(LONGEST_TIME);
        self
    }

    /// How many handshakes a minute from one address (of IPv6: one /64) may fail to prove that they may come in
    /// before the next ones wait; 10 unless set. The wait is 100 ms at first and doubles with each failure up to 5 s. A TLS
    /// handshake that a peer begins and does not finish counts too, a connection that says nothing does not. Each node that
    /// registers from there makes up for one.
    pub fn max_handshake_failures(mut self, failures: u32) -> Self {
        self.limits.max_handshake_failures = failures;
        self
    }

    /// How many nodes may be registered at a time; 16,384 unless set, 1 at least. One more is refused until another has
    /// gone, and dials again. Each node costs some kilobytes, and a file descriptor.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let master = distribution::Master::builder().max_nodes(100).bind("127.0.0.1:0").await?;
    /// # drop(master);
    /// # Ok(()) }
    /// ```
    pub fn max_nodes(mut self, nodes: usize) -> Self {
        self.max_nodes = nodes;
        self
    }

    /// How many slots one node may have; 1,024 unless set, from 1 to 65,536. A node that says it has more is refused, and
    /// its [`spawn`](crate::NodeBuilder::spawn) fails. A node gets its share of the calls by its slots, so that this bounds
    /// what one that lies can hold. A newcomer gets few calls at first in any case, and more as it answers them.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let master = distribution::Master::builder().max_slots_per_node(64).bind("127.0.0.1:0").await?;
    /// # drop(master);
    /// # Ok(()) }
    /// ```
    pub fn max_slots_per_node(mut self, slots: u32) -> Self {
        self.bindings.max_slots = slots;
        self
    }

    /// The timeout of calls that are made without a [`timeout`](crate::Call::timeout) of their own; none unless set, from
    /// 1 ms to a year. A call that has not ended by then ends as [`CallError::TimedOut`](crate::CallError::TimedOut), so
    /// that no node can keep it for ever. Calls that `.distribute()` sends together have it together, and one of them that
    /// is made again by itself, because its node was lost, has it anew.
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
        self.limits.default_timeout = Some(time);
        self
    }

    /// How many nodes may be registered at a time by one credential, of a token or a certificate; as many as may be
    /// registered at all unless set, 1 at least. One more is refused until another has gone. Without security all nodes count
    /// together.
    pub fn max_nodes_per_credential(mut self, nodes: usize) -> Self {
        self.max_nodes_per_credential = Some(nodes);
        self
    }

    /// Takes nodes by no other name than their credential is for: the name that their token was
    /// [issued for](crate::Token::issue_for_node), or a DNS name of their certificate. Without this a token that was issued for
    /// a name is for that name, and other credentials are for any but the names that tokens were issued for. In any case a
    /// name that is taken by a node with another credential is refused, unless the newcomer's credential is for the name and
    /// the other's is not: then the newcomer is let in, and the other put out.
    pub fn bind_names(mut self) -> Self {
        self.bindings.names = true;
        self
    }

    /// Lets only some nodes have a label: those whose credential is for one of these names, as
    /// [`bind_names`](Self::bind_names) says. For labels by which calls are kept to nodes that are trusted with them. May
    /// be called several times, and for the same label and value the names add up; other labels, and other values of this
    /// one, are for all nodes.
    pub fn restrict_label(
        mut self,
        key: impl Into<String>,
        value: impl Into<String>,
        names: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        self.bindings.labels.push((key.into(), value.into(), names));
        self
    }

    /// Takes in only who has a token of this file, over TLS 1.3; needed, or [`certificates`](Self::certificates), to
    /// listen beyond loopback.
    ///
    /// If there is no such file, a token for nodes is made, written there, and printed on standard error: the one line
    /// that a node needs. Key and certificate are made beside it, in a file of the same name with `.key` behind it. Both
    /// are readable by their owner alone. Nodes take the token by [`NodeBuilder::token`](crate::NodeBuilder::token),
    /// [`NodeBuilder::token_file`](crate::NodeBuilder::token_file) or the environment variable `DISTRIBUTION_TOKEN`.
    ///
    /// The file is looked at with each connection, so that tokens can be changed under a running master: see
    /// [`Token::issue`]. A token whose line is taken out lets nobody in any more, and nodes that came by it are disconnected
    /// within a heartbeat; so are those whose token [`Token::issue`] has dropped, the third-newest for the same use. Nodes
    /// that were given such a token as text then end with an error, and those that read theirs from a file go on trying.
    /// Without any line nobody is let in. What stands behind a token as `id=` is what logs and
    /// [`Principal::credential`](crate::Principal::credential) call it.
    ///
    /// On Unix the two files are used only if nobody but the process's user and root could have put them there or written
    /// to them. They must be regular files that belong to one of these two, and so must each folder down to them. Nobody
    /// else may be able to write to a file, or to a folder unless it is one like `/tmp` (with the sticky bit). Symbolic
    /// links are followed where they belong to the same two, so the files may be a secret that Kubernetes has mounted. (A
    /// new token is written where a link leads.) Whatever is otherwise is an error that says what to do; under a master
    /// that runs it is logged, and nobody new is let in until it is mended; nodes that are registered stay.
    #[cfg(feature = "tls")]
    pub fn token_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.security.token_file = Some(file.into());
        self
    }

    /// Takes in only who has a certificate of an authority of one's own, over TLS 1.3.
    #[cfg(feature = "tls")]
    pub fn certificates(mut self, certificates: Certificates) -> Self {
        self.security.certificates = Some(certificates);
        self
    }

    /// Listens beyond loopback without any security: whoever reaches the port can register as a node and be given calls
    /// with their arguments, and all that travels can be read and changed on the way. Logs a warning at each start.
    pub fn insecure(mut self) -> Self {
        self.security.insecure = true;
        self
    }

    /// How long a node may take to finish a frame that it has begun, or to send 16 KiB of it for each second of this
    /// time, before its connection is closed; 30 s unless set. So a large frame may take as long as it needs at 16 KiB/s,
    /// and a line may fail for a while. A third of it while others wait for
    /// [the memory](Self::max_incoming_bytes) that a large frame takes, and then four times as long in all.
    pub fn read_timeout(mut self, time: Duration) -> Self {
        self.limits.peer_timeouts.read_timeout = time.min(LONGEST_TIME);
        self
    }

    /// How long a node may read nothing of what it is sent before its connection is closed; 10 s unless
    /// set.
    pub fn write_timeout(mut self, time: Duration) -> Self {
        self.limits.peer_timeouts.write_timeout = time.min(LONGEST_TIME);
        self
    }

    /// How long [`Master::shutdown`] waits for calls in flight; 30 s unless set.
    pub fn shutdown_timeout(mut self, time: Duration) -> Self {
        self.shutdown_timeout = time;
        self
    }

    /// Seeds the random choice between equally loaded nodes, and the place of each node's name among the keys of
    /// [`affinity`](crate::Call::affinity), for runs that are to be repeated. Drawn anew for each master unless set; places
    /// are then derived from the private key, if the master has one. A node that knows the seed can choose its name so
    /// that it gets the keys of another.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Listens on this address: `host:port`; port 0 lets the system choose one, which
    /// [`Master::local_addr`] tells.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] names a setting that cannot be; [`Error::Bind`] an address that cannot be listened on;
    /// [`Error::Insecure`] one that others could reach, while nothing would keep them out;
    /// [`Error::TokenFile`] and [`Error::Certificates`] a file that is of no use.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind, but perhaps the files of a token that was made.
    pub async fn bind(mut self, addr: impl fmt::Display) -> Result<Master, Error> {
        if self.heartbeat < SHORTEST_HEARTBEAT || self.heartbeat > LONGEST_TIME {
            let value = format!("{:?}", self.heartbeat);
            return Err(Error::setting("heartbeat", value, "it must lie between 10 ms and a year"));
        }
        let max_message_size = check_max_message_size(self.max_message_size)?;
        self.limits.incoming_bytes = check_incoming_bytes(self.max_incoming_bytes, max_message_size)?;
        check_max_depth(self.limits.max_depth)?;
        let Limits { handshake_timeout, peer_timeouts, .. } = self.limits;
        for (name, time) in [
            ("handshake_timeout", handshake_timeout),
            ("read_timeout", peer_timeouts.read_timeout),
            ("write_timeout", peer_timeouts.write_timeout),
        ] {
            if time < SHORTEST_LIMIT {
                return Err(Error::setting(name, format!("{time:?}"), "it must be 10 ms at least"));
            }
        }
        let max_nodes_per_credential = self.max_nodes_per_credential.unwrap_or(self.max_nodes);
        for (name, nodes) in [("max_nodes", self.max_nodes), ("max_nodes_per_credential", max_nodes_per_credential)] {
            if nodes == 0 {
                return Err(Error::setting(name, nodes, "no node could register; it must be 1 at least"));
            }
        }
        if !(1..=MOST_SLOTS).contains(&self.bindings.max_slots) {
            let slots = self.bindings.max_slots;
            return Err(Error::setting("max_slots_per_node", slots, "it must lie between 1 and 65,536"));
        }
        if let Some(time) = self.limits.default_timeout.filter(|time| *time < SHORTEST_TIMEOUT || *time > LONGEST_TIME)
        {
            return Err(Error::setting(
                "default_timeout",
                format!("{time:?}"),
                "it must lie between 1 ms and a year; leave it out for no timeout",
            ));
        }
        for (name, count) in [
            ("max_handshakes", self.limits.max_handshakes),
            ("max_handshakes_per_address", self.limits.max_handshakes_per_address),
            ("max_handshakes_per_second", self.limits.max_handshakes_per_second as usize),
        ] {
            if count == 0 {
                return Err(Error::setting(name, count, "it must be 1 at least, or nobody can register"));
            }
        }
        let addr = addr.to_string();
        let failed = |source: io::Error| Error::Bind { addr: addr.clone(), source };
        let addrs: Vec<SocketAddr> = tokio::net::lookup_host(&addr).await.map_err(failed)?.collect();
        // Before the port is open, be it for a moment.
        if let Some(addr) = beyond_loopback(&addrs).filter(|_| !self.security.is_made()) {
            return Err(Error::Insecure { end: Endpoint::Master, addr: addr.to_string() });
        }
        let listener = TcpListener::bind(&addrs[..]).await.map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        // Only now: a token that is made is printed once, and not for a master that cannot start. Nobody is taken in yet.
        let authenticator = MasterAuthenticator::new(&self.security)?;
        if self.security.insecure {
            tracing::warn!(
                %local_addr,
                "listening without security, as `.insecure()` wants it: whoever reaches this port can register as a node"
            );
        }
        let mut rng = rand::rng();
        let placing = self.seed.map(|seed| key_of(&seed.to_le_bytes())).or_else(|| authenticator.placing());
        let settings = Settings {
            heartbeat: self.heartbeat,
            no_node_timeout: self.no_node_timeout.min(LONGEST_TIME),
            max_queued_calls: self.max_queued_calls,
            max_queued_bytes: self.max_queued_bytes,
            max_nodes: self.max_nodes,
            max_nodes_per_credential,
            slow_start: SLOW_START,
            slice: SLICE,
            epoch: rng.random(),
            ring_key: placing.unwrap_or_else(|| rng.random()),
            seed: self.seed.unwrap_or_else(|| rng.random()),
        };
        let security = authenticator.name();
        let shutdown_timeout = self.shutdown_timeout.min(LONGEST_TIME);
        let shared =
            Shared::new(settings, max_message_size, self.limits, authenticator, self.bindings, shutdown_timeout);
        start_tasks(&shared, listener);
        tracing::info!(%local_addr, security, "listening for nodes");
        let security = Arc::new(self.security);
        Ok(Master { local_addr, security, _last: Arc::new(LastHandle(Arc::clone(&shared))), shared })
    }
}

/// Starts the master's tasks. Not in the `async fn` above, because the body of one is compiled again in each program that
/// awaits it, and these tasks are most of the master's code.
fn start_tasks(shared: &Arc<Shared>, listener: TcpListener) {
    shared.track(accept::run(Arc::clone(shared), listener));
    shared.track(tick::run(Arc::clone(shared)));
    #[cfg(feature = "tls")]
    if shared.admission.authenticator.demands_proof() {
        shared.track(revocation::run(Arc::clone(shared)));
    }
}
