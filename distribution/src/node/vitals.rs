//! Measures how the process of a node does, once a second: what the system says of it, and how long its runtime takes to run a
//! task.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime},
};

use super::{active_calls::ActiveCalls, state::NodeShared};
use crate::wire::VitalsReport;

/// The time between two measurements. One takes some tens of microseconds.
const EVERY: Duration = Duration::from_secs(1);

/// What was measured last, for one connection.
#[derive(Debug, Default)]
pub(super) struct VitalsMeter {
    last: Option<Instant>,
    /// The processor time that the process had used by then.
    used: Option<Duration>,
    /// The task that the user's runtime was given then.
    probe: Option<Probe>,
}

/// A task that does nothing but note when it was run.
#[derive(Debug)]
struct Probe {
    spawned: Instant,
    ran: Arc<OnceLock<Instant>>,
}

/// What the system says of this process.
#[derive(Debug, Default)]
struct ProcessUse {
    processor: Option<Duration>,
    memory: Option<u64>,
    threads: Option<u32>,
}

impl VitalsMeter {
    /// Measures, if the last time was long enough ago.
    pub(super) fn measure(&mut self, node: &NodeShared, active: &ActiveCalls) -> Option<VitalsReport> {
        let now = Instant::now();
        let since = self.last.map(|last| now.saturating_duration_since(last));
        if since.is_some_and(|since| since < EVERY) {
            return None;
        }
        let process = ProcessUse::now();
        let used = process.processor.zip(self.used).map(|(now, before)| now.saturating_sub(before));
        let cpu = used.zip(since).map(|(used, since)| (1e3 * used.as_secs_f64() / since.as_secs_f64()) as u32);
        let lag = self.probe.as_ref().map_or(Duration::ZERO, |probe| {
            probe.ran.get().map_or(now, |ran| *ran).saturating_duration_since(probe.spawned)
        });
        // One that was not run yet goes on being waited for.
        if self.probe.as_ref().is_none_or(|probe| probe.ran.get().is_some()) {
            let ran = Arc::new(OnceLock::new());
            let note = Arc::clone(&ran);
            node.handler_runtime.spawn(async move { _ = note.set(Instant::now()) });
            self.probe = Some(Probe { spawned: now, ran });
        }
        (self.last, self.used) = (Some(now), process.processor);
        let load = active.load(0);
        Some(VitalsReport {
            cpu,
            memory: process.memory,
            threads: process.threads,
            lag: u64::try_from(lag.as_micros()).unwrap_or(u64::MAX),
            busy_slots: load.computing,
            waiting: load.waiting,
            asynchronous: load.asynchronous,
            time: SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
        })
    }
}

impl ProcessUse {
    #[cfg(target_os = "linux")]
    fn now() -> Self {
        let Ok(stat) = procfs::process::Process::myself().and_then(|process| process.stat()) else {
            return Self::default();
        };
        let ticks = stat.utime + stat.stime;
        Self {
            processor: Some(Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second() as f64)),
            memory: Some(stat.rss * procfs::page_size()),
            threads: u32::try_from(stat.num_threads).ok(),
        }
    }

    /// Other systems have no such files.
    #[cfg(not(target_os = "linux"))]
    fn now() -> Self {
        Self::default()
    }
}
