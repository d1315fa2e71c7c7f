//! Limits and defaults that master and node share, and the checks that settings pass.

use std::time::Duration;

use crate::error::Error;

/// Body of the largest frame either side takes unless told otherwise.
pub(crate) const FRAME_LIMIT: usize = 64 * 1024 * 1024;

/// Below this not even headers and error messages fit.
pub(crate) const SMALLEST_FRAME_LIMIT: usize = 16 * 1024;

/// What a frame's length field can state; where an address has 32 bits, half of what there is.
pub(crate) const LARGEST_FRAME_LIMIT: usize =
    if usize::BITS > 32 { u32::MAX as usize } else { (u32::MAX / 2) as usize };

/// What large frames that are coming in may take together at a master unless told otherwise: sixteen of the largest.
pub(crate) const INCOMING_BYTES: usize = 16 * FRAME_LIMIT;

/// The longest time that any timer is set for.
///
/// tarpc keeps deadlines in a timer queue that panics beyond about 2.18 years, so every deadline is
/// clamped to this on both sides, also one that a peer sends.
pub(crate) const LONGEST_TIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What a master bears from its peers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections that have not registered yet, in all and from one address.
    pub(crate) handshakes: usize,
    pub(crate) handshakes_per_address: usize,
    /// How long a connection may take to register.
    pub(crate) handshake_time: Duration,
    /// How many TLS handshakes are begun in a second, over all addresses.
    pub(crate) handshakes_per_second: u32,
    /// How many from one address may fail to show that they may come in before the next ones wait.
    pub(crate) handshake_failures: u32,
    pub(crate) patience: Patience,
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
            handshakes: 256,
            handshakes_per_address: 32,
            handshake_time: Duration::from_secs(5),
            handshakes_per_second: 1_000,
            handshake_failures: 10,
            patience: Patience::default(),
            incoming_bytes: INCOMING_BYTES,
            max_depth: MAX_DEPTH,
            default_timeout: None,
        }
    }
}

/// How long a registered peer may keep a connection waiting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Until a frame that has begun is complete, or has brought enough that its time begins anew.
    pub(crate) frame_time: Duration,
    /// Until it takes some of what it is sent.
    pub(crate) unread_time: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { frame_time: Duration::from_secs(30), unread_time: Duration::from_secs(10) }
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
pub(crate) fn check_incoming_bytes(bytes: Option<usize>, frame_limit: usize) -> Result<usize, Error> {
    match bytes {
        None => Ok(INCOMING_BYTES.max(frame_limit.saturating_mul(4))),
        Some(bytes) if bytes >= frame_limit => Ok(bytes),
        Some(bytes) => Err(Error::setting(
            "max_incoming_bytes",
            bytes,
            "it must be frame_limit at least, so that each frame finds room",
        )),
    }
}

/// Checks a frame limit.
pub(crate) fn check_frame_limit(bytes: usize) -> Result<usize, Error> {
    if (SMALLEST_FRAME_LIMIT..=LARGEST_FRAME_LIMIT).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(Error::setting("frame_limit", bytes, "it must lie between 16 KiB and 4 GiB - 1"))
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
