//! What a master counts, remembers and warns of, as its program and administrators see it.

use std::time::Duration;

use distribution::{AdminClient, Cluster, LocalCluster, Master, Node, administration::*, prelude::*};
use distribution_tests::{ProbeClient, ProbeServer, Prober, meeting::Meeting, soon, until};
use futures::future::join_all;

async fn cluster(nodes: usize) -> (LocalCluster, Cluster) {
    let local = LocalCluster::builder().nodes(nodes).slots(2).serve(|| ProbeServer::new(Prober)).start().await;
    let local = local.expect("starts");
    let cluster = Cluster::builder().name("report").connect(local.master().local_addr()).await.expect("connects");
    (local, cluster)
}

fn method<'a>(metrics: &'a Metrics, name: &str) -> &'a CallMetrics {
    &metrics.methods.iter().find(|method| method.name == name).expect("it was called").calls
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_counted_by_method_node_and_caller_wherever_they_are_made() {
    let (local, cluster) = cluster(2).await;
    let (here, there) = (ProbeClient::new(&local), ProbeClient::new(&cluster));
    for round in 0..20 {
        assert_eq!(here.add(round, 1).await.expect("answers"), round + 1);
        assert_eq!(there.add_async(round, 1).await.expect("answers"), round + 1);
        there.divide(1, 0).await.expect_err("cannot be divided");
        here.panic_async("oh".to_owned()).await.expect_err("panics");
    }
    assert_eq!(there.length(vec![0; 5000]).await.expect("answers"), 5000);
    let counts = soon("metrics", AdminClient::new(&cluster).metrics()).await.expect("answers");
    assert_eq!(method(&counts, "add").outcomes.answered, 20);
    assert_eq!(method(&counts, "add_async").outcomes.answered, 20);
    assert_eq!(method(&counts, "divide").outcomes.errors, 20);
    assert_eq!(method(&counts, "panic_async").outcomes.panicked, 20);
    let length = method(&counts, "length");
    assert!((5000..5100).contains(&length.argument_bytes) && (1..100).contains(&length.reply_bytes), "{length:?}");
    for calls in counts.methods.iter().map(|method| &method.calls) {
        assert_eq!([calls.in_queue.count, calls.on_the_way.count, calls.in_handler.count], [calls.sent; 3]);
    }
    let of_nodes: u64 = counts.nodes.iter().map(|node| node.calls.outcomes.all()).sum();
    assert_eq!((counts.nodes.len(), of_nodes), (2, 81));
    let callers: Vec<_> = counts.callers.iter().map(|caller| (caller.name.as_deref(), caller.calls.sent)).collect();
    assert_eq!(callers, [(None, 40), (Some("report"), 41)]);
    // What the master says of itself is the same, and calls of the admin service do not count as calls of nodes.
    let own = local.master().metrics();
    assert_eq!((own.methods, own.callers), (counts.methods, counts.callers));
    // When the caller is gone, its calls still count.
    cluster.close().await;
    until("the caller is gone", || local.master().metrics().gone_callers.sent == 41).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_calls_of_batches_are_counted_each() {
    let (local, cluster) = cluster(2).await;
    let client = ProbeClient::new(&cluster);
    let sums: Vec<i64> =
        (0..5000).map(|number| client.add(number, 0)).distribute().try_collect().await.expect("all answer");
    assert_eq!(sums.len(), 5000);
    let metrics = local.master().metrics();
    let add = method(&metrics, "add");
    assert_eq!((add.outcomes.answered, add.in_handler.count), (5000, 5000));
    assert!(add.batches > 0 && add.sent >= 5000, "{add:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_has_each_call_once_and_the_timeline_what_ran_where() {
    let (local, cluster) = cluster(1).await;
    let (client, mut meeting) = (ProbeClient::new(&cluster), Meeting::new().await);
    let held = client.hold(meeting.addr(), "long".to_owned()).send();
    let handler = meeting.next().await;
    join_all((0..100).map(|number| client.add(number, 1).send())).await;
    let master = local.master();
    let history = |filter: HistoryFilter| master.history(&filter);
    let all = HistoryFilter::default().methods().nodes();
    let ended = |history: &History| history.cluster.iter().map(|point| point.ended).sum::<u64>();
    until("the calls are in the history", || ended(&history(all)) == 100).await;
    let then = history(all);
    let add = then.methods.iter().find(|series| series.name.method() == "add").expect("it was called");
    assert_eq!(add.points.iter().map(|point| point.ended).sum::<u32>(), 100);
    let node = &then.nodes[0];
    assert_eq!(node.points.iter().map(|point| point.ended).sum::<u32>(), 100);
    // One slot is held all the time.
    let next = then.next;
    let started = then.started;
    until("another second has passed", || history(all.from(next)).next > next).await;
    let later = history(all.from(next));
    assert!(later.cluster.iter().all(|point| point.number >= next && point.running >= 1), "{later:?}");
    assert!(later.nodes[0].points[0].busy > 0.9 && later.nodes[0].points[0].busy < 1.1, "{later:?}");
    assert!(later.methods.is_empty(), "nothing ended: {later:?}");
    assert_eq!(later.started, started, "the master is still the same");
    handler.release().await;
    held.await.expect("answers");
    until("its span has ended", || {
        let page = master.timeline(&TimelineFilter::default());
        let is_long = |span: &TimelineSpan| {
            span.length >= Duration::from_secs(1)
                && span.method.is_some_and(|at| page.methods[usize::from(at)].method() == "hold")
        };
        page.spans.iter().any(is_long) && page.spans.iter().map(|span| span.calls).sum::<u32>() == 101
    })
    .await;
    let page = master.timeline(&TimelineFilter::default().limit(1));
    assert_eq!((page.spans.len(), page.started), (1, started));
    let rest = master.timeline(&TimelineFilter::default().after(page.next));
    assert!(!rest.spans.is_empty() && !rest.has_more && !rest.spans.contains(&page.spans[0]), "{rest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_report_how_their_process_does() {
    let (local, _cluster) = cluster(1).await;
    let vitals = || local.master().metrics().nodes[0].vitals;
    until("a node has reported twice", || {
        vitals().is_some_and(|vitals| vitals.cpu.is_some() || !cfg!(target_os = "linux"))
    })
    .await;
    let vitals = vitals().expect("it has reported");
    assert!(vitals.clock_skew.abs() < 60.0, "{vitals:?}");
    if cfg!(target_os = "linux") {
        assert!(
            vitals.memory.is_some_and(|bytes| bytes > 1 << 20) && vitals.threads.is_some_and(|threads| threads > 1)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_grouped_by_what_happened() {
    let (local, cluster) = cluster(1).await;
    let client = ProbeClient::new(&cluster);
    for message in ["one", "two", "two"] {
        client.panic(message.to_owned()).await.expect_err("panics");
    }
    client.divide(1, 0).await.expect_err("the method's own error");
    let failures = AdminClient::new(&cluster).failures().await.expect("answers");
    let mut counts: Vec<_> = failures.iter().map(|group| (group.kind.as_str(), group.count)).collect();
    counts.sort_unstable();
    assert_eq!(counts, [("panicked", 1), ("panicked", 2)]);
    let two = failures.iter().find(|group| group.count == 2).expect("checked");
    assert!(two.message.contains("two") && two.caller.as_deref() == Some("report"), "{two:?}");
    assert_eq!(two.method.to_string(), "Probe.panic");
    // Who looks into it later is told the caller too.
    cluster.close().await;
    until("the caller is gone", || local.master().callers().is_empty()).await;
    assert!(local.master().failures().iter().all(|group| group.caller.as_deref() == Some("report")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_serves_is_warned_of() {
    let master = Master::builder().no_node_timeout(Duration::from_secs(3600)).bind("127.0.0.1:0").await.expect("binds");
    let kinds = || master.warnings().iter().map(|warning| warning.kind).collect::<Vec<_>>();
    assert_eq!(kinds(), [WarningKind::NoNodes]);
    let waiting = ProbeClient::new(&master).add(1, 2).send();
    until("the call is warned of", || kinds() == [WarningKind::NoNodes, WarningKind::NobodyServes]).await;
    assert_eq!(
        master.warnings()[1].text,
        "a call of `Probe.add` waits: no node serves it. Start a node that can run it"
    );
    let node = Node::spawn(master.local_addr(), ProbeServer::new(Prober)).await.expect("registers");
    assert_eq!(waiting.await.expect("answers"), 3);
    until("nothing looks wrong", || kinds().is_empty()).await;

    // What somebody has asked for comes last.
    master.cordon(&master.nodes()[0]).expect("is registered");
    let waiting = ProbeClient::new(&master).add(1, 2).label("gpu", "a100").send();
    until("both are warned of", || kinds() == [WarningKind::NobodyServes, WarningKind::Cordoned]).await;
    assert_eq!(WarningKind::Cordoned.level(), WarningLevel::Note);
    drop((waiting, node));
}
