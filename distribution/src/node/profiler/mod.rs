//! Answers a master that wants a profile: which code the node's process runs, and what its handlers are doing.
//!
//! Profiles are taken with the feature `profiling`, on Linux with the GNU C library: there it is known in which libraries a thread must
//! not be interrupted, because they are shared ones with known names.

#[cfg(all(
    feature = "profiling",
    all(target_os = "linux", target_env = "gnu", not(target_feature = "crt-static")),
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod taking;
#[cfg(not(all(
    feature = "profiling",
    all(target_os = "linux", target_env = "gnu", not(target_feature = "crt-static")),
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
#[path = "without.rs"]
mod taking;

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

pub(super) use self::taking::running;
use self::taking::take;
use crate::wire::{
    Control,
    codec::encode_payload,
    connection_state::ConnectionState,
    profile::{LARGEST_PROFILE, LONGEST_PART, LONGEST_SAMPLING, ProfileReply},
};

/// Takes a profile and sends it, as fast as the connection takes it besides all else. Must be called on the node's runtime.
pub(super) fn begin(connection: &Arc<ConnectionState>, profile: u32, length: Duration) {
    let (connection, length) = (Arc::clone(connection), length.min(LONGEST_SAMPLING));
    tokio::spawn(async move {
        // Dropping `_stop` ends the profile.
        let (_stop, stopped) = mpsc::channel();
        let taking = tokio::task::spawn_blocking(move || encoded(take(length, &stopped)));
        let taken = tokio::select! {
            taken = taking => taken,
            () = connection.spare().closed() => return,
        };
        let bytes =
            taken.unwrap_or_else(|_| encoded(Err("the profiler panicked; the node's log says where".to_owned())));
        let mut parts = bytes.chunks(LONGEST_PART).peekable();
        while let Some(part) = parts.next() {
            let is_last = parts.peek().is_none();
            let part = Control::ProfilePart { profile, bytes: part.to_vec(), is_last };
            if connection.send_spare(part).await.is_err() {
                return;
            }
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
