//! What a client sends its calls through.

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;

use super::{method::MethodInfo, options::CallOptions, state::CallState};
use crate::{config::ValueLimits, view::NodeInfo};

/// Something that calls can be sent through: a [`Master`](crate::Master), or a
/// [`LocalCluster`](crate::LocalCluster) by its own master.
///
/// A client is made with one: `ArithClient::new(&master)`. Implemented by this crate alone.
pub trait Caller {
    #[doc(hidden)]
    fn dispatcher(&self) -> Arc<dyn Dispatcher>;
}

/// What clients send calls with.
#[doc(hidden)]
pub trait Dispatcher: fmt::Debug + Send + Sync {
    /// The most bytes and the deepest nesting that the arguments of a call may have. The depth is that of replies too.
    fn argument_limits(&self) -> ValueLimits;

    /// Takes a call over, sets its id, and sooner or later ends it through its state.
    fn submit(&self, call: Arc<CallState>);

    /// Cancels a call. Its result is not wanted any more.
    fn cancel(&self, call: &CallState);

    /// Takes back a call that was never sent and that no node serves; the caller then ends it. False if the call was sent
    /// or a node serves it, and then nothing has changed.
    fn take_back_unserved(&self, call: &CallState) -> bool;

    /// Where calls of this method with these options can go at this moment.
    fn capacity(&self, method: &MethodInfo, options: &CallOptions) -> Capacity;

    /// Waits until a node joins or leaves.
    fn nodes_changed(&self) -> BoxFuture<'static, ()>;

    /// The nodes that serve this method with these options at this moment.
    fn serving(&self, method: &MethodInfo, options: &CallOptions) -> Vec<NodeInfo>;
}

/// Where calls of a method can go at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Nodes that serve it.
    pub(crate) nodes: usize,
    /// What they run of it at once, all together.
    pub(crate) slots: usize,
    /// How much of that is free.
    pub(crate) free: usize,
    /// Whether it is compute everywhere, so that its calls may travel in batches.
    pub(crate) compute: bool,
}
