//! Looks at the core's counts once a second, for the history and for the program's recorder.

use std::sync::Arc;
#[cfg(feature = "metrics")]
use std::sync::{Mutex, PoisonError};

use tokio::time::{MissedTickBehavior, interval_at};

#[cfg(feature = "metrics")]
use super::facade::Facade;
use super::{
    history_log::{ActiveMethod, ClusterSample},
    recent::Counts,
    shared::Shared,
};
use crate::{administration::Resolution, core::NodeSample, service::method::MethodId};

/// How many methods are looked at under one hold of the lock.
const METHODS_AT_A_TIME: usize = 32;

/// The looks between two that also remember the counts, so that those of later can be compared with them.
const LOOKS_A_MINUTE: u64 = 60;

/// Looks at the core once a second, until the master ends.
pub(super) async fn run(shared: Arc<Shared>) {
    let second = Resolution::Second.step();
    let mut ticks = interval_at(shared.origin + second, second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut looks: u64 = 0;
    #[cfg(feature = "metrics")]
    let facade = Arc::default();
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                look(&shared);
                if looks % LOOKS_A_MINUTE == 0 {
                    note_counts(&shared).await;
                }
                looks += 1;
                #[cfg(feature = "metrics")]
                tell(&shared, &facade).await;
            }
            () = shared.closed.cancelled() => return,
        }
    }
}

/// Remembers what the counts are now. On a thread for blocking work: with many nodes it takes some milliseconds.
async fn note_counts(shared: &Arc<Shared>) {
    let shared = Arc::clone(shared);
    // Fails only if the runtime ends, and the master with it.
    let _ = tokio::task::spawn_blocking(move || {
        shared.recent.note(Counts::of(&shared.nodes(), &shared.metrics().methods));
    })
    .await;
}

/// Tells the program's recorder. On a thread for blocking work: with many nodes it takes some milliseconds.
#[cfg(feature = "metrics")]
async fn tell(shared: &Arc<Shared>, facade: &Arc<Mutex<Facade>>) {
    let (shared, facade) = (Arc::clone(shared), Arc::clone(facade));
    let told = tokio::task::spawn_blocking(move || {
        facade.lock().unwrap_or_else(PoisonError::into_inner).tell(&shared.metrics());
    });
    // A recorder that panics has said so.
    let _ = told.await;
}

/// Makes the points of the second that ends now.
fn look(shared: &Shared) {
    let stats = shared.stats();
    let ended = stats.answered + stats.failed + stats.cancelled;
    let cluster = ClusterSample { ended, failed: stats.failed, waiting: stats.queued, running: stats.in_flight };
    let nodes = sample_nodes(shared);
    shared.history.add(shared.origin.elapsed(), cluster, &nodes, |has_changed| changed_methods(shared, has_changed));
}

fn sample_nodes(shared: &Shared) -> Vec<NodeSample> {
    let (mut samples, mut after) = (Vec::new(), None);
    loop {
        let (slice, last) = shared.lock().core.sample_nodes(shared.origin.elapsed(), after);
        samples.extend(slice);
        if last.is_none() {
            return samples;
        }
        after = last;
    }
}

/// The methods of which something was counted since they were looked at last.
fn changed_methods(shared: &Shared, has_changed: &dyn Fn(MethodId, u64) -> bool) -> Vec<ActiveMethod> {
    let ids = shared.lock().core.called_ids();
    let mut samples = Vec::new();
    for ids in ids.chunks(METHODS_AT_A_TIME) {
        let locked = shared.lock();
        for id in ids {
            let activity = locked.core.activity_of(*id);
            if has_changed(*id, activity) {
                samples.extend(locked.core.method_sample(*id).map(|sample| (activity, sample)));
            }
        }
    }
    samples
}
