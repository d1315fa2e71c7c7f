//! How long it takes until a handler notices that its call was cancelled, while an echo of 700 MiB is on the same connection.
//! Heartbeats travel in the same class of frames.

use std::{
    collections::HashMap,
    future,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;

use crate::{
    failure::{During, Failure},
    load::Beside,
    ours::{Client, EchoClient},
};

/// When the handlers of cancelled calls were dropped, by the number of the call.
#[derive(Default)]
pub(crate) struct Dropped(Mutex<HashMap<u64, Duration>>);

impl Dropped {
    /// Waits until the call is cancelled, and notes when.
    pub(crate) async fn wait(&self, number: u64) {
        let _noted = Noted { dropped: self, number };
        future::pending().await
    }

    /// When the handler of this call was dropped, since 1970.
    pub(crate) fn at(&self, number: u64) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&number)
    }
}

struct Noted<'a> {
    dropped: &'a Dropped,
    number: u64,
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.dropped.0.lock().unwrap_or_else(PoisonError::into_inner).insert(self.number, now());
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
    for number in 0.. {
        let call = echo.cancelled(number).send();
        // Async handlers of a connection begin in the order of their calls.
        echo.asynchronous(number).await.during("an async call failed")?;
        let cancelled = now();
        drop(call);
        let dropped = loop {
            if let Some(dropped) = echo.dropped_at(number).await.during("an async call failed")? {
                break dropped;
            }
        };
        longest = longest.max(dropped.saturating_sub(cancelled));
        if is_over() {
            break;
        }
    }
    Ok(longest)
}

/// Both processes are on one machine, and read the same clock.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
