//! One trace over several processes: each sends its spans to a collector, by OTLP, and all of them are one tree.
#![allow(clippy::print_stdout, reason = "the tree of spans is worth reading when a test fails")]

mod collector;
mod in_process;

use std::{collections::HashSet, path::Path};

use distribution_tests::process::{Process, example};

use collector::{Collector, Span, tree};

/// The kinds of spans in OTLP.
const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
const CLIENT: i32 = 3;

/// Starts a role of the example that sends its spans to the collector, often.
fn start(collector: &Collector, arguments: &[&str]) -> Process {
    let program = example("traces");
    let program = ["OTEL_BSP_SCHEDULE_DELAY=20", program.to_str().expect("is text"), "--otlp", &collector.url];
    Process::start(Path::new("env"), &[&program, arguments].concat())
}

/// A look at the spans of one trace.
struct Trace<'a>(Vec<&'a Span>);

impl<'a> Trace<'a> {
    fn of(spans: &'a [Span], id: &str) -> Self {
        Self(spans.iter().filter(|span| span.trace == id).collect())
    }

    /// The spans below this one that have a name.
    fn below(&self, parent: &Span, name: &str) -> Vec<&'a Span> {
        self.0.iter().copied().filter(|span| span.parent == parent.id && span.name == name).collect()
    }

    /// The only one.
    fn one_below(&self, parent: &Span, name: &str) -> &'a Span {
        let below = self.below(parent, name);
        let [one] = below[..] else { panic!("{} spans `{name}` below {parent:?}:\n{}", below.len(), self.text()) };
        one
    }

    fn root(&self) -> &'a Span {
        let mut roots = self.0.iter().filter(|span| span.parent.is_empty());
        let (Some(root), None) = (roots.next(), roots.next()) else { panic!("not one root:\n{}", self.text()) };
        root
    }

    /// The span of the handler of a call that the master has passed on.
    fn relayed(&self, call: &Span, process: &str) -> (&'a Span, &'a Span) {
        let method = &call.name;
        assert_eq!((call.kind, &*call.process), (CLIENT, process), "{call:?}");
        let relay = self.one_below(call, &format!("relay {method}"));
        assert_eq!((relay.kind, &*relay.process), (INTERNAL, "master"), "{relay:?}");
        let handler = self.one_below(relay, method);
        assert_eq!(handler.kind, SERVER);
        for span in [call, relay, handler] {
            assert_eq!((span.get("method"), span.get("call")), (&**method, call.get("call")), "{span:?}");
            assert_eq!(span.error, None, "{span:?}");
        }
        assert_eq!((call.get("node"), handler.get("node")), (&*handler.process, &*handler.process));
        (relay, handler)
    }

    fn text(&self) -> String {
        tree(&self.0.iter().map(|span| (*span).clone()).collect::<Vec<_>>())
    }
}

#[tokio::test]
async fn one_trace_holds_the_tree_of_calls_of_all_processes_and_the_attempts_that_failed() {
    let mut collector = Collector::start().await;
    let mut master = start(&collector, &["master", "--listen", "127.0.0.1:0"]);
    let line = master.line_with("Listening at ").await;
    let addr = line.trim_start_matches("Listening at ").to_owned();
    let node = |service, name| start(&collector, &["node", service, "--name", name, "--master", &addr]);
    let mut nodes = vec![node("orders", "orders"), node("prices", "prices-1"), node("prices", "prices-2")];
    for node in &mut nodes {
        node.log_with("registered").await;
    }
    master.line_with("Open: bread is 5").await;

    let mut caller = start(&collector, &["caller", "--fault", "--master", &addr]);
    let lines = caller.rest().await;
    assert!(caller.ended().await.success(), "{}", caller.log().await);
    let [total, each, history, fault, trace] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((&**total, &**each), ("Total: 14", "Each: [6, 5, 3]"));
    assert_eq!((&**history, &**fault), ("History: [3, 4, 3]", "In spite of a fault: 3"));
    let trace = trace.trim_start_matches("Trace: ");

    // The caller has sent its spans before it ended. The others come soon.
    let ids = |spans: &[Span]| spans.iter().map(|span| span.id.clone()).collect::<HashSet<_>>();
    let spans = collector
        .wait_for("a whole tree", |spans| {
            let (ids, whole) = (ids(spans), Trace::of(spans, trace));
            let handlers = whole.0.iter().filter(|span| span.kind == SERVER).count();
            let looks = whole.0.iter().filter(|span| span.name == "looking it up").count();
            (handlers, looks) == (7, 6)
                && whole.0.iter().all(|span| span.parent.is_empty() || ids.contains(&span.parent))
        })
        .await;
    println!("{}", tree(&spans));

    let whole = Trace::of(&spans, trace);
    let shopping = whole.root();
    assert_eq!((&*shopping.name, &*shopping.process), ("shopping", "caller"));

    // A call whose handler makes three calls to another node.
    let (_, handler) = whole.relayed(whole.one_below(shopping, "Orders.total"), "caller");
    assert_eq!((&*handler.process, handler.get("attempt")), ("orders", "1"));
    assert!(handler.events.iter().any(|(name, fields)| name == "added up" && fields["total"] == "14"), "{handler:?}");
    let nested = whole.below(handler, "Prices.price");
    assert_eq!(nested.len(), 3);
    for call in nested {
        let (_, handler) = whole.relayed(call, "orders");
        assert!(handler.process.starts_with("prices-"));
        // A span of the handler's own.
        assert_eq!(whole.one_below(handler, "looking it up").process, handler.process);
    }

    // A batch is one span at each place.
    let run = whole.one_below(shopping, "distribute");
    let batch = whole.one_below(run, "Prices.price");
    let (_, handler) = whole.relayed(batch, "caller");
    assert_eq!((batch.get("count"), handler.get("count")), ("3", "3"));
    assert_eq!(whole.below(handler, "looking it up").len(), 3);

    // A stream is produced within the span of its handler.
    let (_, handler) = whole.relayed(whole.one_below(shopping, "Prices.history"), "caller");
    assert_eq!(handler.events.iter().filter(|(name, _)| name == "looking back").count(), 3);

    // The node of the first attempt has ended, and its span with it.
    let (relay, handler) = whole.relayed(whole.one_below(shopping, "Prices.fragile"), "caller");
    assert_eq!((handler.get("attempt"), relay.get("attempts")), ("2", "2"));
    let failed: Vec<_> = relay.events.iter().filter(|(name, _)| name == "an attempt failed").collect();
    let [(_, fields)] = failed[..] else { panic!("{relay:?}") };
    assert_eq!(fields["attempt"], "1");
    assert!(fields["node"].contains("prices-") && !fields["node"].contains(&handler.process), "{fields:?}");
    assert!(fields["reason"].contains("attempt 1 was lost with node prices-"), "{fields:?}");

    // The master's own program has made a call, which it need not pass on.
    let opening = spans.iter().find(|span| span.name == "opening").expect("is there");
    let opened = Trace::of(&spans, &opening.trace);
    let call = opened.one_below(opened.root(), "Prices.price");
    let handler = opened.one_below(call, "Prices.price");
    assert_eq!((call.kind, &*call.process, handler.kind), (CLIENT, "master", SERVER));

    // And nothing else was sent.
    let traces: HashSet<_> = spans.iter().map(|span| &*span.trace).collect();
    assert_eq!(traces, HashSet::from([trace, &*opening.trace]));
}
