//! A method as both ends know it: [`Method`] in generated code, [`MethodInfo`] at run time.

use std::sync::{Arc, OnceLock};

use super::structure::Structure;
pub(crate) use crate::administration::MethodKind;
use crate::{
    hash::method_id,
    id::MethodName,
    wire::handshake::{Definition, MethodOffer, StreamShape},
};

/// A method of a service, as generated code names it.
///
/// The macro makes a static of it for each method, at compile time. Its `MethodInfo` is made when the method is first
/// served or called, because it takes the structure of the method's types.
#[derive(Debug)]
pub struct Method {
    service: &'static str,
    version: u32,
    name: &'static str,
    signature: &'static str,
    kind: MethodKind,
    idempotent: bool,
    streams: StreamShape,
    info: OnceLock<Arc<MethodInfo>>,
}

/// What the runtime knows of a method. It needs none of the user's types, so a master can pass on calls whose types it
/// does not know.
#[derive(Debug)]
pub struct MethodInfo {
    id: MethodId,
    name: MethodName,
    version: u32,
    signature: Box<str>,
    kind: MethodKind,
    idempotent: bool,
    streams: StreamShape,
    /// Hash of the structure of its types.
    types: u64,
    /// The structure of its types, as text.
    definitions: Box<[Definition]>,
}

/// Hash of service, version, method, signature, and the structure of all types in it. Calls name their method by it, so
/// a call for one signature or structure can never reach a handler with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MethodId(pub(crate) u64);

impl Method {
    /// Describes a method that is a `fn`; `signature` is its argument types and its return type as they are written.
    pub const fn new(
        service: &'static str,
        version: u32,
        name: &'static str,
        signature: &'static str,
        idempotent: bool,
    ) -> Self {
        Self::of(MethodKind::Compute, (service, version, name), signature, idempotent)
    }

    /// Describes a method that is an `async fn`.
    pub const fn new_async(
        service: &'static str,
        version: u32,
        name: &'static str,
        signature: &'static str,
        idempotent: bool,
    ) -> Self {
        Self::of(MethodKind::Async, (service, version, name), signature, idempotent)
    }

    const fn of(
        kind: MethodKind,
        (service, version, name): (&'static str, u32, &'static str),
        signature: &'static str,
        idempotent: bool,
    ) -> Self {
        let streams = StreamShape { items: false, argument: false };
        Self { service, version, name, signature, kind, idempotent, streams, info: OnceLock::new() }
    }

    /// The same method, which returns a stream (`items`), or whose last argument is one.
    #[must_use]
    pub const fn streaming(mut self, items: bool, argument: bool) -> Self {
        self.streams = StreamShape { items, argument };
        self
    }

    /// The method at run time. The first use finds the structure of its types, and logs a warning if a part of them is
    /// hidden.
    ///
    /// Runs the `Deserialize` of each type several times, so no lock may be held.
    pub(crate) fn recorded(&self, usage: Usage, structure: fn() -> Structure) -> &Arc<MethodInfo> {
        if let Some(info) = self.info.get() {
            return info;
        }
        // Outside of the cell: the user's code may come back here. Two threads may both do it, with the same result.
        let structure = structure();
        let partly = structure.partly_seen().join(", ");
        if self.info.set(Arc::new(self.with_structure(&structure))).is_ok() && !partly.is_empty() {
            let method = format!("{}.{}", self.service, self.name);
            match usage {
                Usage::Served => tracing::warn!(
                    %method,
                    unseen = partly,
                    "a part of the types of a method could not be seen that is served by this node. If their fields change, raise \
                     the service's version: old and new programs cannot notice the change by themselves"
                ),
                // The client logs it when it makes its first call.
                Usage::WaitedFor => {}
                Usage::Called => tracing::warn!(
                    %method,
                    unseen = partly,
                    "a part of the types of a method could not be seen that is called by this program. If their fields change, raise \
                     the service's version: old and new programs cannot notice the change by themselves"
                ),
            }
        }
        self.info()
    }

    /// The method at run time; its types are unknown if none were recorded, which only happens to methods that no macro
    /// made.
    pub(crate) fn info(&self) -> &Arc<MethodInfo> {
        self.info.get_or_init(|| Arc::new(self.with_structure(&Structure::unknown())))
    }

    fn with_structure(&self, structure: &Structure) -> MethodInfo {
        MethodInfo::new(
            MethodName::new(self.service, self.name),
            self.version,
            self.signature,
            (self.kind, self.idempotent, self.streams),
            structure.hash(),
            structure.definitions(),
        )
    }
}

impl MethodInfo {
    pub(crate) fn new(
        name: MethodName,
        version: u32,
        signature: &str,
        (kind, idempotent, streams): (MethodKind, bool, StreamShape),
        types: u64,
        definitions: &[Definition],
    ) -> Self {
        let id = MethodId(method_id(name.service(), version, name.method(), signature, types));
        Self {
            id,
            name,
            version,
            signature: signature.into(),
            kind,
            idempotent,
            streams,
            types,
            definitions: definitions.into(),
        }
    }

    /// What peers are told of it.
    pub(crate) fn offer(&self) -> MethodOffer {
        MethodOffer {
            id: self.id.0,
            service: self.name.service().to_owned(),
            version: self.version,
            name: self.name.method().to_owned(),
            signature: self.signature.to_string(),
            types: self.types,
            structure: self.definitions.to_vec(),
            kind: self.kind,
            idempotent: self.idempotent,
            streams: self.streams,
        }
    }

    pub(crate) fn id(&self) -> MethodId {
        self.id
    }

    pub(crate) fn name(&self) -> &MethodName {
        &self.name
    }

    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    pub(crate) fn signature(&self) -> &str {
        &self.signature
    }

    /// How nodes run it, as the trait of this program says. Not part of the id: a node says it of its own.
    pub(crate) fn kind(&self) -> MethodKind {
        self.kind
    }

    /// Whether a call may be run again after a node was lost with it. Not part of the id: only callers decide by it.
    pub(crate) fn is_idempotent(&self) -> bool {
        self.idempotent
    }

    /// Which streams its calls have. Part of the id, because it is part of the signature.
    pub(crate) fn streams(&self) -> StreamShape {
        self.streams
    }

    /// The structure of its types, as text.
    pub(crate) fn definitions(&self) -> &[Definition] {
        &self.definitions
    }
}

/// What a program does with a method; decides how it words a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    Served,
    Called,
    /// A caller waits for nodes that serve it, before it makes calls.
    WaitedFor,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_and_idempotence_are_not_part_of_a_methods_id() {
        let id = |idempotent| Method::new("A", 1, "f", "fn() -> ()", idempotent).info().id();
        assert_eq!(id(true), id(false));
        assert_eq!(Method::new_async("A", 1, "f", "fn() -> ()", false).info().id(), id(false));
    }

    #[test]
    fn a_method_makes_its_info_once() {
        let method = Method::new("A", 1, "f", "fn() -> ()", false);
        assert!(Arc::ptr_eq(method.info(), method.recorded(Usage::Called, Structure::unknown)));
    }
}
