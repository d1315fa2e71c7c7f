//! Which methods a generated client calls, for programs that wait for nodes before they make calls.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::{
    arguments::RecordArguments,
    method::{Method, MethodInfo, Usage},
    structure::Structure,
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

    /// Adds a method that has no error of its own.
    pub fn add<A, T>(&mut self, method: &'static Method)
    where
        A: RecordArguments,
        T: DeserializeOwned + 'static,
    {
        let info = method.recorded(Usage::WaitedFor, Structure::plain::<A, T>);
        self.0.push(Arc::clone(info));
    }

    /// Adds a method that returns a `Result`.
    pub fn add_fallible<A, T, E>(&mut self, method: &'static Method)
    where
        A: RecordArguments,
        T: DeserializeOwned + 'static,
        E: DeserializeOwned + 'static,
    {
        let info = method.recorded(Usage::WaitedFor, Structure::fallible::<A, T, E>);
        self.0.push(Arc::clone(info));
    }

    pub(crate) fn into_vec(self) -> Vec<Arc<MethodInfo>> {
        self.0
    }
}
