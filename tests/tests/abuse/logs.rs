//! Nodes that send records of a log that no node makes.

use distribution::{LogFilter, Master, Node, administration::LogLevel, error::GoneReason};
use distribution_tests::{
    ProbeServer, Prober,
    impostor::{Impostor, frame, kind, number, text},
    soon,
};
use futures::StreamExt;
use tokio::io::AsyncWriteExt;

use super::{ADD, gone, master};

/// A record of this level, with these texts: method, target, message, fields and backtrace.
fn record(level: u64, call: &[u8], texts: [&str; 5]) -> Vec<u8> {
    let texts = texts.map(text).concat();
    [&number(u64::MAX)[..], &number(level), &number(u32::MAX.into()), call, &texts].concat()
}

fn logs(records: &[Vec<u8>]) -> Vec<u8> {
    frame(kind::LOGS, &[number(records.len() as u64), records.concat()].concat())
}

fn small(message: &str) -> Vec<u8> {
    record(2, &[0], ["", "", message, "", ""])
}

async fn violation(frame: &[u8]) -> String {
    let (master, _) = master().await;
    let mut events = master.events();
    let mut peer = Impostor::node(master.local_addr(), "liar", &[ADD]).await.expect("is taken in");
    peer.send(frame).await;
    match gone(&mut events).await {
        GoneReason::Violation(why) => why.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn frames_that_no_node_sends_end_the_connection() {
    let many: Vec<_> = (0..257).map(|_| small("")).collect();
    let why = violation(&logs(&many)).await;
    assert!(why.contains("257 log records in one frame; the limit is 256"), "{why}");
    let large = record(2, &[0], ["", "", &"x".repeat(20_000), "", ""]);
    let why = violation(&logs(&[large])).await;
    assert!(why.contains("`logs` frame of 2") && why.contains("the limit of such frames is 16384"), "{why}");
    let claims = |count: u64| frame(kind::LOGS, &[number(count), small("")].concat());
    let wrong_text = frame(kind::LOGS, &[&number(1)[..], &number(1), &[2, 0, 0], &[2, 0xff, 0xfe]].concat());
    for wrong in [logs(&[record(5, &[0], [""; 5])]), wrong_text, claims(10_000), claims(1 << 60), claims(2)] {
        violation(&wrong).await;
    }
}

#[tokio::test]
async fn records_that_lie_are_made_safe_and_are_the_liars_own() {
    let (master, probe) = master().await;
    let honest = Node::builder().serve(ProbeServer::new(Prober)).name("honest").spawn(master.local_addr()).await;
    let _honest = honest.expect("registers");
    let mut peer = Impostor::node(master.local_addr(), "liar", &[]).await.expect("is taken in");
    let extremes = [&[1][..], &number(u64::MAX), &number(u32::MAX.into())].concat();
    let message = "\x1b[2J\r\nforged \u{202e}line, dtok1_admin_secret";
    let lie = record(4, &extremes, ["Probe\n.add", "\x07", message, "node=honest", "\x1b[31mone\ntwo"]);
    peer.send(&logs(&[lie])).await;
    let mut records = master.logs(LogFilter::default().follow());
    let record = soon("the record", records.next()).await.expect("the master lives");
    assert_eq!((&*record.node.name, record.level), ("liar", LogLevel::Error));
    assert_eq!(record.message, "\\u{1b}[2J\\r\\nforged \\u{202e}line, [token]");
    assert_eq!((record.method.as_deref(), &*record.target), (Some("Probe\\n.add"), "\\u{7}"));
    assert_eq!(record.backtrace.as_deref(), Some("\\u{1b}[31mone\ntwo"));
    assert_eq!((record.attempt, record.repeated), (Some(u32::MAX), u32::MAX));
    assert!(record.at < record.logged_at, "the time of receipt is the master's: {record:?}");
    assert!(!record.to_string().contains(['\n', '\x1b', '\u{202e}']), "{record}");
    assert_eq!(probe.add(1, 2).await, Ok(3));
}

#[tokio::test]
async fn a_node_that_floods_the_log_loses_its_own_records_and_calls_go_on() {
    let (master, probe) = master().await;
    let _node = Node::spawn(master.local_addr(), ProbeServer::new(Prober)).await.expect("registers");
    let mut events = master.events();
    let mut quiet = Impostor::node(master.local_addr(), "quiet", &[]).await.expect("is taken in");
    quiet.send(&logs(&[small("of the quiet one")])).await;
    let mut noisy = Impostor::node(master.local_addr(), "noisy", &[]).await.expect("is taken in");
    let frames = logs(&[small("noise"), small("more"), small("noise"), small("noise")]).repeat(100);
    let flood = async {
        // Until the master closes.
        while noisy.stream.write_all(&frames).await.is_ok() {}
    };
    let calls = async {
        for number in 0..200 {
            assert_eq!(probe.add(number, 1).await, Ok(number + 1));
        }
        gone(&mut events).await
    };
    let (reason, ()) = soon("the calls", async { tokio::join!(calls, flood) }).await;
    let GoneReason::Violation(why) = &reason else { panic!("{reason:?}") };
    assert!(why.contains("log records in more than 1000 frames a second"), "{why}");
    let of = async |master: &Master, name: &str| {
        master.logs(LogFilter::default().node(name).past(usize::MAX)).collect::<Vec<_>>().await
    };
    assert_eq!(of(&master, "quiet").await.len(), 1);
    let kept = of(&master, "noisy").await;
    assert!((20_000..40_000).contains(&kept.len()), "it sent at least 40,000, and {} are kept", kept.len());
}
