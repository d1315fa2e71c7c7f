//! Programs that were built from different code, in one cluster: what fits together works, what does not says why.

use std::time::Duration;

use distribution::{CallError, Master, Node, NodeEvent, error::Execution};
use distribution_tests::{soon, until};
use futures::{FutureExt, StreamExt, future};

mod before {
    //! As it was.

    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Params {
        pub(crate) l2: f64,
        pub(crate) rate: f64,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(crate) enum Quality {
        Bad,
        Good,
    }

    /// Trains.
    #[distribution::service]
    pub(crate) trait Train {
        /// The rate.
        fn rate(&self, params: Params) -> f64;
        /// A judgement.
        async fn judge(&self, good: bool) -> Result<Quality, Quality>;
        /// Changed by nobody.
        fn same(&self, number: u64) -> u64;
    }

    pub(crate) struct Trainer;

    impl Train for Trainer {
        fn rate(&self, params: Params) -> f64 {
            params.rate
        }
        async fn judge(&self, good: bool) -> Result<Quality, Quality> {
            if good { Ok(Quality::Good) } else { Err(Quality::Bad) }
        }
        fn same(&self, number: u64) -> u64 {
            number
        }
    }
}

mod after {
    //! The same by name, but for the order of fields and variants.

    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Params {
        pub(crate) rate: f64,
        pub(crate) l2: f64,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(crate) enum Quality {
        Good,
        Bad,
    }

    /// Trains.
    #[distribution::service]
    pub(crate) trait Train {
        /// The rate.
        fn rate(&self, params: Params) -> f64;
        /// A judgement.
        async fn judge(&self, good: bool) -> Result<Quality, Quality>;
        /// Changed by nobody.
        fn same(&self, number: u64) -> u64;
        /// New.
        fn brand_new(&self) -> u64;
    }
}

mod next {
    //! The next version, of which no service differs but by its number.

    /// Trains.
    #[distribution::service(version = 2)]
    pub(crate) trait Train {
        /// The rate.
        fn rate(&self, params: super::after::Params) -> f64;
    }

    pub(crate) struct Trainer;

    impl Train for Trainer {
        fn rate(&self, params: super::after::Params) -> f64 {
            params.rate
        }
    }
}

/// A master that tells at once that nobody serves a method, and a node with the service as it was.
async fn master_and_old_node() -> (Master, Node) {
    let master = Master::builder().no_node_timeout(Duration::ZERO).bind("127.0.0.1:0").await.expect("binds");
    let node = Node::builder().serve(before::TrainServer::new(before::Trainer)).name("node-3");
    let node = node.spawn(master.local_addr()).await.expect("registers");
    (master, node)
}

#[tokio::test]
async fn a_struct_whose_fields_changed_order_is_not_decoded_wrongly() {
    let (master, _node) = master_and_old_node().await;
    let error = after::TrainClient::new(&master).rate(after::Params { rate: 0.5, l2: 9.0 }).await.expect_err("differs");
    assert!(matches!(error, CallError::Incompatible { .. }), "{error:?}");
    assert_eq!(error.execution(), Execution::NotRun);
    let text = error.to_string();
    let difference = "`Params`: { rate: f64, l2: f64 } here, { l2: f64, rate: f64 } on node-3";
    assert!(text.contains(difference), "{text}");
    // Those built from the same code go on.
    let old = before::TrainClient::new(&master);
    assert_eq!(old.rate(before::Params { rate: 0.5, l2: 9.0 }).await, Ok(0.5));
}

#[tokio::test]
async fn an_enum_whose_variants_changed_order_is_not_decoded_wrongly() {
    let (master, _node) = master_and_old_node().await;
    let error = after::TrainClient::new(&master).judge(true).await.expect_err("differs");
    let CallError::Incompatible { difference, .. } = error else { panic!("{error:?}") };
    assert_eq!(difference, "`Quality`: enum { Good, Bad } here, enum { Bad, Good } on node-3");
    let old = before::TrainClient::new(&master);
    assert_eq!(old.judge(true).await, Ok(before::Quality::Good));
    assert_eq!(old.judge(false).await, Err(CallError::Handler(before::Quality::Bad)));
}

#[tokio::test]
async fn what_did_not_change_works_between_old_and_new_programs() {
    let (master, _node) = master_and_old_node().await;
    assert_eq!(after::TrainClient::new(&master).same(7).await, Ok(7));
}

#[tokio::test]
async fn a_method_that_the_nodes_service_lacks_is_incompatible() {
    let (master, _node) = master_and_old_node().await;
    let error = after::TrainClient::new(&master).brand_new().await.expect_err("is not there");
    assert!(matches!(error, CallError::Incompatible { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("the nodes serve `Train` without `brand_new` (node-3)"), "{text}");
}

#[tokio::test]
async fn a_node_that_serves_what_nobody_here_can_call_says_so_in_its_row() {
    let master = Master::builder().no_node_timeout(Duration::ZERO).bind("127.0.0.1:0").await.expect("binds");
    let caller = after::TrainClient::new(&master);
    let error = caller.rate(after::Params { rate: 0.5, l2: 9.0 }).await.expect_err("there is no node");
    assert!(matches!(error, CallError::NoNode { .. }), "{error:?}");
    let error = caller.same(7).await.expect_err("there is no node");
    assert!(matches!(error, CallError::NoNode { .. }), "{error:?}");
    let node = Node::builder().serve(before::TrainServer::new(before::Trainer)).name("node-3");
    let _node = node.spawn(master.local_addr()).await.expect("registers");
    until("the row says it", || !master.nodes()[0].uncallable.is_empty()).await;
    let uncallable = master.nodes().remove(0).uncallable;
    let [reason] = &uncallable[..] else { panic!("only `rate` differs of those that were called: {uncallable:?}") };
    assert!(reason.contains("rate") && reason.contains("{ rate: f64, l2: f64 }"), "{reason}");
    assert_eq!(caller.same(7).await, Ok(7));
}

#[tokio::test]
async fn waiting_for_a_service_counts_only_nodes_that_can_serve_its_client() {
    let (master, _old_node) = master_and_old_node().await;
    master.wait_for_nodes(1).await;
    master.wait_for_service::<before::TrainClient>(1).await;
    let other_types = master.wait_for_service::<after::TrainClient>(1);
    assert!(other_types.now_or_never().is_none(), "the types of the node are others");
    let mut wait = Box::pin(master.wait_for_service::<next::TrainClient>(1));
    assert!((&mut wait).now_or_never().is_none(), "the version of the node is another");
    let node = Node::builder().serve(next::TrainServer::new(next::Trainer)).name("new");
    let node = node.spawn(master.local_addr()).await.expect("registers");
    soon("a node that serves the client", wait).await;
    let caller = next::TrainClient::new(&master);
    let answer = caller.rate(after::Params { rate: 0.5, l2: 9.0 }).answer().await.expect("answers");
    assert_eq!(answer.node.id, node.id());
}

#[tokio::test]
async fn a_node_serves_two_versions_during_a_rolling_upgrade() {
    let (master, old_node) = master_and_old_node().await;
    let both = Node::builder()
        .serve(before::TrainServer::new(before::Trainer))
        .serve(next::TrainServer::new(next::Trainer))
        .name("both")
        .spawn(master.local_addr())
        .await
        .expect("serves both");
    let (old, new) = (before::TrainClient::new(&master), next::TrainClient::new(&master));
    let params = || after::Params { rate: 0.5, l2: 9.0 };
    let answer = new.rate(params()).answer().await.expect("answers");
    assert_eq!((answer.value, answer.node.id), (0.5, both.id()));
    let mut events = master.events();
    drop(old_node);
    let gone = events.by_ref().any(|event| future::ready(matches!(event, NodeEvent::Gone { .. })));
    assert!(soon("the old node to be gone", gone).await);
    assert_eq!(old.rate(before::Params { rate: 0.25, l2: 9.0 }).await, Ok(0.25));
    assert_eq!(new.rate(params()).await, Ok(0.5));
    let versions: Vec<_> = master.nodes()[0].services.iter().map(|of| (of.name.clone(), of.version)).collect();
    assert_eq!(versions, [("Train".to_owned(), 1), ("Train".to_owned(), 2)]);
}
