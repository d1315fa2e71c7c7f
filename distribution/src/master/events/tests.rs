//! That a stream of events begins with all nodes, and tells each change once, also while nodes come and go.

use futures::FutureExt;
use tokio::task::unconstrained;

use super::*;
use crate::{
    core::split_registration,
    error::GoneReason,
    master::{connection, shared::tests::shared},
    security::Principal,
    view::NodeState,
    wire::handshake::Registration,
};

fn join(shared: &Arc<Shared>, name: &str) -> NodeId {
    let registration = Registration {
        name: name.to_owned(),
        instance: rand::random(),
        slots: 1,
        busy: 0,
        async_limit: 1,
        max_message_size: 65_536,
        labels: Vec::new(),
        methods: Vec::new(),
        session: None,
    };
    let (link, _connection) = connection::new(shared, 65_536);
    let node = shared.with_core("a node joined", |core, now, effects| {
        let node = core.new_node_id();
        let registration = split_registration(registration, Principal::open());
        core.on_node_joined(now, node, registration, ([127, 0, 0, 1], 1).into(), link, effects);
        node
    });
    node.expect("joins")
}

fn leave(shared: &Shared, node: NodeId) {
    shared.with_core("a node is gone", |core, now, effects| core.on_node_gone(now, node, GoneReason::Left, effects));
}

fn drain(shared: &Shared, node: NodeId) {
    shared.with_core("a node drains", |core, now, effects| core.on_node_draining(now, node, effects));
}

/// An event as a word and the name of its node.
fn told(event: &NodeEvent) -> String {
    let what = match event {
        NodeEvent::Present { state: NodeState::Alive, .. } => "present",
        NodeEvent::Present { .. } => "present and draining",
        NodeEvent::Joined { .. } => "joined",
        NodeEvent::Draining { .. } => "draining",
        NodeEvent::Gone { .. } => "gone",
        NodeEvent::Missed(0) => "another run",
        NodeEvent::Missed(_) => "missed",
        _ => panic!("{event}"),
    };
    event.node().map_or_else(|| what.to_owned(), |node| format!("{what} {}", node.name))
}

/// What the stream yields without waiting.
fn read(events: &mut Events) -> Vec<String> {
    let mut read = Vec::new();
    // Without a limit of tokio's, which would end the stream for now after some events.
    while let Some(Some(event)) = unconstrained(events.next()).now_or_never() {
        read.push(told(&event));
    }
    read
}

#[tokio::test]
async fn events_begin_with_the_nodes_that_are_registered_and_go_on_with_changes() {
    let shared = shared();
    let [first, second] = ["first", "second"].map(|name| join(&shared, name));
    drain(&shared, second);
    let mut events = Events::new(&shared);
    assert_eq!(read(&mut events), ["present first", "present and draining second"]);
    join(&shared, "third");
    leave(&shared, first);
    assert_eq!(read(&mut events), ["joined third", "gone first"]);
    shared.events.end();
    assert_eq!(events.next().await, None, "the stream ends with the master");
    assert_eq!(Events::new(&shared).next().await, None);
}

/// A subscription whose snapshot is read page by page, so that a test can have nodes come and go between two pages.
struct Paging {
    reader: Reader,
    after: Option<NodeId>,
}

impl Paging {
    fn new(shared: &Arc<Shared>) -> Self {
        Self { reader: Reader::after(Arc::clone(shared), 0), after: None }
    }

    /// Whether there are more pages.
    fn read_page(&mut self) -> bool {
        self.after = self.reader.snapshot.read_page(&self.reader.shared, self.after);
        self.after.is_some()
    }

    fn finish(mut self) -> Events {
        while self.read_page() {}
        self.reader.read = self.reader.snapshot.pages[0].last_event;
        self.reader.into_stream()
    }
}

#[tokio::test]
async fn nodes_that_come_and_go_while_the_list_is_read_are_told_once() {
    // A page has 16 nodes.
    let shared = shared();
    let nodes: Vec<_> = (0..40).map(|number| join(&shared, &number.to_string())).collect();
    let mut paging = Paging::new(&shared);
    // Before the first page: neither is told.
    leave(&shared, nodes[3]);
    drain(&shared, nodes[4]);
    assert!(paging.read_page());
    // On a page that was read, and on one that was not.
    leave(&shared, nodes[5]);
    leave(&shared, nodes[20]);
    drain(&shared, nodes[6]);
    drain(&shared, nodes[21]);
    let new = join(&shared, "new");
    let short = join(&shared, "short");
    leave(&shared, short);
    assert!(paging.read_page());
    leave(&shared, new);
    let mut events = paging.finish();
    let late = join(&shared, "late");
    drain(&shared, late);
    let told = read(&mut events);
    let (present, changes) = told.split_at(told.iter().position(|one| !one.starts_with("present")).expect("changes"));
    assert_eq!(present.len(), 38);
    for (number, expected) in [
        (3, None),
        (4, Some("present and draining 4")),
        (5, Some("present 5")),
        (20, None),
        (21, Some("present and draining 21")),
    ] {
        let of_node: Vec<_> = present.iter().filter(|one| one.ends_with(&format!(" {number}"))).collect();
        assert_eq!(of_node.first().map(|one| one.as_str()), expected, "{number}");
        assert!(of_node.len() <= 1, "{number}: {of_node:?}");
    }
    assert_eq!(changes, ["gone 5", "draining 6", "joined late", "draining late"]);
}

#[tokio::test]
async fn a_reader_that_lags_is_told_and_gets_all_nodes_again() {
    let shared = shared();
    let (gone, stays) = (join(&shared, "gone"), join(&shared, "stays"));
    let mut events = Events::new(&shared);
    assert_eq!(read(&mut events), ["present gone", "present stays"]);
    leave(&shared, gone);
    for _ in 0..1000 {
        let node = join(&shared, "short");
        leave(&shared, node);
    }
    drain(&shared, stays);
    assert_eq!(read(&mut events), ["missed", "present and draining stays"]);
    join(&shared, "new");
    assert_eq!(read(&mut events), ["joined new"]);
}

/// The page after this place, which must not have to wait, and where the next one begins.
fn page(shared: &Arc<Shared>, after: Option<EventCursor>) -> (Vec<String>, Option<EventCursor>) {
    let page = shared.events_after(after).now_or_never().expect("there is something to tell");
    (page.events.iter().map(|timed| told(&timed.event)).collect(), Some(page.next))
}

#[tokio::test]
async fn pages_of_events_go_on_where_the_one_before_ended() {
    let shared = shared();
    assert_eq!(page(&shared, None).0, Vec::<String>::new());
    let node = join(&shared, "n");
    let (told, after) = page(&shared, None);
    assert_eq!(told, ["present n"]);
    assert!(shared.events_after(after).now_or_never().is_none(), "waits");
    drain(&shared, node);
    leave(&shared, node);
    let (told, next) = page(&shared, after);
    assert_eq!(told, ["draining n", "gone n"]);
    assert_eq!(page(&shared, after).0, ["draining n", "gone n"], "a page can be read again");
    join(&shared, "m");
    assert_eq!(page(&shared, next).0, ["joined m"]);
    assert_eq!(page(&shared, after).0, ["draining n", "gone n", "joined m"]);
}

#[tokio::test]
async fn a_page_of_a_reader_that_is_too_late_or_of_another_run_begins_again() {
    let shared = shared();
    join(&shared, "stays");
    let (_, after) = page(&shared, None);
    for _ in 0..513 {
        let node = join(&shared, "short");
        leave(&shared, node);
    }
    let late = shared.events_after(after).now_or_never().expect("there is something to tell").events;
    assert_eq!(late[0].event, NodeEvent::Missed(2), "the newest 1,024 are kept");
    assert_eq!(late[1..].iter().map(|timed| told(&timed.event)).collect::<Vec<_>>(), ["present stays"]);
    let (_, next) = page(&shared, after);
    let beyond = next.map(|next| EventCursor { number: next.number + 1, ..next });
    let foreign = next.map(|next| EventCursor { master: NodeId::new(7, 7), ..next });
    for of_another_run in [beyond, foreign] {
        assert_eq!(page(&shared, of_another_run).0, ["another run", "present stays"]);
    }
    leave(&shared, shared.nodes()[0].id);
    assert_eq!(page(&shared, next).0, ["gone stays"]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_is_answered_also_if_nothing_happens() {
    let shared = shared();
    let (_, after) = page(&shared, None);
    let page = shared.events_after(after).await;
    assert_eq!((page.events, Some(page.next)), (Vec::new(), after));
}

#[tokio::test(flavor = "multi_thread")]
async fn replaying_the_events_gives_the_list_of_nodes_whatever_happens_meanwhile() {
    let shared = shared();
    for number in 0..100 {
        join(&shared, &number.to_string());
    }
    let changing = Arc::clone(&shared);
    let (begin, begun) = tokio::sync::oneshot::channel();
    let changes = tokio::task::spawn_blocking(move || {
        let mut begin = Some(begin);
        let mut nodes: VecDeque<NodeId> = changing.nodes().iter().map(|node| node.id).collect();
        for _ in 0..3000 {
            nodes.push_back(join(&changing, "new"));
            nodes.pop_front().inspect(|node| leave(&changing, *node));
            begin.take().map(|begin| begin.send(()));
        }
        changing.events.end();
    });
    begun.await.expect("changes begin");
    let mut events = Events::new(&shared);
    let mut known = std::collections::BTreeSet::new();
    while let Some(event) = events.next().await {
        match &event {
            NodeEvent::Present { node, .. } | NodeEvent::Joined { node, .. } => {
                assert!(known.insert(node.id), "{event}: it is known already");
            }
            NodeEvent::Gone { node, .. } => assert!(known.remove(&node.id), "{event}: it is not known"),
            NodeEvent::Missed(_) => known.clear(),
            _ => panic!("{event}"),
        }
    }
    changes.await.expect("does not panic");
    let registered: std::collections::BTreeSet<_> = shared.nodes().iter().map(|node| node.id).collect();
    assert_eq!(known, registered);
}
