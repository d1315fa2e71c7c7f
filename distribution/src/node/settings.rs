//! Checks the settings of a node: a value that cannot work is an error that names the setting.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use super::state::Timeouts;
use crate::{config::LONGEST_TIME, error::Error, text::is_shown};

/// The largest `slots`.
pub(super) const MAX_SLOTS: usize = 65_536;

/// The default of `drain_timeout`.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// The default of `master_timeout`: a master that is started again after a crash or an upgrade is back by then.
const MASTER_TIMEOUT: Duration = Duration::from_secs(30);

/// The timeouts that a builder was given.
#[derive(Clone, Debug, Default)]
pub(super) struct TimeoutSettings {
    pub(super) connect_timeout: Option<Duration>,
    pub(super) drain_timeout: Option<Duration>,
    pub(super) end_with_master: bool,
    pub(super) master_timeout: Option<Duration>,
}

impl TimeoutSettings {
    /// The timeouts, if each can work.
    pub(super) fn check(&self) -> Result<Timeouts, Error> {
        let above_zero = |name, time: Option<Duration>| match time {
            Some(Duration::ZERO) => {
                Err(Error::setting(name, "zero", "it must be above zero; leave it out for the default"))
            }
            time => at_most_a_year(name, time),
        };
        let connect = above_zero("connect_timeout", self.connect_timeout)?;
        let master = above_zero("master_timeout", self.master_timeout)?;
        if let (Some(time), false) = (master, self.end_with_master) {
            let reason = "it has no effect without `end_with_master`; set both or neither";
            return Err(Error::setting("master_timeout", format_args!("{time:?}"), reason));
        }
        Ok(Timeouts {
            connect,
            master: self.end_with_master.then(|| master.unwrap_or(MASTER_TIMEOUT)),
            drain: at_most_a_year("drain_timeout", self.drain_timeout)?.unwrap_or(DRAIN_TIMEOUT),
        })
    }
}

fn at_most_a_year(name: &'static str, time: Option<Duration>) -> Result<Option<Duration>, Error> {
    match time {
        Some(long) if long > LONGEST_TIME => {
            Err(Error::setting(name, format_args!("{long:?}"), "it must be a year at most"))
        }
        time => Ok(time),
    }
}

pub(super) fn check_slots(slots: usize) -> Result<u32, Error> {
    match u32::try_from(slots) {
        Ok(fits) if (1..=MAX_SLOTS).contains(&slots) => Ok(fits),
        _ => Err(Error::setting("slots", slots, "it must lie between 1 and 65,536")),
    }
}

pub(super) fn check_async_limit(calls: usize) -> Result<u32, Error> {
    match u32::try_from(calls) {
        Ok(fits @ 1..) => Ok(fits),
        _ => Err(Error::setting("async_limit", calls, "it must lie between 1 and 4,294,967,295")),
    }
}

/// `host-process`, and a count for all but the first node of a process.
pub(super) fn default_name() -> String {
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    let host: String =
        gethostname::gethostname().to_string_lossy().chars().filter(|c| is_shown(*c) && *c != ' ').take(64).collect();
    let host = if host.is_empty() { "node" } else { &host };
    let process = std::process::id();
    match STARTED.fetch_add(1, Ordering::Relaxed) {
        0 => format!("{host}-{process}"),
        nth => format!("{host}-{process}-{nth}"),
    }
}

/// Refuses what is not an address: no connection to it can ever succeed, so the node must not wait for a master there.
pub(super) fn check_master(addr: &str) -> Result<(), Error> {
    let is_host = |host: &str| match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        // A zone may follow, as in `fe80::1%2`.
        Some(host) => host.split('%').next().is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok()),
        None => !host.is_empty() && !host.contains([':', '/', '@', '[', ']']) && !host.contains(char::is_whitespace),
    };
    let fits = |(host, port): (&str, &str)| is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0);
    if addr.rsplit_once(':').is_some_and(fits) {
        return Ok(());
    }
    let reason = "a node dials a `host:port`, such as 10.0.0.1:3000, [fd00::1]:3000 or master.example:3000";
    Err(Error::setting("master", format_args!("{addr:?}"), reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_not_host_and_port_is_refused() {
        for addr in ["10.0.0.1:3000", "localhost:1", "[::1]:65535", "[fe80::1%2]:3000", "a-b.example:80"] {
            assert!(check_master(addr).is_ok(), "{addr}");
        }
        let wrong =
            ["", ":", "hello", "127.0.0.1", "127.0.0.1:", ":3000", "127.0.0.1:99999", "127.0.0.1:0", "::1:3000"];
        for addr in wrong.into_iter().chain(["http://10.0.0.1:3000", "[::1:3000", "a b:3000", "10.0.0.1:3000/"]) {
            let error = check_master(addr).expect_err(addr).to_string();
            assert!(error.contains(&format!("{addr:?}")) && error.contains("`host:port`"), "{error}");
        }
    }

    #[test]
    fn a_node_waits_for_ever_unless_told_otherwise() {
        let Timeouts { connect, master, drain } = TimeoutSettings::default().check().expect("the defaults are valid");
        assert_eq!((connect, master, drain), (None, None, DRAIN_TIMEOUT));
        let batch = TimeoutSettings { end_with_master: true, ..TimeoutSettings::default() };
        assert_eq!(batch.check().expect("valid").master, Some(MASTER_TIMEOUT));
        let batch =
            TimeoutSettings { master_timeout: Some(LONGEST_TIME), drain_timeout: Some(Duration::ZERO), ..batch };
        let Timeouts { master, drain, .. } = batch.check().expect("valid");
        assert_eq!((master, drain), (Some(LONGEST_TIME), Duration::ZERO));
    }
}
