//! Limits how many TLS handshakes the master begins in a second, from all addresses together.
//!
//! A ClientHello costs a peer a few bytes, and the master a key exchange and a signature. So there is a limit on these, and
//! handshakes beyond it wait in a queue. The queue is short, because only pending handshakes can be in it.

use std::time::Duration;

use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

/// The part that is reserved for addresses from which a peer has registered recently. They may use the rest too.
const RESERVED: f64 = 0.25;

/// The rates: one for all addresses, and one for those from which a peer has registered recently.
#[derive(Debug)]
pub(super) struct Signatures {
    // tokio's mutex, because it is a fair queue: the handshake that is next holds the lock until there is a token for it. A
    // future that is dropped while it waits leaves the queue.
    all: Mutex<Bucket>,
    reserved: Mutex<Bucket>,
}

impl Signatures {
    pub(super) fn new(per_second: u32) -> Self {
        let (per_second, now) = (f64::from(per_second), Instant::now());
        Self {
            all: Mutex::new(Bucket::new(per_second * (1.0 - RESERVED), now)),
            reserved: Mutex::new(Bucket::new(per_second * RESERVED, now)),
        }
    }

    /// Waits until one more handshake may begin.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: if the future is dropped, the next handshake in the queue has its turn.
    pub(super) async fn next(&self, is_known: bool) {
        if is_known {
            tokio::select! {
                biased;
                () = take(&self.reserved) => {}
                () = take(&self.all) => {}
            }
        } else {
            take(&self.all).await;
        }
    }
}

async fn take(bucket: &Mutex<Bucket>) {
    let mut bucket = bucket.lock().await;
    let wait = bucket.wait(Instant::now());
    if !wait.is_zero() {
        sleep(wait).await;
    }
    bucket.take(Instant::now());
}

/// A token bucket: fills at a steady rate, up to the tokens of one second.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    /// A full one.
    fn new(per_second: f64, now: Instant) -> Self {
        Self { per_second, level: per_second.max(1.0), at: now }
    }

    fn level(&self, now: Instant) -> f64 {
        let filled = self.per_second * now.duration_since(self.at).as_secs_f64();
        (self.level + filled).min(self.per_second.max(1.0))
    }

    /// How long until there is one to take.
    fn wait(&self, now: Instant) -> Duration {
        let missing = 1.0 - self.level(now);
        if missing <= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(missing / self.per_second) }
    }

    fn take(&mut self, now: Instant) {
        // Timers may be a little early.
        (self.level, self.at) = ((self.level(now) - 1.0).max(0.0), now);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;

    use super::*;

    #[test]
    fn a_bucket_has_a_steady_rate_and_a_burst_of_one_second() {
        let now = Instant::now();
        let mut bucket = Bucket::new(4.0, now);
        let mut at = now;
        for _ in 0..12 {
            at += bucket.wait(at);
            bucket.take(at);
        }
        assert_eq!((at - now).as_millis(), 2_000);
        assert_eq!(bucket.wait(at + Duration::from_secs(3600)), Duration::ZERO);
        assert!(bucket.level(at + Duration::from_secs(3600)) <= 4.0);
        let mut slow = Bucket::new(0.25, now);
        slow.take(now);
        assert_eq!(slow.wait(now), Duration::from_secs(4));
    }

    /// When each of this many got its turn.
    async fn times(signatures: &Arc<Signatures>, count: usize, is_known: bool) -> Vec<Duration> {
        let begin = Instant::now();
        let mut waiting = JoinSet::new();
        for _ in 0..count {
            let signatures = Arc::clone(signatures);
            waiting.spawn(async move {
                signatures.next(is_known).await;
                begin.elapsed()
            });
        }
        waiting.join_all().await
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_is_reserved_for_known_addresses() {
        let signatures = Arc::new(Signatures::new(100));
        let unknown = Arc::clone(&signatures);
        let unknown = tokio::spawn(async move { times(&unknown, 750, false).await });
        tokio::task::yield_now().await;
        let known = times(&signatures, 50, true).await;
        assert!(known.iter().all(|time| *time < Duration::from_millis(1_200)), "{known:?}");
        let unknown = unknown.await.expect("runs");
        let last = unknown.iter().max().expect("some");
        assert!((8.8..9.3).contains(&last.as_secs_f64()), "{last:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn known_addresses_may_use_the_whole_rate() {
        let signatures = Arc::new(Signatures::new(100));
        let last = times(&signatures, 1_100, true).await.into_iter().max().expect("some");
        assert!((9.5..10.5).contains(&last.as_secs_f64()), "{last:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_is_given_up_uses_nothing() {
        let signatures = Arc::new(Signatures::new(4));
        times(&signatures, 3, false).await;
        // Each takes a millisecond, and something comes in after 333 of these.
        for _ in 0..200 {
            let given_up = tokio::time::timeout(Duration::from_millis(1), signatures.next(false)).await;
            assert!(given_up.is_err());
        }
        assert!(times(&signatures, 1, false).await[0] < Duration::from_millis(340));
    }
}
