//! Waits until enough nodes can serve the calls of a client.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::shared::Shared;
use crate::{
    admin::is_of_admin_service,
    core::{Served, incompatibility},
    service::method::MethodInfo,
    text::in_one_line,
};

/// A wait that lasts longer than this logs why: at start-up, nodes of the right version are there by then.
const FIRST_WARNING: Duration = Duration::from_secs(5);

/// The time between two further warnings.
const NEXT_WARNING: Duration = Duration::from_secs(60);

/// How many methods a warning describes.
const MOST_DESCRIBED: usize = 4;

/// Bytes of text about each of them.
const LONGEST_DESCRIPTION: usize = 1024;

impl Shared {
    /// Waits until this many nodes serve all of these methods, or the master ends.
    pub(super) async fn wait_for_methods(self: &Arc<Self>, methods: &[Arc<MethodInfo>], count: usize) {
        if !methods.is_empty() && methods.iter().all(|method| is_of_admin_service(method)) {
            return;
        }
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
                    self.warn_of_missing(methods, count, serving).await;
                    warning = Instant::now() + NEXT_WARNING;
                }
                () = self.closing.cancelled() => return,
            }
        }
    }

    fn serving_all(&self, methods: &[Arc<MethodInfo>]) -> usize {
        let ids: Vec<_> = methods.iter().map(|method| method.id()).collect();
        self.with_core("counting nodes of a service", |core, _, _| core.serving_all(&ids)).unwrap_or(0)
    }

    async fn warn_of_missing(&self, methods: &[Arc<MethodInfo>], count: usize, serving: usize) {
        let service = methods.first().map_or("", |method| method.name().service());
        match self.differences(methods).await {
            None => {
                tracing::warn!(service, nodes = serving, wanted = count, "still waiting for nodes that serve a service")
            }
            Some(differences) => tracing::warn!(
                service,
                nodes = serving,
                wanted = count,
                reason = differences,
                "still waiting for nodes that serve a service as it is called here; other nodes were built from different code"
            ),
        }
    }

    /// How the methods of registered nodes differ from these; `None` if they do not.
    async fn differences(&self, methods: &[Arc<MethodInfo>]) -> Option<String> {
        let served = self.served();
        let (mut described, mut more) = (Vec::new(), 0);
        for method in methods {
            match incompatibility(method, &served) {
                Some(found) if described.len() < MOST_DESCRIBED => {
                    let text = format!("{}: {}", method.name(), found.difference);
                    described.push(in_one_line(&text, LONGEST_DESCRIPTION));
                }
                Some(_) => more += 1,
                None => {}
            }
            // A comparison looks at all groups of nodes, and other tasks of this thread wait for it.
            tokio::task::yield_now().await;
        }
        if more > 0 {
            described.push(format!("and {more} more methods"));
        }
        (!described.is_empty()).then(|| described.join("; "))
    }

    /// What nodes serve. The lock is released between pages, and nothing is compared under it.
    fn served(&self) -> Vec<Served> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let (page, last) = self.lock().core.served(after);
            all.extend(page);
            if last.is_none() {
                return all;
            }
            after = last;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::{
        core::split_registration,
        id::NodeId,
        master::{connection, shared::tests::shared},
        security::Principal,
        service::method::Method,
        wire::handshake::{MethodOffer, Registration},
    };

    const ADD: &str = "fn(i64, i64) -> i64";
    const SUM: &str = "fn(Vec<i64>) -> i64";

    fn methods() -> [Arc<MethodInfo>; 2] {
        static METHODS: [Method; 2] =
            [Method::new("Arith", 1, "add", ADD, false), Method::new("Arith", 1, "sum", SUM, false)];
        [0, 1].map(|at: usize| Arc::clone(METHODS[at].info()))
    }

    fn offer(method: &MethodInfo, signature: &str) -> MethodOffer {
        let is_same = signature == method.signature();
        MethodOffer {
            id: if is_same { method.id().0 } else { 1 },
            signature: signature.to_owned(),
            types: 0,
            structure: Vec::new(),
            ..method.offer()
        }
    }

    fn join(shared: &Arc<Shared>, name: &str, methods: Vec<MethodOffer>) -> NodeId {
        let registration = Registration {
            name: name.to_owned(),
            instance: rand::random(),
            slots: 1,
            busy: 0,
            async_limit: 1,
            max_message_size: 65_536,
            labels: Vec::new(),
            methods,
            session: None,
        };
        let (link, _connection) = connection::new(shared, 65_536);
        let node = shared.with_core("a node joined", |core, now, effects| {
            let node = core.new_node_id();
            let registration = split_registration(registration, Principal::open());
            core.on_node_joined(now, node, registration, ([127, 0, 0, 1], 1).into(), link, effects);
            node
        });
        node.expect("joins")
    }

    #[tokio::test]
    async fn only_nodes_that_serve_each_method_as_it_is_called_count() {
        let shared = shared();
        let methods = methods();
        let [add, sum] = &methods;
        let mut wait = Box::pin(shared.wait_for_methods(&methods, 2));
        assert_eq!((&mut wait).now_or_never(), None);
        let both = || vec![offer(add, ADD), offer(sum, SUM)];
        let first = join(&shared, "first", both());
        join(&shared, "lacks sum", vec![offer(add, ADD)]);
        join(&shared, "old", vec![offer(add, ADD), offer(sum, "fn(Vec<i32>) -> i64")]);
        assert_eq!((&mut wait).now_or_never(), None);
        shared.with_core("a node drains", |core, now, effects| core.on_node_draining(now, first, effects));
        join(&shared, "second", both());
        assert_eq!((&mut wait).now_or_never(), None, "a draining node does not count");
        join(&shared, "third", both());
        assert_eq!((&mut wait).now_or_never(), Some(()));
        assert_eq!(shared.wait_for_methods(&methods, 2).now_or_never(), Some(()));
        assert_eq!(shared.wait_for_methods(&methods, 3).now_or_never(), None);
    }

    #[tokio::test]
    async fn a_wait_ends_with_the_master() {
        let shared = shared();
        let methods = methods();
        let mut wait = Box::pin(shared.wait_for_methods(&methods, 1));
        assert_eq!((&mut wait).now_or_never(), None);
        shared.abandon();
        assert_eq!((&mut wait).now_or_never(), Some(()));
    }

    #[tokio::test]
    async fn what_differs_on_other_nodes_is_described() {
        let shared = shared();
        let [add, sum] = methods();
        assert_eq!(shared.differences(&[Arc::clone(&add), Arc::clone(&sum)]).await, None, "there are no nodes");
        join(&shared, "old", vec![offer(&add, ADD), offer(&sum, "fn(Vec<i32>) -> i64")]);
        assert_eq!(
            shared.differences(&[add, sum]).await.as_deref(),
            Some("Arith.sum: `fn(Vec<i64>) -> i64` here, `fn(Vec<i32>) -> i64` on old")
        );
    }

    #[tokio::test]
    async fn a_node_that_serves_the_right_version_too_is_not_named() {
        let shared = shared();
        let [add, sum] = methods();
        join(&shared, "both", vec![offer(&add, ADD), offer(&sum, SUM), offer(&sum, "fn(Vec<i32>) -> i64")]);
        assert_eq!(shared.differences(&[add, sum]).await, None);
    }

    #[tokio::test]
    async fn the_description_is_bounded_however_many_nodes_and_methods_differ() {
        static METHODS: [Method; 6] = [
            Method::new("Arith", 1, "a", ADD, false),
            Method::new("Arith", 1, "b", ADD, false),
            Method::new("Arith", 1, "c", ADD, false),
            Method::new("Arith", 1, "d", ADD, false),
            Method::new("Arith", 1, "e", ADD, false),
            Method::new("Arith", 1, "f", ADD, false),
        ];
        let shared = shared();
        let methods = METHODS.each_ref().map(|method| Arc::clone(method.info()));
        // More groups than one page has.
        for node in 0..100 {
            let signature = format!("fn({}) -> {node}", "i64, ".repeat(100));
            let offers = methods.iter().enumerate();
            let offers =
                offers.map(|(at, method)| MethodOffer { id: 1000 * node + at as u64, ..offer(method, &signature) });
            join(&shared, &format!("{node}-{}", "n".repeat(120)), offers.collect());
        }
        let text = shared.differences(&methods).await.expect("they differ");
        assert!(text.ends_with("; and 2 more methods"), "{text}");
        assert!(text.len() < (MOST_DESCRIBED + 1) * (LONGEST_DESCRIPTION + 16), "{} bytes", text.len());
    }

    #[tokio::test]
    async fn a_node_on_a_later_page_is_compared_too() {
        let shared = shared();
        let [add, sum] = methods();
        for version in 2..100 {
            let right = MethodOffer { version, id: u64::from(version), ..offer(&add, SUM) };
            join(&shared, &format!("fits-{version}"), vec![offer(&add, ADD), offer(&sum, SUM), right]);
        }
        join(&shared, "old", vec![offer(&add, ADD), offer(&sum, "fn(Vec<i32>) -> i64")]);
        let text = shared.differences(&[add, sum]).await.expect("one differs");
        assert!(text.ends_with("on old"), "{text}");
    }
}
