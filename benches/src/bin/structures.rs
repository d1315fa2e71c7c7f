//! How much longer a start takes because the structure of all types is found.
//!
//! Each of 100 methods has types of its own, so nothing is found for one that could be kept for another. Prints how long
//! the first round takes, in a process that has done nothing yet, and the best of later ones.

#![allow(clippy::print_stdout, reason = "it reports to the person who runs it")]

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use distribution::fuzzing::{Seen, structure};
use serde::{Deserialize, Serialize};

/// What a method of a calculation takes and returns.
#[derive(Debug, Serialize, Deserialize)]
struct Job<const NUMBER: usize> {
    name: String,
    rate: f64,
    steps: u64,
    seed: Option<u64>,
    rows: Vec<(f64, f64)>,
    labels: BTreeMap<String, String>,
    timeout: Duration,
    kind: Kind<NUMBER>,
    bounds: Bounds<NUMBER>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Kind<const NUMBER: usize> {
    Plain,
    Weighted(Vec<f32>),
    Nested { inner: Option<Box<Kind<NUMBER>>>, depth: u32 },
    Both(u8, Bounds<NUMBER>),
}

#[derive(Debug, Serialize, Deserialize)]
struct Bounds<const NUMBER: usize> {
    low: [f64; 3],
    high: [f64; 3],
}

#[derive(Debug, Serialize, Deserialize)]
enum Failure<const NUMBER: usize> {
    NotFound,
    Refused { reason: String, code: i32 },
    Numeric(f64),
    Io(String),
}

/// A method that takes a job and a table, and can fail.
type Signature<const NUMBER: usize> =
    (Job<NUMBER>, HashMap<u32, Vec<u8>>, Result<Vec<Bounds<NUMBER>>, Failure<NUMBER>>);

macro_rules! methods {
    ($($tens:literal)*) => { [$(
        structure::<Signature<{ $tens * 10 }>> as fn() -> Seen,
        structure::<Signature<{ $tens * 10 + 1 }>>,
        structure::<Signature<{ $tens * 10 + 2 }>>,
        structure::<Signature<{ $tens * 10 + 3 }>>,
        structure::<Signature<{ $tens * 10 + 4 }>>,
        structure::<Signature<{ $tens * 10 + 5 }>>,
        structure::<Signature<{ $tens * 10 + 6 }>>,
        structure::<Signature<{ $tens * 10 + 7 }>>,
        structure::<Signature<{ $tens * 10 + 8 }>>,
        structure::<Signature<{ $tens * 10 + 9 }>>,
    )*] };
}

fn main() {
    let methods = methods!(0 1 2 3 4 5 6 7 8 9);
    let round = || {
        let start = Instant::now();
        for method in methods {
            assert!(std::hint::black_box(method()).whole);
        }
        start.elapsed()
    };
    let first = round();
    let best = (0..50).map(|_| round()).min().unwrap_or(first);
    println!("{} methods: {first:.2?} at first, {best:.2?} at best; at most 10 ms is promised", methods.len());
}
