//! Limits the memory of the large messages that are being read: at a master over all connections, elsewhere of one.
//!
//! A message reserves all the bytes that it announces, or waits for them, first come, first served. Its sender waits too, after
//! the first chunk. So a message that has its reservation can be read to its end whatever the others do, and no two messages
//! wait for each other. Smaller messages are not counted and never wait.

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

/// A message of up to this size needs no reservation: most calls, and all batches but the fullest, whose values come to this much.
/// The memory of these is bounded for each connection.
pub(crate) const RESERVED_ABOVE: usize = 1024 * 1024;

/// The memory for large messages of one connection of a node or a caller, unless the largest needs more.
const OF_CONNECTION: usize = 256 * 1024 * 1024;

/// Bytes are reserved in units of this size.
const UNIT: usize = 1024;

/// The memory for large messages.
#[derive(Debug)]
pub(crate) struct IncomingMemory {
    units: u32,
    /// Whether several connections share it.
    is_shared: bool,
    /// First come, first served, also while a later reservation would fit. Otherwise small ones could keep a large one
    /// waiting for ever.
    free: Arc<Semaphore>,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: usize,
    /// Since when at least one message has waited without a break.
    since: Option<Instant>,
}

/// Memory that a message may use; free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Reservation(#[allow(dead_code, reason = "held to be dropped")] OwnedSemaphorePermit);

impl IncomingMemory {
    /// The memory of all connections of a master.
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Self::of(bytes, true)
    }

    fn of(bytes: usize, is_shared: bool) -> Arc<Self> {
        let units = units(bytes).min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Arc::new(Self { units, is_shared, free: Arc::new(Semaphore::new(units as usize)), queue: Mutex::default() })
    }

    /// The memory of a node's or caller's connection: for one of the largest messages, and for several smaller ones.
    pub(crate) fn of_connection(max_message_size: usize) -> Arc<Self> {
        Self::of(max_message_size.max(OF_CONNECTION), false)
    }

    /// Reserves this many bytes, if they are free and no other message waits.
    pub(crate) fn try_reserve(&self, bytes: usize) -> Option<Reservation> {
        Arc::clone(&self.free).try_acquire_many_owned(self.units_to_reserve(bytes)).ok().map(Reservation)
    }

    /// Queues for this many bytes.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: usize) -> PendingReservation {
        let mut queue = self.queue();
        queue.waiting += 1;
        queue.since.get_or_insert_with(Instant::now);
        drop(queue);
        PendingReservation {
            free: PollSemaphore::new(Arc::clone(&self.free)),
            units: self.units_to_reserve(bytes),
            memory: Arc::clone(self),
        }
    }

    /// Since when messages, which may be those of other connections, have waited without a break; `None` if none waits.
    pub(crate) fn contended_since(&self) -> Option<Instant> {
        self.queue().since.filter(|_| self.is_shared)
    }

    /// A message that is larger than all of the memory reserves all of it.
    fn units_to_reserve(&self, bytes: usize) -> u32 {
        units(bytes).min(self.units)
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// The reservations of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reserved {
    /// Since when the oldest one is held.
    pub(crate) since: Instant,
    /// How many there are.
    pub(crate) messages: u32,
}

/// A place in the queue for memory; given up when this is dropped.
pub(crate) struct PendingReservation {
    free: PollSemaphore,
    units: u32,
    memory: Arc<IncomingMemory>,
}

impl PendingReservation {
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Reservation> {
        match ready!(Pin::new(&mut self.free).poll_acquire_many(cx, self.units)) {
            Some(permit) => Poll::Ready(Reservation(permit)),
            // The semaphore is never closed.
            None => Poll::Pending,
        }
    }
}

impl Drop for PendingReservation {
    fn drop(&mut self) {
        let mut queue = self.memory.queue();
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

    fn poll(wait: &mut PendingReservation) -> Option<Reservation> {
        match wait.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(reservation) => Some(reservation),
            Poll::Pending => None,
        }
    }

    #[test]
    fn messages_get_memory_in_the_order_of_asking_and_all_of_it_at_once() {
        let memory = IncomingMemory::new(100 * MIB);
        let first = memory.try_reserve(60 * MIB).expect("there is room");
        let mut large = memory.reserve(64 * MIB);
        assert!(poll(&mut large).is_none());
        // It would fit, and others like it could follow for ever.
        assert!(memory.try_reserve(10 * MIB).is_none());
        let mut small = memory.reserve(10 * MIB);
        assert!(poll(&mut small).is_none());
        drop(first);
        let large = poll(&mut large).expect("it is its turn");
        let small = poll(&mut small).expect("there is room beside it");
        assert!(memory.try_reserve(64 * MIB).is_none());
        drop((large, small));
        assert!(memory.try_reserve(100 * MIB).is_some());
    }

    #[test]
    fn a_message_that_leaves_the_queue_keeps_no_memory_and_blocks_no_other() {
        let memory = IncomingMemory::new(100 * MIB);
        let first = memory.try_reserve(90 * MIB).expect("there is room");
        let mut large = memory.reserve(64 * MIB);
        assert!(poll(&mut large).is_none());
        drop(large);
        let second = memory.try_reserve(10 * MIB).expect("no other message waits");
        drop((first, second));
        assert!(memory.try_reserve(100 * MIB).is_some());
    }

    #[test]
    fn a_message_that_is_larger_than_the_memory_reserves_all_of_it() {
        let memory = IncomingMemory::new(MIB);
        assert!(memory.try_reserve(MIB + 5).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_knows_since_when_messages_wait() {
        let memory = IncomingMemory::new(MIB);
        assert_eq!(memory.contended_since(), None);
        let began = Instant::now();
        let first = memory.reserve(MIB);
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        let second = memory.reserve(MIB);
        drop(first);
        assert_eq!(memory.contended_since(), Some(began));
        drop(second);
        assert_eq!(memory.contended_since(), None);
    }
}
