//! A service of every kind of method, in a crate that depends on `distribution` and `serde` alone.
#![deny(warnings, missing_docs)]

use serde::{Deserialize, Serialize};

/// An error of the user's own.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refused {
    /// Why.
    pub why: String,
}

/// All kinds.
#[distribution::service(name = "bare.Service", version = 3, idempotent)]
pub trait Service {
    /// Computes.
    fn compute(&self, number: u64) -> u64;
    /// Computes, and can fail.
    fn try_compute(&self, number: u64) -> Result<u64, Refused>;
    /// Waits.
    async fn wait(&self);
    /// Waits, and can fail.
    async fn try_wait(&self, text: String) -> Result<String, Refused>;
}

/// Makes a server and a client.
pub fn both(service: impl Service, caller: &impl distribution::Caller) -> (impl distribution::Service, ServiceClient) {
    (ServiceServer::new(service), ServiceClient::new(caller))
}
