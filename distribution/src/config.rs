//! Limits and defaults that master and node share, and the checks that settings pass.

use std::time::Duration;

use crate::error::Error;

/// The default limit of a message at both ends.
pub(crate) const MAX_MESSAGE_SIZE: usize = 1024 * 1024 * 1024;

/// With less, headers and error messages would not fit.
pub(crate) const SMALLEST_MESSAGE_LIMIT: usize = 16 * 1024;

/// The largest number of the length field of a frame; with 32-bit addresses, half of the address space.
pub(crate) const LARGEST_MESSAGE_LIMIT: usize =
    if usize::BITS > 32 { u32::MAX as usize } else { (u32::MAX / 2) as usize };

/// The default limit of memory for large messages that a master is reading: one of the largest by default.
pub(crate) const INCOMING_BYTES: usize = 1024 * 1024 * 1024;

/// The most slots that a node can have.
pub(crate) const MAX_SLOTS: u32 = 65_536;

/// The longest time that any timer is set for.
///
/// tarpc keeps deadlines in a timer queue that panics beyond about 2.18 years, so every deadline is
/// clamped to this on both sides, also one that a peer sends.
pub(crate) const LONGEST_TIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What a master allows its peers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections that have not registered yet, in all and from one address.
    pub(crate) max_handshakes: usize,
    pub(crate) max_handshakes_per_address: usize,
    /// How long a connection may take to register.
    pub(crate) handshake_timeout: Duration,
    /// How many TLS handshakes are begun in a second, over all addresses.
    pub(crate) max_handshakes_per_second: u32,
    /// How many connections from one address may fail to authenticate themselves before the next ones wait.
    pub(crate) max_handshake_failures: u32,
    pub(crate) peer_timeouts: PeerTimeouts,
    /// The memory for all large messages that are being read.
    pub(crate) incoming_bytes: usize,
    /// How deeply a value may be nested.
    pub(crate) max_depth: u16,
    /// The timeout of calls without one of their own.
    pub(crate) default_timeout: Option<Duration>,
    /// How long the master waits for a node with calls whose connection has broken.
    pub(crate) reconnect_grace: Duration,
    /// How long it waits for a caller whose connection has broken.
    pub(crate) resume_timeout: Duration,
    /// Whether callers in other processes are told the addresses of nodes.
    pub(crate) expose_node_addresses: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_handshakes: 256,
            max_handshakes_per_address: 32,
            handshake_timeout: Duration::from_secs(5),
            max_handshakes_per_second: 1_000,
            max_handshake_failures: 10,
            peer_timeouts: PeerTimeouts::default(),
            incoming_bytes: INCOMING_BYTES,
            max_depth: MAX_DEPTH,
            default_timeout: None,
            reconnect_grace: Duration::from_secs(2),
            resume_timeout: Duration::from_secs(30),
            expose_node_addresses: false,
        }
    }
}

/// How long a registered peer may delay a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerTimeouts {
    /// For a frame that has begun to be complete, or to bring enough bytes for its time to begin again.
    pub(crate) read_timeout: Duration,
    /// For the peer to read some of what is written to it.
    pub(crate) write_timeout: Duration,
}

impl Default for PeerTimeouts {
    fn default() -> Self {
        Self { read_timeout: Duration::from_secs(30), write_timeout: Duration::from_secs(10) }
    }
}

/// The default limit of a value's levels of sequences, maps, structs, enums and options; serde_json has the same.
pub(crate) const MAX_DEPTH: u16 = 128;

/// The largest limit that can be set: each level takes stack while a value is encoded or decoded, and threads have 2 MiB of it.
pub(crate) const LARGEST_MAX_DEPTH: u16 = 512;

/// The limits of one value.
#[derive(Clone, Copy, Debug)]
pub struct ValueLimits {
    pub(crate) bytes: usize,
    /// How deeply it may be nested.
    pub(crate) depth: u16,
}

impl ValueLimits {
    /// For a value of this crate, which is not nested deeply.
    pub(crate) fn of_bytes(bytes: usize) -> Self {
        Self { bytes, depth: MAX_DEPTH }
    }
}

/// Which times a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeRange {
    /// Below 10 ms, timers are too coarse for a heartbeat, and a time limit would cut off peers that do nothing wrong.
    FromTenMillis,
    /// In less time no call reaches a node and returns.
    FromOneMilli,
    AboveZero,
    FromZero,
    /// From zero, and the longest [`Duration`] means that there is no limit; timers can be set for [`LONGEST_TIME`], which
    /// the documentation of these settings says.
    FromZeroOrNoLimit,
}

/// Checks the time of a setting.
///
/// # Errors
///
/// If it is out of the range. Here and in the other checks of this file is what the errors of all builders say.
pub(crate) fn check_time(name: &'static str, time: Duration, range: TimeRange) -> Result<Duration, Error> {
    let (shortest, reason) = match range {
        TimeRange::FromTenMillis => (Duration::from_millis(10), "it must be from 10 ms to 365 days"),
        TimeRange::FromOneMilli => (Duration::from_millis(1), "it must be from 1 ms to 365 days"),
        TimeRange::AboveZero => (Duration::from_nanos(1), "it must be above zero and at most 365 days"),
        TimeRange::FromZero => (Duration::ZERO, "it must be at most 365 days"),
        TimeRange::FromZeroOrNoLimit if time == Duration::MAX => return Ok(LONGEST_TIME),
        TimeRange::FromZeroOrNoLimit => {
            (Duration::ZERO, "it must be at most 365 days, or `Duration::MAX` for no limit")
        }
    };
    match (shortest..=LONGEST_TIME).contains(&time) {
        true => Ok(time),
        false => Err(Error::setting(name, format_args!("{time:?}"), reason)),
    }
}

/// Checks how many slots a node has, or may have.
pub(crate) fn check_slots(name: &'static str, slots: usize) -> Result<u32, Error> {
    match u32::try_from(slots) {
        Ok(fits @ 1..=MAX_SLOTS) => Ok(fits),
        _ => Err(Error::setting(name, slots, "it must be from 1 to 65,536")),
    }
}

/// Checks how deeply a value may be nested.
pub(crate) fn check_max_depth(levels: u16) -> Result<u16, Error> {
    if (1..=LARGEST_MAX_DEPTH).contains(&levels) {
        Ok(levels)
    } else {
        Err(Error::setting("max_depth", levels, "it must be from 1 to 512: each level takes stack"))
    }
}

/// Checks the memory for large messages that are being read. The default has room for one of the largest.
pub(crate) fn check_incoming_bytes(bytes: Option<usize>, max_message_size: usize) -> Result<usize, Error> {
    match bytes {
        None => Ok(INCOMING_BYTES.max(max_message_size)),
        Some(bytes) if bytes >= max_message_size => Ok(bytes),
        Some(bytes) => Err(Error::setting(
            "max_in_flight_bytes",
            bytes,
            "it must be at least max_message_size (1 GiB unless set), so that each message finds room; raise it, or set a smaller max_message_size",
        )),
    }
}

/// Checks a frame limit.
pub(crate) fn check_max_message_size(bytes: usize) -> Result<usize, Error> {
    if (SMALLEST_MESSAGE_LIMIT..=LARGEST_MESSAGE_LIMIT).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(Error::setting("max_message_size", bytes, "it must be from 16 KiB to 4 GiB - 1"))
    }
}

/// A node may send at most this many frames about each batch that it gets. It sends six at most: five requests for grants,
/// and one that gives calls back.
pub(crate) const BATCH_FRAMES: u32 = 16;

/// Microseconds of a duration, as the wire carries times; what does not fit is the largest.
pub(crate) fn to_micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A time that a peer sent, clamped to [`LONGEST_TIME`].
pub(crate) fn from_micros(micros: u64) -> Duration {
    Duration::from_micros(micros).min(LONGEST_TIME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_accepted_within_its_range_and_an_error_beyond_it() {
        let ns = Duration::from_nanos(1);
        let ms = Duration::from_millis(1);
        for (range, shortest) in [
            (TimeRange::FromTenMillis, 10 * ms),
            (TimeRange::FromOneMilli, ms),
            (TimeRange::AboveZero, ns),
            (TimeRange::FromZero, Duration::ZERO),
            (TimeRange::FromZeroOrNoLimit, Duration::ZERO),
        ] {
            let check = |time| check_time("a_timeout", time, range);
            assert_eq!(check(shortest).expect("the shortest"), shortest);
            assert_eq!(check(LONGEST_TIME).expect("the longest"), LONGEST_TIME);
            let too_long = check(LONGEST_TIME + ns).expect_err("is too long").to_string();
            assert!(too_long.contains("`a_timeout`") && too_long.contains("365 days"), "{too_long}");
            if let Some(shorter) = shortest.checked_sub(ns) {
                check(shorter).expect_err("is too short");
            }
            match check(Duration::MAX) {
                Ok(time) => assert_eq!((time, range), (LONGEST_TIME, TimeRange::FromZeroOrNoLimit)),
                Err(_) => assert_ne!(range, TimeRange::FromZeroOrNoLimit),
            }
        }
    }
}
