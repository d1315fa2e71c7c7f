//! How long it takes until a handler notices that its call was cancelled, while an echo of 700 MiB is on the same connection.
//! Heartbeats travel in the same class of frames.

use std::{
    collections::HashMap,
    future,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use bytes::Bytes;

use crate::{
    failure::{During, Failure},
    load::Beside,
    ours::{Client, EchoClient},
};

/// A cancel that takes longer than this is lost.
const LOST: Duration = Duration::from_secs(20);

/// What became of a handler that waits to be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Fate {
    Unknown,
    Waits,
    /// It was dropped at this time, since 1970.
    Dropped(Duration),
}

/// The handlers that have begun, by the number of their call.
#[derive(Default)]
pub(crate) struct Fates(Mutex<HashMap<u64, Fate>>);

impl Fates {
    /// Waits until the call is cancelled, and notes when.
    pub(crate) async fn wait(&self, number: u64) {
        self.lock().insert(number, Fate::Waits);
        let _noted = Noted { fates: self, number };
        future::pending().await
    }

    /// What became of the handler of this call.
    pub(crate) fn of(&self, number: u64) -> Fate {
        self.lock().get(&number).copied().unwrap_or(Fate::Unknown)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Fate>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Noted<'a> {
    fates: &'a Fates,
    number: u64,
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.fates.lock().insert(self.number, Fate::Dropped(now()));
    }
}

/// The longest time from a cancel until the handler was dropped, while large payloads go there and back.
pub(crate) async fn longest_beside(client: &Client, large: Bytes, time: Duration) -> Result<Duration, Failure> {
    let beside = Beside::start(client, large, time);
    let longest = longest_until(client.echoes(), || beside.is_over()).await;
    beside.stop().await?;
    longest
}

async fn longest_until(echo: &EchoClient, is_over: impl Fn() -> bool) -> Result<Duration, Failure> {
    let mut longest = Duration::ZERO;
    let first = now().as_nanos() as u64;
    for number in first.. {
        let call = echo.cancelled(number).send();
        wait_until(echo, number, |fate| fate == Fate::Waits).await?;
        let cancelled = now();
        drop(call);
        let fate = wait_until(echo, number, |fate| fate != Fate::Waits).await?;
        if let Fate::Dropped(dropped) = fate {
            longest = longest.max(dropped.saturating_sub(cancelled));
        }
        if is_over() {
            break;
        }
    }
    Ok(longest)
}

async fn wait_until(echo: &EchoClient, number: u64, is_so: impl Fn(Fate) -> bool) -> Result<Fate, Failure> {
    let began = now();
    loop {
        let fate = echo.fate(number).await.during("an async call failed")?;
        if is_so(fate) {
            return Ok(fate);
        }
        if now().saturating_sub(began) > LOST {
            return Err(Failure::new(format!(
                "the handler of a call is {fate:?} after {LOST:?}: a call or a cancel was lost"
            )));
        }
    }
}

/// Both processes are on one machine, and read the same clock.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
