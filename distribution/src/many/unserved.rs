//! Methods that no node serves, as a stream of calls has found out: the others of its calls to them end at
//! once with the same error, instead of waiting for a node one after the other.

use std::sync::Arc;

use crate::{
    error::CallError,
    service::{
        caller::{CallOptions, Dispatcher, Labels},
        method::Method,
    },
};

/// Found out since nodes last came or went.
#[derive(Debug, Default)]
pub(super) struct Unserved(Vec<Finding>);

#[derive(Debug)]
struct Finding {
    /// Whose calls they are.
    dispatcher: usize,
    method: &'static Method,
    labels: Labels,
    error: CallError,
}

/// Tells masters apart.
fn address(dispatcher: &Arc<dyn Dispatcher>) -> usize {
    Arc::as_ptr(dispatcher).cast::<()>().addr()
}

/// Whether a call that ended like this has waited for any node with its labels, and none came. `failed_attempts` says
/// whether a node had it before.
pub(super) fn is_unserved(error: &CallError, options: &CallOptions, failed_attempts: bool) -> bool {
    let unserved = matches!(error, CallError::NoNode { .. } | CallError::Incompatible { .. });
    unserved && options.node.is_none() && !failed_attempts
}

impl Unserved {
    pub(super) fn note(
        &mut self,
        dispatcher: &Arc<dyn Dispatcher>,
        method: &'static Method,
        options: &CallOptions,
        error: CallError,
    ) {
        if self.find(dispatcher, method, options).is_none() {
            let dispatcher = address(dispatcher);
            self.0.push(Finding { dispatcher, method, labels: options.labels.clone(), error });
        }
    }

    /// How a call that has not been sent ends without being sent.
    pub(super) fn find(
        &self,
        dispatcher: &Arc<dyn Dispatcher>,
        method: &'static Method,
        options: &CallOptions,
    ) -> Option<&CallError> {
        let same = |finding: &&Finding| {
            std::ptr::eq(finding.method, method)
                && finding.labels == options.labels
                && finding.dispatcher == address(dispatcher)
        };
        self.0.iter().filter(|_| options.node.is_none()).find(same).map(|finding| &finding.error)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Nodes have come or gone.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}
