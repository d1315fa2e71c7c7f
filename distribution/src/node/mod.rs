//! A node: connects to its master, registers there, and runs the calls that it is sent.
//!
//! The connection has threads of its own ([`lifecycle`]: [`connect`], [`register`], [`serve`]), so that no handler can
//! delay a heartbeat. Compute handlers run on further threads of the node ([`compute`], [`slots`]). Async handlers run on
//! the runtime that the node was started from ([`handler_runtime`]), unless they end without waiting ([`runner`],
//! [`runner_queue`]). A node in the same process as its master connects through memory ([`in_process`]). The [`watchdog`]
//! looks for handlers that hold up others. When a connection breaks, the calls of its [`session`] go on. What handlers log is
//! sent to the master ([`log_sending`], [`panic_log`]), and, when it asks, which code they run ([`profiler`]).

mod active_calls;
mod answer;
mod arrival_gaps;
mod batch;
mod batch_window;
mod builder;
mod compute;
mod connect;
pub(crate) mod current;
mod current_connection;
mod handle;
mod handler_runtime;
mod handler_streams;
#[cfg(feature = "simulation")]
pub(crate) mod idle;
mod in_process;
mod latch;
mod lifecycle;
#[cfg(feature = "logs")]
pub(crate) mod log_layer;
mod log_sending;
mod nested;
mod outage;
mod panic_log;
mod profiler;
mod register;
mod requests;
mod runner;
mod runner_queue;
mod serve;
mod session;
mod settings;
mod signals;
mod slots;
mod state;
mod vitals;
mod waker;
mod watchdog;

pub use builder::NodeBuilder;
pub use handle::Node;
