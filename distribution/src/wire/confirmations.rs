//! Which responses the other end has dealt with. Until it says so, the end that has sent them keeps them: if the connection
//! breaks, nobody knows which of them have arrived.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use super::{
    connection_state::{Arrived, ConnectionState},
    frame::kind::Control,
};

/// Responses, or bytes of them, after which they are confirmed without waiting for the next heartbeat. So the other end keeps
/// little more than that.
const CONFIRM_AFTER: u64 = 256;
const CONFIRM_BYTES: u64 = 1024 * 1024;

/// What one end has dealt with, and what of that it has confirmed.
#[derive(Debug, Default)]
pub(crate) struct Confirmations {
    dealt_with: Arrived,
    confirmed: Arrived,
}

impl Confirmations {
    /// All that had arrived by then is dealt with. Confirms it if it is much.
    pub(crate) fn on_dealt_with(&mut self, arrived: Arrived, connection: &ConnectionState) {
        self.dealt_with = arrived;
        if arrived.responses - self.confirmed.responses >= CONFIRM_AFTER
            || arrived.bytes - self.confirmed.bytes >= CONFIRM_BYTES
        {
            self.confirm(connection);
        }
    }

    /// Confirms what is dealt with.
    pub(crate) fn confirm(&mut self, connection: &ConnectionState) {
        if self.dealt_with != self.confirmed {
            self.confirmed = self.dealt_with;
            connection.send(Control::Received { responses: self.confirmed.responses });
        }
    }
}

/// The responses of a connection that were given to it and are not confirmed, in the order in which they are written.
#[derive(Debug)]
pub(crate) struct Unconfirmed<K>(Mutex<Keys<K>>);

#[derive(Debug)]
struct Keys<K> {
    keys: VecDeque<K>,
    confirmed: u64,
}

impl<K> Default for Unconfirmed<K> {
    fn default() -> Self {
        Self(Mutex::new(Keys { keys: VecDeque::new(), confirmed: 0 }))
    }
}

impl<K> Unconfirmed<K> {
    /// A response is about to be written behind all others.
    pub(crate) fn push(&self, key: K) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys.push_back(key);
    }

    /// How many responses are not confirmed.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys.len()
    }

    /// The other end has confirmed this many responses in all. Returns those that are new.
    ///
    /// # Errors
    ///
    /// What a correct peer never sends, as the reason why the connection is closed.
    pub(crate) fn confirm(&self, responses: u64) -> Result<Vec<K>, String> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = responses.checked_sub(keys.confirmed).and_then(|new| usize::try_from(new).ok());
        let Some(new) = new.filter(|new| *new <= keys.keys.len()) else {
            return Err(format!("it confirmed {responses} responses, and was sent fewer or had confirmed more"));
        };
        keys.confirmed = responses;
        Ok(keys.keys.drain(..new).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PeerTimeouts;

    #[test]
    fn responses_are_confirmed_once_and_no_more_than_were_sent() {
        let unconfirmed = Unconfirmed::default();
        (1..=5).for_each(|key| unconfirmed.push(key));
        assert_eq!(unconfirmed.confirm(2), Ok(vec![1, 2]));
        assert_eq!(unconfirmed.confirm(2), Ok(vec![]));
        for wrong in [1, 6, u64::MAX] {
            let error = unconfirmed.confirm(wrong).expect_err("is wrong");
            assert!(error.contains(&format!("confirmed {wrong} responses")), "{error}");
        }
        unconfirmed.push(6);
        assert_eq!(unconfirmed.confirm(6), Ok(vec![3, 4, 5, 6]));
    }

    #[tokio::test]
    async fn many_responses_are_confirmed_at_once_and_few_with_the_next_heartbeat() {
        let connection = ConnectionState::new(PeerTimeouts::default(), None);
        let mut confirmations = Confirmations::default();
        let arrived = |responses, bytes| Arrived { responses, bytes };
        confirmations.on_dealt_with(arrived(CONFIRM_AFTER - 1, 10), &connection);
        assert_eq!(connection.take_outbox(), []);
        confirmations.confirm(&connection);
        confirmations.confirm(&connection);
        assert_eq!(connection.take_outbox(), [Control::Received { responses: CONFIRM_AFTER - 1 }]);
        confirmations.on_dealt_with(arrived(CONFIRM_AFTER, CONFIRM_BYTES + 10), &connection);
        assert_eq!(connection.take_outbox(), [Control::Received { responses: CONFIRM_AFTER }]);
        confirmations.on_dealt_with(arrived(2 * CONFIRM_AFTER - 1, CONFIRM_BYTES + 10), &connection);
        assert_eq!(connection.take_outbox(), []);
        confirmations.on_dealt_with(arrived(2 * CONFIRM_AFTER, CONFIRM_BYTES + 10), &connection);
        assert_eq!(connection.take_outbox(), [Control::Received { responses: 2 * CONFIRM_AFTER }]);
    }
}
