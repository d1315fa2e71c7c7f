//! The last calls, sent to a second node where they take far longer than the rest: the first answer counts.

use std::{
    future::Future as _,
    sync::Arc,
    task::Context,
    time::{Duration, Instant},
};

use futures::Stream;

use super::{
    distribute::Distributed,
    flight::{Flight, Race},
};
use crate::service::{Call, caller::Role};

/// A call is sent to a second node when it has taken this many times what is usual, and this long at least.
/// By then its batch has been cut (see `node/batch.rs`), so that it is about this call alone.
const HEDGE_FACTOR: u32 = 3;
const HEDGE_AFTER: Duration = Duration::from_millis(250);

impl<S: Stream<Item = Call<T, E>>, T, E> Distributed<S, T, E> {
    /// Cancels the others of a race that is over.
    pub(super) fn call_back(&mut self, race: &Arc<Race>) {
        for batch in self.flights.iter_mut().filter_map(Flight::batch_mut).filter(|batch| batch.is_in(race)) {
            self.bytes -= batch.state.payload.len();
            self.pace.note_back(batch.address.method, &batch.address.options.labels, batch.out as usize);
            batch.state.wake();
        }
    }

    /// Sends what takes long to a second node, and says whether there is anything to watch.
    fn hedge_late(&mut self) -> bool {
        let mut late = Vec::new();
        let mut watching = false;
        let now = Instant::now();
        for batch in self.flights.iter_mut().filter_map(Flight::batch_mut) {
            let address = &batch.address;
            let options = &address.options;
            let is_free = options.node.is_none() && options.affinity.is_none();
            if batch.race.is_some() || !address.method.is_idempotent() || !is_free {
                continue;
            }
            watching = true;
            self.pace.turn_to(address.method, &options.labels, now, || address.capacity());
            let free = self.pace.capacity().free;
            let Some(expected) = self.pace.expected(batch.count as usize) else { continue };
            let taken = now.saturating_duration_since(batch.started);
            if late.len() < free && taken > (expected * HEDGE_FACTOR).max(HEDGE_AFTER) {
                let race = Race::new(2);
                batch.race = Some(Arc::clone(&race));
                let role = Role { beside: batch.state.id(), ..Role::default() };
                let mut parcel = batch.parcel();
                let options = &mut parcel.address.options;
                options.timeout = options.timeout.map(|timeout| timeout.saturating_sub(taken));
                late.push((parcel, role, race));
            }
        }
        for (parcel, role, race) in late {
            self.fly(parcel, role, Some(race));
        }
        watching
    }

    /// Wakes this task when it is time to look for late ones again.
    pub(super) fn watch(&mut self, cx: &mut Context<'_>) {
        loop {
            if !self.hedge_late() {
                self.look_again = None;
                return;
            }
            let timer = self.look_again.get_or_insert_with(|| Box::pin(tokio::time::sleep(HEDGE_AFTER / 5)));
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
            self.look_again = None;
        }
    }
}
