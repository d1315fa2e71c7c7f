//! Lists the runs of many calls, each with the calls that its end waits for.

use super::shared::Shared;
use crate::{
    administration::{CallInfo, RunInfo},
    id::CallId,
};

impl Shared {
    pub(super) fn runs(&self) -> Vec<RunInfo> {
        let now = self.origin.elapsed();
        let runs = self.runs.list().into_iter();
        runs.map(|run| {
            let stragglers = self.calls_by_id(run.oldest());
            run.info(now, stragglers)
        })
        .collect()
    }

    /// Those of these calls that have not ended.
    fn calls_by_id(&self, ids: &[u64]) -> Vec<CallInfo> {
        if ids.is_empty() {
            return Vec::new();
        }
        let calls = self.with_core("a run is listed", |core, now, _| {
            ids.iter().filter_map(|id| core.call_info(now, CallId(*id))).collect()
        });
        calls.unwrap_or_default()
    }
}
