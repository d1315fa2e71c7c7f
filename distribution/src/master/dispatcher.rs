//! How clients in the master's process submit their calls: the master as a [`Dispatcher`].

use std::sync::Arc;

use futures::future::BoxFuture;

use super::{host::HeldCall, shared::Shared};
use crate::{
    config::ValueLimits,
    core::Demand,
    service::{
        dispatcher::{Capacity, Dispatcher},
        method::MethodInfo,
        options::{CallOptions, SubmitOptions},
        state::CallState,
    },
    view::NodeInfo,
    wire::frame::layout::BODY_HEADER_LIMIT,
};

impl Dispatcher for Shared {
    fn argument_limits(&self) -> ValueLimits {
        ValueLimits { bytes: self.max_message_size - BODY_HEADER_LIMIT, depth: self.limits.max_depth }
    }

    fn submit(&self, call: Arc<CallState>) {
        let CallOptions { timeout, node, attempts, labels, affinity, retry_panics } = call.options.clone();
        let SubmitOptions { count, exempt_from_limits, hedge_of, failed_attempts } = call.submit_options.clone();
        let size = call.payload.len();
        let timeout = timeout.or(self.limits.default_timeout);
        let demand = Demand {
            count,
            timeout,
            node,
            labels,
            affinity,
            hedge_of,
            exempt_from_limits,
            attempts,
            retry_panics,
            size,
        };
        self.with_core("a call was submitted", |core, now, effects| {
            let id = core.on_call_submitted(
                now,
                HeldCall(Arc::clone(&call)),
                &call.method,
                demand,
                failed_attempts,
                effects,
            );
            call.set_id(id);
        });
    }

    fn cancel(&self, call: &CallState) {
        if let Some(id) = call.id() {
            self.with_core("a call was cancelled", |core, _, effects| core.on_call_cancelled(id, effects));
        }
    }

    fn take_back_unserved(&self, call: &CallState) -> bool {
        let take_back = |id| self.with_core("a call is taken back", |core, _, _| core.take_back_unserved(id));
        call.id().and_then(take_back).unwrap_or(false)
    }

    fn capacity(&self, method: &MethodInfo, options: &CallOptions) -> Capacity {
        let capacity = self.with_core("a look at the nodes", |core, _, _| core.capacity(method.id(), &options.labels));
        capacity.unwrap_or_default()
    }

    fn nodes_changed(&self) -> BoxFuture<'static, ()> {
        let mut alive = self.alive();
        Box::pin(async move {
            if alive.changed().await.is_err() {
                // The master has ended, and so do all its calls.
                std::future::pending().await
            }
        })
    }

    fn serving(&self, method: &MethodInfo, options: &CallOptions) -> Vec<NodeInfo> {
        self.list_nodes(Some((method.id(), &options.labels)))
    }
}
