//! A handler that calls two services on other nodes: one reads the measurements of a station, one calculates with them.
//! Another handler returns a stream that it makes from the stream of another node.
//!
//! Each node serves one of three services. The program calls `Reports` only; its handlers call the other two.
//!
//! `cargo run --release --example pipeline` runs it in one process. Over several:
//!
//! ```text
//! pipeline master --listen 127.0.0.1:3000
//! pipeline node measurements --master 127.0.0.1:3000
//! pipeline node statistics --master 127.0.0.1:3000
//! pipeline node reports --master 127.0.0.1:3000
//! ```
#![allow(clippy::print_stdout, reason = "a program talks to its user on standard output")]

use std::{process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use distribution::{Master, Node, NodeBuilder, current, prelude::*};
use distribution_examples::{NodeOptions, Security};
use futures::{Stream, TryFutureExt, TryStreamExt, future, stream};
use serde::{Deserialize, Serialize};

/// Has the measurements of all stations.
#[distribution::service(idempotent)]
pub trait Measurements {
    /// The temperatures of a station.
    async fn of_station(&self, station: u32) -> Vec<f64>;

    /// The temperatures of a station from now on, as they are measured.
    fn live(&self, station: u32) -> impl Stream<Item = f64> + Send;
}

/// Calculates.
#[distribution::service(idempotent)]
pub trait Statistics {
    /// Mean and standard deviation.
    fn summary(&self, values: Vec<f64>) -> (f64, f64);
}

/// Reports on stations.
#[distribution::service(idempotent)]
pub trait Reports {
    /// Reads the measurements of a station, and has them summed up.
    async fn of_station(&self, station: u32) -> Result<Report, String>;

    /// The temperatures from now on that are far from the station's mean.
    fn unusual(&self, station: u32) -> impl Stream<Item = Result<f64, String>> + Send;
}

/// What is known of a station, and which nodes found it out.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    mean: f64,
    deviation: f64,
    read_on: String,
    calculated_on: String,
}

struct Archive;

impl Measurements for Archive {
    async fn of_station(&self, station: u32) -> Vec<f64> {
        // Stands for a database that takes its time.
        tokio::time::sleep(Duration::from_millis(10)).await;
        (0..10_000).map(|hour| temperature(station, hour)).collect()
    }

    fn live(&self, station: u32) -> impl Stream<Item = f64> + Send {
        stream::unfold(0, move |hour| async move {
            // An hour passes quickly here.
            tokio::time::sleep(Duration::from_millis(1)).await;
            Some((temperature(station, hour), hour + 1))
        })
    }
}

fn temperature(station: u32, hour: u32) -> f64 {
    f64::from(station) + f64::from(hour % 25) - 12.0
}

struct Calculator;

impl Statistics for Calculator {
    fn summary(&self, values: Vec<f64>) -> (f64, f64) {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        (mean, variance.sqrt())
    }
}

struct Reporter;

impl Reports for Reporter {
    async fn of_station(&self, station: u32) -> Result<Report, String> {
        // Calls that are parts of this one: they have its deadline, and end with it.
        let call = current();
        let read = MeasurementsClient::new(&call).of_station(station).answer().await;
        let read = read.map_err(|error| error.to_string())?;
        let calculated = StatisticsClient::new(&call).summary(read.value).answer().await;
        let calculated = calculated.map_err(|error| error.to_string())?;
        let (mean, deviation) = calculated.value;
        Ok(Report {
            mean,
            deviation,
            read_on: read.node.name.to_string(),
            calculated_on: calculated.node.name.to_string(),
        })
    }

    fn unusual(&self, station: u32) -> impl Stream<Item = Result<f64, String>> + Send {
        // Also a part of this call: if the caller drops its stream, all of them end.
        let live = MeasurementsClient::new(&current()).live(station).map_err(|error| error.to_string());
        let report = self.of_station(station);
        report
            .map_ok(|Report { mean, deviation, .. }| {
                live.try_filter(move |value| future::ready((value - mean).abs() > 1.5 * deviation))
            })
            .try_flatten_stream()
    }
}

/// Reports on stations by a service that calls two others.
///
/// Without a command it starts a master and three nodes in this process, reports, and ends.
#[derive(Parser)]
#[command(version)]
struct Options {
    #[command(flatten)]
    job: Job,

    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Args)]
struct Job {
    /// How many stations there are.
    #[arg(long, default_value_t = 4, global = true, value_parser = clap::value_parser!(u32).range(1..))]
    stations: u32,
}

#[derive(Subcommand)]
enum Role {
    /// Waits for a node of each service, prints the reports and some unusual temperatures, and ends.
    Master {
        /// Where nodes register.
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
}

#[derive(Clone, Copy, ValueEnum)]
enum Served {
    Measurements,
    Statistics,
    Reports,
}

impl Served {
    fn on(self, node: NodeBuilder) -> NodeBuilder {
        match self {
            Self::Measurements => node.serve(MeasurementsServer::new(Archive)),
            Self::Statistics => node.serve(StatisticsServer::new(Calculator)),
            Self::Reports => node.serve(ReportsServer::new(Reporter)),
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    // In one process, messages that nodes join and leave would be noise.
    distribution_examples::start_logs(if options.role.is_none() { "warn" } else { "warn,distribution=info" });
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            distribution_examples::report(&*error);
            ExitCode::FAILURE
        }
    }
}

async fn run(Options { job, role }: Options) -> Result<(), Box<dyn std::error::Error>> {
    match role {
        None => {
            let master = Master::bind("127.0.0.1:0").await?;
            let mut nodes = Vec::new();
            for served in Served::value_variants() {
                let node = Node::builder().name(format!("node-{}", nodes.len() + 1));
                nodes.push(served.on(node).spawn(master.local_addr()).await?);
            }
            report(&master, &job).await?;
            for node in &nodes {
                node.drain().await;
            }
            master.shutdown().await;
        }
        Some(Role::Master { listen, security }) => {
            let master = security.master().bind(&listen).await?;
            println!("Waiting for nodes at {}", master.local_addr());
            report(&master, &job).await?;
            master.shutdown().await;
        }
        Some(Role::Node { service, options }) => service.on(options.node()).run(options.master).await?,
    }
    Ok(())
}

async fn report(master: &Master, job: &Job) -> Result<(), Box<dyn std::error::Error>> {
    master.wait_for_service::<MeasurementsClient>(1).await;
    master.wait_for_service::<StatisticsClient>(1).await;
    master.wait_for_service::<ReportsClient>(1).await;
    let reports = ReportsClient::new(master);
    let calls = (1..=job.stations).map(|station| (station, reports.of_station(station)));
    let mut answers = calls.distribute().answers();
    while let Some((station, answer)) = answers.next().await {
        let answer = answer?;
        let Report { mean, deviation, read_on, calculated_on } = answer.value;
        println!(
            "Station {station}: {mean:.2} +- {deviation:.2}, read on {read_on}, calculated on {calculated_on}, reported by {}",
            answer.node.name
        );
    }

    // It has no end, and dropping it ends the handlers of both nodes.
    let mut unusual = reports.unusual(job.stations);
    for _ in 0..2 {
        if let Some(value) = unusual.try_next().await? {
            println!("Unusual at station {}: {value:.2}", job.stations);
        }
    }
    Ok(())
}
