//! Nodes that take calls that may be repeated, and hang up: the calls must not be given up for it.

use std::net::SocketAddr;

use distribution::{Master, Node, fuzzing};
use distribution_tests::{
    impostor::{Impostor, Shown, kind, registration_that_shows},
    soon,
};
use futures::future::{join_all, select_all};
use tokio::net::TcpSocket;

#[distribution::service(idempotent)]
trait Quick {
    fn twice(&self, number: u64) -> u64;
}

struct Doubles;

impl Quick for Doubles {
    fn twice(&self, number: u64) -> u64 {
        number * 2
    }
}

/// What a node shows that serves `Quick`.
fn shown() -> Vec<Shown> {
    let keys = fuzzing::method_ids(QuickServer::new(Doubles)).expect("each method is there once");
    let shown = |key: &fuzzing::MethodKey| Shown {
        id: fuzzing::method_id("Quick", 1, &key.name, &key.signature, key.types),
        service: "Quick".to_owned(),
        name: key.name.clone(),
        signature: key.signature.clone(),
        types: key.types,
        streams: [0; 2],
    };
    keys.iter().map(shown).collect()
}

/// Registers again and again from another address than all others here, takes a call, and hangs up.
async fn hang_up_for_ever(master: SocketAddr) {
    let shown = shown();
    loop {
        let socket = TcpSocket::new_v4().expect("a socket");
        // All of 127.0.0.0/8 is this machine on Linux.
        socket.bind(([127, 0, 0, 2], 0).into()).expect("is bound");
        let stream = socket.connect(master).await.expect("connects");
        let registration = registration_that_shows(rand::random::<u64>() | 1 << 40, "bad", 16, &[], &shown);
        if let Ok(mut bad) = Impostor::register_over(stream, registration).await {
            // No call comes any more once all are answered.
            bad.receive(kind::REQUEST).await;
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn connections_of_one_address_that_hang_up_poison_no_call() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let quick = QuickClient::new(&master);
    let bad = select_all((0..6).map(|_| Box::pin(hang_up_for_ever(master.local_addr()))));
    let calls = async {
        master.wait_for_nodes(6).await;
        let node = Node::builder().serve(QuickServer::new(Doubles)).slots(2).spawn(master.local_addr());
        let _node = node.await.expect("registers");
        join_all((0..400).map(|number| quick.twice(number).send())).await
    };
    let answers = tokio::select! {
        answers = soon("the calls", calls) => answers,
        _ = bad => unreachable!("they go on for ever"),
    };
    let failed: Vec<_> = answers.iter().filter(|answer| answer.is_err()).collect();
    assert!(failed.is_empty(), "{} of 400 failed, such as {:?}", failed.len(), failed[0]);
}
