//! Credentials that are taken back: whoever came by one is put out.

use std::fs;

use distribution::{Access, CallError, Events, GoneReason, NodeEvent, Token};
use distribution_tests::{
    ProbeClient,
    log::Log,
    soon,
    trust::{Authority, Purpose},
};
use futures::StreamExt;

use super::{Stronghold, node};

async fn gone(events: &mut Events) -> (String, GoneReason) {
    soon("a node to go", async {
        loop {
            if let NodeEvent::Gone { node, reason, .. } = events.next().await.expect("the master lives") {
                return (node.name.to_string(), reason);
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_token_that_is_rotated_out_puts_its_nodes_out() {
    let (log, _guard) = Log::gather();
    let hold = Stronghold::with_token().await;
    let first = hold.token();
    let mut events = hold.master.events();
    let thief =
        soon("the thief", node().name("thief").token(first.expose()).spawn(hold.addr())).await.expect("is let in");
    let second = Token::issue(&hold.file, Access::Nodes).expect("writes");
    let honest =
        soon("a node", node().name("honest").token(second.expose()).spawn(hold.addr())).await.expect("is let in");
    let probe = ProbeClient::new(&hold.master);
    assert_eq!(probe.add(1, 2).on(thief.id()).await, Ok(3));
    Token::issue(&hold.file, Access::Nodes).expect("writes");
    assert_eq!(gone(&mut events).await, ("thief".to_owned(), GoneReason::Revoked));
    let error = soon("the thief's end", thief.wait()).await.expect_err("is not let in again").to_string();
    assert!(error.contains("was rotated out"), "{error}");
    assert_eq!(probe.add(1, 2).await, Ok(3), "the honest node goes on");
    assert_eq!(hold.master.nodes().len(), 1);
    let text = log.text();
    for (node, token) in [("thief", &first), ("honest", &second)] {
        assert!(
            text.contains(&format!("{node} (")) && text.contains(&format!("joined by token {}", token.id())),
            "{text}"
        );
    }
    assert!(text.contains("put a node out: its credential was taken back"), "{text}");
    drop(honest);
}

#[tokio::test]
async fn a_damaged_token_file_puts_nobody_out() {
    let hold = Stronghold::with_token().await;
    let _node = soon("a node", node().token(hold.token().expose()).spawn(hold.addr())).await.expect("is let in");
    let text = fs::read_to_string(&hold.file).expect("reads");
    fs::write(&hold.file, "dtok1_node_damaged\n").expect("writes");
    let refused = hold.master.stats().turned_away;
    let token = text.lines().find(|line| line.starts_with("dtok1_node_")).expect("one for nodes");
    let mut other = Box::pin(node().token(token).spawn(hold.addr()));
    soon("the damage to be seen", async {
        while hold.master.stats().turned_away < refused + 2 {
            tokio::select! {
                ended = &mut other => panic!("must not be let in: {ended:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
    })
    .await;
    assert_eq!(hold.master.nodes().len(), 1);
    fs::write(&hold.file, text).expect("writes");
    soon("the other", other).await.expect("is let in");
    assert_eq!(hold.master.nodes().len(), 2);
}

#[tokio::test]
async fn an_authority_that_is_replaced_puts_out_whom_it_vouched_for() {
    let authority = Authority::new("old");
    let hold = Stronghold::with_certificates(authority.issue("master", Purpose::Server, &["localhost"])).await;
    let mut events = hold.master.events();
    let own = authority.issue("n1", Purpose::Client, &["n1"]);
    let _node = soon("the node", node().name("n1").certificates(own).spawn(hold.host())).await.expect("is let in");
    let other = Authority::new("new");
    other.issue("master", Purpose::Server, &["localhost"]);
    for kind in ["key", "pem"] {
        fs::copy(other.path("master", kind), authority.path("master", kind)).expect("copies");
    }
    fs::copy(other.file(), authority.file()).expect("copies");
    assert_eq!(gone(&mut events).await, ("n1".to_owned(), GoneReason::Revoked));
}

#[tokio::test]
async fn a_node_that_is_put_out_by_hand_may_come_again() {
    let hold = Stronghold::with_token().await;
    let mut events = hold.master.events();
    let node =
        soon("a node", node().name("n").token(hold.token().expose()).spawn(hold.addr())).await.expect("is let in");
    let id = node.id();
    assert!(hold.master.disconnect(id));
    assert_eq!(gone(&mut events).await, ("n".to_owned(), GoneReason::PutOut));
    assert!(!hold.master.disconnect(id), "it is not there any more");
    soon("it to come again", hold.master.wait_for_nodes(1)).await;
    assert_eq!(ProbeClient::new(&hold.master).add(1, 2).await, Ok(3));
    let error = ProbeClient::new(&hold.master).add(1, 2).on(id).await.expect_err("an id is given once");
    assert!(matches!(error, CallError::NoNode { .. }), "{error:?}");
}
