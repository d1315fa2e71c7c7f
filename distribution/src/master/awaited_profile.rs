//! The profile that a node was asked for: its parts as they come over the node's connection.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::wire::profile::LARGEST_PROFILE;

/// The most bytes that a node may send for each profile, with one for each part, so that parts without bytes end too.
const MOST_BYTES: usize = LARGEST_PROFILE + 64 * 1024;

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
    /// Bytes that have come of all of them.
    came: usize,
    awaited: Option<Awaited>,
    /// The connection has ended.
    has_ended: bool,
}

#[derive(Debug)]
struct Awaited {
    profile: u32,
    bytes: Vec<u8>,
    answer: oneshot::Sender<Vec<u8>>,
}

/// Forgets the profile that was asked for when it is dropped, so that another one can be.
pub(super) struct Asked<'a> {
    profiles: &'a Profiles,
    pub(super) profile: u32,
    pub(super) answer: oneshot::Receiver<Vec<u8>>,
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
        state.asked = state.asked.saturating_add(1);
        let profile = state.asked;
        let (sender, answer) = oneshot::channel();
        state.awaited = Some(Awaited { profile, bytes: Vec::new(), answer: sender });
        Ok(Asked { profiles: self, profile, answer })
    }

    /// A part has come. One that nobody awaits any more is dropped.
    ///
    /// # Errors
    ///
    /// If more has come than profiles of the most bytes that were asked for.
    pub(super) fn add(&self, profile: u32, bytes: &[u8], is_last: bool) -> Result<(), String> {
        let mut state = self.lock();
        state.came = state.came.saturating_add(bytes.len() + 1);
        if state.came > MOST_BYTES.saturating_mul(state.asked as usize) {
            return Err(format!("it sent more than {} MiB for each profile that it was asked for", MOST_BYTES >> 20));
        }
        let Some(awaited) = state.awaited.as_mut().filter(|awaited| awaited.profile == profile) else { return Ok(()) };
        awaited.bytes.extend_from_slice(bytes);
        if is_last {
            if let Some(Awaited { bytes, answer, .. }) = state.awaited.take() {
                // The one that asked may have left.
                let _ = answer.send(bytes);
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

    #[test]
    fn parts_are_put_together_and_what_nobody_awaits_is_dropped() {
        let profiles = Profiles::default();
        let mut asked = profiles.ask().expect("is the first");
        assert!(profiles.ask().is_err(), "one at a time");
        assert_eq!(profiles.add(asked.profile + 1, b"another", true), Ok(()));
        for byte in b"abc" {
            assert_eq!(asked.answer.try_recv(), Err(oneshot::error::TryRecvError::Empty));
            assert_eq!(profiles.add(asked.profile, &[*byte], false), Ok(()));
        }
        assert_eq!(profiles.add(asked.profile, &[], true), Ok(()));
        assert_eq!(asked.answer.try_recv().expect("has come"), b"abc");
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
    fn a_node_that_sends_more_than_it_was_asked_for_breaks_the_protocol() {
        let profiles = Profiles::default();
        assert!(profiles.add(1, &[], true).is_err(), "nobody has asked");
        let asked = profiles.ask().expect("is the first");
        assert_eq!(profiles.add(asked.profile, &[7; 3], false), Ok(()));
        assert!(profiles.add(asked.profile, &vec![0; MOST_BYTES], false).is_err());
    }
}
