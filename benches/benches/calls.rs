//! How long a small call takes over loopback TCP, one after the other and 256 at once.
#![allow(missing_docs, reason = "criterion's macro makes an undocumented function")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use distribution::LocalCluster;
use tokio::{runtime::Runtime, task::JoinSet};

/// The smallest work there is.
#[distribution::service]
pub trait Echo {
    /// Gives the number back, as a compute call.
    fn compute(&self, number: u64) -> u64;
    /// Gives the number back, as an async call.
    async fn asynchronous(&self, number: u64) -> u64;
}

struct Parrot;

impl Echo for Parrot {
    fn compute(&self, number: u64) -> u64 {
        number
    }

    async fn asynchronous(&self, number: u64) -> u64 {
        number
    }
}

const CALLERS: u64 = 256;

fn calls(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let cluster = LocalCluster::builder().nodes(1).serve(|| EchoServer::new(Parrot)).start();
    let cluster = runtime.block_on(cluster).expect("starts");
    let echo = EchoClient::new(&cluster);

    criterion.bench_function("one async call", |bench| {
        bench.iter(|| runtime.block_on(echo.asynchronous(1).into_future()).expect("answers"));
    });
    criterion.bench_function("one compute call", |bench| {
        bench.iter(|| runtime.block_on(echo.compute(1).into_future()).expect("answers"));
    });

    let mut group = criterion.benchmark_group("calls of 256 callers");
    group.throughput(Throughput::Elements(CALLERS));
    for compute in [false, true] {
        group.bench_function(if compute { "compute" } else { "async" }, |bench| {
            bench.iter_custom(|rounds| {
                let started = std::time::Instant::now();
                runtime.block_on(async {
                    let mut callers = JoinSet::new();
                    for number in 0..CALLERS {
                        let echo = echo.clone();
                        callers.spawn(async move {
                            for _ in 0..rounds {
                                let call = if compute { echo.compute(number) } else { echo.asynchronous(number) };
                                assert_eq!(call.await, Ok(number));
                            }
                        });
                    }
                    callers.join_all().await;
                });
                started.elapsed()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, calls);
criterion_main!(benches);
