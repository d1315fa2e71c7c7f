//! Which call an error is about: its number and method.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{CallId, MethodName};

/// Which call an error is about: `call 91c2a7-12 of Arith.sum`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CallIdentity {
    pub(super) id: Option<CallId>,
    method: MethodName,
}

impl CallIdentity {
    pub(crate) fn new(id: Option<CallId>, method: MethodName) -> Self {
        Self { id, method }
    }

    /// The call's number at its master; `None` if it was refused before it was submitted.
    pub fn id(&self) -> Option<CallId> {
        self.id
    }

    /// The method that was called.
    pub fn method(&self) -> &MethodName {
        &self.method
    }
}

impl From<&MethodName> for CallIdentity {
    /// A call without a number, until it is known.
    fn from(method: &MethodName) -> Self {
        Self { id: None, method: method.clone() }
    }
}

impl fmt::Display for CallIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id {
            Some(id) => write!(f, "call {id} of {}", self.method),
            None => write!(f, "the call of {}", self.method),
        }
    }
}
