//! Rubbish sent to the master's port: each is turned away, and nobody else notices.

use std::{path::Path, time::Duration};

use distribution::{Master, Node};
use distribution_tests::{ProbeClient, ProbeServer, Prober, impostor, process::Process, soon};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

/// Connects, sends this, and waits until the master closes the connection; says how long that took.
async fn closed_after(addr: &str, bytes: &[u8]) -> Duration {
    let mut stream = TcpStream::connect(addr).await.expect("connects");
    let began = Instant::now();
    // The master may close before it has read it all.
    let _ = stream.write_all(bytes).await;
    let _ = soon("the connection to be closed", stream.read_to_end(&mut Vec::new())).await;
    began.elapsed()
}

/// The preface of a node without security.
fn preface() -> Vec<u8> {
    impostor::preface(2, 0)
}

#[tokio::test]
async fn rubbish_closes_its_connection_within_five_seconds_and_says_why() {
    let mut master = Process::start(Path::new(env!("CARGO_BIN_EXE_probe")), &["master", "127.0.0.1:0"]);
    let line = master.line_with("listening ").await;
    let addr = line.trim_start_matches("listening ").to_owned();
    let node = Node::builder().serve(ProbeServer::new(Prober)).name("bystander");
    let _bystander = node.spawn(&addr).await.expect("registers");

    let mut other_version = preface();
    other_version[8] = 99;
    let mut random = vec![0u8; 4096];
    let mut state = 0x2545_f491_4f6c_dd1du64;
    for byte in &mut random {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = state as u8;
    }
    let with_length = |length: u32, body: &[u8]| [preface(), length.to_le_bytes().to_vec(), body.to_vec()].concat();
    let cases: [(&str, Vec<u8>, &str); 7] = [
        ("random bytes", random, "does not speak this protocol"),
        ("an HTTP request", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), "looks like HTTP"),
        ("nothing at all", Vec::new(), "was not complete within"),
        ("half a preface", preface()[..20].to_vec(), "was not complete within"),
        ("another version", other_version, "protocol version 99"),
        ("a header that claims 4 GiB", with_length(u32::MAX, b"x"), "claims 4294967295 bytes"),
        ("a registration that is none", with_length(3, b"\xff\xff\xff"), "cannot be decoded"),
    ];
    for (what, bytes, reason) in cases {
        let took = closed_after(&addr, &bytes).await;
        assert!(took < Duration::from_secs(5), "{what} took {took:?}");
        let line = master.log_with("closed a connection").await;
        assert!(line.contains(reason), "{what}: {line}");
    }
    // The bystander's connection is the one it had: nobody left, and nobody came.
    master.signal("TERM").await;
    let news = master.rest().await;
    assert_eq!(news.len(), 1, "{news:?}");
    assert!(
        news[0].contains("node bystander")
            && news[0].ends_with("registered without a credential (the master has no security)"),
        "{news:?}"
    );
}

#[tokio::test]
async fn a_registered_peer_that_breaks_the_protocol_is_cut_off_alone() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let _node = Node::spawn(master.local_addr(), ProbeServer::new(Prober)).await.expect("registers");
    let probe = ProbeClient::new(&master);
    // name "x", instance 9, one slot, none busy, async limit 1, frame limit 65536, no labels, no methods, no session
    let registration = [1, b'x', 9, 1, 0, 1, 252, 0, 0, 1, 0, 0, 0, 0];
    let cases: [(&str, &[u8], &str); 6] = [
        ("a frame that claims 4 GiB", &[255, 255, 255, 255, 2], "announced a frame of 4294967295 bytes"),
        ("a frame of no known kind", &[0, 0, 0, 0, 77], "kind 77, which this release does not know"),
        ("a control frame of 16 MiB", &[0, 0, 0, 1, 4], "a `heartbeat` frame of 16777216 bytes"),
        ("a master's control frame", &[0, 0, 0, 0, 7], "a `drained` frame, which its end"),
        ("a request", &[1, 0, 0, 0, 1, 0], "a `request` frame, which its end"),
        ("a response that is none", &[2, 0, 0, 0, 2, 255, 255], "broke the protocol"),
    ];
    for (what, frame, reason) in cases {
        let mut events = master.events();
        let mut stream = TcpStream::connect(master.local_addr()).await.expect("connects");
        let hello = [preface(), (registration.len() as u32).to_le_bytes().to_vec(), registration.to_vec()].concat();
        stream.write_all(&hello).await.expect("sends");
        soon(what, master.wait_for_nodes(2)).await;
        stream.write_all(frame).await.expect("sends");
        let gone = soon(what, async {
            use futures::StreamExt;
            loop {
                let event = events.next().await.expect("the master lives");
                if let distribution::NodeEvent::Gone { .. } = event {
                    return event.to_string();
                }
            }
        })
        .await;
        assert!(gone.contains(reason), "{what}: {gone}");
        assert_eq!(probe.add(1, 1).await, Ok(2));
    }
}
