//! Which methods a generated client calls, for programs that wait for nodes before they make calls.

use std::{marker::PhantomData, sync::Arc};

use serde::de::DeserializeOwned;

use super::{
    method::{Method, MethodInfo, Usage},
    structure::{RecordArguments, Structure},
};

/// A client that `#[service]` generated.
pub trait ServiceClient {
    /// The methods that it calls.
    fn methods() -> ClientMethods;
}

/// The methods of a client, each with the structure of its types.
#[derive(Debug, Default)]
pub struct ClientMethods(Vec<Arc<MethodInfo>>);

impl ClientMethods {
    /// No methods yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a method whose types have this structure.
    pub fn add(&mut self, method: &'static Method, structure: FindStructure) {
        self.0.push(Arc::clone(method.recorded(Usage::WaitedFor, structure.0.unwrap_or(Structure::unknown))));
    }

    pub(crate) fn into_vec(self) -> Vec<Arc<MethodInfo>> {
        self.0
    }
}

/// Finds the structure of a method's types.
///
/// `None` for types that are not what serde needs. Such a client does not compile, because its methods need them, and rustc
/// says so there. Without this the list of methods would need them too, and each such error would come twice.
#[derive(Clone, Copy, Debug)]
pub struct FindStructure(Option<fn() -> Structure>);

/// The types of a method that has no error of its own.
#[derive(Debug)]
pub struct PlainTypes<A, T>(PhantomData<(A, T)>);

/// The types of a method that returns a `Result`.
#[derive(Debug)]
pub struct FallibleTypes<A, T, E>(PhantomData<(A, T, E)>);

// Of an inherent constant and one of a trait, rustc takes the inherent one if its bounds hold.
impl<A: RecordArguments, T: DeserializeOwned + 'static> PlainTypes<A, T> {
    /// The structure of these types.
    pub const STRUCTURE: FindStructure = FindStructure(Some(Structure::plain::<A, T>));
}

impl<A: RecordArguments, T: DeserializeOwned + 'static, E: DeserializeOwned + 'static> FallibleTypes<A, T, E> {
    /// The structure of these types.
    pub const STRUCTURE: FindStructure = FindStructure(Some(Structure::fallible::<A, T, E>));
}

/// Types that may not be what serde needs.
pub trait AnyTypes {
    /// No structure.
    const STRUCTURE: FindStructure = FindStructure(None);
}

impl<A, T> AnyTypes for PlainTypes<A, T> {}
impl<A, T, E> AnyTypes for FallibleTypes<A, T, E> {}
