//! The defaults of a master's settings, and the checks that their values pass.
//!
//! A value that cannot work is an error that names the setting. None is replaced by another value in silence.

use std::time::Duration;

use crate::{
    config::{
        Limits, TimeRange, check_incoming_bytes, check_max_depth, check_max_message_size, check_slots, check_time,
    },
    error::Error,
    text::{LONGEST_LABEL, in_one_line, is_short},
};

pub(super) const HEARTBEAT: Duration = Duration::from_secs(1);

pub(super) const NO_NODE_TIMEOUT: Duration = Duration::from_secs(5);

/// Each waiting call costs some hundred bytes and its arguments.
pub(super) const MAX_QUEUED_CALLS: usize = 65_536;

pub(super) const MAX_QUEUED_BYTES: usize = 1024 * 1024 * 1024;

/// This many callers together fill the queue, if no limit is set for each.
pub(super) const CALLERS_AT_THE_LIMIT: usize = 4;

/// Half as many again as the master is measured with.
pub(super) const MAX_NODES: usize = 16_384;

/// More than the largest machines have threads.
pub(super) const MAX_SLOTS_PER_NODE: u32 = 1024;

pub(super) const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// The values that are checked when a master starts.
#[derive(Clone, Debug)]
pub(super) struct Values {
    pub(super) heartbeat: Duration,
    pub(super) no_node_timeout: Duration,
    pub(super) max_message_size: usize,
    pub(super) max_in_flight_bytes: Option<usize>,
    pub(super) limits: Limits,
    pub(super) shutdown_timeout: Duration,
    pub(super) max_slots_per_node: u32,
    pub(super) max_nodes: usize,
    pub(super) max_nodes_per_credential: Option<usize>,
}

impl Default for Values {
    fn default() -> Self {
        Self {
            heartbeat: HEARTBEAT,
            no_node_timeout: NO_NODE_TIMEOUT,
            max_message_size: crate::config::MAX_MESSAGE_SIZE,
            max_in_flight_bytes: None,
            limits: Limits::default(),
            shutdown_timeout: SHUTDOWN_TIMEOUT,
            max_slots_per_node: MAX_SLOTS_PER_NODE,
            max_nodes: MAX_NODES,
            max_nodes_per_credential: None,
        }
    }
}

impl Values {
    /// Checks all values, and fills in those that depend on others.
    pub(super) fn check(mut self) -> Result<Self, Error> {
        let Limits { handshake_timeout, peer_timeouts, .. } = self.limits;
        for (name, time) in [
            ("heartbeat", self.heartbeat),
            ("handshake_timeout", handshake_timeout),
            ("read_timeout", peer_timeouts.read_timeout),
            ("write_timeout", peer_timeouts.write_timeout),
        ] {
            check_time(name, time, TimeRange::FromTenMillis)?;
        }
        if let Some(time) = self.limits.default_timeout {
            check_time("default_timeout", time, TimeRange::FromOneMilli)?;
        }
        for (name, time) in
            [("no_node_timeout", &mut self.no_node_timeout), ("shutdown_timeout", &mut self.shutdown_timeout)]
        {
            *time = check_time(name, *time, TimeRange::FromZeroOrNoLimit)?;
        }
        for (name, time) in
            [("reconnect_grace", self.limits.reconnect_grace), ("resume_timeout", self.limits.resume_timeout)]
        {
            check_time(name, time, TimeRange::FromZero)?;
        }
        check_max_message_size(self.max_message_size)?;
        self.limits.incoming_bytes = check_incoming_bytes(self.max_in_flight_bytes, self.max_message_size)?;
        check_max_depth(self.limits.max_depth)?;
        for (name, count) in [
            ("max_nodes", self.max_nodes),
            ("max_nodes_per_credential", self.max_nodes_per_credential.unwrap_or(self.max_nodes)),
            ("max_handshakes", self.limits.max_handshakes),
            ("max_handshakes_per_address", self.limits.max_handshakes_per_address),
            ("max_handshakes_per_second", self.limits.max_handshakes_per_second as usize),
        ] {
            if count == 0 {
                return Err(Error::setting(name, count, "no node could register; it must be at least 1"));
            }
        }
        check_slots("max_slots_per_node", self.max_slots_per_node.try_into().unwrap_or(usize::MAX))?;
        Ok(self)
    }
}

/// Checks a label that is restricted: no node can have one that breaks the rules of labels, so the restriction would have
/// no effect.
pub(super) fn check_restricted_label(key: &str, value: &str) -> Result<(), Error> {
    if [key, value].iter().all(|text| is_short(text, LONGEST_LABEL)) {
        return Ok(());
    }
    let reason = "the key and the value of a label must each have 1 to 128 bytes, no spaces at their ends, and no control \
                  or invisible characters";
    let [key, value] = [key, value].map(|text| in_one_line(text, LONGEST_LABEL));
    Err(Error::setting("restrict_label", format_args!("`{key}={value}`"), reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Master;

    const MS: Duration = Duration::from_millis(1);

    /// The setting and the value that the error names.
    async fn refused(builder: crate::MasterBuilder) -> (&'static str, String) {
        match builder.bind("127.0.0.1:0").await {
            Err(Error::Setting { name, value, .. }) => (name, value),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_value_that_cannot_be_is_an_error_that_names_the_setting() {
        let year = Duration::from_secs(365 * 24 * 60 * 60);
        let new = Master::builder;
        for time in [Duration::ZERO, 9 * MS, year + MS, Duration::MAX] {
            let value = format!("{time:?}");
            assert_eq!(refused(new().heartbeat(time)).await, ("heartbeat", value.clone()));
            assert_eq!(refused(new().handshake_timeout(time)).await, ("handshake_timeout", value.clone()));
            assert_eq!(refused(new().read_timeout(time)).await, ("read_timeout", value.clone()));
            assert_eq!(refused(new().write_timeout(time)).await, ("write_timeout", value));
        }
        for time in [year + MS, Duration::MAX] {
            let value = format!("{time:?}");
            assert_eq!(refused(new().reconnect_grace(time)).await, ("reconnect_grace", value.clone()));
            assert_eq!(refused(new().resume_timeout(time)).await, ("resume_timeout", value));
        }
        for time in [Duration::ZERO, MS / 2, year + MS, Duration::MAX] {
            assert_eq!(refused(new().default_timeout(time)).await, ("default_timeout", format!("{time:?}")));
        }
        for time in [year + MS, Duration::MAX - MS] {
            let value = format!("{time:?}");
            assert_eq!(refused(new().no_node_timeout(time)).await, ("no_node_timeout", value.clone()));
            assert_eq!(refused(new().shutdown_timeout(time)).await, ("shutdown_timeout", value));
        }
        let zero = || "0".to_owned();
        assert_eq!(refused(new().max_nodes(0)).await, ("max_nodes", zero()));
        assert_eq!(refused(new().max_nodes_per_credential(0)).await, ("max_nodes_per_credential", zero()));
        assert_eq!(refused(new().max_handshakes(0)).await, ("max_handshakes", zero()));
        assert_eq!(refused(new().max_handshakes_per_address(0)).await, ("max_handshakes_per_address", zero()));
        assert_eq!(refused(new().max_handshakes_per_second(0)).await, ("max_handshakes_per_second", zero()));
        for slots in [0, 65_537] {
            assert_eq!(refused(new().max_slots_per_node(slots)).await, ("max_slots_per_node", slots.to_string()));
        }
        for levels in [0, 513] {
            assert_eq!(refused(new().max_depth(levels)).await, ("max_depth", levels.to_string()));
        }
        assert_eq!(refused(new().max_message_size(16_383)).await, ("max_message_size", "16383".to_owned()));
        assert_eq!(refused(new().max_in_flight_bytes(1 << 20)).await, ("max_in_flight_bytes", "1048576".to_owned()));
    }

    #[tokio::test]
    async fn the_longest_and_shortest_values_and_no_limit_where_it_is_documented_are_accepted() {
        let year = Duration::from_secs(365 * 24 * 60 * 60);
        for wait in [Duration::ZERO, year, Duration::MAX] {
            for (limit, timeout, count) in [(10 * MS, MS, 0), (year, year, usize::MAX)] {
                let builder = Master::builder()
                    .heartbeat(limit)
                    .handshake_timeout(limit)
                    .read_timeout(limit)
                    .write_timeout(limit)
                    .default_timeout(timeout)
                    .reconnect_grace(wait.min(year))
                    .resume_timeout(wait.min(year))
                    .no_node_timeout(wait)
                    .shutdown_timeout(wait)
                    .max_queued_calls(count)
                    .max_queued_bytes(count)
                    .max_queued_calls_per_caller(count)
                    .max_queued_bytes_per_caller(count)
                    .max_handshake_failures(u32::try_from(count).unwrap_or(u32::MAX))
                    .max_nodes(count.max(1))
                    .max_nodes_per_credential(count.max(1))
                    .max_handshakes(count.max(1))
                    .max_handshakes_per_address(count.max(1))
                    .max_handshakes_per_second(u32::try_from(count.max(1)).unwrap_or(u32::MAX))
                    .max_in_flight_bytes(count.max(1 << 30));
                let master = builder.bind("127.0.0.1:0").await.expect("these values are valid");
                master.shutdown().await;
            }
        }
    }
}
