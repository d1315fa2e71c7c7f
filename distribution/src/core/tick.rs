//! Timers, and when the core needs its next tick.

use super::{
    deferred::DeferredTask,
    effect::Effects,
    host::{Host, Time},
    state::{Core, Timer},
};

impl<H: Host> Core<H> {
    /// Time has passed.
    pub(crate) fn on_tick(&mut self, now: Time, effects: &mut Effects<H>) {
        self.failure_groups.now = now;
        // A panic may have ended the last slice.
        self.deferred.is_running = false;
        let mut left = self.settings.slice;
        while let Some((at, timer)) = self.timers.first().copied() {
            if at > now || left == 0 {
                break;
            }
            left -= 1;
            self.timers.pop_first();
            match timer {
                Timer::Deadline(id) => self.time_out(now, id, effects),
                Timer::Retry(id) => {
                    self.backing_off -= 1;
                    self.enqueue_or_place(now, id, effects);
                }
                Timer::Unserved(queue) => self.deferred.push(DeferredTask::ExpireQueue(queue)),
                Timer::Overdue(call) => self.report_overdue(now, call, effects),
                Timer::Absent(node) => self.end_absence(now, node, effects),
                Timer::EndEjection(node) => self.end_ejection(now, node, effects),
                Timer::GrowAllowance(node) => self.wait_no_longer(now, node, effects),
            }
        }
        self.watch(now, effects);
        self.run_deferred(now, effects);
    }

    /// When [`on_tick`](Self::on_tick) has something to do next; zero if it should be called at once.
    pub(crate) fn next_tick(&self) -> Time {
        if !self.deferred.is_empty() {
            return Time::ZERO;
        }
        self.timers.first().map_or(Time::MAX, |(at, _)| *at).min(self.next_watch())
    }
}
