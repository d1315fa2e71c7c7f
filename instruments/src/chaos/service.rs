//! The services that are called, and the handlers, which write down each start and end.

use std::{sync::Arc, time::Duration};

use super::{
    call_plan::{Declined, HandlerEnd, Output, Work},
    ledger::{Ledger, NodeEntry, Step, now},
};

/// Methods that run at most once.
#[distribution::service]
pub(super) trait Once {
    /// Keeps a slot, mostly for a moment.
    fn quick(&self, work: Work) -> Result<Output, Declined>;
    /// Keeps a slot.
    fn compute(&self, work: Work) -> Result<Output, Declined>;
    /// Waits without one.
    async fn wait(&self, work: Work) -> Result<Output, Declined>;
}

/// The same, but they may be run again elsewhere.
#[distribution::service(idempotent)]
pub(super) trait Again {
    /// Keeps a slot, mostly for a moment.
    fn quick(&self, work: Work) -> Result<Output, Declined>;
    /// Keeps a slot.
    fn compute(&self, work: Work) -> Result<Output, Declined>;
    /// Waits without one.
    async fn wait(&self, work: Work) -> Result<Output, Declined>;
}

/// Does what calls ask for.
#[derive(Clone, Debug)]
pub(super) struct Worker(pub(super) Arc<Ledger>);

impl Worker {
    fn compute(&self, work: &Work) -> Result<Output, Declined> {
        let trace = Trace::start(&self.0, work.key);
        std::thread::sleep(Duration::from_micros(work.nap));
        finish(work, trace)
    }

    async fn wait(&self, work: Work) -> Result<Output, Declined> {
        let trace = Trace::start(&self.0, work.key);
        tokio::time::sleep(Duration::from_micros(work.nap)).await;
        finish(&work, trace)
    }
}

impl Once for Worker {
    fn quick(&self, work: Work) -> Result<Output, Declined> {
        self.compute(&work)
    }

    fn compute(&self, work: Work) -> Result<Output, Declined> {
        self.compute(&work)
    }

    async fn wait(&self, work: Work) -> Result<Output, Declined> {
        self.wait(work).await
    }
}

impl Again for Worker {
    fn quick(&self, work: Work) -> Result<Output, Declined> {
        self.compute(&work)
    }

    fn compute(&self, work: Work) -> Result<Output, Declined> {
        self.compute(&work)
    }

    async fn wait(&self, work: Work) -> Result<Output, Declined> {
        self.wait(work).await
    }
}

fn finish(work: &Work, trace: Trace<'_>) -> Result<Output, Declined> {
    let done = work.output();
    trace.end();
    match work.end {
        HandlerEnd::Value => Ok(done),
        HandlerEnd::Error => Err(Declined { value: work.value() }),
        HandlerEnd::Panic => panic!("call {} was to panic", work.key),
    }
}

/// An attempt that has started. Dropped without its end, it was cut short.
struct Trace<'a> {
    ledger: &'a Ledger,
    key: u64,
    id: String,
    attempt: u32,
    step: Step,
}

impl<'a> Trace<'a> {
    fn start(ledger: &'a Ledger, key: u64) -> Self {
        let call = distribution::current();
        let trace = Self { ledger, key, id: call.id().to_string(), attempt: call.attempt(), step: Step::Cut };
        trace.write(Step::Start);
        trace
    }

    fn end(mut self) {
        self.step = Step::End;
    }

    fn write(&self, step: Step) {
        self.ledger.write(&NodeEntry { key: self.key, id: self.id.clone(), attempt: self.attempt, step, at: now() });
    }
}

impl Drop for Trace<'_> {
    fn drop(&mut self) {
        self.write(self.step);
    }
}
