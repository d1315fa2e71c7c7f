//! Lists spans of the timeline, some at a time.

use super::{
    host::{Host, Time},
    state::Core,
    timeline::SpanSlice,
};

impl<H: Host> Core<H> {
    /// The spans from this number on, as many as can be copied under one hold of the lock.
    pub(crate) fn spans_from(&self, number: u64) -> SpanSlice {
        self.timeline.slice(number, self.settings.slice * 8)
    }

    /// The number of the first span that ended at this time or later.
    pub(crate) fn first_span_since(&self, time: Time) -> u64 {
        self.timeline.first_since(time)
    }
}
