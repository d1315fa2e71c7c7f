//! A connection whose task breaks.

use futures::StreamExt;
use tokio::io::ReadBuf;

use super::*;
use crate::{core::split_registration, master::shared::tests::shared, view::NodeEvent, wire::handshake::Registration};

/// A stream that panics when it is read.
struct PanickingStream;

impl AsyncRead for PanickingStream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        panic!("wanted by the test");
    }
}

impl AsyncWrite for PanickingStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_connection_whose_task_panics_reports_its_node_gone() {
    let shared = shared();
    let mut events = crate::master::Events::new(&shared);
    let (link, task) = new(&shared, 65_536);
    let registration = Registration {
        name: "n".to_owned(),
        instance: 1,
        slots: 1,
        busy: 0,
        async_limit: 1,
        max_message_size: 65_536,
        labels: Vec::new(),
        methods: Vec::new(),
        session: None,
    };
    let node = shared.with_core("a node joined", |core, now, effects| {
        let node = core.new_node_id();
        core.on_node_joined(
            now,
            node,
            split_registration(registration, crate::security::Principal::open()),
            ([127, 0, 0, 1], 1).into(),
            link,
            effects,
        );
        node
    });
    let node = node.expect("joins");
    let identity = NodeIdentity::new(node, "n", crate::id::NO_ADDRESS);
    let run = tokio::spawn(task.run(Arc::clone(&shared), PanickingStream, NodeConnection::first(node), identity));
    assert!(run.await.expect_err("panics").is_panic());
    assert_eq!(shared.nodes().len(), 0);
    assert!(matches!(events.next().await, Some(NodeEvent::Joined { .. })));
    match events.next().await {
        Some(NodeEvent::Gone { reason: GoneReason::Broken(what), .. }) => {
            assert!(what.contains("panicked"), "{what}")
        }
        other => panic!("{other:?}"),
    }
}
