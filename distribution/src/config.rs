//! Limits and defaults that master and node share, and the checks that settings pass.

use std::time::Duration;

use crate::error::Error;

/// Body of the largest frame either side takes unless told otherwise.
pub(crate) const MAX_MESSAGE_SIZE: usize = 64 * 1024 * 1024;

/// Below this not even headers and error messages fit.
pub(crate) const SMALLEST_MESSAGE_LIMIT: usize = 16 * 1024;

/// What a frame's length field can state; where an address has 32 bits, half of what there is.
pub(crate) const LARGEST_MESSAGE_LIMIT: usize =
    if usize::BITS > 32 { u32::MAX as usize } else { (u32::MAX / 2) as usize };

/// What large frames that are coming in may take together at a master unless told otherwise: sixteen of the largest.
pub(crate) const INCOMING_BYTES: usize = 16 * MAX_MESSAGE_SIZE;

/// The longest time that any timer is set for.
///
/// tarpc keeps deadlines in a timer queue that panics beyond about 2.18 years, so every deadline is
/// clamped to this on both sides, also one that a peer sends.
pub(crate) const LONGEST_TIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What a master bears from its peers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections that have not registered yet, in all and from one address.
    pub(crate) max_handshakes: usize,
    pub(crate) max_handshakes_per_address: usize,
    /// How long a connection may take to register.
    pub(crate) handshake_timeout: Duration,
    /// How many TLS handshakes are begun in a second, over all addresses.
    pub(crate) max_handshakes_per_second: u32,
    /// How many from one address may fail to show that they may come in before the next ones wait.
    pub(crate) max_handshake_failures: u32,
    pub(crate) peer_timeouts: PeerTimeouts,
    /// What large frames that are coming in may take together.
    pub(crate) incoming_bytes: usize,
    /// How deeply a value may be nested.
    pub(crate) max_depth: u16,
    /// The timeout of calls without one of their own.
    pub(crate) default_timeout: Option<Duration>,
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
        }
    }
}

/// How long a registered peer may keep a connection waiting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerTimeouts {
    /// Until a frame that has begun is complete, or has brought enough that its time begins anew.
    pub(crate) read_timeout: Duration,
    /// Until it takes some of what it is sent.
    pub(crate) write_timeout: Duration,
}

impl Default for PeerTimeouts {
    fn default() -> Self {
        Self { read_timeout: Duration::from_secs(30), write_timeout: Duration::from_secs(10) }
    }
}

/// Levels of sequences, maps, structs, enums and options that a value may have unless told otherwise; serde_json has the
/// same number.
pub(crate) const MAX_DEPTH: u16 = 128;

/// The largest such limit: each level takes stack while a value is encoded or decoded, and threads have 2 MiB of it.
const LARGEST_MAX_DEPTH: u16 = 512;

/// What one value may have.
#[derive(Clone, Copy, Debug)]
pub struct ValueLimits {
    pub(crate) bytes: usize,
    /// How deeply it may be nested.
    pub(crate) depth: u16,
}

impl ValueLimits {
    /// For a value of this crate's own, which is not nested.
    pub(crate) fn of_bytes(bytes: usize) -> Self {
        Self { bytes, depth: MAX_DEPTH }
    }
}

/// Checks how deeply a value may be nested.
pub(crate) fn check_max_depth(levels: u16) -> Result<u16, Error> {
    if (1..=LARGEST_MAX_DEPTH).contains(&levels) {
        Ok(levels)
    } else {
        Err(Error::setting("max_depth", levels, "it must lie between 1 and 512: each level takes stack"))
    }
}

/// Checks what large frames that are coming in may take together; where it is not set, four of the largest find room.
pub(crate) fn check_incoming_bytes(bytes: Option<usize>, max_message_size: usize) -> Result<usize, Error> {
    match bytes {
        None => Ok(INCOMING_BYTES.max(max_message_size.saturating_mul(4))),
        Some(bytes) if bytes >= max_message_size => Ok(bytes),
        Some(bytes) => Err(Error::setting(
            "max_incoming_bytes",
            bytes,
            "it must be max_message_size at least, so that each frame finds room",
        )),
    }
}

/// Checks a frame limit.
pub(crate) fn check_max_message_size(bytes: usize) -> Result<usize, Error> {
    if (SMALLEST_MESSAGE_LIMIT..=LARGEST_MESSAGE_LIMIT).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(Error::setting("max_message_size", bytes, "it must lie between 16 KiB and 4 GiB - 1"))
    }
}

/// Microseconds of a duration, as the wire carries times; what does not fit is the largest.
pub(crate) fn to_micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A time that a peer sent, clamped to [`LONGEST_TIME`].
pub(crate) fn from_micros(micros: u64) -> Duration {
    Duration::from_micros(micros).min(LONGEST_TIME)
}
