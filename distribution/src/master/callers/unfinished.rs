//! The calls of a caller that have not ended, and the ends that the caller may not have.

use std::{collections::HashMap, sync::Arc};

use tarpc::server::InFlightRequest;

use crate::{
    id::CallId,
    master::kept_bytes::KeptBytes,
    service::state::CallState,
    wire::transport::{IncomingCallerRequest, OutgoingCallerReply},
};

/// A request that is to be answered once.
pub(super) type Request = InFlightRequest<IncomingCallerRequest, OutgoingCallerReply>;

/// The most bytes of ends that are kept for a caller. An end beyond that is sent, and lost if the connection breaks before it
/// has arrived.
const MOST_KEPT: usize = 64 * 1024 * 1024;

/// The most calls of a session, those included whose ends are kept, unless more of its calls may wait at the master.
const MOST_CALLS: usize = 320 * 1024;

/// What an end that is kept takes beside its payload.
const END_OVERHEAD: usize = 256;

/// The calls of a session by number.
#[derive(Debug)]
pub(super) struct Unfinished {
    of_all: Arc<KeptBytes>,
    calls: HashMap<CallId, Call>,
    /// The number of the current connection.
    connection: u32,
    /// Whether ends are kept until the caller has confirmed them.
    keeps: bool,
    /// Whether the caller has said on this connection that it has asked for all that it wants.
    has_asked_again: bool,
    /// The bytes of the ends that are kept.
    kept: usize,
    /// The most calls. All of them may end while the caller has no connection, and are kept then.
    most: usize,
}

#[derive(Debug)]
struct Call {
    /// The connection on which the caller awaits, or awaited, the end.
    connection: u32,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    Active {
        state: Arc<CallState>,
        /// The request that its end answers; `None` while there is no connection.
        request: Option<Box<Request>>,
        /// How many calls of a batch its node has kept, if it has given others back.
        kept: Option<u32>,
    },
    /// It has ended, which the caller may not know.
    Ended(Kept),
}

/// An end that is kept, and what it counts.
#[derive(Debug)]
struct Kept {
    bytes: usize,
    end: OutgoingCallerReply,
}

/// What becomes of a request that asks again for the end of a call.
pub(super) enum AskOutcome {
    /// It is to be answered with this.
    Answer(Box<Request>, OutgoingCallerReply),
    /// It never arrived.
    NotReceived(Box<Request>),
    /// It is answered when the call ends. Of a batch its node has kept this many calls.
    Runs { kept: Option<u32> },
}

impl Unfinished {
    /// `may_wait`: how many calls of the caller may wait at the master.
    pub(super) fn new(of_all: Arc<KeptBytes>, may_wait: usize) -> Self {
        Self {
            of_all,
            calls: HashMap::new(),
            connection: 0,
            keeps: false,
            has_asked_again: true,
            kept: 0,
            most: MOST_CALLS.max(may_wait.saturating_mul(2)),
        }
    }

    /// The session goes on with a new connection. With `keeps`, the caller confirms the ends that it has, and asks again for the
    /// others.
    pub(super) fn on_connected(&mut self, keeps: bool) {
        self.connection += 1;
        self.keeps = keeps;
        self.has_asked_again = false;
    }

    /// The connection has ended: nothing is answered on it any more. Returns the calls that cannot go on without it: those that have
    /// streams, and those whose arguments have not come. The latter are forgotten, as a request of which a part has come.
    pub(super) fn on_connection_ended(&mut self) -> Vec<Arc<CallState>> {
        let mut lost = Vec::new();
        self.calls.retain(|_, call| {
            let Progress::Active { request, state, .. } = &mut call.progress else { return true };
            *request = None;
            let has_come = state.arguments.as_ref().is_none_or(|arguments| arguments.on_disconnected());
            if !has_come || !state.streams.is_none() {
                lost.push(Arc::clone(state));
            }
            has_come
        });
        lost
    }

    /// The caller does not come back: forgets its calls. Returns those that cannot go on without it.
    pub(super) fn on_gone(&mut self) -> Vec<Arc<CallState>> {
        let can_go_on = |state: &CallState| state.arguments.as_ref().is_none_or(|arguments| arguments.on_gone());
        let active = self.calls.values().filter_map(|call| match &call.progress {
            Progress::Active { state, .. } => Some(state),
            _ => None,
        });
        let lost = active.filter(|state| !can_go_on(state)).map(Arc::clone).collect();
        self.clear();
        lost
    }

    /// The most calls.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// How many calls there are, and the most, if there is no room for another.
    pub(super) fn exceeded(&self) -> Option<(usize, usize)> {
        (self.calls.len() >= self.most).then_some((self.calls.len(), self.most))
    }

    pub(super) fn insert(&mut self, id: CallId, state: Arc<CallState>, request: Option<Request>) {
        let progress = Progress::Active { state, request: request.map(Box::new), kept: None };
        self.calls.insert(id, Call { connection: self.connection, progress });
    }

    /// A call that has not ended.
    pub(super) fn active(&self, id: CallId) -> Option<&Arc<CallState>> {
        match &self.calls.get(&id)?.progress {
            Progress::Active { state, .. } => Some(state),
            Progress::Ended(_) => None,
        }
    }

    /// Its node has kept this many calls of a batch.
    pub(super) fn on_kept(&mut self, id: CallId, count: u32) {
        if let Some(Call { progress: Progress::Active { kept, .. }, .. }) = self.calls.get_mut(&id) {
            *kept = Some(count);
        }
    }

    /// A call has ended. Returns the request that is to be answered, if there is one.
    pub(super) fn on_end(
        &mut self,
        id: CallId,
        end: &OutgoingCallerReply,
        lost: impl FnOnce() -> OutgoingCallerReply,
    ) -> Option<Box<Request>> {
        let call = self.calls.get_mut(&id)?;
        let Progress::Active { request, .. } = &mut call.progress else { return None };
        let request = request.take();
        if self.keeps {
            let bytes = size(end);
            let kept = match self.kept + bytes <= MOST_KEPT && self.of_all.add(bytes) {
                true => {
                    self.kept += bytes;
                    Kept { bytes, end: end.clone() }
                }
                // It is small, and counts among the calls.
                false => Kept { bytes: 0, end: lost() },
            };
            call.progress = Progress::Ended(kept);
        } else {
            self.calls.remove(&id);
        }
        request
    }

    /// The caller asks for the end of a call that it has sent on an earlier connection.
    pub(super) fn ask_again(&mut self, id: CallId, request: Request) -> AskOutcome {
        let request = Box::new(request);
        let Some(call) = self.calls.get_mut(&id) else { return AskOutcome::NotReceived(request) };
        call.connection = self.connection;
        match &mut call.progress {
            Progress::Active { request: place, kept, .. } => {
                *place = Some(request);
                AskOutcome::Runs { kept: *kept }
            }
            Progress::Ended(kept) => AskOutcome::Answer(request, kept.end.clone()),
        }
    }

    /// The caller has asked again for all ends that it wants: forgets the others, and returns the calls that nobody waits for.
    ///
    /// # Errors
    ///
    /// What a correct caller never sends, as the reason why the connection is closed.
    pub(super) fn forget_others(&mut self) -> Result<Vec<Arc<CallState>>, String> {
        if std::mem::replace(&mut self.has_asked_again, true) {
            return Err("it said twice that it had asked for all earlier calls".to_owned());
        }
        let (current, mut unwanted) = (self.connection, Vec::new());
        let mut forgotten = 0;
        self.calls.retain(|_, call| match &call.progress {
            _ if call.connection == current => true,
            Progress::Active { state, .. } => {
                if !state.is_detached() {
                    unwanted.push(Arc::clone(state));
                }
                true
            }
            Progress::Ended(kept) => {
                forgotten += kept.bytes;
                false
            }
        });
        self.subtract(forgotten);
        Ok(unwanted)
    }

    /// The caller has these ends.
    pub(super) fn on_confirmed(&mut self, calls: impl IntoIterator<Item = CallId>) {
        for id in calls {
            if let Some(Call { progress: Progress::Ended(kept), .. }) = self.calls.get(&id) {
                let bytes = kept.bytes;
                self.calls.remove(&id);
                self.subtract(bytes);
            }
        }
    }

    fn subtract(&mut self, bytes: usize) {
        self.kept -= bytes;
        self.of_all.subtract(bytes);
    }

    /// The caller is gone.
    pub(super) fn clear(&mut self) {
        self.calls.clear();
        self.subtract(self.kept);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.clear();
    }
}

/// What an end takes that is kept.
fn size(end: &OutgoingCallerReply) -> usize {
    end.payload.len() + END_OVERHEAD
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::{
        service::{
            method::Method,
            options::{CallOptions, SubmitOptions},
        },
        wire::{CallerEnd, Payload},
    };

    static METHOD: Method = Method::new("A", 1, "a", "fn() -> ()", false);

    fn begin(unfinished: &mut Unfinished, id: CallId) {
        let (options, submit_options) = (CallOptions::default(), SubmitOptions::default());
        let state = CallState::new(Arc::clone(METHOD.info()), Payload::EMPTY, options, submit_options);
        unfinished.insert(id, Arc::new(state), None);
    }

    /// Calls with these numbers are made, and end.
    fn end(unfinished: &mut Unfinished, numbers: Range<u64>) {
        for id in numbers.map(CallId) {
            begin(unfinished, id);
            let end = OutgoingCallerReply { call: Some(id), end: CallerEnd::NotReceived, payload: Payload::EMPTY };
            assert!(unfinished.on_end(id, &end, || end.clone()).is_none(), "there is no request to answer");
        }
    }

    #[test]
    fn calls_are_limited_until_their_ends_are_confirmed_or_not_asked_for() {
        let most = MOST_CALLS as u64;
        let mut unfinished = Unfinished::new(Arc::default(), 0);
        unfinished.on_connected(true);
        end(&mut unfinished, 0..most - 1);
        assert_eq!(unfinished.exceeded(), None);
        begin(&mut unfinished, CallId(most - 1));
        assert_eq!(unfinished.exceeded(), Some((MOST_CALLS, MOST_CALLS)), "one of them runs");
        unfinished.on_confirmed([CallId(most - 1), CallId(most)]);
        assert!(unfinished.exceeded().is_some(), "neither of them has ended");
        unfinished.on_confirmed([CallId(0), CallId(0)]);
        assert_eq!(unfinished.exceeded(), None, "one is confirmed");
        end(&mut unfinished, most..most + 1);
        assert!(unfinished.exceeded().is_some());
        // On its next connection it asks for none of them.
        unfinished.on_connected(true);
        assert_eq!(unfinished.forget_others().expect("is said once").len(), 1, "the one that runs is cancelled");
        assert_eq!(unfinished.exceeded(), None);
        assert!(unfinished.forget_others().is_err(), "is said twice");
        // A caller without a session confirms nothing, and nothing is kept.
        let mut unfinished = Unfinished::new(Arc::default(), 0);
        unfinished.on_connected(false);
        end(&mut unfinished, 0..most + 1);
        assert!(unfinished.is_empty());
    }

    #[test]
    fn twice_as_many_calls_are_taken_as_may_wait() {
        let may_wait = MOST_CALLS;
        let mut unfinished = Unfinished::new(Arc::default(), may_wait);
        unfinished.on_connected(true);
        end(&mut unfinished, 0..2 * may_wait as u64 - 1);
        assert_eq!(unfinished.exceeded(), None);
        end(&mut unfinished, 2 * may_wait as u64 - 1..2 * may_wait as u64);
        assert!(unfinished.exceeded().is_some());
    }
}
