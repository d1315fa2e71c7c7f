//! Checks the settings of a node: a value that cannot work is an error that names the setting.

use std::time::Duration;

use super::state::Timeouts;
use crate::{
    config::{TimeRange, check_time},
    error::Error,
};

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
        let check = |name, time: Option<Duration>, range| time.map(|time| check_time(name, time, range)).transpose();
        let connect = check("connect_timeout", self.connect_timeout, TimeRange::AboveZero)?;
        let master = check("master_timeout", self.master_timeout, TimeRange::AboveZero)?;
        let drain = check("drain_timeout", self.drain_timeout, TimeRange::FromZero)?;
        if let (Some(time), false) = (master, self.end_with_master) {
            let reason = "it has no effect without `end_with_master`; set both or neither";
            return Err(Error::setting("master_timeout", format_args!("{time:?}"), reason));
        }
        Ok(Timeouts {
            connect,
            master: self.end_with_master.then(|| master.unwrap_or(MASTER_TIMEOUT)),
            drain: drain.unwrap_or(DRAIN_TIMEOUT),
        })
    }
}

pub(super) fn check_max_waiting(handlers: usize) -> Result<u32, Error> {
    match u32::try_from(handlers) {
        Ok(fits) if fits <= 16_384 => Ok(fits),
        _ => Err(Error::setting("max_waiting_handlers", handlers, "it must be from 0 to 16,384")),
    }
}

pub(super) fn check_async_limit(calls: usize) -> Result<u32, Error> {
    match u32::try_from(calls) {
        Ok(fits @ 1..) => Ok(fits),
        _ => Err(Error::setting("async_limit", calls, "it must be from 1 to 4,294,967,295")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LONGEST_TIME;

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
