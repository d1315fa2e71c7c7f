//! A method as both sides know it, and the hash by which they tell that they mean the same.

use std::sync::OnceLock;

use super::structure::Structure;
use crate::{hash::method_id, id::MethodName, wire::hello::Definition};

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
        let name = MethodName { service, method: name };
        Self { name, version, signature, idempotent, found: OnceLock::new() }
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
        let MethodName { service, method } = self.name;
        Found { id: MethodId(method_id(service, self.version, method, self.signature, structure.hash())), structure }
    }

    fn found(&self) -> &Found {
        // Stubs and routes find it before anything else. Only methods that no macro made are here without it.
        self.found.get_or_init(|| self.found_with(Structure::unknown()))
    }

    /// Hash of the structure of its types.
    pub(crate) fn types(&self) -> u64 {
        self.found().structure.hash()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_a_caller_may_repeat_a_call_is_its_own_affair() {
        let id = |idempotent| Method::new("A", 1, "f", "fn() -> ()", idempotent).id();
        assert_eq!(id(true), id(false));
    }
}
