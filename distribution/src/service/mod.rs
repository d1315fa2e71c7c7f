//! What the macro and the runtime agree on: methods, the calls that a client makes, and the routes that a node serves.
//!
//! | file | what it does |
//! |---|---|
//! | `method.rs` | a method: in generated code, and at run time |
//! | `client.rs` | encodes arguments and makes calls |
//! | `client_methods.rs` | which methods a client calls |
//! | `call.rs`, `options.rs` | a call that was not sent yet, and its options |
//! | `metadata.rs` | texts that travel with a call to its handler |
//! | `dispatcher.rs` | what calls are sent through |
//! | `state.rs`, `attempt.rs` | a call that was submitted, and its newest attempt |
//! | `spans.rs` | the spans of calls and handlers, and how a trace goes from one to the other |
//! | `handle.rs`, `reply.rs`, `wait.rs` | the caller's handle, the decoded reply, and blocking until it is there |
//! | `router.rs`, `outcome.rs`, `panics.rs` | handlers on a node, what their outcomes mean to callers, and their panics |
//! | `first_poll.rs` | how long async handlers run before they first wait |
//! | `stream_call.rs`, `streamed_arguments.rs`, `stream/` | calls that return a stream, and arguments of which the last is one |
//! | `arguments.rs`, `structure/` | the arguments of a method, and the structure of its types |
//! | `compatibility.rs` | what differs between a caller's method and those of nodes |

mod arguments;
mod attempt;
mod call;
mod client;
pub(crate) mod client_methods;
pub(crate) mod compatibility;
pub(crate) mod dispatcher;
pub(crate) mod first_poll;
mod handle;
pub(crate) mod metadata;
pub(crate) mod method;
pub(crate) mod options;
pub(crate) mod outcome;
pub(crate) mod panics;
pub(crate) mod reply;
pub(crate) mod router;
pub(crate) mod spans;
pub(crate) mod state;
pub(crate) mod stream;
mod stream_call;
pub(crate) mod streamed_arguments;
pub(crate) mod structure;
pub(crate) mod wait;

pub use call::Call;
pub use client::RawClient;
pub use client_methods::{AnyTypes, ClientMethods, FallibleTypes, PlainTypes, ServiceClient};
pub use dispatcher::Caller;
pub use handle::CallHandle;
pub use method::Method;
pub use reply::Answer;
pub use router::{Routes, Service};
pub use stream::{Streaming, StreamingIter};
pub use stream_call::{StreamCall, StreamIter};
