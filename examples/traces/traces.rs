//! Distributed traces: all spans of a job, over a caller, a master and several nodes, in one tree. Each process sends its
//! spans by OTLP to a collector, and any tool that reads OTLP shows the tree.
//!
//! With [Jaeger](https://www.jaegertracing.io) as the collector, which listens on port 4317:
//!
//! ```text
//! docker run --rm -p 4317:4317 -p 16686:16686 cr.jaegertracing.io/jaegertracing/jaeger:2.11.0
//! cargo build --release -p distribution-example-traces --example traces
//! cd target/release/examples
//! traces master
//! traces node orders --name orders
//! traces node prices --name prices-1
//! traces node prices --name prices-2
//! traces caller
//! ```
//!
//! The caller prints the id of its trace. Open <http://localhost:16686> and search for it. With `--fault`, a node ends in
//! the middle of a call: its attempt is an event in the span of the call, and the second one a span of the other node.
#![allow(clippy::print_stdout, reason = "a program talks to its user on standard output")]

use std::{error::Error, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};
use distribution::{Caller, NodeBuilder, current, prelude::*};
use distribution_examples::{NodeOptions, Security};
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing::{Instrument, Span, info, info_span, level_filters::LevelFilter};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// Takes orders.
#[distribution::service]
pub trait Orders {
    /// What some things cost together. Asks other nodes for their prices.
    async fn total(&self, things: Vec<String>) -> Result<u64, String>;
}

/// Knows prices.
#[distribution::service(idempotent)]
pub trait Prices {
    /// What a thing costs.
    fn price(&self, thing: String) -> u64;

    /// What it has cost in the last days.
    fn history(&self, thing: String, days: u64) -> impl Iterator<Item = u64> + Send;

    /// The same as `price`, but the first attempt ends its node, as a fault would.
    fn fragile(&self, thing: String) -> u64;
}

struct Shop;

impl Orders for Shop {
    async fn total(&self, things: Vec<String>) -> Result<u64, String> {
        let prices = PricesClient::new(&current());
        let mut total = 0;
        for thing in things {
            total += prices.price(thing).await.map_err(|error| error.to_string())?;
        }
        // An event in the span of this call.
        info!(total, "added up");
        Ok(total)
    }
}

struct Market;

impl Prices for Market {
    fn price(&self, thing: String) -> u64 {
        // A span of your own, below that of the call.
        let _looking = info_span!("looking it up", thing).entered();
        thing.len() as u64
    }

    fn history(&self, thing: String, days: u64) -> impl Iterator<Item = u64> + Send {
        (0..days).map(move |day| {
            info!(day, "looking back");
            thing.len() as u64 + day % 2
        })
    }

    fn fragile(&self, thing: String) -> u64 {
        if current().attempt() == 1 {
            // What it has measured before is not to be lost with it.
            let _ = PROVIDER.get().map(SdkTracerProvider::force_flush);
            std::process::exit(1);
        }
        thing.len() as u64
    }
}

/// Sends the spans of calls over several processes to a collector.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Where the collector takes OTLP over gRPC.
    #[arg(long, default_value = "http://127.0.0.1:4317", global = true)]
    otlp: String,

    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Runs a master, and makes a call of its own once there are prices.
    Master {
        /// Where nodes and callers connect.
        #[arg(long, default_value = "127.0.0.1:3000")]
        listen: String,
        #[command(flatten)]
        security: Security,
    },
    /// Registers at a master and serves until SIGTERM or ctrl-c.
    Node {
        /// Which service.
        service: Served,
        #[command(flatten)]
        options: NodeOptions,
    },
    /// Makes calls, and ends.
    Caller(CallerOptions),
}

#[derive(Args)]
struct CallerOptions {
    /// The master's address.
    #[arg(long, default_value = "127.0.0.1:3000")]
    master: String,
    /// Ends a node in the middle of a call.
    #[arg(long)]
    fault: bool,
    #[command(flatten)]
    security: Security,
}

#[derive(Clone, Copy, ValueEnum)]
enum Served {
    Orders,
    Prices,
}

impl Served {
    fn on(self, node: NodeBuilder) -> NodeBuilder {
        match self {
            Self::Orders => node.serve(OrdersServer::new(Shop)),
            Self::Prices => node.serve(PricesServer::new(Market)),
        }
    }
}

/// What sends the spans of this process.
static PROVIDER: std::sync::OnceLock<SdkTracerProvider> = std::sync::OnceLock::new();

/// Sends spans from here on, in the name of this process. Dropping them sends nothing: shut the provider down at the end.
fn start_traces(process: String, otlp: &str) -> Result<SdkTracerProvider, Box<dyn Error>> {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(otlp).build()?;
    let provider = SdkTracerProvider::builder()
        .with_resource(Resource::builder().with_service_name(process).build())
        .with_batch_exporter(exporter)
        .build();
    let _ = PROVIDER.set(provider.clone());
    // tarpc makes a span of each request, which tells nothing that the spans of calls do not.
    let filter = Targets::new().with_default(LevelFilter::INFO).with_target("tarpc", LevelFilter::OFF);
    let traces = tracing_opentelemetry::layer().with_tracer(provider.tracer("traces"));
    tracing_subscriber::registry()
        .with(traces.with_filter(filter))
        .with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(LevelFilter::INFO))
        .init();
    Ok(provider)
}

#[tokio::main]
async fn main() -> ExitCode {
    let Options { otlp, role } = Options::parse();
    let process = match &role {
        Role::Master { .. } => "master".to_owned(),
        Role::Node { options, .. } => options.name.clone().unwrap_or_else(|| "node".to_owned()),
        Role::Caller(_) => "caller".to_owned(),
    };
    let done = async {
        let provider = start_traces(process, &otlp)?;
        let done = run(role).await;
        // Sends what is left. It blocks, and the runtime must go on meanwhile.
        tokio::task::spawn_blocking(move || provider.shutdown()).await??;
        done
    };
    match done.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            distribution_examples::report(&*error);
            ExitCode::FAILURE
        }
    }
}

async fn run(role: Role) -> Result<(), Box<dyn Error>> {
    match role {
        Role::Master { listen, security } => {
            let master = security.master().bind(&listen).await?;
            println!("Listening at {}", master.local_addr());
            master.wait_for_service::<PricesClient>(1).await;
            let price = PricesClient::new(&master).price("bread".to_owned());
            let price = async { price.await }.instrument(info_span!("opening")).await?;
            println!("Open: bread is {price}");
            tokio::signal::ctrl_c().await?;
            master.shutdown().await;
        }
        Role::Node { service, options } => service.on(options.node()).run(options.master).await?,
        Role::Caller(CallerOptions { master, fault, security }) => {
            let cluster = security.cluster().connect(master).await?;
            let trace = info_span!("shopping");
            // All calls of a task whose current span this is belong to its trace.
            shop(&cluster, fault).instrument(trace).await?;
        }
    }
    Ok(())
}

async fn shop(caller: &impl Caller, fault: bool) -> Result<(), Box<dyn Error>> {
    let (orders, prices) = (OrdersClient::new(caller), PricesClient::new(caller));
    let things = ["apples", "bread", "tea"].map(str::to_owned);
    println!("Total: {}", orders.total(things.to_vec()).await?);
    let calls = things.iter().map(|thing| prices.price(thing.clone()));
    // As one request. Without `batch`, it depends on how long calls take.
    let each: Vec<u64> = calls.distribute().batch(3).try_collect().await?;
    println!("Each: {each:?}");
    let history: Vec<u64> = prices.history("tea".to_owned(), 3).try_collect().await?;
    println!("History: {history:?}");
    if fault {
        println!("In spite of a fault: {}", prices.fragile("tea".to_owned()).await?);
    }
    println!("Trace: {}", Span::current().context().span().span_context().trace_id());
    Ok(())
}
