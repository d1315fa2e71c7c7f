//! What a node says of itself as it registers, made ready once: it never changes, so nothing of it is copied or
//! formatted under the core's lock.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    service::method::{MethodId, MethodKind, hash},
    view::ServiceInfo,
    wire::hello::{MethodOffer, Registration},
};

/// What a node said of itself.
#[derive(Debug)]
pub(crate) struct NodeCard {
    pub(super) name: Arc<str>,
    /// Hash of the name, which places the node on the ring of affinity keys.
    pub(super) place: u64,
    pub(super) instance: u128,
    pub(super) slots: u32,
    pub(super) async_limit: u32,
    /// Slots that were taken by handlers of an earlier connection.
    pub(super) busy: u32,
    pub(super) labels: BTreeMap<String, String>,
}

/// The methods that a node serves, and their texts. Nodes that serve the same share one.
#[derive(Debug)]
pub(crate) struct Catalogue {
    pub(super) methods: Arc<BTreeMap<MethodId, MethodKind>>,
    pub(super) services: Arc<[ServiceInfo]>,
    /// By service and name.
    offers: BTreeMap<String, BTreeMap<String, Vec<MethodOffer>>>,
}

/// Sorts what a registration says.
pub(crate) fn read(registration: Registration) -> (Arc<NodeCard>, Catalogue) {
    let Registration { name, instance, slots, busy, async_limit, labels, methods, .. } = registration;
    let card = NodeCard {
        place: hash(name.as_bytes()),
        name: name.into(),
        instance,
        slots,
        async_limit,
        busy: busy.min(slots),
        labels: labels.into_iter().collect(),
    };
    (Arc::new(card), Catalogue::new(methods))
}

impl NodeCard {
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

impl Catalogue {
    fn new(methods: Vec<MethodOffer>) -> Self {
        let kind = |offer: &MethodOffer| if offer.compute { MethodKind::Compute } else { MethodKind::Async };
        let ids = methods.iter().map(|offer| (MethodId(offer.id), kind(offer))).collect();
        let mut services: BTreeMap<(String, u32), Vec<String>> = BTreeMap::new();
        let mut offers: BTreeMap<String, BTreeMap<String, Vec<MethodOffer>>> = BTreeMap::new();
        for offer in methods {
            let texts = services.entry((offer.service.clone(), offer.version)).or_default();
            texts.push(format!("{}: {}", offer.name, offer.signature));
            offers.entry(offer.service.clone()).or_default().entry(offer.name.clone()).or_default().push(offer);
        }
        let info = |((name, version), methods)| ServiceInfo { name, version, methods };
        Self { methods: Arc::new(ids), services: services.into_iter().map(info).collect(), offers }
    }

    /// What is served under this name of a service and a method, in all versions and signatures.
    pub(super) fn of(&self, service: &str, method: &str) -> &[MethodOffer] {
        self.offers.get(service).and_then(|methods| methods.get(method)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The names of the methods of a service; `None` if it is not served.
    pub(super) fn methods(&self, service: &str) -> Option<impl Iterator<Item = &str>> {
        self.offers.get(service).map(|methods| methods.keys().map(String::as_str))
    }
}
