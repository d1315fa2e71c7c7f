//! Who administers a master, and the audit log of what they do.

use std::{fmt::Display, net::SocketAddr};

use crate::{
    error::AdminError,
    security::{Principal, PrincipalKind},
};

/// Who asks. Named in the audit log, and to the callers whose calls are cancelled.
#[derive(Clone, Debug)]
pub(super) enum Administrator {
    /// The program in whose process the master is.
    AtMaster,
    /// A caller in another process.
    Elsewhere {
        principal: Principal,
        /// The caller's name.
        caller: String,
        addr: SocketAddr,
    },
}

impl Administrator {
    /// As the error of a cancelled call names it.
    pub(super) fn by(&self) -> String {
        match self {
            Self::AtMaster => "an administrator at the master".to_owned(),
            Self::Elsewhere { principal, caller, .. } => match principal.kind {
                PrincipalKind::Open => format!("an administrator (caller {caller})"),
                PrincipalKind::Token | PrincipalKind::Certificate => format!("an administrator with {principal}"),
            },
        }
    }

    /// Writes an action into the audit log: the tracing target `distribution::audit`.
    pub(super) fn audit<T>(
        &self,
        action: &'static str,
        target: impl Display,
        result: Result<T, AdminError>,
    ) -> Result<T, AdminError> {
        let (principal, caller, address) = match self {
            Self::AtMaster => ("the master's own process".to_owned(), None, None),
            Self::Elsewhere { principal, caller, addr } => (principal.to_string(), Some(caller), Some(addr)),
        };
        let (caller, address) = (caller.map(tracing::field::display), address.map(tracing::field::display));
        match &result {
            Ok(_) => {
                tracing::info!(target: "distribution::audit", principal, caller, address, action, on = %target, "an administrator did this");
            }
            Err(error) => {
                tracing::warn!(target: "distribution::audit", principal, caller, address, action, on = %target, reason = %error, "an administrator could not do this");
            }
        }
        result
    }
}
