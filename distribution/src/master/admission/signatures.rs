//! How many handshakes a second the master does the expensive part of, its signature, over all addresses.
//!
//! A peer pays for a ClientHello with a few bytes, and the master with a key exchange and a signature. So these are
//! rationed: who comes later waits, in turn. As no more can wait than may have a handshake pending, nobody waits long.

use std::time::Duration;

use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

/// The part that is kept for addresses from which a peer has registered lately. They may have of the rest too.
const RESERVED: f64 = 0.25;

/// The rations.
#[derive(Debug)]
pub(super) struct Signatures {
    // Of tokio, because its lock is a queue: held by the one whose turn is next, till there is something for it. Who is
    // dropped while it waits leaves the queue.
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

    /// Waits until there may be one more.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the turn to the next.
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

/// A bucket that fills at a steady rate, up to what a second brings.
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
    fn a_bucket_gives_what_comes_in_and_a_second_of_it_at_once() {
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
    async fn strangers_leave_a_part_to_those_that_are_known() {
        let signatures = Arc::new(Signatures::new(100));
        let strangers = Arc::clone(&signatures);
        let strangers = tokio::spawn(async move { times(&strangers, 750, false).await });
        tokio::task::yield_now().await;
        let known = times(&signatures, 50, true).await;
        assert!(known.iter().all(|time| *time < Duration::from_millis(1_200)), "{known:?}");
        let strangers = strangers.await.expect("runs");
        let last = strangers.iter().max().expect("some");
        assert!((8.8..9.3).contains(&last.as_secs_f64()), "{last:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_are_known_may_have_all_there_is() {
        let signatures = Arc::new(Signatures::new(100));
        let last = times(&signatures, 1_100, true).await.into_iter().max().expect("some");
        assert!((9.5..10.5).contains(&last.as_secs_f64()), "{last:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_takes_nothing_with_it() {
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
