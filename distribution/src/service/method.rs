//! A method as both sides know it, and the hash by which they tell that they mean the same.

use std::sync::OnceLock;

use super::structure::Structure;
use crate::{id::MethodName, wire::hello::Definition};

/// A method of a service: what a stub calls and a node serves.
///
/// The macro makes one for each method, at compile time. The structure of its types is found when it is first served
/// or called, and kept.
#[derive(Debug)]
pub struct Method {
    name: MethodName,
    version: u32,
    signature: &'static str,
    idempotent: bool,
    /// Hash of what is known at compile time.
    written: u64,
    found: OnceLock<Found>,
}

/// What is known of a method's types at run time.
#[derive(Debug)]
struct Found {
    id: MethodId,
    structure: Structure,
}

/// Hash of service, version, method, signature, and the structure of all types in it. Calls name their method by it, so
/// a call for one signature or structure can never reach a handler with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MethodId(pub(crate) u64);

/// Whether a method holds one of the node's slots while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum MethodKind {
    /// A `fn`: runs on the compute pool, one slot each.
    Compute,
    /// An `async fn`: runs on the async runtime, up to the node's async limit.
    Async,
}

impl Method {
    /// Describes a method; `signature` is its argument types and its return type as they are written.
    pub const fn new(
        service: &'static str,
        version: u32,
        name: &'static str,
        signature: &'static str,
        idempotent: bool,
    ) -> Self {
        let mut hash = Fnv1a::new();
        hash = hash.text(service);
        hash = hash.bytes(&version.to_le_bytes());
        hash = hash.text(name);
        hash = hash.text(signature);
        Self {
            name: MethodName { service, method: name },
            version,
            signature,
            idempotent,
            written: hash.0,
            found: OnceLock::new(),
        }
    }

    /// Finds the structure of the method's types, the first time.
    ///
    /// Runs the `Deserialize` of each of them some times, so no lock may be held. Says so if something is hidden.
    pub(crate) fn find(&self, side: Side, structure: fn() -> Structure) {
        if self.found.get().is_some() {
            return;
        }
        // Outside of the cell: the user's code may come back here. Two threads may both do it, to the same end.
        let structure = structure();
        let partly = structure.partly_seen().join(", ");
        if self.found.set(self.found_with(structure)).is_ok() && !partly.is_empty() {
            let method = self.name;
            match side {
                Side::Serves => tracing::warn!(
                    %method,
                    "this node serves {method}, of whose types not everything could be seen ({partly}). If their fields \
                     change, raise the service's version: old and new programs cannot tell by themselves"
                ),
                Side::Calls => tracing::warn!(
                    %method,
                    "{method} is called, of whose types not everything could be seen ({partly}). If their fields change, \
                     raise the service's version: old and new programs cannot tell by themselves"
                ),
            }
        }
    }

    fn found_with(&self, structure: Structure) -> Found {
        Found { id: MethodId(hash_on(self.written, &structure.hash().to_le_bytes())), structure }
    }

    fn found(&self) -> &Found {
        // Stubs and routes find it before anything else. Only methods that no macro made are here without it.
        self.found.get_or_init(|| self.found_with(Structure::unknown()))
    }

    /// The structure of its types, as text.
    pub(crate) fn definitions(&self) -> &[Definition] {
        self.found().structure.definitions()
    }

    pub(crate) fn name(&self) -> MethodName {
        self.name
    }

    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    pub(crate) fn signature(&self) -> &'static str {
        self.signature
    }

    pub(crate) fn is_idempotent(&self) -> bool {
        self.idempotent
    }

    pub(crate) fn id(&self) -> MethodId {
        self.found().id
    }
}

/// Who wants to know a method's structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Serves,
    Calls,
}

/// A hash of bytes that is the same on each machine and in each run.
pub(crate) const fn hash(bytes: &[u8]) -> u64 {
    Fnv1a::new().bytes(bytes).0
}

/// Goes on from the hash of what came before.
pub(crate) const fn hash_on(before: u64, bytes: &[u8]) -> u64 {
    Fnv1a(before).bytes(bytes).0
}

/// The 64-bit FNV-1a hash (Fowler, Noll, Vo; offset basis and prime as published), chosen because it can
/// be computed at compile time in three lines. Two methods of one node that collide are refused at its
/// start; the input is the programmer's own, so no stronger hash is needed.
struct Fnv1a(u64);

impl Fnv1a {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    const fn bytes(mut self, bytes: &[u8]) -> Self {
        let mut at = 0;
        while at < bytes.len() {
            self.0 = (self.0 ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
            at += 1;
        }
        self
    }

    /// A text and a byte that no UTF-8 text contains, so that neighbours cannot run into one another.
    const fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes()).bytes(&[0xff])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_1a_gives_the_published_values() {
        assert_eq!(Fnv1a::new().bytes(b"").0, 0xcbf2_9ce4_8422_2325);
        assert_eq!(Fnv1a::new().bytes(b"a").0, 0xaf63_dc4c_8601_ec8c);
        assert_eq!(Fnv1a::new().bytes(b"foobar").0, 0x8594_4171_f739_67e8);
    }

    #[test]
    fn all_that_both_sides_must_agree_on_changes_the_id() {
        let ids = [
            Method::new("A", 1, "f", "fn() -> ()", false),
            Method::new("B", 1, "f", "fn() -> ()", false),
            Method::new("A", 2, "f", "fn() -> ()", false),
            Method::new("A", 1, "g", "fn() -> ()", false),
            Method::new("A", 1, "f", "fn(u8) -> ()", false),
        ]
        .map(|method| method.id());
        for (at, id) in ids.iter().enumerate() {
            assert!(!ids[..at].contains(id), "{at}");
        }
        // Whether a caller may repeat a call is the caller's own affair.
        assert_eq!(Method::new("A", 1, "f", "fn() -> ()", true).id(), ids[0]);
    }
}
