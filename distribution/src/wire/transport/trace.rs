//! The trace of a call, as tarpc knows it.

use tarpc::trace::{Context, SamplingDecision};

use crate::wire::frame::call::Trace;

impl Trace {
    /// For the span that tarpc's server makes of each request, so that it belongs to the trace too.
    pub(super) fn for_tarpc(&self) -> Context {
        Context {
            trace_id: self.trace.into(),
            span_id: self.span.into(),
            sampling_decision: if self.sampled { SamplingDecision::Sampled } else { SamplingDecision::Unsampled },
        }
    }
}
