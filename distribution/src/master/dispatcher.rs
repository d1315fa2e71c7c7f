//! How calls are submitted: the master as the [`Dispatcher`] of clients in its process, and for callers elsewhere.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::runtime::Handle;

use super::{
    admin::{AdminEnd, AdminWork},
    administrator::Administrator,
    host::{HeldCall, MasterHost},
    shared::Shared,
};
use crate::{
    admin::{is_of_admin_service, is_served},
    config::ValueLimits,
    core::{Core, Demand, Effect, Effects, Time},
    error::{CallError, Execution, ITS_MAKER},
    id::CallerId,
    service::{
        dispatcher::{Capacity, Dispatcher},
        method::{MethodId, MethodInfo},
        options::{CallOptions, Labels, SubmitOptions},
        state::{CallFailure, CallState},
    },
    view::NodeInfo,
    wire::{RunReport, frame::layout::BODY_HEADER_LIMIT},
};

impl Dispatcher for Shared {
    fn argument_limits(&self) -> ValueLimits {
        ValueLimits { bytes: self.max_message_size - BODY_HEADER_LIMIT, depth: self.limits.max_depth }
    }

    fn default_timeout(&self) -> Option<Duration> {
        self.limits.default_timeout
    }

    fn runtime(&self) -> Option<Handle> {
        self.runtime.clone()
    }

    fn submit(&self, call: Arc<CallState>) {
        if !is_of_admin_service(&call.method) {
            self.with_core("a call was submitted", |core, now, effects| {
                self.submit_to(core, now, effects, CallerId::MASTER, None, call);
            });
            return;
        }
        if let Some(id) = self.with_core("an administrator asks", |core, _, _| core.new_call_ids(1)) {
            call.set_id(id);
        }
        let ends = EndsWithMaster(call);
        // If there is none, the last handle of the master is being dropped.
        let Some(this) = self.this.upgrade() else { return };
        match this.administer(Administrator::AtMaster, &ends.0, self.argument_limits()) {
            Ok(AdminWork::Compute(run)) => ends.finish(run()),
            Ok(AdminWork::Async(end)) => {
                if let Some(runtime) = &self.runtime {
                    self.tasks.spawn_on(async move { ends.finish(end.await) }, runtime);
                }
            }
            Err(failure) => ends.finish(Err(failure)),
        }
    }

    fn cancel(&self, call: &CallState) {
        if let Some(id) = call.id() {
            self.with_core("a call was cancelled", |core, now, effects| core.on_call_cancelled(now, id, effects));
        }
    }

    fn detach(&self, _: &CallState) {}

    fn take_back_unserved(&self, call: &CallState) -> bool {
        let take_back = |id| self.with_core("a call is taken back", |core, _, _| core.take_back_unserved(id));
        call.id().and_then(take_back).unwrap_or(false)
    }

    fn report_run(&self, report: RunReport) {
        self.runs.on_report(CallerId::MASTER, None, report, self.origin.elapsed());
    }

    fn capacity(&self, method: &MethodInfo, options: &CallOptions) -> Capacity {
        self.capacity_of(method.id(), &options.labels)
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

    fn serving(&self, method: &MethodInfo, options: &CallOptions) -> BoxFuture<'static, Vec<NodeInfo>> {
        Box::pin(std::future::ready(self.list_nodes(Some((method.id(), &options.labels)))))
    }
}

/// A call of the admin service. If it is dropped before its end is known, as by a runtime that ends, the master has ended.
struct EndsWithMaster(Arc<CallState>);

impl EndsWithMaster {
    fn finish(&self, end: AdminEnd) {
        self.0.finish(end.map_err(|failure| *failure));
    }
}

impl Drop for EndsWithMaster {
    fn drop(&mut self) {
        // Only the first end counts.
        let error = CallError::Shutdown { call: self.0.identity(), execution: Execution::MayHaveRun };
        self.0.finish(Err(CallFailure::after(Vec::new(), error)));
    }
}

impl Shared {
    /// Takes over calls of a caller elsewhere, or of handlers in this process of a node, at once. They have their ids already.
    pub(super) fn submit_all(&self, caller: CallerId, process: Option<u128>, calls: &mut Vec<Arc<CallState>>) {
        let mut calls = calls.drain(..);
        // The loop runs once, unless the core panics over one of them: then the others are submitted all the same.
        while calls.len() > 0 {
            self.with_core("calls were submitted", |core, now, effects| {
                for call in calls.by_ref() {
                    self.submit_to(core, now, effects, caller, process, call);
                }
            });
        }
    }

    /// A call that has an id already keeps it.
    fn submit_to(
        &self,
        core: &mut Core<MasterHost>,
        now: Time,
        effects: &mut Effects<MasterHost>,
        caller: CallerId,
        process: Option<u128>,
        call: Arc<CallState>,
    ) {
        let CallOptions { timeout, node, attempts, ref labels, affinity, retry_panics, metadata: _, is_broadcast: _ } =
            call.options;
        let SubmitOptions { count, exempt_from_limits, hedge_of, failed_attempts, continues: _ } =
            call.submit_options.clone();
        let timeout = timeout.or(self.default_timeout());
        let demand = Demand {
            caller,
            id: call.id(),
            parent: call.parent(),
            count,
            timeout,
            node,
            labels: labels.clone(),
            affinity,
            hedge_of,
            exempt_from_limits,
            attempts,
            retry_panics,
            size: call.size(),
            elsewhere: call.arguments.is_some(),
        };
        if let Some(process) = process {
            // The node may claim any parent, and it may have been cancelled meanwhile.
            let node = core.node_of_process(process);
            if !demand.parent.zip(node).is_some_and(|(parent, node)| core.runs_on(parent, node)) {
                let error =
                    CallError::Cancelled { call: call.identity(), by: ITS_MAKER.into(), execution: Execution::NotRun };
                effects.push(Effect::End { call: HeldCall(call), end: Err(error), failed_attempts: Vec::new() });
                return;
            }
        }
        let id =
            core.on_call_submitted(now, HeldCall(Arc::clone(&call)), &call.method, demand, failed_attempts, effects);
        call.set_id(id);
    }

    /// How many calls of a method can run now.
    pub(super) fn capacity_of(&self, method: MethodId, labels: &Labels) -> Capacity {
        if is_served(method) {
            return Capacity { is_known: true, nodes: 1, slots: 1, free: 1, compute: false };
        }
        self.with_core("a look at the nodes", |core, _, _| core.capacity(method, labels))
            .unwrap_or(Capacity { is_known: true, ..Capacity::default() })
    }
}
