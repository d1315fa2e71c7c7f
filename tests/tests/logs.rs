//! What the handlers of a node in another process log, read at the master.
#![allow(clippy::print_stdout, reason = "a test says how many records it has made")]

use std::{path::Path, time::Duration};

use distribution::{
    AdminClient, CallError, Cluster, LogFilter, Master, NodeEvent,
    administration::{LogLevel, LogRecord},
    prelude::*,
};
use distribution_tests::{
    chatter::{ChatterClient, ChatterServer, Chatting},
    failure,
    process::Process,
    soon,
};
use futures::{FutureExt as _, Stream, StreamExt, TryStreamExt};

struct Cast {
    master: Master,
    chatter: ChatterClient,
    node: Process,
}

impl Cast {
    async fn start() -> Self {
        let master = Master::bind("127.0.0.1:0").await.expect("binds");
        let arguments = ["chatter", &master.local_addr().to_string(), "n1"];
        let node = Process::start(Path::new(env!("CARGO_BIN_EXE_probe")), &arguments);
        let chatter = ChatterClient::new(&master);
        soon("the node", master.wait_for_service::<ChatterClient>(1)).await;
        Self { master, chatter, node }
    }

    fn follow(&self, filter: LogFilter) -> impl Stream<Item = LogRecord> + Unpin + use<> {
        self.master.logs(filter.follow())
    }
}

async fn next(records: &mut (impl Stream<Item = LogRecord> + Unpin)) -> LogRecord {
    soon("a record", records.next()).await.expect("the master lives")
}

async fn some(records: &mut (impl Stream<Item = LogRecord> + Unpin), count: usize) -> Vec<LogRecord> {
    let mut some = Vec::new();
    for _ in 0..count {
        some.push(next(records).await);
    }
    some
}

/// The memory of a process, in KiB.
fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("has one");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}

#[tokio::test]
async fn what_a_handler_logs_arrives_with_its_node_method_call_and_attempt() {
    let cast = Cast::start().await;
    let mut records = cast.follow(LogFilter::default().method("Chatter"));
    for is_async in [false, true] {
        let (text, method) = if is_async { ("later", "Chatter.say_async") } else { ("now", "Chatter.say") };
        let call = match is_async {
            false => cast.chatter.say(text.to_owned()).send(),
            true => cast.chatter.say_async(text.to_owned()).send(),
        };
        let id = call.id();
        assert_eq!(soon("the call", call).await, Ok(1));
        let three = some(&mut records, 3).await;
        let node = cast.master.nodes()[0].identity();
        for record in &three {
            assert_eq!((&record.node, record.method.as_deref(), record.call), (&node, Some(method), id), "{record:?}");
            assert_eq!((record.attempt, &*record.target), (Some(1), "distribution_tests::chatter"));
            assert!(record.at.abs_diff(record.logged_at) < Duration::from_secs(60), "{record:?}");
        }
        let seen: Vec<_> = three.iter().map(|record| (record.level, &*record.message, &*record.fields)).collect();
        let info = format!("text={text}");
        let expected = [
            (LogLevel::Error, text, "rows=7"),
            (LogLevel::Warn, text, "name=\"two words\""),
            (LogLevel::Info, "an info", &*info),
        ];
        assert_eq!(seen, expected, "without the one of level debug");
    }
    // What no handler logs is of no call.
    let mut others = cast.follow(LogFilter::default().contains("elsewhere"));
    assert_eq!(cast.chatter.elsewhere("elsewhere".to_owned()).await, Ok(()));
    let record = next(&mut others).await;
    assert_eq!((&*record.node.name, record.call, record.method), ("n1", None, None));
}

#[tokio::test]
async fn an_administrator_reads_them_from_elsewhere_and_a_filter_says_which() {
    let cast = Cast::start().await;
    let mut records = cast.follow(LogFilter::default().method("Chatter"));
    let first = cast.chatter.say("first".to_owned()).send();
    let id = first.id().expect("is sent");
    assert_eq!(soon("the call", first).await, Ok(1));
    assert_eq!(cast.chatter.say("second".to_owned()).await, Ok(1));
    some(&mut records, 6).await;

    let cluster = Cluster::connect(cast.master.local_addr()).await.expect("connects");
    let admin = AdminClient::new(&cluster);
    let read = async |filter: LogFilter| -> Vec<String> {
        let records: Vec<LogRecord> = soon("all records", admin.logs(filter).try_collect()).await.expect("answers");
        records.iter().map(|record| format!("{} {}", record.level, record.message)).collect()
    };
    let of = || LogFilter::default().method("Chatter.say");
    let all = ["error first", "warn first", "info an info", "error second", "warn second", "info an info"];
    assert_eq!(read(of()).await, all);
    assert_eq!(read(of().past(2)).await, all[4..]);
    assert_eq!(read(of().past(0)).await, [""; 0]);
    assert_eq!(read(of().call(id)).await, all[..3]);
    assert_eq!(read(of().level(LogLevel::Error)).await, ["error first", "error second"]);
    assert_eq!(read(of().contains("second")).await, ["error second", "warn second", "info an info"]);
    assert_eq!(read(of().node("n1")).await, all);
    assert_eq!(read(of().node(cast.master.nodes()[0].id)).await, all);
    assert_eq!(read(of().node("n2")).await, [""; 0]);
    assert_eq!(read(of().newer_than(Duration::from_secs(3600))).await, all);
    assert_eq!(read(LogFilter::default().method("Chatter.flood")).await, [""; 0]);

    let mut followed = admin.logs(of().past(1).follow());
    let text = async |followed: &mut (dyn Stream<Item = Result<LogRecord, CallError>> + Unpin + Send)| {
        soon("a record", followed.try_next()).await.expect("answers").expect("has no end").message
    };
    assert_eq!(text(&mut followed).await, "an info");
    assert!(followed.try_next().now_or_never().is_none());
    assert_eq!(cast.chatter.say("third".to_owned()).await, Ok(1));
    assert_eq!(text(&mut followed).await, "third");
}

#[tokio::test]
async fn repeated_lines_are_folded_long_ones_cut_and_tokens_replaced() {
    let cast = Cast::start().await;
    let mut records = cast.follow(LogFilter::default().method("Chatter.repeat"));
    let lines = ["a".to_owned(), "b".to_owned()];
    assert_eq!(cast.chatter.repeat(lines.to_vec(), 10_000).await, Ok(()));
    let (mut a, mut b, mut count) = (0, 0, 0);
    while a + b < 20_000 {
        let record = next(&mut records).await;
        *(if record.message == "a" { &mut a } else { &mut b }) += 1 + record.repeated;
        count += 1;
    }
    assert_eq!((a, b), (10_000, 10_000), "none is missing");
    assert!(count < 1_000, "{count} records of 20,000 lines");
    let lines = vec![format!("a token: dtok1_node_{}!", "s".repeat(91)), "ä".repeat(10_000)];
    assert_eq!(cast.chatter.repeat(lines, 1).await, Ok(()));
    assert_eq!(next(&mut records).await.message, "a token: [token]!");
    let long = next(&mut records).await.message;
    assert!(long.ends_with("ä …") && (8_000..8_200).contains(&long.len()), "{}", long.len());
}

#[tokio::test]
async fn a_flood_of_records_disturbs_neither_calls_nor_heartbeats() {
    let cast = Cast::start().await;
    let mut events = cast.master.events();
    let mut records = cast.follow(LogFilter::default().level(LogLevel::Warn));
    let flood = cast.chatter.flood(2).send();
    // For so long that heartbeats would be missed: the node sends two a second, and is suspect after three seconds.
    let begun = std::time::Instant::now();
    let mut calls = 0;
    while begun.elapsed() < Duration::from_secs(5) {
        let answer = soon("a call beside the flood", cast.chatter.even(calls * 2).answer()).await.expect("answers");
        assert_eq!(answer.value, calls * 2);
        calls += 1;
    }
    let dropped = next(&mut records).await;
    assert!(dropped.message.contains("records were dropped: a node sends 1,000 a second"), "{dropped}");
    assert_eq!(cast.chatter.hush().await, Ok(()));
    let logged = soon("the flood", flood).await.expect("ends");
    let kept = cast.master.logs(LogFilter::default().contains("flood").past(usize::MAX)).count().await;
    println!("{logged} records in {:?}, beside {calls} calls; the master has {kept}", begun.elapsed());
    assert!(logged > 100_000, "{logged} are too few for a flood");
    assert!((4_000..20_000).contains(&kept), "{kept} of {logged}");
    assert!(calls > 100, "{calls} calls beside the flood");
    while let Some(event) = events.next().now_or_never() {
        assert!(matches!(event, Some(NodeEvent::Present { .. })), "{event:?}");
    }
    let memory = resident(cast.node.id());
    assert!(memory < 100 << 10, "{memory} KiB");
}

#[tokio::test]
async fn a_panic_arrives_with_its_call_and_its_backtrace() {
    let cast = Cast::start().await;
    let mut records = cast.follow(LogFilter::default().level(LogLevel::Error));
    for is_async in [false, true] {
        let call = match is_async {
            false => cast.chatter.fail("oh".to_owned()).send(),
            true => cast.chatter.fail_async("oh".to_owned()).send(),
        };
        let id = call.id();
        assert!(matches!(failure(soon("the call", call).await), CallError::Panicked { .. }));
        let record = next(&mut records).await;
        assert_eq!((record.level, &*record.message), (LogLevel::Error, "the handler panicked: oh"));
        let method = if is_async { "Chatter.fail_async" } else { "Chatter.fail" };
        assert_eq!((record.call, record.method.as_deref()), (id, Some(method)));
        assert!(record.fields.starts_with("at=tests/src/chatter.rs:"), "{record:?}");
        let backtrace = record.backtrace.expect("has one");
        // The place is on the second line, if the program was built with debug information.
        let first: String = backtrace.lines().take(2).collect();
        assert!(first.contains("chatter"), "{backtrace}");
        assert!(backtrace.len() < 8_300, "{}", backtrace.len());
    }
    // In a batch too, each with its own id.
    let ends: Vec<_> = (0..4).map(|number| cast.chatter.even(number)).distribute().collect().await;
    let failed: Vec<_> = ends.into_iter().filter_map(Result::err).map(|error| error.id()).collect();
    let logged: Vec<_> = some(&mut records, 2).await.into_iter().map(|record| record.call).collect();
    assert_eq!(logged, failed);
}

#[tokio::test]
async fn a_node_without_the_layer_tells_of_panics_and_its_records_outlive_it() {
    let master = Master::bind("127.0.0.1:0").await.expect("binds");
    let node = distribution::Node::builder().serve(ChatterServer::new(Chatting::default())).name("plain");
    let node = node.spawn(master.local_addr()).await.expect("registers");
    let chatter = ChatterClient::new(&master);
    assert!(matches!(failure(chatter.fail("oh".to_owned()).await), CallError::Panicked { .. }));
    // It sends what it has before it says goodbye.
    soon("the node to drain", node.drain()).await;
    let records: Vec<_> = master.logs(LogFilter::default().node("plain")).collect().await;
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!((&*record.message, record.method.as_deref()), ("the handler panicked: oh", Some("Chatter.fail")));
}

#[tokio::test]
async fn a_list_of_what_is_kept_ends_in_the_masters_process_too() {
    let cast = Cast::start().await;
    let admin = AdminClient::new(&cast.master);
    let list = async || soon("the list ends", admin.logs(LogFilter::default()).try_collect::<Vec<_>>()).await;
    // Each time anew: which of the two ends waits for the other depends on the moment.
    for _ in 0..100 {
        list().await.expect("is answered");
    }
}
