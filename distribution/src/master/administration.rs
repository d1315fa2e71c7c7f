//! What administrators ask of a master, brought to its core.

use super::{administrator::Administrator, shared::Shared};
use crate::{
    administration::{CallFilter, CallPage, CallerInfo, MasterStatus, MethodSummary, ServiceSummary},
    core::MethodList,
    error::AdminError,
    id::{CallId, NodeId},
};

/// The most calls on a page.
const MOST_LISTED: usize = 10_000;

/// The most calls that are looked at for one page, so that a caller who lists few of a million is not held up for long.
const MOST_LOOKED_AT: usize = 100_000;

impl Shared {
    /// Lists calls. The lock is released again and again, so that events need not wait for a long list.
    pub(super) fn calls(&self, mut filter: CallFilter) -> CallPage {
        let limit = filter.limit.clamp(1, MOST_LISTED);
        let (mut calls, mut looked_at) = (Vec::new(), 0);
        loop {
            let slice = {
                let locked = self.lock();
                locked.core.call_infos(self.origin.elapsed(), &filter, limit - calls.len())
            };
            calls.extend(slice.calls);
            looked_at += slice.looked_at;
            if slice.last.is_none() || calls.len() == limit || looked_at >= MOST_LOOKED_AT {
                self.callers.name_callers_of(&mut calls);
                return CallPage { calls, next: slice.last };
            }
            filter.after = slice.last;
        }
    }

    /// Lists methods, some nodes' at a time. What has changed meanwhile may be listed as it was before or after.
    pub(super) fn methods(&self) -> Vec<MethodSummary> {
        let (mut list, mut after) = (MethodList::default(), None);
        loop {
            let slice = self.lock().core.served_methods(after);
            list.add_served(&slice);
            if slice.last.is_none() {
                break;
            }
            after = slice.last;
        }
        let called = self.lock().core.called_methods();
        list.add_called(&called);
        list.into_rows()
    }

    pub(super) fn services(&self) -> Vec<ServiceSummary> {
        ServiceSummary::of_methods(self.methods())
    }

    /// Lists the callers in other processes.
    pub(super) fn list_callers(&self) -> Vec<CallerInfo> {
        self.callers.list()
    }

    pub(super) fn status(&self) -> MasterStatus {
        let (nodes, alive, is_shutting_down) = {
            let locked = self.lock();
            (locked.core.node_count(), locked.core.alive(), locked.shutting_down)
        };
        MasterStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            addr: self.local_addr,
            security: self.admission.authenticator.security(),
            running_for: self.origin.elapsed(),
            nodes,
            alive,
            callers: self.callers.len(),
            is_shutting_down,
        }
    }

    pub(super) fn cancel_call(&self, by: &Administrator, call: CallId) -> Result<(), AdminError> {
        let name = by.by();
        let cancelled = self
            .with_core("an administrator cancels a call", |core, now, effects| {
                core.on_cancel_requested(now, call, &name, effects)
            })
            .unwrap_or(Err(AdminError::Failed));
        by.audit("cancel", call, cancelled)
    }

    pub(super) fn set_cordoned(&self, by: &Administrator, node: NodeId, is_cordoned: bool) -> Result<(), AdminError> {
        let (event_name, action) = match is_cordoned {
            true => ("a node is cordoned", "cordon"),
            false => ("a node is uncordoned", "uncordon"),
        };
        let set = self
            .with_core(event_name, |core, now, effects| core.on_cordon_requested(now, node, is_cordoned, effects))
            .unwrap_or(Err(AdminError::Failed));
        by.audit(action, node, set)
    }

    pub(super) fn drain(&self, by: &Administrator, node: NodeId) -> Result<(), AdminError> {
        let told = self
            .with_core("a node is drained", |core, now, effects| core.on_drain_requested(now, node, effects))
            .unwrap_or(Err(AdminError::Failed));
        by.audit("drain", node, told)
    }

    pub(super) fn kick(&self, by: &Administrator, node: NodeId) -> Result<(), AdminError> {
        let kicked = self
            .with_core("a node is kicked", |core, now, effects| core.on_kick_requested(now, node, effects))
            .unwrap_or(Err(AdminError::Failed));
        by.audit("kick", node, kicked)
    }
}
