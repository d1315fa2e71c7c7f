//! What each role may do. Only this file decides it, and everything that it does not allow is denied.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The role of a peer, and of a [`Token`](crate::Token). A peer names its role when it connects, and its credential has to be
/// for the same role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Access {
    /// To register as a node, receive calls, and answer them.
    Nodes,
    /// To make calls through a [`Cluster`](crate::Cluster), and to cancel its own.
    Callers,
    /// To look at a cluster and change it through the admin service. Not to make other calls.
    Admins,
}

/// What a peer may want to do at a master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    /// Register as a node, receive calls with their arguments, and answer them.
    Register,
    /// Make calls of handlers that run on one's own node, as parts of the calls that these run.
    CallNested,
    /// Make calls, and cancel one's own.
    Call,
    /// List nodes and calls, cancel the calls of others, drain nodes.
    Administer,
}

impl Access {
    #[cfg(feature = "tls")]
    pub(crate) const ALL: [Self; 3] = [Self::Nodes, Self::Callers, Self::Admins];

    /// Whether a peer in this role may do this.
    pub(crate) fn may(self, operation: Operation) -> bool {
        match (self, operation) {
            (Self::Nodes, Operation::Register | Operation::CallNested)
            | (Self::Callers, Operation::Call)
            | (Self::Admins, Operation::Administer) => true,
            (Self::Nodes, Operation::Call | Operation::Administer)
            | (Self::Callers, Operation::Register | Operation::CallNested | Operation::Administer)
            | (Self::Admins, Operation::Register | Operation::CallNested | Operation::Call) => false,
        }
    }

    /// Whether a peer that comes in this role may do this at a master that has no security. A peer may come in
    /// any role there, so all peers may administer if only programs on the same machine can connect, and none otherwise.
    pub(crate) fn may_unproven(self, operation: Operation, is_on_loopback: bool) -> bool {
        match operation {
            Operation::Administer => is_on_loopback,
            Operation::Register | Operation::CallNested | Operation::Call => self.may(operation),
        }
    }

    /// As it stands in a token.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nodes => "node",
            Self::Callers => "caller",
            Self::Admins => "admin",
        }
    }
}

/// Roles in a sentence: `callers or admins`.
#[cfg(feature = "tls")]
pub(crate) fn in_words(roles: &[Access]) -> String {
    roles.iter().map(|role| format!("{role}s")).collect::<Vec<_>>().join(" or ")
}

/// Prints `node`, `caller` or `admin`, as it stands in a token.
impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_do_its_own_and_no_more() {
        use Operation::{Administer, Call, CallNested, Register};
        let allowed = |access: Access| [Register, CallNested, Call, Administer].map(|operation| access.may(operation));
        assert_eq!(allowed(Access::Nodes), [true, true, false, false]);
        assert_eq!(allowed(Access::Callers), [false, false, true, false]);
        assert_eq!(allowed(Access::Admins), [false, false, false, true]);
    }

    #[test]
    fn without_security_all_may_administer_on_loopback_and_nobody_beyond() {
        for access in [Access::Nodes, Access::Callers, Access::Admins] {
            assert!(access.may_unproven(Operation::Administer, true));
            assert!(!access.may_unproven(Operation::Administer, false));
            for operation in [Operation::Register, Operation::CallNested, Operation::Call] {
                for is_on_loopback in [false, true] {
                    assert_eq!(access.may_unproven(operation, is_on_loopback), access.may(operation));
                }
            }
        }
    }
}
