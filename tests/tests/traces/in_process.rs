//! The spans of calls in this process: how calls have ended, and which trace a list of calls names.
#![allow(clippy::async_yields_async, reason = "a handle is awaited after its span was left")]

use std::{
    mem,
    sync::{LazyLock, Mutex, PoisonError},
};

use distribution::{CallError, CallFilter, LocalCluster};
use distribution_tests::{ProbeClient, ProbeServer, Prober, failure, meeting::Meeting, until};
use opentelemetry::trace::{SpanKind, Status, TraceContextExt, TraceId, TracerProvider as _};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use tracing::{Instrument, Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::LevelFilter, layer::SubscriberExt};

static ENDED: Mutex<Vec<SpanData>> = Mutex::new(Vec::new());

/// Keeps all spans that have ended.
#[derive(Debug)]
struct Keep;

impl SpanExporter for Keep {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        ENDED.lock().unwrap_or_else(PoisonError::into_inner).extend(batch);
        Ok(())
    }
}

/// Runs this in a trace of its own, and returns its id.
async fn traced<T>(job: impl Future<Output = T>) -> (TraceId, T) {
    static PROVIDER: LazyLock<SdkTracerProvider> = LazyLock::new(|| {
        let provider = SdkTracerProvider::builder().with_simple_exporter(Keep).build();
        // With tarpc's spans too, which must be no roots.
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("tests")).with_filter(LevelFilter::INFO);
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).expect("is the first");
        provider
    });
    LazyLock::force(&PROVIDER);
    let span = info_span!("job");
    let trace = span.context().span().span_context().trace_id();
    (trace, job.instrument(span).await)
}

/// The spans of a trace that have ended, with this name and kind.
fn ended(trace: TraceId, name: &str, kind: SpanKind) -> Vec<SpanData> {
    let all = ENDED.lock().unwrap_or_else(PoisonError::into_inner);
    let is_it = |span: &&SpanData| {
        span.span_context.trace_id() == trace
            && span.name == name
            && mem::discriminant(&span.span_kind) == mem::discriminant(&kind)
    };
    all.iter().filter(is_it).cloned().collect()
}

/// The only one, once it has ended.
async fn one(trace: TraceId, name: &str, kind: SpanKind) -> SpanData {
    until(name, || !ended(trace, name, kind.clone()).is_empty()).await;
    let mut ended = ended(trace, name, kind);
    assert_eq!(ended.len(), 1, "{ended:?}");
    ended.remove(0)
}

/// Why a span failed.
fn error(span: &SpanData) -> &str {
    match &span.status {
        Status::Error { description } => description,
        _ => "",
    }
}

async fn cluster() -> (LocalCluster, ProbeClient) {
    let cluster = LocalCluster::builder().nodes(1).serve(|| ProbeServer::new(Prober)).start().await.expect("starts");
    let probe = ProbeClient::new(&cluster);
    (cluster, probe)
}

#[tokio::test]
async fn the_spans_of_a_call_and_its_handler_say_how_it_ended() {
    let (_cluster, probe) = cluster().await;
    let job = async {
        assert_eq!(probe.add(1, 2).await.expect("is answered"), 3);
        assert!(matches!(probe.divide(1, 0).await, Err(CallError::Handler(_))));
        assert!(matches!(probe.divide_async(1, 0).await, Err(CallError::Handler(_))));
        failure(probe.panic("by intent".to_owned()).await);
        failure(probe.panic_async("by intent".to_owned()).await);
    };
    let (trace, ()) = traced(job).await;
    for (method, at_caller, at_handler) in [
        ("Probe.add", "", ""),
        ("Probe.divide", "the method returned an error of its own", "the method returned an error of its own"),
        ("Probe.divide_async", "the method returned an error of its own", "the method returned an error of its own"),
        ("Probe.panic", "panicked", "the handler panicked: by intent"),
        ("Probe.panic_async", "panicked", "the handler panicked: by intent"),
    ] {
        let (call, handler) = (one(trace, method, SpanKind::Client).await, one(trace, method, SpanKind::Server).await);
        assert_eq!(handler.parent_span_id, call.span_context.span_id());
        assert!(error(&call).contains(at_caller), "{call:?}");
        assert_eq!(error(&handler), at_handler, "{handler:?}");
        assert_eq!(error(&call).is_empty(), at_caller.is_empty(), "{call:?}");
        assert!(call.start_time <= handler.start_time && handler.end_time <= call.end_time, "{call:?} {handler:?}");
    }
}

#[tokio::test]
async fn the_span_of_a_call_that_was_cancelled_ends_then_although_its_handler_goes_on() {
    let (_cluster, probe) = cluster().await;
    let mut meeting = Meeting::new().await;
    let addr = meeting.addr();
    let (trace, call) = traced(async { probe.ignore(addr).send() }).await;
    let guest = meeting.next().await;
    drop(call);
    let call = one(trace, "Probe.ignore", SpanKind::Client).await;
    assert!(error(&call).contains("cancelled"), "{call:?}");
    assert!(ended(trace, "Probe.ignore", SpanKind::Server).is_empty());
    guest.release().await;
    let handler = one(trace, "Probe.ignore", SpanKind::Server).await;
    assert!(call.end_time < handler.end_time);
    assert_eq!(handler.parent_span_id, call.span_context.span_id());
}

#[tokio::test]
async fn a_list_of_calls_names_the_trace_of_each() {
    let (cluster, probe) = cluster().await;
    let mut meeting = Meeting::new().await;
    let addr = meeting.addr();
    let (trace, call) = traced(async { probe.hold(addr, "held".to_owned()).send() }).await;
    let guest = meeting.next().await;
    let calls = cluster.master().calls(CallFilter::default()).calls;
    let named: Vec<_> = calls.iter().map(|call| call.trace.clone()).collect();
    assert_eq!(named, [Some(format!("{trace:032x}"))]);
    guest.release().await;
    call.await.expect("is answered");
}

#[tokio::test]
async fn a_handler_runs_inside_its_span_whenever_it_is_polled() {
    #[distribution::service]
    trait Spans {
        /// The span that it runs in, at first and after it has waited.
        async fn asynchronous(&self) -> [String; 2];
        /// The span that it runs in.
        fn compute(&self) -> String;
        /// The spans in which its items are made.
        fn items(&self) -> impl Iterator<Item = String> + Send;
    }

    struct Here;

    fn here() -> String {
        Span::current().context().span().span_context().span_id().to_string()
    }

    impl Spans for Here {
        async fn asynchronous(&self) -> [String; 2] {
            let first = here();
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            [first, here()]
        }

        fn compute(&self) -> String {
            here()
        }

        fn items(&self) -> impl Iterator<Item = String> + Send {
            (0..3).map(|_| here())
        }
    }

    let cluster = LocalCluster::builder().nodes(1).serve(|| SpansServer::new(Here)).start().await.expect("starts");
    let spans = SpansClient::new(&cluster);
    let job = async {
        let asynchronous = spans.asynchronous().await.expect("is answered");
        let compute = spans.compute().await.expect("is answered");
        (asynchronous, compute, spans.items().try_collect::<Vec<_>>().await.expect("are made"))
    };
    let (trace, (asynchronous, compute, items)) = traced(job).await;
    let id = async |method| one(trace, method, SpanKind::Server).await.span_context.span_id().to_string();
    let of_async = id("Spans.asynchronous").await;
    assert_eq!(asynchronous, [of_async.clone(), of_async]);
    assert_eq!(compute, id("Spans.compute").await);
    let of_items = id("Spans.items").await;
    assert_eq!(items, [of_items.clone(), of_items.clone(), of_items]);
}
