//! Who administers a master, and the audit log of what they do.

use std::{fmt::Display, net::SocketAddr};

use crate::{
    administration::ON_BEHALF_OF,
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
    /// One of these, who does something for somebody else.
    OnBehalf {
        by: Box<Self>,
        /// Who, as the administrator says.
        of: String,
    },
}

impl Administrator {
    /// The same, on behalf of whom the metadata of a call names.
    pub(super) fn with_metadata(self, metadata: &[(String, String)]) -> Self {
        match metadata.iter().find(|(key, _)| key == ON_BEHALF_OF) {
            Some((_, of)) => Self::OnBehalf { by: Box::new(self), of: of.clone() },
            None => self,
        }
    }

    /// As the error of a cancelled call names it.
    pub(super) fn by(&self) -> String {
        match self {
            Self::AtMaster => "an administrator at the master".to_owned(),
            Self::Elsewhere { principal, caller, .. } => match principal.kind {
                PrincipalKind::Open => format!("an administrator (caller {caller})"),
                PrincipalKind::Token | PrincipalKind::Certificate => format!("an administrator with {principal}"),
            },
            // Callers are not told who sits before a page, and where.
            Self::OnBehalf { by, .. } => by.by(),
        }
    }

    /// Writes an action into the audit log: the tracing target `distribution::audit`.
    pub(super) fn audit<T>(
        &self,
        action: &'static str,
        target: impl Display,
        result: Result<T, AdminError>,
    ) -> Result<T, AdminError> {
        let (asks, on_behalf_of) = match self {
            Self::OnBehalf { by, of } => (&**by, Some(of)),
            asks => (asks, None),
        };
        let (principal, caller, address) = match asks {
            Self::AtMaster | Self::OnBehalf { .. } => ("the master's own process".to_owned(), None, None),
            Self::Elsewhere { principal, caller, addr } => (principal.to_string(), Some(caller), Some(addr)),
        };
        // In quotes: it is what a caller says.
        let on_behalf_of = on_behalf_of.map(|of| of.to_string());
        let (caller, address) = (caller.map(tracing::field::display), address.map(tracing::field::display));
        match &result {
            Ok(_) => {
                tracing::info!(target: "distribution::audit", principal, caller, address, on_behalf_of, action, on = %target, "an administrator did this");
            }
            Err(error) => {
                tracing::warn!(target: "distribution::audit", principal, caller, address, on_behalf_of, action, on = %target, reason = %error, "an administrator could not do this");
            }
        }
        result
    }
}
