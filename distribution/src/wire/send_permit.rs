//! The permission that a connection asks for before it sends an attempt at a call.

use std::fmt;

use super::frame::call::Trace;

/// The number of the only attempt that a caller makes to send a call on one connection.
pub(crate) const ONLY_ATTEMPT: u32 = 1;

/// The permission to send an attempt at a call. It is asked of the part that can give the attempt up, which is the call itself.
pub(crate) trait SendPermit: fmt::Debug + Send + Sync {
    /// Whether [`begin`](Self::begin) would not be refused. Asked before each part of a request that is written in several.
    fn may_begin(&self, attempt: u32) -> bool;

    /// Asked before the attempt goes into the write buffer, with its last part if it has several. False if it was given up: it must not be written.
    fn begin(&self, attempt: u32) -> bool;

    /// Asked before a write that may take the frame's last byte. False if the attempt was given up meanwhile: the last byte
    /// must not be written.
    fn complete(&self, attempt: u32) -> bool;

    /// The connection has ended before the last byte was written.
    fn cut_short(&self, _attempt: u32) {}

    /// Whether the call runs to its end even if its caller's process ends.
    fn is_detached(&self) -> bool {
        false
    }

    /// What travels to the call's handler: keys and values, in the order of the keys.
    fn metadata(&self) -> &[(String, String)] {
        &[]
    }

    /// The trace that the call belongs to.
    fn trace(&self) -> Option<Trace> {
        None
    }
}
