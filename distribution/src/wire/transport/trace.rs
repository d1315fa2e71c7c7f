//! The trace of a call, as tarpc knows it.

use tarpc::trace;

use crate::wire::frame::call::Trace;

impl Trace {
    /// For the span that tarpc's server makes of each request, so that it belongs to the trace too.
    pub(super) fn for_tarpc(&self) -> trace::Context {
        let mut context = trace::Context::default();
        context.trace_id = self.trace.into();
        context.span_id = self.span.into();
        context.sampling_decision =
            if self.sampled { trace::SamplingDecision::Sampled } else { trace::SamplingDecision::Unsampled };
        context
    }
}
