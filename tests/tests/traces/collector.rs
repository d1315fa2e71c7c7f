//! A collector of traces: takes spans by OTLP over gRPC, as processes send them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use distribution_tests::LONG;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span as WireSpan, status::StatusCode},
};
use tokio::{net::TcpListener, sync::watch};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

/// A span as it has arrived.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    /// The name of the process that has sent it.
    pub(crate) process: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty of a root.
    pub(crate) parent: String,
    pub(crate) name: String,
    pub(crate) kind: i32,
    pub(crate) attributes: HashMap<String, String>,
    pub(crate) events: Vec<(String, HashMap<String, String>)>,
    /// Why it failed, if it did.
    pub(crate) error: Option<String>,
}

impl Span {
    /// The value of an attribute, as text.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", |value| value)
    }
}

/// Collects spans until it is dropped.
pub(crate) struct Collector {
    pub(crate) url: String,
    spans: Arc<Mutex<Vec<Span>>>,
    arrived: watch::Receiver<()>,
    server: tokio::task::JoinHandle<()>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let url = format!("http://{}", listener.local_addr().expect("has an address"));
        let (arrives, arrived) = watch::channel(());
        let spans = Arc::default();
        let service = TraceServiceServer::new(Receiver { spans: Arc::clone(&spans), arrives });
        let server = tokio::spawn(async move {
            let incoming = TcpIncoming::from(listener);
            Server::builder().add_service(service).serve_with_incoming(incoming).await.expect("serves");
        });
        Self { url, spans, arrived, server }
    }

    /// All spans so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until all these spans are there.
    pub(crate) async fn wait_for(&mut self, what: &str, are_there: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let looked = async {
            loop {
                let spans = self.spans();
                if are_there(&spans) {
                    return spans;
                }
                self.arrived.changed().await.expect("the server lives");
            }
        };
        match tokio::time::timeout(LONG, looked).await {
            Ok(spans) => spans,
            Err(_) => panic!("{what} did not come; there are\n{}", tree(&self.spans())),
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Receiver {
    spans: Arc<Mutex<Vec<Span>>>,
    arrives: watch::Sender<()>,
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of_process in request.into_inner().resource_spans {
            let resource = of_process.resource.unwrap_or_default();
            let process = attributes(resource.attributes).remove("service.name").unwrap_or_default();
            let spans = of_process.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let spans = spans.map(|span| read(&process, span));
            self.spans.lock().unwrap_or_else(PoisonError::into_inner).extend(spans);
        }
        self.arrives.send_replace(());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn read(process: &str, span: WireSpan) -> Span {
    let status = span.status.unwrap_or_default();
    Span {
        process: process.to_owned(),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        name: span.name,
        kind: span.kind,
        attributes: attributes(span.attributes),
        events: span.events.into_iter().map(|event| (event.name, attributes(event.attributes))).collect(),
        error: (status.code == StatusCode::Error as i32).then_some(status.message),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(attributes: Vec<KeyValue>) -> HashMap<String, String> {
    let text = |value| match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.into_iter().map(|KeyValue { key, value, .. }| (key, text(value.and_then(|value| value.value)))).collect()
}

/// The spans as people read them: each line is one, below its parent.
pub(crate) fn tree(spans: &[Span]) -> String {
    fn add(spans: &[Span], parent: &Span, depth: usize, text: &mut String) {
        let Span { process, name, events, error, .. } = parent;
        *text += &format!("{:1$}{name} [{process}]", "", depth * 2);
        for key in ["attempt", "node", "count"] {
            if !parent.get(key).is_empty() {
                *text += &format!(" {key}={}", parent.get(key));
            }
        }
        for event in events {
            *text += &format!(" <{}>", event.0);
        }
        *text += &error.as_ref().map_or_else(String::new, |error| format!(" ERROR {error}"));
        *text += "\n";
        for child in spans.iter().filter(|child| child.parent == parent.id && child.trace == parent.trace) {
            add(spans, child, depth + 1, text);
        }
    }
    let mut text = String::new();
    for root in spans.iter().filter(|root| !spans.iter().any(|other| other.id == root.parent)) {
        add(spans, root, 0, &mut text);
    }
    text
}
