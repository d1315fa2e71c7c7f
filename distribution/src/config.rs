//! Limits and defaults that master and node share, and the checks that settings pass.

use std::time::Duration;

use crate::error::Error;

/// The default limit of a frame's body at both ends.
pub(crate) const MAX_MESSAGE_SIZE: usize = 64 * 1024 * 1024;

/// With less, headers and error messages would not fit.
pub(crate) const SMALLEST_MESSAGE_LIMIT: usize = 16 * 1024;

/// The largest number of the length field of a frame; with 32-bit addresses, half of the address space.
pub(crate) const LARGEST_MESSAGE_LIMIT: usize =
    if usize::BITS > 32 { u32::MAX as usize } else { (u32::MAX / 2) as usize };

/// The default limit of memory for large frames that a master is reading: sixteen of the largest.
pub(crate) const INCOMING_BYTES: usize = 16 * MAX_MESSAGE_SIZE;

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
    /// The memory for all large frames that are being read.
    pub(crate) incoming_bytes: usize,
    /// How deeply a value may be nested.
    pub(crate) max_depth: u16,
    /// The timeout of calls without one of their own.
    pub(crate) default_timeout: Option<Duration>,
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
const LARGEST_MAX_DEPTH: u16 = 512;

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

/// Checks how deeply a value may be nested.
pub(crate) fn check_max_depth(levels: u16) -> Result<u16, Error> {
    if (1..=LARGEST_MAX_DEPTH).contains(&levels) {
        Ok(levels)
    } else {
        Err(Error::setting("max_depth", levels, "it must lie between 1 and 512: each level takes stack"))
    }
}

/// Checks the memory for large frames that are being read. The default has room for four of the largest.
pub(crate) fn check_incoming_bytes(bytes: Option<usize>, max_message_size: usize) -> Result<usize, Error> {
    match bytes {
        None => Ok(INCOMING_BYTES.max(max_message_size.saturating_mul(4))),
        Some(bytes) if bytes >= max_message_size => Ok(bytes),
        Some(bytes) => Err(Error::setting(
            "max_incoming_bytes",
            bytes,
            "it must be at least max_message_size, so that each frame finds room",
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
