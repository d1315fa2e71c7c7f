//! What can go wrong: [`CallError`] ends a call, [`Error`] a start.

pub use crate::id::{ParseCallIdError, ParseNodeIdError};
use std::{convert::Infallible, fmt, io, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    id::{CallId, MethodName, NodeIdentity},
    security::Source,
    text::{LONGEST, in_one_line},
};

/// How a call can end without a value.
///
/// `E` is the error type the method itself declares; a method that returns no `Result` has
/// `Infallible` there. [`CallError::execution`] says whether the handler may have run, which is what
/// decides whether making the call again is safe.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError<E = Infallible> {
    /// The method ran and returned this error. Never retried.
    #[error("{0}")]
    Handler(E),

    /// The method panicked on the node; the node goes on serving. Never retried.
    #[error("{call} panicked on {node}: {message}")]
    #[non_exhaustive]
    Panicked {
        /// The call.
        call: CallIdentity,
        /// Where it ran.
        node: NodeIdentity,
        /// The panic's message.
        message: String,
    },

    /// No registered node serves the method (or the node that was asked for is not there).
    #[error("{call} was not run: {wanted}")]
    #[non_exhaustive]
    NoNode {
        /// The call.
        call: CallIdentity,
        /// What was looked for, and what is there instead.
        wanted: String,
        /// How long the call waited for a node to come.
        waited: Duration,
    },

    /// The queue at the master is full.
    #[error(
        "{call} was not run: the queue at the master is full ({queued} {unit} wait, and the limit is {limit}); call again later, or make fewer calls at a time"
    )]
    #[non_exhaustive]
    Overloaded {
        /// The call.
        call: CallIdentity,
        /// What waited at that moment.
        queued: usize,
        /// The limit that was met.
        limit: usize,
        /// What the two numbers count.
        unit: QueueUnit,
    },

    /// The call's own `.timeout()` passed, or the master's [`default_timeout`](crate::MasterBuilder::default_timeout).
    #[error("{call} had no answer within {timeout:?}: {stage}")]
    #[non_exhaustive]
    TimedOut {
        /// The call.
        call: CallIdentity,
        /// The timeout that was set, for the call or for all.
        timeout: Duration,
        /// How far the call had come.
        stage: CallStage,
    },

    /// The node was lost while it had the call, and the method is not idempotent (or no attempt is left).
    #[error("{call} was lost with {node}, which {reason}; it may have run ({})", tries(*.attempts))]
    #[non_exhaustive]
    NodeLost {
        /// The call.
        call: CallIdentity,
        /// The node that had the call last.
        node: NodeIdentity,
        /// How often the call was sent to a node.
        attempts: u32,
        /// Why the node is gone.
        reason: GoneReason,
    },

    /// Three nodes died, one after the other, while this call was running on them.
    #[error("{call} was given up as poisoned: each of these nodes died while it ran the call: {}", list(.nodes))]
    #[non_exhaustive]
    Poisoned {
        /// The call.
        call: CallIdentity,
        /// The nodes that died, in order.
        nodes: Vec<NodeIdentity>,
    },

    /// The arguments or the reply are larger than a frame may be.
    #[error(
        "the {part} of {call} is too large: it has {size} bytes, and the limit is {limit}; send less, or raise `max_message_size` on master and nodes"
    )]
    #[non_exhaustive]
    TooLarge {
        /// The call.
        call: CallIdentity,
        /// Which of the two it was.
        part: Part,
        /// Its encoded size in bytes.
        size: u64,
        /// The most that fits, in bytes.
        limit: u64,
    },

    /// Nodes serve the method's service, but not this method as the caller was built for it: its version, its signature
    /// or the structure of a type in it is another one, or it is not there.
    #[error("{call} was not run, because caller and nodes were built from different code: {difference}")]
    #[non_exhaustive]
    Incompatible {
        /// The call.
        call: CallIdentity,
        /// The caller's signature, with the service's version.
        expected: String,
        /// The nodes' signatures.
        found: String,
        /// What differs, and on which nodes:
        /// `` `Params`: { rate: f64, l2: f64 } here, { l2: f64, rate: f64 } on node-3 ``.
        difference: String,
    },

    /// A value could not be turned into bytes: its `Serialize` failed, or it is nested too deeply (see
    /// [`max_depth`](crate::MasterBuilder::max_depth)).
    #[error("the {part} of {call} could not be encoded")]
    #[non_exhaustive]
    Encode {
        /// The call.
        call: CallIdentity,
        /// Which value it was.
        part: Part,
        /// What serde said.
        source: CodecError,
    },

    /// Bytes could not be turned into the value that was expected: they are none of its type, its `Deserialize` failed or
    /// panicked, it is nested too deeply (see [`max_depth`](crate::MasterBuilder::max_depth)), or it would take far more
    /// memory than they do.
    ///
    /// The values of a message may take 4 MiB of memory, and besides that 64 times the bytes that they were sent in, up to
    /// 256 MiB, or 16 times these bytes, however much it is. It is an estimate: texts and collections that are not empty
    /// count 32 bytes more than what is in them, the first entry of a map counts eleven times, and a box around a number
    /// not at all. The sender does not count it, since `Serialize` does not say of which types the parts of a value are.
    #[error("the {part} of {call} could not be decoded")]
    #[non_exhaustive]
    Decode {
        /// The call.
        call: CallIdentity,
        /// Which value it was.
        part: Part,
        /// What serde said.
        source: CodecError,
    },

    /// The call was made with an option that may run it more than once, and its method is not declared
    /// `#[rpc(idempotent)]`.
    #[error(
        "{call} was not run: `.{option}()` may run a call more than once, and the method is not idempotent; declare it \
         #[rpc(idempotent)] if it may be run again, or leave the option out"
    )]
    #[non_exhaustive]
    NotIdempotent {
        /// The call.
        call: CallIdentity,
        /// The option that was set.
        option: &'static str,
    },

    /// An option of the call has a value that cannot work.
    #[error("{call} was not run: `.{option}({value})` cannot be: {reason}")]
    #[non_exhaustive]
    InvalidOption {
        /// The call.
        call: CallIdentity,
        /// The option's name.
        option: &'static str,
        /// The value that was given.
        value: String,
        /// Why it cannot work, and which values can.
        reason: &'static str,
    },

    /// The master is shutting down, or was dropped.
    #[error("{call} was not answered: the master has shut down ({execution})")]
    #[non_exhaustive]
    Shutdown {
        /// The call.
        call: CallIdentity,
        /// Whether the call had been sent to a node.
        execution: Execution,
    },
}

impl<E> CallError<E> {
    /// The number of the call at its master, by which logs name it too.
    ///
    /// `None` if the call was refused before it was submitted, and for [`CallError::Handler`], which holds the method's
    /// own error and nothing else; [`CallHandle::id`](crate::CallHandle::id) has the number in every case.
    pub fn id(&self) -> Option<CallId> {
        self.call()?.id()
    }

    /// The method that was called. `None` for [`CallError::Handler`], which holds the method's own error and nothing else.
    pub fn method(&self) -> Option<&MethodName> {
        Some(self.call()?.method())
    }

    fn call(&self) -> Option<&CallIdentity> {
        match self {
            Self::Handler(_) => None,
            Self::Panicked { call, .. }
            | Self::NoNode { call, .. }
            | Self::Overloaded { call, .. }
            | Self::TimedOut { call, .. }
            | Self::NodeLost { call, .. }
            | Self::Poisoned { call, .. }
            | Self::TooLarge { call, .. }
            | Self::Incompatible { call, .. }
            | Self::Encode { call, .. }
            | Self::Decode { call, .. }
            | Self::NotIdempotent { call, .. }
            | Self::InvalidOption { call, .. }
            | Self::Shutdown { call, .. } => Some(call),
        }
    }

    /// The same error, of the call with this number.
    pub(crate) fn with_id(mut self, number: Option<CallId>) -> Self {
        match &mut self {
            Self::Handler(_) => {}
            Self::Panicked { call, .. }
            | Self::NoNode { call, .. }
            | Self::Overloaded { call, .. }
            | Self::TimedOut { call, .. }
            | Self::NodeLost { call, .. }
            | Self::Poisoned { call, .. }
            | Self::TooLarge { call, .. }
            | Self::Incompatible { call, .. }
            | Self::Encode { call, .. }
            | Self::Decode { call, .. }
            | Self::NotIdempotent { call, .. }
            | Self::InvalidOption { call, .. }
            | Self::Shutdown { call, .. } => call.id = number,
        }
        self
    }

    /// Whether the handler ran: the one question that decides if calling again is safe.
    ///
    /// ```
    /// # use distribution::{CallError, error::Execution};
    /// let error: CallError<String> = CallError::Handler("no such key".to_owned());
    /// assert_eq!(error.execution(), Execution::Ran);
    /// ```
    pub fn execution(&self) -> Execution {
        match self {
            Self::Handler(_) | Self::Panicked { .. } => Execution::Ran,
            Self::NoNode { .. }
            | Self::Overloaded { .. }
            | Self::Incompatible { .. }
            | Self::NotIdempotent { .. }
            | Self::InvalidOption { .. } => Execution::NotRun,
            Self::NodeLost { .. } | Self::Poisoned { .. } => Execution::MayHaveRun,
            Self::TimedOut { stage: CallStage::Queued, .. } => Execution::NotRun,
            Self::TimedOut { .. } => Execution::MayHaveRun,
            Self::TooLarge { part, .. } | Self::Encode { part, .. } | Self::Decode { part, .. } => match part {
                Part::Arguments => Execution::NotRun,
                Part::Reply => Execution::Ran,
            },
            Self::Shutdown { execution, .. } => *execution,
        }
    }
}

impl CallError<Infallible> {
    /// The same error for a method that can fail by itself.
    pub(crate) fn widen<E>(self) -> CallError<E> {
        match self {
            Self::Handler(never) => match never {},
            Self::Panicked { call, node, message } => CallError::Panicked { call, node, message },
            Self::NoNode { call, wanted, waited } => CallError::NoNode { call, wanted, waited },
            Self::Overloaded { call, queued, limit, unit } => CallError::Overloaded { call, queued, limit, unit },
            Self::TimedOut { call, timeout, stage } => CallError::TimedOut { call, timeout, stage },
            Self::NodeLost { call, node, attempts, reason } => CallError::NodeLost { call, node, attempts, reason },
            Self::Poisoned { call, nodes } => CallError::Poisoned { call, nodes },
            Self::TooLarge { call, part, size, limit } => CallError::TooLarge { call, part, size, limit },
            Self::Incompatible { call, expected, found, difference } => {
                CallError::Incompatible { call, expected, found, difference }
            }
            Self::Encode { call, part, source } => CallError::Encode { call, part, source },
            Self::Decode { call, part, source } => CallError::Decode { call, part, source },
            Self::NotIdempotent { call, option } => CallError::NotIdempotent { call, option },
            Self::InvalidOption { call, option, value, reason } => {
                CallError::InvalidOption { call, option, value, reason }
            }
            Self::Shutdown { call, execution } => CallError::Shutdown { call, execution },
        }
    }
}

/// Which call an error is about: `call 91c2a7-12 of Arith.sum`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallIdentity {
    id: Option<CallId>,
    method: MethodName,
}

impl CallIdentity {
    pub(crate) fn new(id: Option<CallId>, method: MethodName) -> Self {
        Self { id, method }
    }

    /// The call's number at its master; `None` if it was refused before it was submitted.
    pub fn id(&self) -> Option<CallId> {
        self.id
    }

    /// The method that was called.
    pub fn method(&self) -> &MethodName {
        &self.method
    }
}

impl From<&MethodName> for CallIdentity {
    /// A call without a number, until it is known.
    fn from(method: &MethodName) -> Self {
        Self { id: None, method: method.clone() }
    }
}

impl fmt::Display for CallIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id {
            Some(id) => write!(f, "call {id} of {}", self.method),
            None => write!(f, "the call of {}", self.method),
        }
    }
}

/// The error of a call that was distributed with a key.
///
/// `try_next`, `try_collect` and the like of [`Distributed`](crate::Distributed) return it for calls that were given as
/// `(key, call)`.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyedError<K, E = Infallible> {
    /// The key of the call.
    pub key: K,
    /// How the call ended.
    pub error: CallError<E>,
}

impl<K: fmt::Debug, E> fmt::Display for KeyedError<K, E>
where
    CallError<E>: fmt::Display,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the call with key {:?}: {}", self.key, self.error)
    }
}

impl<K: fmt::Debug, E: fmt::Debug> std::error::Error for KeyedError<K, E>
where
    CallError<E>: std::error::Error,
{
    /// The source of the call's error, because `Display` shows the error itself.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl<K, E> From<KeyedError<K, E>> for CallError<E> {
    /// Drops the key.
    fn from(keyed: KeyedError<K, E>) -> Self {
        keyed.error
    }
}

fn tries(attempts: u32) -> String {
    match attempts {
        1 => "sent once".to_owned(),
        n => format!("sent {n} times"),
    }
}

fn list(nodes: &[NodeIdentity]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Whether a call's handler ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Execution {
    /// It certainly did not; calling again is safe.
    NotRun,
    /// It was sent, and nothing is known; calling again is safe for idempotent methods only.
    MayHaveRun,
    /// It certainly did.
    Ran,
}

impl fmt::Display for Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRun => "it did not run",
            Self::MayHaveRun => "it may have run",
            Self::Ran => "it ran",
        })
    }
}

/// How far a call had come when its time was up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallStage {
    /// It was never sent to a node.
    Queued,
    /// Its last attempt, on this node, was lost or panicked, and it waited to be sent to another.
    Retrying(NodeIdentity),
    /// This node had it.
    Sent(NodeIdentity),
}

impl fmt::Display for CallStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queued => f.write_str("it was still queued at the master, so it did not run"),
            Self::Retrying(node) => {
                write!(f, "its attempt on {node} failed and it waited for another node, so it may have run")
            }
            Self::Sent(node) => write!(f, "{node} had it, so it may have run"),
        }
    }
}

/// What of a queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueueUnit {
    /// The number of calls: `MasterBuilder::queue`.
    Calls,
    /// The bytes of their arguments: `MasterBuilder::max_queued_bytes`.
    Bytes,
}

impl fmt::Display for QueueUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Calls => "calls",
            Self::Bytes => "bytes of arguments",
        })
    }
}

/// Which of a call's two values an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// What the caller sent; the handler did not run.
    Arguments,
    /// What the handler returned; it did run.
    Reply,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Arguments => "argument list",
            Self::Reply => "reply",
        })
    }
}

/// What serialisation said when it failed, here or on the node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CodecError {
    message: String,
}

impl CodecError {
    pub(crate) fn new(message: impl fmt::Display) -> Self {
        Self { message: in_one_line(&message.to_string(), LONGEST) }
    }
}

/// An attempt at a call that came to nothing, and why.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FailedAttempt {
    pub(crate) attempt: u32,
    pub(crate) node: NodeIdentity,
    /// Of a node that was lost.
    pub(crate) source: Option<Source>,
    pub(crate) cause: Cause,
}

/// Why an attempt came to nothing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cause {
    /// The node was lost while it had the call, which may have run.
    Lost(GoneReason),
    /// The node did not start the call, because it so.
    Refused(&'static str),
    /// The handler panicked, with this message.
    Panicked(Box<str>),
}

impl fmt::Display for FailedAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attempt, node, cause, .. } = self;
        match cause {
            Cause::Lost(reason) => write!(f, "attempt {attempt} was lost with {node}, which {reason}"),
            Cause::Refused(why) => write!(f, "attempt {attempt} was not started by {node}, which {why}"),
            Cause::Panicked(message) => write!(f, "attempt {attempt} panicked on {node}: {message}"),
        }
    }
}

/// Why a node is no longer registered. Prints as what the node did: `closed its connection`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GoneReason {
    /// The connection ended without a goodbye: the process died, or was cut off with a reset.
    Disconnected,
    /// Reading from or writing to the connection failed.
    Broken(Box<str>),
    /// Nothing was heard of it for this long.
    Silent(#[serde(with = "crate::seconds")] Duration),
    /// It said goodbye: it drained, or its `Node` was dropped.
    Left,
    /// It sent something that breaks the protocol.
    Violation(Box<str>),
    /// Its process registered again, over another connection.
    Replaced,
    /// The credential that it came by was taken back.
    Revoked,
    /// The certificate that it came by has expired.
    Expired,
    /// A node came whose credential is for the same name, and its own is not.
    Displaced,
    /// It was put out by [`Master::disconnect`](crate::Master::disconnect).
    PutOut,
    /// This master shut down.
    Shutdown,
    /// It is there, but had to give the call up: the runtime that its async handlers ran on has ended.
    Dropped(Box<str>),
}

impl GoneReason {
    /// Whether it may be that the process died. One that said goodbye, or registered again, lives.
    pub(crate) fn is_death(&self) -> bool {
        matches!(self, Self::Disconnected | Self::Broken(_) | Self::Silent(_))
    }
}

impl fmt::Display for GoneReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => {
                f.write_str("closed its connection without a goodbye (its process ended, or it was cut off)")
            }
            Self::Broken(what) => write!(f, "lost its connection: {what}"),
            Self::Silent(time) => {
                write!(f, "was silent for {:.1} s (frozen, overloaded or cut off)", time.as_secs_f64())
            }
            Self::Left => f.write_str("said goodbye"),
            Self::Replaced => f.write_str("registered again, over another connection"),
            Self::Violation(what) => write!(f, "broke the protocol: {what}"),
            Self::Revoked => f.write_str("was disconnected because its credential was taken back"),
            Self::Expired => f.write_str("was disconnected because its certificate has expired"),
            Self::Displaced => {
                f.write_str("was disconnected because a node came whose credential is for its name, as its own is not")
            }
            Self::PutOut => f.write_str("was disconnected by the master's owner"),
            Self::Shutdown => f.write_str("was dismissed because the master shut down"),
            Self::Dropped(what) => write!(f, "gave it up: {what}"),
        }
    }
}

/// Why a master or a node could not start, or a node had to stop for good.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The master's address could not be listened on.
    #[error("cannot listen on {addr}")]
    #[non_exhaustive]
    Bind {
        /// The address that was given.
        addr: String,
        /// What the system said.
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
        /// Why not, and what would do.
        reason: &'static str,
    },

    /// The node's description of itself would be refused by any master.
    #[error("the node cannot register as it is set up: {reason}")]
    #[non_exhaustive]
    Node {
        /// Which part, and what would do.
        reason: String,
    },

    /// Two services of one node have the same method of the same name and version.
    #[error(
        "the service `{}` is served twice by this node (its method `{}`); serve it once, or give one of the two another name with \
         #[service(name = \"..\")]", .method.service(), .method.method()
    )]
    #[non_exhaustive]
    ServedTwice {
        /// The first method that clashes.
        method: MethodName,
    },

    /// The master turned the node away for good; redialling would not help.
    #[error("the master at {master} refused this node: {reason}")]
    #[non_exhaustive]
    Refused {
        /// The master's address as it was given.
        master: String,
        /// The master's reason.
        reason: String,
    },

    /// Master and node speak different versions of the protocol, or one end is something else altogether.
    #[error("{master} cannot be this node's master: {reason}")]
    #[non_exhaustive]
    Protocol {
        /// The master's address as it was given.
        master: String,
        /// What was received instead.
        reason: String,
    },

    /// The address can be reached from other machines, or is on one, and nothing would keep strangers out.
    #[error("{}", without_security(*.end, .addr))]
    #[non_exhaustive]
    Insecure {
        /// Which end would be open.
        end: Endpoint,
        /// The address that is not on loopback.
        addr: String,
    },

    /// A token is none, or is not whole.
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
        /// What is wrong, and what would do.
        reason: String,
    },

    /// A file of one's own certificates cannot be used.
    #[error("the certificates in {}: {reason}", .file.display())]
    #[non_exhaustive]
    Certificates {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },

    /// What answers at the master's address has not proven to be the master.
    #[error("what answers at {master} has not proven to be this node's master: {reason}")]
    #[non_exhaustive]
    Untrusted {
        /// The master's address as it was given.
        master: String,
        /// What it showed instead, and what to do.
        reason: String,
    },

    /// The node was not registered within its [`connect_timeout`](crate::NodeBuilder::connect_timeout).
    #[error(
        "the node was not registered at the master at {master} within {timeout:?}: {last_failure}; check the address, and whether the master runs there"
    )]
    #[non_exhaustive]
    ConnectTimeout {
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

    /// The runtime that the node was started from, and that its async handlers ran on, has ended while the node went
    /// on. The node took no new calls and left; calls whose handlers had not been started went elsewhere.
    #[error(
        "the node left because the runtime that its async handlers ran on has ended; keep the runtime that `spawn` is awaited on for as long as the node"
    )]
    #[non_exhaustive]
    RuntimeEnded {},

    /// A thread could not be started.
    #[error("cannot start the {what} of the node")]
    #[non_exhaustive]
    Thread {
        /// Which threads.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn setting(name: &'static str, value: impl fmt::Display, reason: &'static str) -> Self {
        Self::Setting { name, value: value.to_string(), reason }
    }
}

/// Which end of a connection an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A master, which listens.
    Master,
    /// A node, which dials.
    Node,
}

/// What an open end would risk, and the ways on.
fn without_security(end: Endpoint, addr: &str) -> String {
    let (risk, token, own, near) = match end {
        Endpoint::Master => (
            format!("will not listen on {addr} without security: whoever reaches it could join and be given calls"),
            "Master::builder().token_file(\"cluster.token\"), which makes the token and prints what nodes need",
            "Master::builder().certificates(Certificates::new(\"ca.pem\", \"master.pem\", \"master.key\"))",
            "listen on 127.0.0.1 or [::1], where only this machine gets to",
        ),
        Endpoint::Node => (
            format!("will not dial {addr} without security: whoever answers there could run calls on this node"),
            "DISTRIBUTION_TOKEN, .token(..) or .token_file(..), with the line that the master printed at its first start",
            "Node::builder().certificates(Certificates::new(\"ca.pem\", \"node.pem\", \"node.key\"))",
            "dial 127.0.0.1 or [::1], with a master on this machine",
        ),
    };
    let feature = if cfg!(feature = "tls") { "" } else { " (with the feature `tls`, which is turned off here)" };
    format!(
        "{risk}. There are three ways on:\n  \
         - a join token{feature}: {token}\n  \
         - certificates of your own{feature}: {own}\n  \
         - this machine alone: {near}\n\
         On a network that is yours alone there is a fourth, .insecure()"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_error_is_small_enough_to_be_returned() {
        // From 128 bytes on clippy warns the users, in each function of theirs that passes one on.
        assert!(size_of::<CallError>() < 128, "{}", size_of::<CallError>());
        assert!(size_of::<CallError<String>>() < 128, "{}", size_of::<CallError<String>>());
    }
}
