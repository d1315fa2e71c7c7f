//! Nodes that say a great deal about themselves.

use std::time::Duration;

use distribution::{CallError, Master, fuzzing::method_id};
use distribution_tests::{
    ProbeClient, failure,
    impostor::{Impostor, Shown, registration_that_shows},
    soon,
};

/// This many methods of `Probe`, which no other node has.
fn shown(node: usize, count: usize, length: usize) -> Vec<Shown> {
    let method = |number: usize| {
        let (name, signature) = (format!("method{number}"), format!("fn() -> {}", "x".repeat(length)));
        let types = node as u64;
        Shown {
            id: method_id("Probe", 1, &name, &signature, types),
            service: "Probe".to_owned(),
            name,
            signature,
            types,
            streams: [0; 2],
        }
    };
    (0..count).map(method).collect()
}

async fn register(master: &Master, node: usize, methods: &[Shown]) -> Result<Impostor, String> {
    let registration = registration_that_shows(1 << 40 | node as u64, &format!("n{node}"), 1, &[], methods);
    Impostor::register(master.local_addr(), registration).await
}

#[tokio::test]
async fn what_nodes_say_is_bounded_for_each_and_in_all() {
    let master = Master::builder().no_node_timeout(Duration::ZERO).bind("127.0.0.1:0").await.expect("binds");
    for (methods, why) in [
        (shown(1, 1025, 10), "1024 methods"),
        (shown(1, 70, 8_000), "524288 is the limit"),
        (shown(1, 1, 9_000), "must have 1 to 8192 bytes"),
    ] {
        let refused = register(&master, 1, &methods).await.expect_err("says too much");
        assert!(refused.contains(why), "{refused}");
    }
    let mut nodes = Vec::new();
    let refused = loop {
        match register(&master, nodes.len(), &shown(nodes.len(), 1024, 400)).await {
            Ok(node) => nodes.push(node),
            Err(refused) => break refused,
        }
        assert!(nodes.len() < 1000, "there is no end to it");
    };
    assert!(refused.contains("16 MiB") && refused.contains("with the same credential"), "{refused}");
    // One that serves what others serve still comes in.
    let methods = shown(0, 1024, 400);
    let registration = registration_that_shows(1 << 41, "like-n0", 1, &[], &methods);
    nodes.push(Impostor::register(master.local_addr(), registration).await.expect("is taken in"));
    assert_eq!(master.nodes().len(), nodes.len());

    let error = failure(soon("the call", ProbeClient::new(&master).add(1, 1)).await);
    let CallError::Incompatible { .. } = &error else { panic!("{error:?}") };
    assert!(error.to_string().len() < 8 * 1024, "{}", error.to_string().len());

    // What has gone makes room.
    drop(nodes);
    soon("them to go", async {
        while !master.nodes().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    register(&master, 2000, &shown(2000, 1024, 400)).await.expect("there is room");
}
