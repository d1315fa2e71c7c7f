//! Starts a master with the settings of its builder.

use std::{net::SocketAddr, sync::Arc};

use rand::RngExt;
use tokio::net::TcpListener;

use super::MasterBuilder;
#[cfg(feature = "tls")]
use crate::master::revocation;
use crate::{
    core::{SLICE, SLOW_START, Settings},
    error::Error,
    hash::key_of,
    master::{
        accept,
        handle::Master,
        history,
        registration_policy::RegistrationPolicy,
        settings::{CALLERS_AT_THE_LIMIT, Values, check_restricted_label},
        shared::Shared,
        tick,
    },
    wire::authenticator::MasterAuthenticator,
};

impl MasterBuilder {
    pub(super) fn check(&self) -> Result<Values, Error> {
        for (key, value, _) in &self.restricted_labels {
            check_restricted_label(key, value)?;
        }
        self.values.clone().check()
    }

    /// Not in the `async fn` above, because the body of one is compiled again in each program that awaits it, and the
    /// tasks that are started here are most of the master's code.
    pub(super) fn start(
        self,
        values: Values,
        authenticator: MasterAuthenticator,
        listener: Option<TcpListener>,
        local_addr: SocketAddr,
    ) -> Master {
        let Values {
            heartbeat,
            no_node_timeout,
            max_message_size,
            limits,
            shutdown_timeout,
            max_slots_per_node,
            max_nodes,
            max_nodes_per_credential,
            ..
        } = values;
        let mut rng = rand::rng();
        let placing = self.seed.map(|seed| key_of(&seed.to_le_bytes())).or_else(|| authenticator.placing());
        let settings = Settings {
            heartbeat,
            no_node_timeout,
            reconnect_grace: limits.reconnect_grace,
            max_queued_calls: self.max_queued_calls,
            max_queued_bytes: self.max_queued_bytes,
            max_queued_calls_per_caller: self
                .max_queued_calls_per_caller
                .unwrap_or(self.max_queued_calls.div_ceil(CALLERS_AT_THE_LIMIT))
                .min(self.max_queued_calls),
            max_queued_bytes_per_caller: self
                .max_queued_bytes_per_caller
                .unwrap_or(self.max_queued_bytes.div_ceil(CALLERS_AT_THE_LIMIT))
                .min(self.max_queued_bytes),
            max_nodes,
            max_nodes_per_credential: max_nodes_per_credential.unwrap_or(max_nodes),
            slow_start: SLOW_START,
            slice: SLICE,
            epoch: rng.random(),
            ring_key: placing.unwrap_or_else(|| rng.random()),
            seed: self.seed.unwrap_or_else(|| rng.random()),
        };
        let policy = RegistrationPolicy {
            bind_names: self.bind_names,
            restricted_labels: self.restricted_labels,
            max_slots: max_slots_per_node,
        };
        let shared =
            Shared::new(settings, max_message_size, limits, authenticator, policy, shutdown_timeout, local_addr);
        if let Some(listener) = listener {
            shared.track(accept::run(Arc::clone(&shared), listener));
        }
        shared.track(tick::run(Arc::clone(&shared)));
        shared.track(history::run(Arc::clone(&shared)));
        #[cfg(feature = "tls")]
        if shared.admission.authenticator.demands_proof() {
            shared.track(revocation::run(Arc::clone(&shared)));
        }
        Master::new(shared, local_addr, self.security)
    }
}
