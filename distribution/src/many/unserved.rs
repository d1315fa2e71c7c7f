//! Remembers which methods no node serves, so that the other calls of a run to such a method fail at once, with the same
//! error, instead of each waiting for a node.

use std::{collections::VecDeque, sync::Arc};

use super::node_watch::{WeakDispatcher, is_same};
use crate::{
    error::CallError,
    service::{
        dispatcher::Dispatcher,
        method::MethodInfo,
        options::{CallOptions, Labels},
    },
};

/// How many methods and sets of labels are remembered. A stream may ask for labels without end.
const MOST: usize = 256;

/// The methods for which no node of a master came in time, since nodes of it last joined or left.
#[derive(Debug, Default)]
pub(super) struct Unserved(VecDeque<UnservedMethod>);

#[derive(Debug)]
struct UnservedMethod {
    dispatcher: WeakDispatcher,
    method: Arc<MethodInfo>,
    labels: Labels,
    error: CallError,
}

/// Whether a call that ended with this error waited for any node with its labels, and none came. `failed_attempts` says
/// whether it was sent to a node before.
pub(super) fn is_unserved(error: &CallError, options: &CallOptions, failed_attempts: bool) -> bool {
    let unserved = matches!(error, CallError::NoNode { .. } | CallError::Incompatible { .. });
    unserved && options.node.is_none() && !failed_attempts
}

impl Unserved {
    pub(super) fn note(
        &mut self,
        dispatcher: &Arc<dyn Dispatcher>,
        method: &Arc<MethodInfo>,
        options: &CallOptions,
        error: CallError,
    ) {
        if self.find(dispatcher, method, options).is_none() {
            if self.0.len() >= MOST {
                self.0.pop_front();
            }
            self.0.push_back(UnservedMethod {
                dispatcher: Arc::downgrade(dispatcher),
                method: Arc::clone(method),
                labels: options.labels.clone(),
                error,
            });
        }
    }

    /// The error with which a call ends without being sent.
    pub(super) fn find(
        &self,
        dispatcher: &Arc<dyn Dispatcher>,
        method: &Arc<MethodInfo>,
        options: &CallOptions,
    ) -> Option<&CallError> {
        let same = |unserved: &&UnservedMethod| {
            Arc::ptr_eq(&unserved.method, method)
                && unserved.labels == options.labels
                && is_same(&unserved.dispatcher, dispatcher)
        };
        self.0.iter().filter(|_| options.node.is_none()).find(same).map(|unserved| &unserved.error)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Nodes have joined or left.
    pub(super) fn forget(&mut self, dispatcher: &Arc<dyn Dispatcher>) {
        self.0.retain(|unserved| !is_same(&unserved.dispatcher, dispatcher));
    }
}
