//! The names of callers that are gone: a failed call is looked into after its caller has left.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::id::CallerId;

/// How many names are remembered without a question. Detached calls of these may still fail.
const MOST_REMEMBERED: usize = 512;

/// The callers that are gone, the last one at the end.
#[derive(Debug, Default)]
pub(super) struct GoneCallers(Mutex<VecDeque<(CallerId, Arc<str>)>>);

impl GoneCallers {
    /// A caller is gone. Once there are many, `needed` says of which the name is still asked for; of the others the last ones are
    /// remembered.
    pub(super) fn note(&self, id: CallerId, name: &str, needed: impl FnOnce() -> HashSet<CallerId>) {
        let mut gone = self.lock();
        gone.push_back((id, name.into()));
        if gone.len() >= 2 * MOST_REMEMBERED {
            let (needed, mut left_over) = (needed(), gone.len() - MOST_REMEMBERED);
            gone.retain(|(id, _)| {
                let is_old = left_over > 0;
                left_over = left_over.saturating_sub(1);
                !is_old || needed.contains(id)
            });
        }
    }

    pub(super) fn names(&self) -> HashMap<CallerId, Arc<str>> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(CallerId, Arc<str>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_names_are_remembered_and_older_ones_that_are_needed() {
        let gone = GoneCallers::default();
        for id in 0..5000 {
            gone.note(CallerId(id), &format!("caller {id}"), || [CallerId(7)].into());
        }
        let names = gone.names();
        assert!(names.len() <= 2 * MOST_REMEMBERED, "{}", names.len());
        assert_eq!(names[&CallerId(7)].as_ref(), "caller 7");
        assert!((4600..5000).all(|id| names.contains_key(&CallerId(id))));
    }
}
