//! Lists the methods that nodes serve or callers call.

use std::{collections::BTreeMap, sync::Arc};

use super::{called_methods::Tally, group::GroupId, host::Host, registration::MethodSet, state::Core};
use crate::{
    administration::MethodSummary,
    service::method::{MethodId, MethodInfo},
};

/// The methods of some groups of nodes.
#[derive(Debug)]
pub(crate) struct ServedSlice {
    /// Each group's methods, and how many of its nodes serve them.
    groups: Vec<(Arc<MethodSet>, usize)>,
    /// The last group that was looked at; `None` if there are no more.
    pub(crate) last: Option<GroupId>,
}

/// A method that was called, with its calls.
pub(crate) type CalledRow = (Arc<MethodInfo>, Tally);

impl<H: Host> Core<H> {
    /// The methods of the groups after this one, as many as can be listed under one hold of the lock.
    pub(crate) fn served_methods(&self, after: Option<GroupId>) -> ServedSlice {
        let most = self.settings.slice;
        let groups: Vec<_> = self.registry.groups_after(after).take(most).collect();
        let last = groups.last().filter(|_| groups.len() == most).map(|(id, _)| *id);
        let groups = groups.iter().map(|(_, group)| (Arc::clone(&group.method_set), group.everyone.serving)).collect();
        ServedSlice { groups, last }
    }

    /// The methods that were called since the master started.
    pub(crate) fn called_methods(&self) -> Vec<CalledRow> {
        self.called.iter().map(|(info, tally)| (Arc::clone(info), tally)).collect()
    }
}

/// All methods, by service, name and version. Made without the lock, as it copies all texts.
#[derive(Debug, Default)]
pub(crate) struct MethodList(BTreeMap<(Arc<str>, u32, MethodId), MethodSummary>);

impl MethodList {
    pub(crate) fn add_served(&mut self, slice: &ServedSlice) {
        for (method_set, nodes) in &slice.groups {
            for offer in method_set.offers() {
                let name: Arc<str> = format!("{}.{}", offer.service, offer.name).into();
                let row = self.0.entry((name, offer.version, MethodId(offer.id))).or_insert_with(|| MethodSummary {
                    service: offer.service.clone(),
                    name: offer.name.clone(),
                    version: offer.version,
                    signature: offer.signature.clone(),
                    kind: offer.kind,
                    idempotent: true,
                    nodes: 0,
                    waiting: 0,
                    running: 0,
                });
                row.nodes += nodes;
                row.idempotent &= offer.idempotent;
            }
        }
    }

    /// Adds methods that are called. Those that no node serves and no call waits for are left out.
    pub(crate) fn add_called(&mut self, called: &[CalledRow]) {
        for (info, Tally { waiting, running }) in called {
            let key = (info.name().as_str().into(), info.version(), info.id());
            let is_listed = self.0.contains_key(&key);
            if !is_listed && waiting + running == 0 {
                continue;
            }
            let row = self.0.entry(key).or_insert_with(|| MethodSummary {
                service: info.name().service().to_owned(),
                name: info.name().method().to_owned(),
                version: info.version(),
                signature: info.signature().to_owned(),
                kind: info.kind(),
                idempotent: info.is_idempotent(),
                nodes: 0,
                waiting: 0,
                running: 0,
            });
            (row.waiting, row.running) = (*waiting, *running);
        }
    }

    pub(crate) fn into_rows(self) -> Vec<MethodSummary> {
        self.0.into_values().collect()
    }
}
