//! Answers a master that wants a profile: which code the node's process runs, and what its handlers are doing.
//!
//! [`sampling`] takes samples, and [`handlers`] knows which thread runs which call. Both are there with the feature `profiling`, on
//! Linux; a node without them says so.

#[cfg(all(feature = "profiling", target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod handlers;
#[cfg(all(feature = "profiling", target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod sampling;
#[cfg(not(all(feature = "profiling", target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod without;

use std::{sync::Arc, time::Duration};

#[cfg(all(feature = "profiling", target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) use self::handlers::running;
#[cfg(all(feature = "profiling", target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
use self::sampling::take;
#[cfg(not(all(
    feature = "profiling",
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
pub(super) use self::without::running;
#[cfg(not(all(
    feature = "profiling",
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
use self::without::take;
use crate::wire::{
    Control,
    codec::encode_payload,
    connection_state::ConnectionState,
    profile::{LARGEST_PROFILE, LONGEST_PART, ProfileReply},
};

/// Takes a profile and sends it, as fast as the connection takes it besides all else. Must be called on the node's runtime.
pub(super) fn begin(connection: &Arc<ConnectionState>, profile: u32, length: Duration) {
    let connection = Arc::clone(connection);
    tokio::spawn(async move {
        let taken = tokio::task::spawn_blocking(move || encoded(take(length))).await;
        let bytes =
            taken.unwrap_or_else(|_| encoded(Err("the profiler panicked; the node's log says where".to_owned())));
        let mut parts = bytes.chunks(LONGEST_PART).peekable();
        while let Some(part) = parts.next() {
            let is_last = parts.peek().is_none();
            connection.send_spare(Control::ProfilePart { profile, bytes: part.to_vec(), is_last }).await;
        }
    });
}

fn encoded(reply: ProfileReply) -> Vec<u8> {
    let bytes =
        |reply: &ProfileReply| encode_payload(reply, LARGEST_PROFILE).map(|payload| payload.into_bytes().to_vec());
    bytes(&reply)
        .or_else(|_| bytes(&Err("its profile is too large to be sent; take a shorter one".to_owned())))
        .unwrap_or_default()
}
