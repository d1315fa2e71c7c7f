//! A wire between two namespaces: carries frames from one tap to the other, as the weather lets it.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{self, Read, Write},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::reset::resets;

/// The largest frame that a tap gives out: an IP packet of 64 KiB and its headers.
const LARGEST_FRAME: usize = 66 * 1024;

/// What becomes of frames in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Weather {
    /// They arrive.
    #[default]
    Clear,
    /// They are lost without a word.
    Lost,
    /// They are lost, and TCP at both ends gets a reset, as from a firewall that refuses.
    Reset,
    /// Some arrive, some time.
    Rough(Rough),
}

/// Loss and delay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rough {
    /// The part of frames that is lost, from 0 to 1.
    pub loss: f64,
    /// How long the others take.
    pub delay: Duration,
    /// By how much that varies, up or down, each frame for itself, so that they overtake each other.
    pub jitter: Duration,
}

/// How many frames were carried and lost, both directions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Arrived.
    pub carried: u64,
    /// Did not.
    pub lost: u64,
}

/// The wire between a master and a node.
#[derive(Debug)]
pub struct Wire {
    shared: Arc<Shared>,
    relays: [JoinHandle<()>; 2],
}

#[derive(Debug, Default)]
struct Shared {
    /// To the node, to the master.
    weather: Mutex<[Weather; 2]>,
    carried: AtomicU64,
    lost: AtomicU64,
}

impl Wire {
    /// Joins the taps of a master and of a node.
    pub(super) fn new(master: File, node: File) -> io::Result<Self> {
        let [master, node] = [watched(master)?, watched(node)?];
        let shared = Arc::new(Shared::default());
        let relay = |direction, from: &Arc<AsyncFd<File>>, to: &Arc<AsyncFd<File>>| {
            let relay = Relay {
                shared: Arc::clone(&shared),
                direction,
                from: Arc::clone(from),
                to: Arc::clone(to),
                under_way: BinaryHeap::new(),
                // A failing test cannot repeat which frames are lost, since it cannot repeat when they are sent.
                rng: SmallRng::seed_from_u64(rand::rng().random()),
            };
            tokio::spawn(relay.run())
        };
        let relays = [relay(0, &master, &node), relay(1, &node, &master)];
        Ok(Self { shared, relays })
    }

    /// Changes what becomes of frames from now on; those under way are not called back.
    pub fn set(&self, to_node: Weather, to_master: Weather) {
        *self.shared.weather.lock().unwrap_or_else(PoisonError::into_inner) = [to_node, to_master];
    }

    /// What it has carried so far.
    pub fn traffic(&self) -> Traffic {
        Traffic { carried: self.shared.carried.load(Ordering::Relaxed), lost: self.shared.lost.load(Ordering::Relaxed) }
    }
}

/// A tap that tells when there is something to read.
#[allow(
    deprecated,
    reason = "what replaces it is the same but `unsafe`, for types that change their descriptor; a `File` does not"
)]
fn watched(tap: File) -> io::Result<Arc<AsyncFd<File>>> {
    Ok(Arc::new(AsyncFd::new(tap)?))
}

impl Drop for Wire {
    fn drop(&mut self) {
        for relay in &self.relays {
            relay.abort();
        }
    }
}

/// One direction.
struct Relay {
    shared: Arc<Shared>,
    direction: usize,
    from: Arc<AsyncFd<File>>,
    to: Arc<AsyncFd<File>>,
    /// Frames that are delayed, by when they are due.
    under_way: BinaryHeap<Reverse<(Instant, Vec<u8>)>>,
    rng: SmallRng,
}

impl Relay {
    /// Carries until the tap is removed.
    async fn run(mut self) {
        let from = Arc::clone(&self.from);
        let mut buffer = vec![0; LARGEST_FRAME];
        loop {
            let due = self.under_way.peek().map(|Reverse((due, _))| *due);
            tokio::select! {
                // Whole frames are read or none, so nothing is lost where the clock wins.
                read = from.async_io(Interest::READABLE, |mut tap| tap.read(&mut buffer)) => match read {
                    Ok(length) => self.take(&buffer[..length]),
                    Err(_) => return,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.deliver_due(),
            }
        }
    }

    fn take(&mut self, frame: &[u8]) {
        let weather = self.shared.weather.lock().unwrap_or_else(PoisonError::into_inner)[self.direction];
        match weather {
            Weather::Clear => self.deliver(frame),
            Weather::Lost => self.lose(),
            Weather::Reset => {
                self.lose();
                if let Some([back, on]) = resets(frame) {
                    put(&self.from, &back);
                    put(&self.to, &on);
                }
            }
            Weather::Rough(rough) => {
                if self.rng.random_bool(rough.loss) {
                    self.lose();
                } else {
                    let shortest = rough.delay.saturating_sub(rough.jitter);
                    let delay = shortest + (rough.jitter * 2).mul_f64(self.rng.random_range(0.0..1.0));
                    self.under_way.push(Reverse((Instant::now() + delay, frame.to_vec())));
                }
            }
        }
    }

    fn deliver_due(&mut self) {
        let now = Instant::now();
        while self.under_way.peek().is_some_and(|Reverse((due, _))| *due <= now) {
            if let Some(Reverse((_, frame))) = self.under_way.pop() {
                self.deliver(&frame);
            }
        }
    }

    fn deliver(&self, frame: &[u8]) {
        let counter = if put(&self.to, frame) { &self.shared.carried } else { &self.shared.lost };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn lose(&self) {
        self.shared.lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// Gives a frame to a tap. It takes all of it or, when its queue is full, nothing, as a wire would.
fn put(tap: &AsyncFd<File>, frame: &[u8]) -> bool {
    tap.get_ref().write(frame).is_ok_and(|written| written == frame.len())
}
