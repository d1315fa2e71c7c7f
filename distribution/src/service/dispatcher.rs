//! What a client sends its calls through.

use std::{fmt, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::runtime::Handle;

use super::{metadata::Metadata, method::MethodInfo, options::CallOptions, state::CallState};
use crate::{config::ValueLimits, view::NodeInfo, wire::RunReport};

/// What calls can be made through: a [`Master`](crate::Master), a [`Cluster`](crate::Cluster), a
/// [`LocalCluster`](crate::LocalCluster) or an [`InProcess`](crate::InProcess).
///
/// A client is made with it: `ArithClient::new(&master)`. Only types of this crate implement it.
pub trait Caller {
    #[doc(hidden)]
    fn dispatcher(&self) -> Arc<dyn Dispatcher>;
}

/// What clients send calls with.
#[doc(hidden)]
pub trait Dispatcher: fmt::Debug + Send + Sync {
    /// The most bytes and the deepest nesting that the arguments of a call may have. The depth is that of replies too.
    fn argument_limits(&self) -> ValueLimits;

    /// The timeout of calls that have none of their own.
    fn default_timeout(&self) -> Option<Duration>;

    /// The metadata that calls begin with: that of the call whose handler makes them.
    fn metadata(&self) -> Metadata {
        None
    }

    /// Where streams of arguments are polled if the call is sent from outside of a runtime.
    fn runtime(&self) -> Option<Handle>;

    /// Takes a call over, sets its id, and sooner or later ends it through its state.
    fn submit(&self, call: Arc<CallState>);

    /// Cancels a call. Its result is not wanted any more.
    fn cancel(&self, call: &CallState);

    /// The call runs to its end even if this process ends.
    fn detach(&self, call: &CallState);

    /// Takes back a call that was never sent and that no node serves; the caller then ends it. False if the call was sent
    /// or a node serves it, and then nothing has changed.
    fn take_back_unserved(&self, call: &CallState) -> bool;

    /// How many calls of this method with these options can run now.
    fn capacity(&self, method: &MethodInfo, options: &CallOptions) -> Capacity;

    /// Waits until a node joins or leaves.
    fn nodes_changed(&self) -> BoxFuture<'static, ()>;

    /// Takes note of how far a run of many calls has come, for those who look at the cluster.
    fn report_run(&self, _report: RunReport) {}

    /// The nodes that serve this method with these options now.
    fn serving(&self, method: &MethodInfo, options: &CallOptions) -> BoxFuture<'static, Vec<NodeInfo>>;
}

/// How many calls of a method can run now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Whether the other fields are known. A caller elsewhere asks its master, and is told of the answer as of a change of
    /// the nodes.
    pub(crate) is_known: bool,
    /// The number of nodes that serve the method.
    pub(crate) nodes: usize,
    /// How many calls of it they can run at once, all together.
    pub(crate) slots: usize,
    /// How many of these slots are free.
    pub(crate) free: usize,
    /// Whether it is a compute method on all of them, so that its calls may travel in batches.
    pub(crate) compute: bool,
}
