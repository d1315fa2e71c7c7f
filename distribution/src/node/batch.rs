//! A batch: compute calls of one method that came in one request, run one after the other in one slot.
//!
//! It was made to take some milliseconds. If one of its calls takes far longer than the others, those
//! behind it are given back, so that they need not wait for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::current::CurrentCall;
use crate::{
    error::CodecError,
    service::router::{Arguments, ComputeHandler},
    wire::{
        Outcome, Refusal, Reply,
        batch::{self, Placed},
        codec::{Decoder, Encoder},
    },
};

/// A batch that runs for longer gives back what it has not started: ten times what a batch is made to
/// take.
pub(super) const GIVE_BACK_AFTER: Duration = Duration::from_millis(100);

/// With this many bytes of values a batch ends, so that they do not make a frame that is too large
/// together. What is left of it is given back.
const VALUES_MOST: u64 = 1024 * 1024;

/// Which of a batch's calls are started and which are to be: two numbers in one word, as the thread that
/// runs the batch and the one that gives its end back must agree on each call.
#[derive(Debug)]
pub(super) struct Extent(AtomicU64);

impl Extent {
    pub(super) fn new(count: u32) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(u64::from(count))))
    }

    /// Starts the next call, if there is one.
    fn start_next(&self) -> bool {
        let next = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            let (started, end) = unpack(word);
            (started < end).then(|| pack(started + 1, end))
        });
        next.is_ok()
    }

    /// Ends the batch behind the calls that are started, and says how many these are; `None` if there are
    /// no others.
    pub(super) fn cut(&self) -> Option<u32> {
        let cut = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            let (started, end) = unpack(word);
            (0 < started && started < end).then(|| pack(started, started))
        });
        cut.ok().map(|word| unpack(word).0)
    }
}

fn pack(started: u32, end: u32) -> u64 {
    u64::from(started) << 32 | u64::from(end)
}

fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

/// Runs a batch until its end, or until nobody waits for it. The reply holds what became of each call
/// that was started.
pub(super) fn run(
    call: &CurrentCall,
    extent: &Extent,
    handler: &ComputeHandler,
    payload: &Bytes,
    limit: usize,
) -> Reply {
    let started = Instant::now();
    let mut calls = Decoder::new(payload);
    let mut values = Encoder::new(limit);
    let most = VALUES_MOST.min(limit as u64 / 2);
    let mut index = 0u64;
    while values.size() <= most && !call.is_cancelled() && extent.start_next() {
        let placed = batch::begin(&mut values);
        let outcome = match next(&mut calls) {
            Ok(arguments) => call.nth(index).compute(|| handler(Arguments::Part(arguments), &mut values)),
            Err(error) => Outcome::Refused(Refusal::Decode(error.to_string())),
        };
        end(placed, &mut values, outcome);
        index += 1;
    }
    match index {
        0 if call.is_cancelled() => Reply::refused(Refusal::Stopped),
        0 => Reply::refused(Refusal::Returned),
        _ if call.is_cancelled() => Reply::without_payload(Outcome::Stopped, started.elapsed()),
        count => Reply { count: count as u32, ..Reply::new(Outcome::Value, started.elapsed(), values) },
    }
}

fn next<'a>(calls: &mut Decoder<'a>) -> Result<Decoder<'a>, CodecError> {
    let length = calls.take_u32()?;
    calls.split_off(length as usize)
}

fn end(placed: Placed, values: &mut Encoder, outcome: Outcome) {
    batch::end(placed, values, &outcome);
    if !values.is_within_limit() {
        // Its value alone would fit; with those before it, it does not.
        let (size, limit) = (values.size(), values.limit());
        placed.forget(values);
        let again = batch::begin(values);
        batch::end(again, values, &Outcome::TooLarge { size, limit });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_keeps_what_is_started() {
        let extent = Extent::new(3);
        assert_eq!(extent.cut(), None, "nothing is started, so it must not answer for nothing");
        assert!(extent.start_next());
        assert!(extent.start_next());
        assert_eq!(extent.cut(), Some(2));
        assert!(!extent.start_next());
        assert_eq!(extent.cut(), None);
    }
}
