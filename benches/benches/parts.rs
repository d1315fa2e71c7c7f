//! The parts of a call by themselves: the codec, frames, the core's decisions, and dispatch without a wire.
#![allow(missing_docs, reason = "criterion's macro makes an undocumented function")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use distribution::{Master, fuzzing, prelude::*, simulation};
use futures::future::join_all;
use tokio::runtime::Runtime;

/// The smallest work there is.
#[distribution::service]
pub trait Echo {
    /// Gives the number back.
    async fn asynchronous(&self, number: u64) -> u64;
}

struct Parrot;

impl Echo for Parrot {
    async fn asynchronous(&self, number: u64) -> u64 {
        number
    }
}

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    let small = (7u64, "a key".to_owned());
    let bytes = fuzzing::encode(&small, 1000).expect("fits");
    group.bench_function("encode a small value", |bench| bench.iter(|| fuzzing::encode(black_box(&small), 1000)));
    group.bench_function("decode a small value", |bench| {
        bench.iter(|| fuzzing::decode::<(u64, String)>(black_box(&bytes)));
    });
    let floats: Vec<f64> = (0..131_072).map(f64::from).collect();
    let bytes = fuzzing::encode(&floats, usize::MAX).expect("fits");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("encode 1 MiB of floats", |bench| {
        bench.iter(|| fuzzing::encode(black_box(&floats), usize::MAX));
    });
    group.bench_function("decode 1 MiB of floats", |bench| {
        bench.iter(|| fuzzing::decode::<Vec<f64>>(black_box(&bytes)));
    });
    group.finish();
}

fn frames(criterion: &mut Criterion) {
    let requests: Vec<_> = (0..256)
        .map(|id| fuzzing::Frame::request(id, (1 << 60, id, 1, 1), 1, None, Vec::new(), None, vec![7; 10]))
        .collect();
    let bytes = fuzzing::write(fuzzing::End::Master, &requests, &[]);
    let mut group = criterion.benchmark_group("frames");
    group.throughput(Throughput::Elements(256));
    group.bench_function("write 256 requests", |bench| {
        bench.iter(|| fuzzing::write(fuzzing::End::Master, black_box(&requests), &[]));
    });
    group.bench_function("read 256 requests", |bench| {
        bench.iter(|| fuzzing::read(fuzzing::End::Node, black_box(&bytes), &[], 65_536));
    });
    group.finish();
}

fn core(criterion: &mut Criterion) {
    let mut seed = 0;
    criterion.bench_function("core: a simulated world, its rules included", |bench| {
        bench.iter_batched(
            || {
                seed += 1;
                seed
            },
            |seed| simulation::run(seed).is_ok(),
            BatchSize::SmallInput,
        );
    });
}

fn dispatch(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("dispatch");
    for nodes in [2, 64, 1000] {
        let master = runtime.block_on(async {
            let master = Master::bind("127.0.0.1:0").await.expect("binds");
            simulation::register(&master, EchoServer::new(Parrot), nodes).expect("registers");
            master.wait_for_nodes(nodes).await;
            master
        });
        let echo = EchoClient::new(&master);
        group.throughput(Throughput::Elements(256));
        group.bench_function(format!("256 calls over {nodes} simulated nodes"), |bench| {
            bench.iter(|| {
                runtime.block_on(async { join_all((0..256).map(|number| echo.asynchronous(number).send())).await })
            });
        });
        group.bench_function(format!("256 calls distributed over {nodes} simulated nodes"), |bench| {
            bench.iter(|| {
                let calls = (0..256).map(|number| echo.asynchronous(number));
                runtime.block_on(calls.distribute().try_collect::<Vec<_>>())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, codec, frames, core, dispatch);
criterion_main!(benches);
