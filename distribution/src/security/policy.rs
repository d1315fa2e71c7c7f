//! What each role may do, and which calls a caller may make. Only this file decides it, and everything that it does not allow
//! is denied.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    principal::Principal,
    rights::{CallerRights, DeniedOption},
};
use crate::id::MethodName;

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
    /// To look at a cluster through the admin service, and to change nothing. Not to make other calls.
    Viewers,
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
    /// List nodes and calls, and read what has happened.
    View,
    /// Cancel the calls of others, drain nodes.
    Administer,
}

impl Access {
    #[cfg(feature = "tls")]
    pub(crate) const ALL: [Self; 4] = [Self::Nodes, Self::Callers, Self::Admins, Self::Viewers];

    /// Whether a peer in this role may do this.
    pub(crate) fn may(self, operation: Operation) -> bool {
        match (self, operation) {
            (Self::Nodes, Operation::Register | Operation::CallNested)
            | (Self::Callers, Operation::Call)
            | (Self::Admins, Operation::View | Operation::Administer)
            | (Self::Viewers, Operation::View) => true,
            (Self::Nodes, Operation::Call | Operation::View | Operation::Administer)
            | (Self::Callers, Operation::Register | Operation::CallNested | Operation::View | Operation::Administer)
            | (Self::Admins, Operation::Register | Operation::CallNested | Operation::Call)
            | (Self::Viewers, Operation::Register | Operation::CallNested | Operation::Call | Operation::Administer) => {
                false
            }
        }
    }

    /// Whether a peer that comes in this role may do this at a master that has no security. A peer may come in
    /// any role there, so all peers may administer if only programs on the same machine can connect, and none otherwise.
    pub(crate) fn may_unproven(self, operation: Operation, is_on_loopback: bool) -> bool {
        match operation {
            // One that comes as a viewer asks for no more.
            Operation::Administer => is_on_loopback && self != Self::Viewers,
            Operation::View => is_on_loopback,
            Operation::Register | Operation::CallNested | Operation::Call => self.may(operation),
        }
    }

    /// As it stands in a token.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nodes => "node",
            Self::Callers => "caller",
            Self::Admins => "admin",
            Self::Viewers => "viewer",
        }
    }
}

/// A call that a caller wants to make, as the master knows it: the method by the id that the master has computed from its
/// name, whatever a peer says of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WantedCall<'a> {
    pub(crate) method: &'a MethodName,
    /// Whether it names the node where it has to run.
    pub(crate) on: bool,
    pub(crate) label: bool,
    pub(crate) broadcast: bool,
    /// Its own timeout, or else that of the master.
    pub(crate) timeout: Option<Duration>,
    /// Bytes of its arguments.
    pub(crate) size: usize,
}

/// The most services and methods that a refusal names.
const MOST_NAMED: usize = 8;

impl CallerRights {
    /// Checks whether a caller that came by this credential may make a call. Limits that count what is under way are met
    /// elsewhere.
    ///
    /// # Errors
    ///
    /// A sentence that says what is not allowed, and what to do.
    pub(crate) fn check_call(&self, principal: &Principal, call: &WantedCall<'_>) -> Result<(), String> {
        let WantedCall { method, on, label, broadcast, timeout, size } = *call;
        let allows = |name: &str| self.services.contains(name);
        if !self.services.is_empty() && !allows(method.service()) && !allows(&method.to_string()) {
            let mut named: Vec<_> = self.services.iter().take(MOST_NAMED).map(String::as_str).collect();
            named.extend((self.services.len() > MOST_NAMED).then_some("…"));
            return Err(format!(
                "{principal} may not call it, and may call {}; use a credential that is for it",
                named.join(", ")
            ));
        }
        let denies = |option| self.denied.contains(&option);
        if broadcast && (denies(DeniedOption::Broadcast) || denies(DeniedOption::On)) {
            return Err(format!("{principal} may not use `.broadcast()`; make one call, or use a credential that may"));
        }
        if on && denies(DeniedOption::On) {
            return Err(format!("{principal} may not use `.on(..)`; leave it out, or use a credential that may"));
        }
        if label && denies(DeniedOption::Label) {
            return Err(format!("{principal} may not use `.label(..)`; leave it out, or use a credential that may"));
        }
        match (self.max_timeout, timeout) {
            (Some(most), Some(timeout)) if timeout > most => {
                return Err(format!(
                    "its timeout is {timeout:?}, and those of {principal} may be {most:?} at most; set `.timeout(..)` to that or \
                     less"
                ));
            }
            (Some(most), None) => {
                return Err(format!(
                    "it has no timeout, and calls of {principal} need one of {most:?} at most; set `.timeout(..)` to that or less"
                ));
            }
            _ => {}
        }
        match self.max_bytes {
            Some(most) if size > most => Err(format!(
                "its arguments have {size} bytes, and all calls of {principal} together may have {most}; send less in one call"
            )),
            _ => Ok(()),
        }
    }
}

/// Roles in a sentence: `callers or admins`.
#[cfg(feature = "tls")]
pub(crate) fn in_words(roles: &[Access]) -> String {
    roles.iter().map(|role| format!("{role}s")).collect::<Vec<_>>().join(" or ")
}

/// Prints `node`, `caller`, `admin` or `viewer`, as it stands in a token.
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
        use Operation::{Administer, Call, CallNested, Register, View};
        let allowed =
            |access: Access| [Register, CallNested, Call, View, Administer].map(|operation| access.may(operation));
        assert_eq!(allowed(Access::Nodes), [true, true, false, false, false]);
        assert_eq!(allowed(Access::Callers), [false, false, true, false, false]);
        assert_eq!(allowed(Access::Admins), [false, false, false, true, true]);
        assert_eq!(allowed(Access::Viewers), [false, false, false, true, false]);
    }

    fn wanted(method: &MethodName) -> WantedCall<'_> {
        WantedCall { method, on: false, label: false, broadcast: false, timeout: None, size: 0 }
    }

    #[test]
    fn a_caller_may_make_the_calls_that_its_rights_name_and_no_others() {
        let (sum, add, sub) =
            (MethodName::new("Arith", "sum"), MethodName::new("Probe", "add"), MethodName::new("Probe", "sub"));
        let may = |rights: &CallerRights| {
            [&sum, &add, &sub].map(|method| rights.check_call(&Principal::open(), &wanted(method)).is_ok())
        };
        assert_eq!(may(&CallerRights::new()), [true, true, true]);
        assert_eq!(may(&CallerRights::new().service("Probe")), [false, true, true]);
        assert_eq!(may(&CallerRights::new().method("Probe", "add")), [false, true, false]);
        assert_eq!(may(&CallerRights::new().service("Arith").method("Probe", "sub")), [true, false, true]);
        assert_eq!(may(&CallerRights::new().service("Prob").method("Probe", "ad")), [false, false, false]);
    }

    #[test]
    fn each_option_is_a_right_and_a_broadcast_needs_that_to_choose_nodes_too() {
        let method = MethodName::new("Arith", "sum");
        let call = wanted(&method);
        let with = [
            call,
            WantedCall { on: true, ..call },
            WantedCall { label: true, ..call },
            WantedCall { on: true, broadcast: true, ..call },
        ];
        let may = |rights: CallerRights| with.map(|call| rights.check_call(&Principal::open(), &call).is_ok());
        assert_eq!(may(CallerRights::new()), [true; 4]);
        assert_eq!(may(CallerRights::new().deny_on()), [true, false, true, false]);
        assert_eq!(may(CallerRights::new().deny_label()), [true, true, false, true]);
        assert_eq!(may(CallerRights::new().deny_broadcast()), [true, true, true, false]);
    }

    #[test]
    fn a_timeout_that_is_too_long_or_missing_is_refused_and_so_are_too_many_bytes() {
        let method = MethodName::new("Arith", "sum");
        let rights = CallerRights::new().max_timeout(Duration::from_secs(2)).max_bytes(10);
        let check =
            |timeout, size| rights.check_call(&Principal::open(), &WantedCall { timeout, size, ..wanted(&method) });
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(check(seconds(2), 10), Ok(()));
        for (timeout, size, part) in
            [(seconds(3), 0, "set `.timeout(..)`"), (None, 0, "no timeout"), (seconds(1), 11, "11 bytes")]
        {
            let reason = check(timeout, size).expect_err("is more than it may");
            assert!(reason.contains(part), "{reason}");
        }
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
