//! Runs of many calls that have a name, as the master lists them: of its own process and of callers elsewhere.

use distribution::{
    AdminClient, Cluster, LocalCluster, Master,
    administration::{CallStatus, RunInfo, RunStatus},
    prelude::*,
};
use distribution_tests::{Held, ProbeClient, ProbeServer, Prober, meeting::Meeting, soon};

async fn cluster(nodes: usize) -> LocalCluster {
    let cluster = LocalCluster::builder().nodes(nodes).slots(1).serve(|| ProbeServer::new(Prober));
    cluster.start().await.expect("starts")
}

/// The runs, once they are so.
async fn runs_when(what: &str, master: &Master, is_so: impl Fn(&[RunInfo]) -> bool) -> Vec<RunInfo> {
    let looks = async {
        loop {
            let runs = master.runs();
            if is_so(&runs) {
                return runs;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    soon(what, looks).await
}

#[tokio::test]
async fn a_run_in_the_masters_process_is_listed_with_its_progress_and_its_stragglers() {
    let local = cluster(2).await;
    let probe = ProbeClient::new(&local);
    let mut meeting = Meeting::new().await;
    let addr = meeting.addr();
    let mut calls = (0..4)
        .map(move |call: u32| probe.hold_again(addr, call.to_string()))
        .distribute()
        .batch(1)
        .name("sweep\u{1b}[2J");
    assert_eq!(local.master().runs(), [], "it was not polled yet");
    let master = local.master().clone();
    let drives = tokio::spawn(async move {
        let mut results = Vec::new();
        while let Some(result) = calls.next().await {
            results.push(result);
        }
        results
    });
    let first = meeting.next().await;
    let _second = meeting.next().await;
    let listed = runs_when("it runs", &master, |runs| runs.first().is_some_and(|run| run.running == 2)).await;
    let [run] = &listed[..] else { panic!("one run: {listed:?}") };
    assert_eq!((run.status, run.done, run.total, &run.caller), (RunStatus::Running, 0, Some(4), &None));
    assert!(run.name.starts_with("sweep") && !run.name.contains('\u{1b}'), "{}", run.name);
    assert_eq!(run.waiting + run.running, 4);
    assert!(run.stragglers.iter().all(|call| call.method.as_str() == "Probe.hold_again"));
    let on = |call: &distribution::CallInfo| match &call.status {
        CallStatus::Running { node, .. } => Some(node.name.to_string()),
        _ => None,
    };
    let mut nodes: Vec<_> = run.stragglers.iter().filter_map(on).collect();
    nodes.sort();
    assert_eq!(nodes, ["local-1", "local-2"]);
    first.release().await;
    let _third = meeting.next().await;
    runs_when("one is done", &master, |runs| runs[0].done == 1 && runs[0].rate > 0.0 && runs[0].time_left.is_some())
        .await;
    drop((_second, _third));
    let _fourth = meeting.next().await;
    drop(_fourth);
    let results = soon("the run", drives).await.expect("ends");
    assert!(results.iter().all(|result| matches!(result, Ok(Held::Released))), "{results:?}");
    let [run] = &master.runs()[..] else { panic!("one run") };
    assert_eq!((run.status, run.done, run.failed, run.running, run.waiting), (RunStatus::Finished, 4, 0, 0, 0));
    assert_eq!((run.time_left, run.stragglers.len()), (None, 0));
}

#[tokio::test]
async fn a_run_of_a_caller_elsewhere_is_listed_stopped_when_it_is_dropped_and_lost_with_its_caller() {
    let local = cluster(1).await;
    let master = local.master().clone();
    let caller = Cluster::builder().name("batch-job").connect(master.local_addr()).await.expect("connects");
    let mut meeting = Meeting::new().await;
    let addr = meeting.addr();
    let start = |name: &str| {
        let probe = ProbeClient::new(&caller);
        // Endless: the total is not known.
        let mut calls = (0..)
            .map(move |call: u64| probe.hold_again(addr, call.to_string()))
            .distribute()
            .in_flight(2)
            .batch(1)
            .name(name);
        tokio::spawn(async move { while calls.next().await.is_some() {} })
    };
    let dropped = start("dropped");
    let _guest = meeting.next().await;
    let runs = runs_when("it runs", &master, |runs| runs.first().is_some_and(|run| !run.stragglers.is_empty())).await;
    assert_eq!(runs[0].running + runs[0].waiting, 2);
    assert_eq!((&*runs[0].name, runs[0].caller.as_deref(), runs[0].total), ("dropped", Some("batch-job"), None));
    assert_eq!(runs[0].stragglers[0].caller, None, "the run says it");
    dropped.abort();
    let runs = runs_when("it has stopped", &master, |runs| runs[0].status == RunStatus::Stopped).await;
    assert_eq!(runs.len(), 1);

    let lost = start("lost");
    runs_when("it runs", &master, |runs| runs[0].name == "lost" && runs[0].status == RunStatus::Running).await;
    // All that a caller tells is the same to an administrator elsewhere.
    let admin = Cluster::connect(master.local_addr()).await.expect("connects");
    let told = AdminClient::new(&admin).runs().await.expect("is told");
    let names: Vec<_> = told.iter().map(|run| (&*run.name, run.status)).collect();
    assert_eq!(names, [("lost", RunStatus::Running), ("dropped", RunStatus::Stopped)]);
    // The connection is closed while the stream is still there.
    caller.close().await;
    let runs =
        runs_when("its caller is gone", &master, |runs| runs.iter().all(|run| run.status != RunStatus::Running)).await;
    assert_eq!(runs.iter().find(|run| run.name == "lost").map(|run| run.status), Some(RunStatus::Lost));
    lost.abort();
}

#[tokio::test]
async fn a_short_run_is_listed_although_it_has_ended_before_the_first_report_was_due() {
    let local = cluster(1).await;
    let caller = Cluster::connect(local.master().local_addr()).await.expect("connects");
    let probe = ProbeClient::new(&caller);
    let sums: Vec<i64> =
        (0..100).map(|number| probe.add(number, 1)).distribute().name("short").try_collect().await.expect("adds");
    assert_eq!(sums[99], 100);
    let divided: Vec<_> =
        [1, 0, 2].map(|by| probe.divide(4, by)).into_iter().distribute().name("partly").collect().await;
    assert!(divided[1].is_err());
    // At once: a program that ends now must not leave a run behind that seems lost.
    let runs = local.master().runs();
    let ends: Vec<_> = runs.iter().map(|run| (&*run.name, run.status, run.done, run.failed, run.total)).collect();
    assert_eq!(
        ends,
        [("partly", RunStatus::Finished, 3, 1, Some(3)), ("short", RunStatus::Finished, 100, 0, Some(100))]
    );
    let json = serde_json::to_string(&runs).expect("is written");
    assert_eq!(serde_json::from_str::<Vec<RunInfo>>(&json).expect("is read").len(), 2);
    for round in 0..50 {
        let name = format!("round {round}");
        let sums: Vec<_> = (0..10).map(|number| probe.add(number, 1)).distribute().name(&name).collect().await;
        assert_eq!(sums.len(), 10);
        let runs = local.master().runs();
        assert_eq!((&*runs[0].name, runs[0].status), (&*name, RunStatus::Finished), "{runs:#?}");
    }
}
