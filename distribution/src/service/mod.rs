//! What the macro and the runtime agree on: methods, the calls a stub makes, the routes a node serves.

mod arguments;
mod attempt;
pub(crate) mod call;
pub(crate) mod caller;
pub(crate) mod client_methods;
pub(crate) mod compatibility;
pub(crate) mod method;
pub(crate) mod outcome;
pub(crate) mod panics;
pub(crate) mod router;
pub(crate) mod structure;
mod wait;

pub use call::{Answer, Call, CallHandle};
pub use caller::{Caller, RawClient};
pub use client_methods::{AnyTypes, ClientMethods, FallibleTypes, PlainTypes, ServiceClient};
pub use method::Method;
pub use router::{Routes, Service};
