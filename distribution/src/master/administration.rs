//! What administrators ask of a master, brought to its core.

use super::shared::Shared;
use crate::{
    administration::{CallFilter, CallPage, MethodSummary},
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

    pub(super) fn cancel_call(&self, call: CallId, by: &str) -> Result<(), AdminError> {
        let cancelled = self
            .with_core("an administrator cancels a call", |core, now, effects| {
                core.on_cancel_requested(now, call, by, effects)
            })
            .unwrap_or(Err(AdminError::Failed));
        if cancelled.is_ok() {
            tracing::info!(%call, by, "the call was cancelled");
        }
        cancelled
    }

    pub(super) fn set_cordoned(&self, node: NodeId, is_cordoned: bool) -> Result<(), AdminError> {
        let event_name = if is_cordoned { "a node is cordoned" } else { "a node is uncordoned" };
        self.with_core(event_name, |core, now, effects| core.on_cordon_requested(now, node, is_cordoned, effects))
            .unwrap_or(Err(AdminError::Failed))
    }

    pub(super) fn drain(&self, node: NodeId) -> Result<(), AdminError> {
        self.with_core("a node is drained", |core, now, effects| core.on_drain_requested(now, node, effects))
            .unwrap_or(Err(AdminError::Failed))
    }

    pub(super) fn kick(&self, node: NodeId) -> Result<(), AdminError> {
        self.with_core("a node is kicked", |core, now, effects| core.on_kick_requested(now, node, effects))
            .unwrap_or(Err(AdminError::Failed))
    }
}
