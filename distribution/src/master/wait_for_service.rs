//! Waits until enough nodes can serve the calls of a client.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::shared::Shared;
use crate::service::method::MethodInfo;

/// A wait that lasts longer than this logs why: at start-up, nodes of the right version are there by then.
const FIRST_WARNING: Duration = Duration::from_secs(5);

/// The time between two further warnings.
const NEXT_WARNING: Duration = Duration::from_secs(60);

impl Shared {
    /// Waits until this many nodes serve all of these methods, or the master ends.
    pub(super) async fn wait_for_methods(self: &Arc<Self>, methods: &[Arc<MethodInfo>], count: usize) {
        let mut changes = self.alive();
        let mut warning = Instant::now() + FIRST_WARNING;
        loop {
            // Marked as seen before the nodes are counted, so that no change between the two is missed.
            changes.borrow_and_update();
            let serving = self.serving_all(methods);
            if serving >= count {
                return;
            }
            tokio::select! {
                // Fails only if the sender is dropped, and `self` holds it.
                _ = changes.changed() => {}
                () = sleep_until(warning) => {
                    self.warn_of_missing(methods, count, serving);
                    warning = Instant::now() + NEXT_WARNING;
                }
                () = self.closed.cancelled() => return,
            }
        }
    }

    fn serving_all(&self, methods: &[Arc<MethodInfo>]) -> usize {
        let ids: Vec<_> = methods.iter().map(|method| method.id()).collect();
        self.with_core("counting nodes of a service", |core, _, _| core.serving_all(&ids)).unwrap_or(0)
    }

    /// Logs how many nodes are missing, and how the nodes that are registered differ from the client.
    fn warn_of_missing(&self, methods: &[Arc<MethodInfo>], count: usize, serving: usize) {
        let Some(first) = methods.first() else { return };
        let service = first.name().service();
        let mut differences = Vec::new();
        for method in methods {
            let found = self.with_core("comparing methods", |core, _, _| core.incompatibility(method));
            differences.extend(found.flatten().map(|found| format!("{}: {}", method.name(), found.difference)));
        }
        if differences.is_empty() {
            let registered = self.alive().borrow().to_owned();
            tracing::warn!(
                service,
                "still waiting for {count} nodes that serve `{service}`: {serving} of the {registered} nodes that get \
                 calls serve it"
            );
        } else {
            let differences = differences.join("; ");
            tracing::warn!(
                service,
                "still waiting for {count} nodes that serve `{service}` as this program calls it: {serving} do. Other \
                 nodes were built from different code: {differences}"
            );
        }
    }
}
