//! How much memory a master lends to large frames that are coming in.
//!
//! A frame is lent all that it announces or waits for it, in the order of asking. So each frame that has its loan can be
//! read to its end whatever the others do, and no two wait for each other. Small frames are not counted and never wait.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::PollSemaphore;

/// A frame of up to this size is taken in without a loan: heartbeats, most calls, and all but the fullest batches, whose
/// values come to this much. The memory for these is bounded by the number of connections.
pub(crate) const LENT_ABOVE: usize = 1024 * 1024;

/// Bytes are lent in units of this size.
const UNIT: usize = 1024;

/// What all connections of a master share.
#[derive(Debug)]
pub(crate) struct Budget {
    units: u32,
    /// First come, first served, also while a later one would fit: else small loans would keep a large one waiting for ever.
    free: Arc<Semaphore>,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: usize,
    /// Since when there has always been somebody who waits.
    since: Option<Instant>,
}

/// Memory that a frame may use; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Loan(#[allow(dead_code, reason = "held to be dropped")] OwnedSemaphorePermit);

impl Budget {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        let units = units(bytes).min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Arc::new(Self { units, free: Arc::new(Semaphore::new(units as usize)), queue: Mutex::default() })
    }

    /// A loan of this size, if there is room and nobody waits.
    pub(crate) fn lend(&self, bytes: usize) -> Option<Loan> {
        Arc::clone(&self.free).try_acquire_many_owned(self.units_of_loan(bytes)).ok().map(Loan)
    }

    /// Waits for such a loan.
    pub(crate) fn wait(self: &Arc<Self>, bytes: usize) -> Wait {
        let mut queue = self.queue();
        queue.waiting += 1;
        queue.since.get_or_insert_with(Instant::now);
        drop(queue);
        Wait {
            free: PollSemaphore::new(Arc::clone(&self.free)),
            units: self.units_of_loan(bytes),
            budget: Arc::clone(self),
        }
    }

    /// Since when others have been waiting without a break; `None` if nobody waits.
    pub(crate) fn waited_for_since(&self) -> Option<Instant> {
        self.queue().since
    }

    /// A frame that is larger than the whole gets the whole.
    fn units_of_loan(&self, bytes: usize) -> u32 {
        units(bytes).min(self.units)
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// A place in the queue for a loan; left when it is dropped.
pub(crate) struct Wait {
    free: PollSemaphore,
    units: u32,
    budget: Arc<Budget>,
}

impl Wait {
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Loan> {
        match ready!(Pin::new(&mut self.free).poll_acquire_many(cx, self.units)) {
            Some(permit) => Poll::Ready(Loan(permit)),
            // Nobody closes it.
            None => Poll::Pending,
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut queue = self.budget.queue();
        queue.waiting -= 1;
        if queue.waiting == 0 {
            queue.since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    const MIB: usize = 1024 * 1024;

    fn poll(wait: &mut Wait) -> Option<Loan> {
        match wait.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(loan) => Some(loan),
            Poll::Pending => None,
        }
    }

    #[test]
    fn who_waits_is_served_in_order_and_by_the_whole() {
        let budget = Budget::new(100 * MIB);
        let first = budget.lend(60 * MIB).expect("there is room");
        let mut large = budget.wait(64 * MIB);
        assert!(poll(&mut large).is_none());
        // It would fit, and others like it could follow for ever.
        assert!(budget.lend(10 * MIB).is_none());
        let mut small = budget.wait(10 * MIB);
        assert!(poll(&mut small).is_none());
        drop(first);
        let large = poll(&mut large).expect("it is its turn");
        let small = poll(&mut small).expect("there is room beside it");
        assert!(budget.lend(64 * MIB).is_none());
        drop((large, small));
        assert!(budget.lend(100 * MIB).is_some());
    }

    #[test]
    fn who_leaves_the_queue_keeps_nothing_and_holds_nobody_up() {
        let budget = Budget::new(100 * MIB);
        let first = budget.lend(90 * MIB).expect("there is room");
        let mut large = budget.wait(64 * MIB);
        assert!(poll(&mut large).is_none());
        drop(large);
        let second = budget.lend(10 * MIB).expect("nobody waits any more");
        drop((first, second));
        assert!(budget.lend(100 * MIB).is_some());
    }

    #[test]
    fn a_frame_that_is_larger_than_all_gets_all() {
        let budget = Budget::new(MIB);
        assert!(budget.lend(MIB + 5).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_known_since_when_somebody_waits() {
        let budget = Budget::new(MIB);
        assert_eq!(budget.waited_for_since(), None);
        let began = Instant::now();
        let first = budget.wait(MIB);
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        let second = budget.wait(MIB);
        drop(first);
        assert_eq!(budget.waited_for_since(), Some(began));
        drop(second);
        assert_eq!(budget.waited_for_since(), None);
    }
}
