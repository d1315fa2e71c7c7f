//! What ends a session whose credential is revoked.

use std::sync::Arc;

#[cfg(feature = "tls")]
use crate::master::revocation::CredentialWatch;
use crate::{
    master::{caller_table::ConnectedCaller, shared::Shared},
    wire::credential::Credential,
};

/// Ends the session once the credential of its last connection is revoked, also while there is no connection.
#[derive(Default)]
pub(super) struct CredentialGuard {
    #[cfg(feature = "tls")]
    watch: Option<CredentialWatch>,
}

impl CredentialGuard {
    /// The caller has come again, with this credential.
    pub(super) fn watch(&mut self, shared: &Arc<Shared>, caller: &ConnectedCaller, credential: Credential) {
        #[cfg(feature = "tls")]
        {
            self.watch = Some(CredentialWatch::of_caller(shared, caller.id, credential));
        }
        #[cfg(not(feature = "tls"))]
        let _ = (self, shared, caller, credential);
    }
}
