//! What a node told at registration. It never changes, so it is prepared once, outside the core's lock, and then shared.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use crate::{
    hash::hash_of_texts,
    id::MethodName,
    security::Principal,
    service::method::{MethodId, MethodKind},
    view::ServiceInfo,
    wire::handshake::{MethodOffer, Registration, Release},
};

/// Bytes that a method takes in addition to its texts, which are kept twice.
const SIZE_OF_METHOD: usize = 512;

/// What a node says about itself.
#[derive(Debug)]
pub(crate) struct NodeProfile {
    pub(super) name: Arc<str>,
    pub(super) instance: u128,
    pub(super) slots: u32,
    pub(super) async_limit: u32,
    /// Slots that handlers of an earlier connection hold.
    pub(super) busy: u32,
    pub(super) labels: BTreeMap<String, String>,
    /// Who it authenticated as.
    pub(super) principal: Principal,
    /// The release that it was built with.
    pub(crate) release: Release,
}

impl NodeProfile {
    /// Whether both may be what the same process says of itself: only `busy` may differ.
    pub(super) fn is_same_process(&self, other: &Self) -> bool {
        let Self { name, instance, slots, async_limit, busy: _, labels, principal, release: _ } = self;
        (name, instance, slots, async_limit, labels, principal)
            == (&other.name, &other.instance, &other.slots, &other.async_limit, &other.labels, &other.principal)
    }
}

/// The methods that a node serves. Nodes that serve the same methods share one set.
#[derive(Debug)]
pub(crate) struct MethodSet {
    pub(super) methods: Arc<BTreeMap<MethodId, MethodKind>>,
    /// Hash of what method ids do not cover: the texts about types, and which methods are idempotent. Nodes that differ in
    /// that do not share a set; otherwise what the first node said would be told of all.
    pub(super) structure_hash: u64,
    pub(super) services: Arc<[ServiceInfo]>,
    /// About how many bytes of the master's memory it takes.
    pub(super) size: usize,
    /// Sorted by service, name and version.
    offers: Vec<MethodOffer>,
}

/// Splits a registration into what is the node's own and what it may share with others.
pub(crate) fn split_registration(
    registration: Registration,
    principal: Principal,
) -> (Arc<NodeProfile>, Arc<MethodSet>) {
    let Registration { name, instance, slots, busy, async_limit, labels, methods, .. } = registration;
    let profile = NodeProfile {
        name: name.into(),
        instance,
        slots,
        async_limit,
        busy: busy.min(slots),
        labels: labels.into_iter().collect(),
        principal,
        release: Release::default(),
    };
    (Arc::new(profile), Arc::new(MethodSet::new(methods)))
}

impl NodeProfile {
    pub(super) fn limit(&self, kind: MethodKind) -> u32 {
        match kind {
            MethodKind::Compute => self.slots,
            MethodKind::Async => self.async_limit,
        }
    }

    /// Whether the node has all of these labels.
    pub(super) fn has_labels(&self, labels: &[(String, String)]) -> bool {
        labels.iter().all(|(key, value)| self.labels.get(key) == Some(value))
    }
}

impl MethodSet {
    fn new(mut offers: Vec<MethodOffer>) -> Self {
        offers.sort_by(|a, b| (&a.service, &a.name, a.version).cmp(&(&b.service, &b.name, b.version)));
        let ids = offers.iter().map(|offer| (MethodId(offer.id), offer.kind)).collect();
        let mut services: BTreeMap<(String, u32), Vec<String>> = BTreeMap::new();
        for offer in &offers {
            let texts = services.entry((offer.service.clone(), offer.version)).or_default();
            texts.push(format!("{}: {}", offer.name, offer.signature));
        }
        let info = |((name, version), methods)| ServiceInfo { name, version, methods };
        let size = offers.iter().map(|offer| 2 * offer.size() + SIZE_OF_METHOD).sum();
        let texts = offers.iter().flat_map(|offer| {
            let idempotent = if offer.idempotent { "idempotent" } else { "" };
            offer.structure.iter().flat_map(|one| [&*one.name, &*one.text]).chain([idempotent])
        });
        let structure_hash = hash_of_texts(texts);
        Self {
            methods: Arc::new(ids),
            structure_hash,
            size,
            services: services.into_iter().map(info).collect(),
            offers,
        }
    }

    pub(crate) fn offers(&self) -> &[MethodOffer] {
        &self.offers
    }

    /// What a method that callers name can be compared with: what is served under its name, or any other method, which
    /// shows that its service is served.
    pub(crate) fn similar_to(&self, name: &MethodName) -> &[MethodOffer] {
        match self.named(name.service(), name.method()) {
            [] => {
                let service = self.slice(|offer| offer.service.as_str().cmp(name.service()));
                &service[..service.len().min(1)]
            }
            same => same,
        }
    }

    /// What is served under this name of a service and a method, in all versions and signatures.
    pub(crate) fn named(&self, service: &str, method: &str) -> &[MethodOffer] {
        self.slice(|offer| (offer.service.as_str(), offer.name.as_str()).cmp(&(service, method)))
    }

    fn slice(&self, place: impl Fn(&MethodOffer) -> Ordering) -> &[MethodOffer] {
        let start = self.offers.partition_point(|offer| place(offer) == Ordering::Less);
        let end = self.offers.partition_point(|offer| place(offer) != Ordering::Greater);
        &self.offers[start..end]
    }
}
