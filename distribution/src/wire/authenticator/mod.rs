//! What a connection has to pass before its peer may send anything else: TLS, the prefaces, and the proof of a secret or of a
//! name.

#[cfg(feature = "tls")]
mod files;
mod master;
mod peer;

pub(crate) use self::{
    master::{AuthenticatedPeer, MasterAuthenticator, RefusedPeer},
    peer::PeerAuthenticator,
};
