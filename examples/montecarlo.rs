//! Estimates the mean distance of two points in a cube, an integral in six dimensions, by random samples. Shows an endless
//! stream of calls: the number of samples that is needed is not known beforehand, so each call returns the next batch of
//! samples. Once the mean is known well enough, the stream is dropped, which cancels the remaining calls.
//!
//! `cargo run --release --example montecarlo` runs it in one process. Over several:
//!
//! ```text
//! montecarlo master --listen 127.0.0.1:3000 --wait 2
//! montecarlo node --master 127.0.0.1:3000        # twice
//! ```
#![allow(clippy::print_stdout, reason = "a program talks to its user on standard output")]

use std::{error::Error, process::ExitCode, time::Instant};

use clap::{Args, Parser};
use distribution::{Master, prelude::*};
use distribution_examples::{Place, above_zero, counted, milliseconds, nodes_of};
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use serde::{Deserialize, Serialize};

/// What the nodes calculate.
#[distribution::service(idempotent)]
pub trait Distances {
    /// Distances of `pairs` random pairs of points. The same seed gives the same pairs on each machine.
    fn sample(&self, seed: u64, pairs: u64) -> Sums;
}

/// What the mean and the standard error of some numbers are calculated from.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Sums {
    count: u64,
    sum: f64,
    squares: f64,
}

impl Sums {
    fn of(numbers: impl Iterator<Item = f64>) -> Self {
        numbers.fold(Self::default(), |all, number| all.and(Self { count: 1, sum: number, squares: number * number }))
    }

    fn and(self, other: Self) -> Self {
        Self { count: self.count + other.count, sum: self.sum + other.sum, squares: self.squares + other.squares }
    }

    fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// The standard error of the mean. Of a few samples it means little: two may be equal by chance.
    fn error(&self) -> f64 {
        let variance = self.squares / self.count as f64 - self.mean().powi(2);
        (variance.max(0.0) / self.count as f64).sqrt()
    }
}

struct Sampler;

impl Distances for Sampler {
    fn sample(&self, seed: u64, pairs: u64) -> Sums {
        // A named generator, because `StdRng` differs between releases of `rand`, and `SmallRng` between machines.
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut point = || [0; 3].map(|_| random.random::<f64>());
        Sums::of((0..pairs).map(|_| distance(point(), point())))
    }
}

fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

/// The exact value: the integral has a closed form.
fn exact() -> f64 {
    let (two, three) = (2f64.sqrt(), 3f64.sqrt());
    let logarithms = 21.0 * two.ln_1p() + 42.0 * (2.0 + three).ln();
    (4.0 + 17.0 * two - 6.0 * three + logarithms - 7.0 * std::f64::consts::PI) / 105.0
}

/// Estimates over nodes how far apart two random points of a cube are, until it is known well enough.
///
/// Without a command it starts a local cluster, samples, and ends.
#[derive(Parser)]
#[command(version)]
struct Options {
    #[command(flatten)]
    job: Job,

    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
struct Job {
    /// The standard error to reach, where the cube's side is 1. Half of it takes four times as long.
    #[arg(long, default_value_t = 0.000_02, global = true, value_parser = above_zero)]
    error: f64,
    /// Pairs of points to a batch.
    #[arg(long, default_value_t = 100_000, global = true, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    batch: u64,
    /// The seed of the first batch; those after it have the numbers that follow.
    #[arg(long, default_value_t = 0, global = true)]
    seed: u64,
}

/// The number of samples below which a standard error is not trusted.
const LEAST_SAMPLES: u64 = 1000;

#[tokio::main]
async fn main() -> ExitCode {
    let Options { job, place } = Options::parse();
    distribution_examples::run(place, || DistancesServer::new(Sampler), async |master| estimate(master, &job).await)
        .await
}

/// Samples on the nodes until the standard error is small enough, and prints the result.
async fn estimate(master: &Master, job: &Job) -> Result<(), Box<dyn Error>> {
    let distances = DistancesClient::new(master);
    let started = Instant::now();
    let mut total = Sums::default();
    let mut batches = 0;
    // All batches are equally good, so they are taken in the order in which they end. That order is random, so the last
    // digits differ from run to run; taken in the order of the calls, the same seed would give the same digits.
    let mut samples =
        (0..).map(|batch: u64| distances.sample(job.seed.wrapping_add(batch), job.batch)).distribute().unordered();
    while total.count < LEAST_SAMPLES || total.error() > job.error {
        let Some(sums) = samples.try_next().await? else { break };
        total = total.and(sums);
        batches += 1;
    }
    // Cancels the batches that are no longer needed.
    drop(samples);
    let elapsed = started.elapsed();

    let (mean, error) = (total.mean(), total.error());
    println!(
        "{} in {} over {} in {}",
        counted(total.count, "sample"),
        if batches == 1 { "1 batch".to_owned() } else { format!("{batches} batches") },
        nodes_of(master),
        milliseconds(elapsed)
    );
    println!("Exact: {:.7}, which is {:.1} standard errors away", exact(), (mean - exact()).abs() / error);
    println!("Mean distance of two points in a cube: {mean:.7} +- {error:.7}");
    Ok(())
}
