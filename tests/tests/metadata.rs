//! Metadata of calls: what a caller sends along reaches the handler, the calls that the handler makes, and administrators.

use std::collections::{BTreeMap, HashMap};

use distribution::{
    AdminClient, CallError, CallFilter, CallInfo, Caller, Cluster, InProcess, LocalCluster, administration::CallStatus,
    current, error::Execution, prelude::*, service,
};
use distribution_tests::{ProbeClient, ProbeServer, Prober, failure, meeting::Meeting, soon};

type Entries = Vec<(String, String)>;

#[service]
trait Notes {
    /// All of its metadata.
    fn computed(&self) -> Entries;
    /// The same, asynchronously.
    async fn awaited(&self) -> Entries;
    /// The value of a key.
    fn value(&self, key: String) -> Option<String>;
    /// What nested calls have: one that adds nothing, one that adds, and one that replaces.
    async fn nested(&self) -> [Entries; 3];
    /// The same by a compute handler.
    fn nested_computed(&self) -> [Entries; 3];
    /// What a nested distributed run of this many calls has, which it must have in all calls.
    async fn nested_run(&self, calls: u32) -> Entries;
}

struct Writer;

fn own() -> Entries {
    current().metadata_entries().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn entries(all: &[(&str, &str)]) -> Entries {
    all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

impl Notes for Writer {
    fn computed(&self) -> Entries {
        own()
    }

    async fn awaited(&self) -> Entries {
        tokio::task::yield_now().await;
        own()
    }

    fn value(&self, key: String) -> Option<String> {
        current().metadata(&key).map(str::to_owned)
    }

    async fn nested(&self) -> [Entries; 3] {
        let notes = NotesClient::new(&current());
        let [plain, added] = [notes.awaited(), notes.awaited().metadata("step", "2")];
        let replaced = notes.computed().metadata("tenant", "south");
        let all = futures::join!(plain.into_future(), added.into_future(), replaced.into_future());
        [all.0, all.1, all.2].map(|end| end.expect("is answered"))
    }

    fn nested_computed(&self) -> [Entries; 3] {
        let notes = NotesClient::new(&current());
        [notes.computed(), notes.computed().metadata("step", "2"), notes.awaited().metadata("tenant", "south")]
            .map(|call| call.wait().expect("is answered"))
    }

    async fn nested_run(&self, calls: u32) -> Entries {
        let notes = NotesClient::new(&current());
        let all: Vec<_> = (0..calls).map(|_| notes.computed()).distribute().try_collect().await.expect("is answered");
        assert!(all.iter().all(|one| one == &all[0]));
        all[0].clone()
    }
}

async fn local() -> LocalCluster {
    let cluster = LocalCluster::builder().nodes(2).slots(2).serve(|| NotesServer::new(Writer)).start().await;
    cluster.expect("starts")
}

/// Over every kind of caller.
async fn assert_metadata_travels(caller: &impl Caller) {
    let notes = NotesClient::new(caller);
    let sent = entries(&[("request", "7"), ("tenant", "north")]);
    // In any order, and the last value of a key counts.
    macro_rules! with_metadata {
        ($call:expr) => {
            soon("a call", $call.metadata("tenant", "south").metadata("request", "7").metadata("tenant", "north"))
        };
    }
    assert_eq!(notes.computed().await, Ok(Vec::new()));
    assert_eq!(with_metadata!(notes.computed()).await, Ok(sent.clone()));
    assert_eq!(with_metadata!(notes.awaited()).await, Ok(sent.clone()));
    assert_eq!(with_metadata!(notes.value("tenant".to_owned())).await, Ok(Some("north".to_owned())));
    assert_eq!(with_metadata!(notes.value("user".to_owned())).await, Ok(None));

    let added = entries(&[("request", "7"), ("step", "2"), ("tenant", "north")]);
    let replaced = entries(&[("request", "7"), ("tenant", "south")]);
    let expected = [sent.clone(), added, replaced];
    assert_eq!(with_metadata!(notes.nested()).await, Ok(expected.clone()));
    assert_eq!(with_metadata!(notes.nested_computed()).await, Ok(expected));
    assert_eq!(with_metadata!(notes.nested_run(2_000)).await, Ok(sent.clone()));
    assert_eq!(notes.nested().await.map(|[plain, ..]| plain), Ok(Vec::new()), "nothing is left of other calls");

    // Batches of calls with the same metadata, and each call has its own.
    let tenants = ["north", "south", "east"];
    let calls =
        (0..6_000).map(|n: usize| (n, notes.value("tenant".to_owned()).metadata("tenant", tenants[n / 500 % 3])));
    let ends: HashMap<_, _> =
        soon("a run", calls.distribute().unordered().collect::<Vec<_>>()).await.into_iter().collect();
    assert_eq!(ends.len(), 6_000);
    for (n, end) in ends {
        assert_eq!(end, Ok(Some(tenants[n / 500 % 3].to_owned())), "{n}");
    }
    for (_, end) in soon("a broadcast", notes.computed().metadata("tenant", "north").broadcast()).await {
        assert_eq!(end, Ok(entries(&[("tenant", "north")])));
    }
}

#[tokio::test]
async fn metadata_reaches_handlers_and_the_calls_that_they_make() {
    let cluster = local().await;
    assert_metadata_travels(&cluster).await;
}

#[tokio::test]
async fn metadata_of_a_caller_elsewhere_travels_alike() {
    let cluster = local().await;
    let caller = Cluster::connect(cluster.master().local_addr()).await.expect("connects");
    assert_metadata_travels(&caller).await;
}

#[tokio::test]
async fn metadata_travels_in_process() {
    assert_metadata_travels(&InProcess::new().serve(NotesServer::new(Writer))).await;
}

#[tokio::test]
async fn metadata_that_cannot_be_ends_the_call_at_once_and_is_not_shown() {
    let direct = InProcess::new().serve(NotesServer::new(Writer));
    let notes = NotesClient::new(&direct);
    let many = (0..17).fold(notes.computed(), |call, n| call.metadata(format!("key{n}"), ""));
    for (call, shown, part) in [
        (many, "key16", "at most 16 entries"),
        (notes.computed().metadata("", "secret"), ", ..", "a key has 1 to 64 bytes"),
        (notes.computed().metadata("k".repeat(65), "secret"), "kkk", "a key has 1 to 64 bytes"),
        (notes.computed().metadata("a\u{202e}b", "secret"), "a\\u{202e}b", "a key has 1 to 64 bytes"),
        (notes.computed().metadata("key", "secret\n"), "key, ..", "no line breaks"),
        (notes.computed().metadata("key", "secret".repeat(200)), "key, ..", "at most 1 KiB"),
        (
            (0..5).fold(notes.computed(), |call, n| call.metadata(format!("{n}"), "s".repeat(1000))),
            "4, ..",
            "4 KiB in all",
        ),
    ] {
        let error = failure(call.await);
        assert!(matches!(&error, CallError::InvalidOption { option, .. } if option == "metadata"), "{error:?}");
        assert_eq!(error.execution(), Execution::NotRun);
        let text = error.to_string();
        assert!(text.contains(shown) && text.contains(part) && !text.contains("secret"), "{text}");
    }
    let most = (0..4).fold(notes.computed(), |call, n| call.metadata(format!("{n}"), "v".repeat(1023)));
    assert_eq!(most.await.map(|entries| entries.len()), Ok(4));
    // A handler that inherits as much as there may be can add nothing.
    let full = (0..16).fold(notes.nested(), |call, n| call.metadata(format!("key{n}"), ""));
    assert!(matches!(full.await, Err(CallError::Panicked { message, .. }) if message.contains("at most 16 entries")));
}

/// The one call that does this.
fn find(calls: &[CallInfo], which: fn(&CallStatus) -> bool) -> &CallInfo {
    let mut found = calls.iter().filter(|call| which(&call.status));
    match (found.next(), found.next()) {
        (Some(call), None) => call,
        _ => panic!("{calls:?}"),
    }
}

#[tokio::test]
async fn administrators_see_the_metadata_of_calls_that_wait_run_and_stop() {
    let cluster = LocalCluster::builder().nodes(2).slots(1).serve(|| ProbeServer::new(Prober)).start().await;
    let cluster = cluster.expect("starts");
    let addr = cluster.master().local_addr();
    let caller = Cluster::connect(addr).await.expect("connects");
    let probe = ProbeClient::new(&caller);
    let mut meeting = Meeting::new().await;
    let stubborn = probe.ignore(meeting.addr()).metadata("what", "stops").send();
    let stubborn_guest = meeting.next().await;
    let running = probe.hold(meeting.addr(), "held".to_owned()).metadata("what", "runs").send();
    let guest = meeting.guest("held").await;
    let waiting = probe.add(1, 2).metadata("what", "waits").metadata("why", "all \"slots\" are taken").send();
    let bare = ProbeClient::new(&cluster).add(1, 2).send();
    stubborn.cancel();

    let administrator = Cluster::builder().admin().connect(addr).await.expect("connects");
    let admin = AdminClient::new(&administrator);
    let all = async {
        loop {
            let calls = admin.calls(CallFilter::default()).await.expect("is answered").calls;
            if calls.len() == 4 && calls.iter().any(|call| matches!(call.status, CallStatus::Stopping { .. })) {
                return calls;
            }
        }
    };
    let calls = soon("all calls", all).await;
    let map = |all: &[(&str, &str)]| entries(all).into_iter().collect::<BTreeMap<_, _>>();
    let stopping = find(&calls, |status| matches!(status, CallStatus::Stopping { .. }));
    assert_eq!(stopping.metadata, map(&[("what", "stops")]));
    assert_eq!(find(&calls, |status| matches!(status, CallStatus::Running { .. })).metadata, map(&[("what", "runs")]));
    let of = |id| &calls.iter().find(|call| Some(call.id) == id).expect("is listed").metadata;
    assert_eq!(*of(waiting.id()), map(&[("what", "waits"), ("why", "all \"slots\" are taken")]));
    assert_eq!(*of(bare.id()), BTreeMap::new());
    let json = serde_json::to_value(&calls).expect("can be written");
    assert_eq!(json[0]["metadata"], serde_json::json!({ "what": "stops" }));
    stubborn_guest.release().await;
    guest.release().await;
    soon("the calls", async {
        (running.await.expect("ends"), waiting.await.expect("ends"), bare.await.expect("ends"))
    })
    .await;
}
