//! The plan of each call. All of it follows from the seed and the call's key, so the master, which
//! makes the call, and the rules, which check it, agree without telling each other.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde::{Deserialize, Serialize};

/// One call in this many is given up by its caller.
const GIVEN_UP_EVERY: u64 = 20;

/// How many keys it takes to have this many calls that are awaited to their end.
pub(super) fn keys_for(calls: u64) -> u64 {
    calls + calls / (GIVEN_UP_EVERY - 1)
}

/// How often an idempotent call is sent in all: the library's default.
const ATTEMPTS: u32 = 3;

/// A call as it is to be made.
#[derive(Debug)]
pub(super) struct CallPlan {
    pub(super) idempotent: bool,
    pub(super) method: Method,
    pub(super) timeout: Option<Duration>,
    /// How often it is to be sent in all, where that is not left to the library.
    pub(super) attempts: Option<u32>,
    /// When the caller drops the call.
    pub(super) given_up: Option<Duration>,
    pub(super) work: Work,
}

/// Which method is called, of the service that is at most once or of the one that is idempotent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// Keeps a slot for microseconds. Such calls are sent ahead of free slots; and as one in some dozens
    /// takes very much longer, those that wait behind it are taken back.
    Quick,
    /// Keeps a slot for milliseconds.
    Compute,
    /// Waits without a slot.
    Wait,
}

/// A call's arguments.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Work {
    pub(super) key: u64,
    /// Work that keeps a core busy: some nanoseconds each.
    pub(super) rounds: u32,
    /// Time in which a handler sleeps, in microseconds. It stands for work, and lets a machine with few
    /// cores run many nodes.
    pub(super) nap: u64,
    pub(super) end: HandlerEnd,
    /// Bytes that come along.
    pub(super) payload: Vec<u8>,
    /// Bytes that are to go back.
    pub(super) reply: u32,
}

/// How a handler is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum HandlerEnd {
    Value,
    Error,
    Panic,
}

/// A call's value.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Output {
    value: u64,
    filler: Vec<u8>,
}

/// A call's own error.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Declined {
    pub(super) value: u64,
}

impl CallPlan {
    pub(super) fn new(seed: u64, key: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(mix(seed ^ mix(key)));
        let percent: [u32; 4] = rng.random::<[u32; 4]>().map(|number| number % 100);
        let method = match percent[0] {
            0..40 => Method::Quick,
            40..70 => Method::Compute,
            _ => Method::Wait,
        };
        let nap = match (method, rng.random_range(0..60)) {
            (Method::Quick, 0) => rng.random_range(150_000..400_000),
            (Method::Quick, _) => 0,
            (_, 0..10) => rng.random_range(8_000..50_000),
            _ => rng.random_range(0..8_000),
        };
        let end = match percent[1] {
            0..3 => HandlerEnd::Error,
            3..5 => HandlerEnd::Panic,
            _ => HandlerEnd::Value,
        };
        let mut size = |percent| match percent {
            0..85 => rng.random_range(0..64),
            85..98 => rng.random_range(64..8 * 1024),
            _ => rng.random_range(64 * 1024..256 * 1024),
        };
        let (payload, reply) = (size(percent[2]), size(percent[3]));
        let given_up = key % GIVEN_UP_EVERY == GIVEN_UP_EVERY - 1;
        let timed = !given_up && rng.random_range(0..100) < 12;
        Self {
            idempotent: rng.random(),
            method,
            timeout: timed.then(|| Duration::from_micros(rng.random_range(1_000..60_000))),
            attempts: (rng.random_range(0..100) < 20).then(|| rng.random_range(1..=4)),
            given_up: given_up.then(|| Duration::from_micros(rng.random_range(0..30_000))),
            work: Work {
                key,
                rounds: rng.random_range(0..20_000),
                nap,
                end,
                payload: vec![key as u8; payload as usize],
                reply,
            },
        }
    }
}

impl CallPlan {
    /// How often a handler may start it at the very most.
    pub(super) fn most_starts(&self) -> u32 {
        if self.idempotent { self.attempts.unwrap_or(ATTEMPTS) } else { 1 }
    }
}

impl Work {
    /// The number that only one who has all of the arguments can know.
    pub(super) fn value(&self) -> u64 {
        let start = self.payload.iter().fold(self.key, |value, byte| value.rotate_left(5) ^ u64::from(*byte));
        (0..self.rounds).fold(start, |value, _| mix(value))
    }

    pub(super) fn output(&self) -> Output {
        Output { value: self.value(), filler: vec![!(self.key as u8); self.reply as usize] }
    }
}

impl Output {
    /// A number in place of the whole, for the ledger.
    pub(super) fn digest(&self) -> u64 {
        self.filler.iter().fold(self.value, |value, byte| value.rotate_left(5) ^ u64::from(*byte))
    }
}

/// The mixing step of splitmix64.
pub(super) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_exactly_as_many_awaited_calls_as_were_asked_for() {
        for calls in [0, 1, 18, 19, 20, 37, 38, 5000, 100_000] {
            let awaited = (0..keys_for(calls)).filter(|key| CallPlan::new(1, *key).given_up.is_none()).count();
            assert_eq!(awaited as u64, calls);
        }
    }

    #[test]
    fn the_same_key_is_the_same_call_and_others_differ() {
        let text = |seed, key| format!("{:?}", CallPlan::new(seed, key));
        assert_eq!(text(1, 2), text(1, 2));
        assert_ne!(text(1, 2), text(1, 3));
        assert_ne!(text(1, 2), text(2, 2));
    }
}
