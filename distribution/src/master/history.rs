//! Looks at the core's counts once a second, for the history and for the program's recorder.

use std::sync::Arc;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{
    history_log::{ActiveMethod, ClusterSample},
    shared::Shared,
};
use crate::{administration::Resolution, core::NodeSample, service::method::MethodId};

/// How many methods are looked at under one hold of the lock.
const METHODS_AT_A_TIME: usize = 32;

/// Looks at the core once a second, until the master ends.
pub(super) async fn run(shared: Arc<Shared>) {
    let second = Resolution::Second.step();
    let mut ticks = interval_at(shared.origin + second, second);
    // After a stall it goes on with the second that it is then.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    #[cfg(feature = "metrics")]
    let mut facade = super::facade::Facade::default();
    loop {
        tokio::select! {
            at = ticks.tick() => {
                look(&shared, at);
                #[cfg(feature = "metrics")]
                facade.tell(&shared.metrics());
            }
            () = shared.closed.cancelled() => return,
        }
    }
}

/// Makes the points of the second that ends now.
fn look(shared: &Shared, at: Instant) {
    let stats = shared.stats();
    let ended = stats.answered + stats.failed + stats.cancelled;
    let cluster = ClusterSample { ended, failed: stats.failed, waiting: stats.queued, running: stats.in_flight };
    let nodes = sample_nodes(shared);
    let number = at.saturating_duration_since(shared.origin).as_secs();
    shared.history.add(number, cluster, &nodes, |has_changed| changed_methods(shared, has_changed));
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
