//! How far apart are two points of a cube, on average? An integral in six dimensions, found by trying. Shows an endless
//! stream of calls: nobody knows beforehand how many it takes, so each call brings the next batch of samples, and once
//! the mean is known well enough the stream is dropped, which cancels what is still under way.
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

/// What the nodes do.
#[distribution::service(idempotent)]
pub trait Distances {
    /// Distances of so many random pairs of points. The same seed gives the same pairs, wherever and whenever.
    fn sample(&self, seed: u64, pairs: u64) -> Sums;
}

/// All that mean and standard error need to know of some numbers.
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

    /// The standard error of the mean. Of a few samples it says little: two may agree by chance.
    fn error(&self) -> f64 {
        let variance = self.squares / self.count as f64 - self.mean().powi(2);
        (variance.max(0.0) / self.count as f64).sqrt()
    }
}

struct Sampler;

impl Distances for Sampler {
    fn sample(&self, seed: u64, pairs: u64) -> Sums {
        // A generator by name: what `StdRng` is differs from one release of `rand` to the next, and `SmallRng` from one
        // machine to the next.
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut point = || [0; 3].map(|_| random.random::<f64>());
        Sums::of((0..pairs).map(|_| distance(point(), point())))
    }
}

fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

/// What comes out with infinitely many samples: the integral can be solved, with patience.
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

/// Samples without which a standard error is not believed.
const LEAST_SAMPLES: u64 = 1000;

#[tokio::main]
async fn main() -> ExitCode {
    let Options { job, place } = Options::parse();
    distribution_examples::run(place, || DistancesServer::new(Sampler), async |master| estimate(master, &job).await)
        .await
}

/// Has the nodes sample until the standard error is small enough, and prints what came out.
async fn estimate(master: &Master, job: &Job) -> Result<(), Box<dyn Error>> {
    let distances = DistancesClient::new(master);
    let started = Instant::now();
    let mut total = Sums::default();
    let mut batches = 0;
    // Any batch is as good as another, so they are taken as they come. Which ones make it before the end is chance, and
    // with it the last digits: in order, the same seed would give the same digits each time.
    let mut samples =
        (0..).map(|batch: u64| distances.sample(job.seed.wrapping_add(batch), job.batch)).distribute().unordered();
    while total.count < LEAST_SAMPLES || total.error() > job.error {
        let Some(sums) = samples.try_next().await? else { break };
        total = total.and(sums);
        batches += 1;
    }
    // Cancels the batches that nobody needs any more.
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
