//! The work, the same for every subject: one caller, many callers, and large payloads there and back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::{JoinHandle, JoinSet};

use crate::failure::{During, Failure};

/// How many callers there are where there are many.
pub(crate) const CALLERS: u64 = 256;

/// Fewer large calls than this have no median worth the name.
const FEWEST_ROUND_TRIPS: usize = 5;

/// A client whose server gives back what it is sent.
pub(crate) trait Echoes<Payload>: Clone + Send + 'static {
    /// One call, awaited to its end.
    fn echo(&mut self, payload: Payload) -> impl Future<Output = Result<Payload, Failure>> + Send;
}

/// Median latency of one caller that makes small calls for this long, one after the other.
pub(crate) async fn latency<Client: Echoes<u64>>(client: &Client, time: Duration) -> Result<Duration, Failure> {
    let mut client = client.clone();
    let mut times = Vec::new();
    let (warm, end) = (Instant::now() + warm_up(time), Instant::now() + warm_up(time) + time);
    for number in 0.. {
        let began = Instant::now();
        check(number, client.echo(number).await?)?;
        let ended = Instant::now();
        // On a busy machine one call may take all the time that there is.
        if began >= warm || ended >= end {
            times.push(ended - began);
        }
        if ended >= end {
            break;
        }
    }
    middle(times)
}

const WARMING: u8 = 0;
const COUNTING: u8 = 1;
const OVER: u8 = 2;

/// Small calls a second of [`CALLERS`] tasks, each of which awaits one call at a time, over this long.
pub(crate) async fn rate<Client: Echoes<u64>>(client: &Client, time: Duration) -> Result<f64, Failure> {
    let phase = Arc::new(AtomicU8::new(WARMING));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (mut client, phase) = (client.clone(), Arc::clone(&phase));
        callers.spawn(async move {
            let mut counted = 0_u64;
            // Each begins elsewhere, so that an answer to another's call would be noticed.
            for number in caller << 32.. {
                check(number, client.echo(number).await?)?;
                match phase.load(Ordering::Relaxed) {
                    WARMING => {}
                    COUNTING => counted += 1,
                    _ => break,
                }
            }
            Ok::<u64, Failure>(counted)
        });
    }
    tokio::time::sleep(warm_up(time)).await;
    let began = Instant::now();
    phase.store(COUNTING, Ordering::Relaxed);
    tokio::time::sleep(time).await;
    phase.store(OVER, Ordering::Relaxed);
    let elapsed = began.elapsed();
    let mut calls = 0;
    while let Some(counted) = callers.join_next().await {
        calls += counted.during("a caller's task ended without a count")??;
    }
    Ok(calls as f64 / elapsed.as_secs_f64())
}

/// Median time of a large payload there and back, over this long and [`FEWEST_ROUND_TRIPS`] at least.
pub(crate) async fn round_trip<Payload, Client>(
    client: &Client,
    payload: &Payload,
    time: Duration,
) -> Result<Duration, Failure>
where
    Payload: Clone + PartialEq,
    Client: Echoes<Payload>,
{
    let mut client = client.clone();
    if client.echo(payload.clone()).await? != *payload {
        return Err(Failure::new("a payload came back changed; one of the programs under comparison is at fault"));
    }
    let mut times = Vec::new();
    let end = Instant::now() + time;
    while times.len() < FEWEST_ROUND_TRIPS || Instant::now() < end {
        // Copying is the caller's affair, and giving the memory back too.
        let sent = payload.clone();
        let began = Instant::now();
        let received = client.echo(sent).await?;
        times.push(began.elapsed());
        drop(received);
    }
    middle(times)
}

/// The 99th percentile of the latency of one caller that makes small calls for this long, one after the other.
pub(crate) async fn tail<Client: Echoes<u64>>(client: &Client, time: Duration) -> Result<Duration, Failure> {
    let end = Instant::now() + time;
    tail_until(client, || Instant::now() >= end).await
}

/// Large payloads that go there and back, one after the other, beside something else.
pub(crate) struct Beside {
    is_wanted: Arc<AtomicBool>,
    came_back: Arc<AtomicBool>,
    echoes: JoinHandle<Result<Vec<Duration>, Failure>>,
    end: Instant,
}

impl Beside {
    /// Begins, for this long and at least until one has come back.
    pub(crate) fn start<Payload, Client>(client: &Client, large: Payload, time: Duration) -> Self
    where
        Payload: Clone + PartialEq + Send + Sync + 'static,
        Client: Echoes<Payload>,
    {
        let (is_wanted, came_back) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let echoes = tokio::spawn({
            let mut client = client.clone();
            let (is_wanted, came_back) = (Arc::clone(&is_wanted), Arc::clone(&came_back));
            async move {
                let mut times = Vec::new();
                while is_wanted.load(Ordering::Relaxed) {
                    let sent = large.clone();
                    let began = Instant::now();
                    let received: Payload = client.echo(sent).await?;
                    times.push(began.elapsed());
                    if received != large {
                        return Err(Failure::new("a payload came back changed"));
                    }
                    came_back.store(true, Ordering::Relaxed);
                }
                Ok(times)
            }
        });
        Self { is_wanted, came_back, echoes, end: Instant::now() + time }
    }

    /// Whether it is time to stop. Echoes that fail end early.
    pub(crate) fn is_over(&self) -> bool {
        self.echoes.is_finished() || self.came_back.load(Ordering::Relaxed) && Instant::now() >= self.end
    }

    /// Waits until the last one has come back, and returns the median time that they took.
    pub(crate) async fn stop(self) -> Result<Duration, Failure> {
        self.is_wanted.store(false, Ordering::Relaxed);
        middle(self.echoes.await.during("the large calls broke")??)
    }
}

/// The same as [`tail`] while large payloads go there and back, and how long these take.
pub(crate) async fn tail_beside<Payload, Client>(
    client: &Client,
    large: Payload,
    time: Duration,
) -> Result<(Duration, Duration), Failure>
where
    Payload: Clone + PartialEq + Send + Sync + 'static,
    Client: Echoes<u64> + Echoes<Payload>,
{
    let beside = Beside::start(client, large, time);
    let tail = tail_until(client, || beside.is_over()).await;
    let echo = beside.stop().await?;
    Ok((tail?, echo))
}

async fn tail_until<Client: Echoes<u64>>(client: &Client, is_over: impl Fn() -> bool) -> Result<Duration, Failure> {
    let mut client = client.clone();
    let mut times = Vec::new();
    for number in 0.. {
        let began = Instant::now();
        check(number, client.echo(number).await?)?;
        times.push(began.elapsed());
        if is_over() {
            break;
        }
    }
    times.sort_unstable();
    times.get(times.len() * 99 / 100).copied().ok_or_else(|| Failure::new("no call ended in time; run for longer"))
}

fn warm_up(time: Duration) -> Duration {
    time / 4
}

fn check(sent: u64, received: u64) -> Result<(), Failure> {
    if sent == received {
        return Ok(());
    }
    Err(Failure::new(format!("{sent} came back as {received}; one of the programs under comparison is at fault")))
}

fn middle(mut times: Vec<Duration>) -> Result<Duration, Failure> {
    times.sort_unstable();
    times.get(times.len() / 2).copied().ok_or_else(|| Failure::new("no call ended in time; run for longer"))
}
