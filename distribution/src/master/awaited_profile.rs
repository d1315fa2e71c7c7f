//! The profile that a node was asked for: its parts as they come over the node's connection.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::wire::{
    codec,
    profile::{LARGEST_PROFILE, ProfileReply},
};

/// Why there is none when the connection ends.
pub(super) const LOST: &str = "the connection to it is lost";

/// The profile that was asked for over one connection, if one was.
#[derive(Debug, Default)]
pub(super) struct Profiles {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many were asked for.
    asked: u32,
    awaited: Option<Awaited>,
    /// The connection has ended.
    has_ended: bool,
}

#[derive(Debug)]
struct Awaited {
    profile: u32,
    bytes: Vec<u8>,
    answer: oneshot::Sender<ProfileReply>,
}

/// Forgets the profile that was asked for when it is dropped, so that another one can be.
pub(super) struct Asked<'a> {
    profiles: &'a Profiles,
    pub(super) profile: u32,
    pub(super) answer: oneshot::Receiver<ProfileReply>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut state = self.profiles.lock();
        if state.awaited.as_ref().is_some_and(|awaited| awaited.profile == self.profile) {
            state.awaited = None;
        }
    }
}

impl Profiles {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new one is asked for.
    pub(super) fn ask(&self) -> Result<Asked<'_>, &'static str> {
        let mut state = self.lock();
        if state.has_ended {
            return Err(LOST);
        }
        if state.awaited.is_some() {
            return Err("another profile of it is being taken");
        }
        state.asked = state.asked.wrapping_add(1);
        let profile = state.asked;
        let (sender, answer) = oneshot::channel();
        state.awaited = Some(Awaited { profile, bytes: Vec::new(), answer: sender });
        Ok(Asked { profiles: self, profile, answer })
    }

    /// A part has come. One that nobody awaits any more is dropped.
    ///
    /// # Errors
    ///
    /// If the profile is larger than it may be, or is none.
    pub(super) fn add(&self, profile: u32, bytes: &[u8], is_last: bool) -> Result<(), String> {
        let mut state = self.lock();
        let Some(awaited) = state.awaited.as_mut().filter(|awaited| awaited.profile == profile) else { return Ok(()) };
        if awaited.bytes.len() + bytes.len() > LARGEST_PROFILE {
            return Err(format!("it sent a profile of more than {} MiB", LARGEST_PROFILE >> 20));
        }
        awaited.bytes.extend_from_slice(bytes);
        if is_last {
            if let Some(Awaited { bytes, answer, .. }) = state.awaited.take() {
                drop(state);
                let reply = codec::decode_payload(&bytes)
                    .map_err(|error| format!("it sent a profile that is none: {error}"))?;
                // The one that asked may have left.
                let _ = answer.send(reply);
            }
        }
        Ok(())
    }

    /// The connection has ended: nothing comes any more.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.has_ended = true;
        state.awaited = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::profile::SentProfile;

    fn reply(sent: SentProfile) -> Vec<u8> {
        let reply: ProfileReply = Ok(sent);
        codec::encode_payload(&reply, LARGEST_PROFILE).expect("encodes").into_bytes().to_vec()
    }

    #[test]
    fn parts_become_a_profile_and_what_nobody_awaits_is_dropped() {
        let profiles = Profiles::default();
        let bytes = reply(SentProfile { frequency: 99, ..SentProfile::default() });
        assert_eq!(profiles.add(1, &bytes, true), Ok(()), "nobody has asked");
        let mut asked = profiles.ask().expect("is the first");
        assert!(profiles.ask().is_err(), "one at a time");
        assert_eq!(profiles.add(asked.profile + 1, &bytes, true), Ok(()), "an earlier one");
        for byte in &bytes {
            assert_eq!(asked.answer.try_recv(), Err(oneshot::error::TryRecvError::Empty));
            assert_eq!(profiles.add(asked.profile, &[*byte], false), Ok(()));
        }
        assert_eq!(profiles.add(asked.profile, &[], true), Ok(()));
        assert_eq!(asked.answer.try_recv().expect("has come").map(|sent| sent.frequency), Ok(99));
        drop(asked);
        let left = profiles.ask().expect("the other one has ended").profile;
        assert_ne!(profiles.ask().expect("nobody awaits that one").profile, left);
    }

    #[test]
    fn a_connection_that_ends_ends_the_wait() {
        let profiles = Profiles::default();
        let mut asked = profiles.ask().expect("is the first");
        profiles.end();
        assert_eq!(asked.answer.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        drop(asked);
        assert!(profiles.ask().is_err());
    }

    #[test]
    fn a_profile_that_is_too_large_or_none_is_refused() {
        let profiles = Profiles::default();
        let asked = profiles.ask().expect("is the first");
        assert!(profiles.add(asked.profile, &vec![0; LARGEST_PROFILE + 1], false).is_err());
        assert!(profiles.add(asked.profile, &[7; 3], true).is_err());
    }
}
