//! The calls of a caller that have not ended, and what becomes of them when the master is lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::{
    sync::mpsc::UnboundedSender,
    time::{Duration, Instant},
};

use crate::{
    error::{CallError, CallStage, Execution, LimitOf, Part, QueueUnit},
    id::CallId,
    service::state::{CallFailure, CallState},
    wire::{
        Control, Payload,
        connection_state::ConnectionState,
        frame::layout::LARGEST_WHOLE_PAYLOAD,
        transport::{AskingAgain, ONLY_ATTEMPT, SendPermit, is_fetched},
    },
};

/// The most calls, and bytes of arguments, that wait while there is no connection.
const MOST_WAITING: usize = 65_536;
const MOST_WAITING_BYTES: usize = 256 * 1024 * 1024;

/// A call with arguments of up to this size waits whatever the bytes of the others: one large value does not keep it out.
const ALWAYS_WAITS: usize = 4 * 1024;

/// How long after a call's timeout the caller waits for the master to say so, if the master has the call and they are connected:
/// it knows how far the call had come.
const TIMEOUT_GRACE: Duration = Duration::from_secs(1);

/// A call that may be repeated is not sent again when this many connections in a row were lost soon after it was sent on
/// them: it may be the cause, and would take all other calls with it each time.
const MOST_LOSSES: u8 = 3;
const SOON: Duration = Duration::from_secs(10);

/// The calls that have not ended.
#[derive(Debug)]
pub(super) struct Calls {
    /// The id of the next call.
    next: CallId,
    /// The newest last.
    unfinished: BTreeMap<CallId, UnfinishedCall>,
    /// When the caller itself ends calls that have a timeout.
    deadlines: BTreeSet<(Instant, CallId)>,
    place: Place,
}

#[derive(Debug)]
struct UnfinishedCall {
    state: Arc<CallState>,
    submitted: Instant,
    deadline: Option<Instant>,
    /// When it was sent on this connection, or began to wait for one.
    placed: Instant,
    /// Whether it was sent on an earlier connection, so that the master may have it.
    was_sent: bool,
    /// Whether the master was asked again for its end on this connection.
    is_asked_again: bool,
    /// How many connections in a row were lost soon after it was sent on them.
    losses: u8,
}

/// Where calls go.
#[derive(Debug)]
enum Place {
    /// To this connection.
    Connected(Connection),
    /// They wait for one.
    Away {
        since: Instant,
        /// The newest failure.
        reason: String,
        /// Why the connection was lost.
        lost: String,
        /// How long the master may wait for this caller; `None` if it does not.
        session: Option<Duration>,
        /// How many wait, and their bytes.
        waiting: (usize, usize),
    },
    /// They end at once, because the caller has ended.
    Ended { reason: String },
}

/// The way into a connection.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) calls: UnboundedSender<Outgoing>,
    pub(super) state: Arc<ConnectionState>,
}

/// What is on its way to the master.
#[derive(Debug)]
pub(super) enum Outgoing {
    Call {
        id: CallId,
        state: Arc<CallState>,
        deadline: Option<Instant>,
    },
    /// Asks for the end of a call that was sent on an earlier connection.
    AskAgain {
        id: CallId,
        permit: Arc<dyn SendPermit>,
        /// The arguments, if the master fetches them.
        arguments: Option<Payload>,
    },
}

/// A call that has ended, and its end. Finished outside of the lock, because that wakes its caller.
pub(super) type Ended = (Arc<CallState>, CallError);

pub(super) fn finish(ended: impl IntoIterator<Item = Ended>) {
    for (state, error) in ended {
        let error = error.with_id(state.id());
        state.finish(Err(CallFailure::after(Vec::new(), error)));
    }
}

/// The end of a call that was sent to a master that was lost.
fn lost(call: &UnfinishedCall, master: &str, reason: &str) -> Ended {
    let error = CallError::MasterLost {
        call: call.state.identity(),
        master: master.to_owned(),
        reason: reason.to_owned(),
        execution: Execution::MayHaveRun,
    };
    (Arc::clone(&call.state), error)
}

impl Calls {
    pub(super) fn new() -> Self {
        let reason = "the first attempt to connect had not ended".to_owned();
        let place = Place::Away { since: Instant::now(), lost: reason.clone(), reason, session: None, waiting: (0, 0) };
        Self { next: CallId(0), unfinished: BTreeMap::new(), deadlines: BTreeSet::new(), place }
    }

    /// Takes a call over. An error ends it at once.
    pub(super) fn submit(
        &mut self,
        master: &str,
        reconnect_timeout: Duration,
        state: &Arc<CallState>,
    ) -> Result<(), CallError> {
        let call = || state.method.name().into();
        let lost = |reason: &str| CallError::MasterLost {
            call: call(),
            master: master.to_owned(),
            reason: reason.to_owned(),
            execution: Execution::NotRun,
        };
        let size = state.payload.len();
        match &mut self.place {
            Place::Connected(_) => {}
            Place::Ended { reason } => return Err(lost(reason)),
            Place::Away { since, reason, .. } if since.elapsed() >= reconnect_timeout => return Err(lost(reason)),
            Place::Away { waiting: (calls, bytes), .. } => {
                let full = if *calls >= MOST_WAITING {
                    Some((*calls, MOST_WAITING, QueueUnit::Calls))
                } else if *calls > 0 && size > ALWAYS_WAITS && *bytes + size > MOST_WAITING_BYTES {
                    Some((*bytes, MOST_WAITING_BYTES, QueueUnit::Bytes))
                } else {
                    None
                };
                if let Some((queued, limit, unit)) = full {
                    let limit_of = LimitOf::Disconnected;
                    return Err(CallError::Overloaded { call: call(), queued, limit, unit, limit_of });
                }
                (*calls, *bytes) = (*calls + 1, *bytes + size);
            }
        }
        let now = Instant::now();
        let deadline = state.options.timeout.map(|timeout| now + timeout);
        let state = Arc::clone(state);
        self.insert(UnfinishedCall {
            state,
            submitted: now,
            deadline,
            placed: now,
            was_sent: false,
            is_asked_again: false,
            losses: 0,
        });
        Ok(())
    }

    /// Gives a call its id, and sends it if there is a connection.
    fn insert(&mut self, call: UnfinishedCall) {
        let id = self.next;
        self.next = CallId(id.0.wrapping_add(call.state.submit_options.count.into()));
        call.state.set_id(id);
        self.send(id, call);
    }

    /// Sends a call by this id if there is a connection, and keeps it.
    fn send(&mut self, id: CallId, call: UnfinishedCall) {
        if let Some(deadline) = call.deadline {
            self.deadlines.insert((deadline, id));
        }
        // Also while there is no connection that could write it: from here on the word says whether it was sent.
        call.state.attempt.open(ONLY_ATTEMPT);
        if let Place::Connected(connection) = &self.place {
            // If the connection's task has ended, it is about to say so, and then the call waits for the next one.
            let outgoing = Outgoing::Call { id, state: Arc::clone(&call.state), deadline: call.deadline };
            let _ = connection.calls.send(outgoing);
        }
        self.unfinished.insert(id, UnfinishedCall { is_asked_again: false, ..call });
    }

    /// There is a connection to this master, with up to `limit` bytes of arguments. With a new session calls have ids from
    /// `first` on; a session that is resumed goes on with its ids. Asks for the ends of calls that were sent, sends the others,
    /// and returns those that have ended.
    pub(super) fn on_connected(
        &mut self,
        connection: Connection,
        master: &str,
        (first, is_resumed): (CallId, bool),
        limit: usize,
    ) -> Vec<Ended> {
        let mut ended = if is_resumed { Vec::new() } else { self.give_up_sent(master) };
        let asking = AskingAgain::new(&connection.state);
        let Connection { calls, state } = connection.clone();
        self.place = Place::Connected(connection);
        if !is_resumed {
            self.next = first;
        }
        self.deadlines.clear();
        let now = Instant::now();
        let mut asked = 0;
        for (id, call) in std::mem::take(&mut self.unfinished) {
            if call.was_sent {
                self.deadlines.extend(call.deadline.map(|deadline| (deadline, id)));
                let arguments = is_fetched(&call.state.payload).then(|| call.state.payload.clone());
                let _ = calls.send(Outgoing::AskAgain { id, permit: asking.permit(), arguments });
                asked += 1;
                // The frame that said so may have been lost with the earlier connection.
                if call.state.is_detached() {
                    state.send(Control::Detach { call: id.0 });
                }
                self.unfinished.insert(id, UnfinishedCall { was_sent: false, is_asked_again: true, ..call });
                continue;
            }
            let size = call.state.payload.len();
            if size <= limit {
                let call = UnfinishedCall { placed: now, ..call };
                // With a number that was never used: the master remembers a limited number of gaps, and may have had an
                // earlier number of this call.
                self.insert(call);
                continue;
            }
            // The limit was another one when the arguments were encoded. This master would close the connection.
            let (size, limit) = (size as u64, limit as u64);
            let error = CallError::TooLarge { call: call.state.identity(), part: Part::Arguments, size, limit };
            ended.push((call.state, error));
        }
        if is_resumed {
            asking.expect(asked);
        }
        ended
    }

    /// The master has never received a call that it was asked for again. Returns whether it was, and is sent now.
    pub(super) fn send_again(&mut self, id: CallId) -> bool {
        if !self.unfinished.get(&id).is_some_and(|call| call.is_asked_again) {
            return false;
        }
        if let Some(call) = self.remove(id) {
            let call = UnfinishedCall { placed: Instant::now(), is_asked_again: false, ..call };
            match is_fetched(&call.state.payload) {
                // The master may have begun to fetch its arguments under its number.
                true => self.insert(call),
                false => self.send(id, call),
            }
        }
        true
    }

    /// The connection has ended. If the master waits for this caller, calls that were sent wait too; otherwise they end, unless
    /// they may be repeated.
    pub(super) fn on_disconnected(&mut self, master: &str, reason: &str, session: Option<Duration>) -> Vec<Ended> {
        let mut waiting = (0, 0);
        // What was on its way is lost, and nothing asks for it again.
        let mut broken = Vec::new();
        for (id, call) in &mut self.unfinished {
            // A call that was asked for again has its word as it was on the earlier connection.
            call.was_sent = !call.state.attempt.abandon(ONLY_ATTEMPT);
            if call.was_sent && !call.state.streams.is_none() {
                let may_be_repeated = call.state.method.is_idempotent() && call.losses < MOST_LOSSES;
                if may_be_repeated && call.state.streams.begin_again() {
                    call.was_sent = false;
                    call.losses += 1;
                } else {
                    broken.push(*id);
                }
            }
            if call.was_sent {
                call.losses = if call.placed.elapsed() < SOON { call.losses + 1 } else { 0 };
            }
            waiting = (waiting.0 + 1, waiting.1 + call.state.payload.len());
        }
        let (since, why) = (Instant::now(), reason.to_owned());
        self.place = Place::Away { since, reason: why.clone(), lost: why, session, waiting };
        let deadlines = self.unfinished.iter().filter_map(|(id, call)| Some((call.deadline?, *id)));
        self.deadlines = deadlines.collect();
        let lost = |call: UnfinishedCall| lost(&call, master, reason);
        let mut ended: Vec<_> = broken.into_iter().filter_map(|id| self.remove(id)).map(lost).collect();
        if session.is_none() {
            ended.extend(self.give_up_sent(master));
        }
        ended
    }

    /// When the calls of a session that could not be resumed are to be given up.
    pub(super) fn session_ends(&self) -> Option<Instant> {
        match &self.place {
            Place::Away { since, session, .. } => session.map(|keep| *since + keep),
            _ => None,
        }
    }

    /// The session is over: ends calls that were sent, unless they may be repeated.
    pub(super) fn give_up_sent(&mut self, master: &str) -> Vec<Ended> {
        let Place::Away { lost: reason, session, .. } = &mut self.place else { return Vec::new() };
        *session = None;
        let reason = reason.clone();
        let mut sent = Vec::new();
        for (id, call) in &mut self.unfinished {
            let may_be_repeated = call.state.method.is_idempotent() && call.losses < MOST_LOSSES;
            if std::mem::take(&mut call.was_sent) && !may_be_repeated {
                sent.push(*id);
            }
        }
        let lost = |call: UnfinishedCall| lost(&call, master, &reason);
        sent.into_iter().filter_map(|id| self.remove(id)).map(lost).collect()
    }

    /// The master could not be reached again; `reason` is the newest failure.
    pub(super) fn on_still_away(&mut self, reason: &str) {
        if let Place::Away { reason: last, .. } = &mut self.place {
            reason.clone_into(last);
        }
    }

    /// Ends the calls that wait if the master has been away for this long.
    pub(super) fn give_up_after(&mut self, master: &str, reconnect_timeout: Duration) -> Option<Vec<Ended>> {
        let reason = match &self.place {
            Place::Away { since, reason, .. } if since.elapsed() >= reconnect_timeout => {
                format!("it was away for longer than {reconnect_timeout:?}: {reason}")
            }
            _ => return None,
        };
        Some(self.give_up(master, &reason, false))
    }

    /// Ends all calls: the master was away for too long, or (with `for_good`) the caller has ended.
    pub(super) fn give_up(&mut self, master: &str, reason: &str, for_good: bool) -> Vec<Ended> {
        let calls = std::mem::take(&mut self.unfinished);
        self.deadlines.clear();
        match &mut self.place {
            place if for_good => *place = Place::Ended { reason: reason.to_owned() },
            Place::Away { waiting, .. } => *waiting = (0, 0),
            _ => {}
        }
        let end = |call: UnfinishedCall| {
            let execution = match !call.was_sent && call.state.attempt.abandon(ONLY_ATTEMPT) {
                true => Execution::NotRun,
                false => Execution::MayHaveRun,
            };
            let (master, reason) = (master.to_owned(), reason.to_owned());
            (Arc::clone(&call.state), CallError::MasterLost { call: call.state.identity(), master, reason, execution })
        };
        calls.into_values().map(end).collect()
    }

    /// Takes a call that the master has answered, with the time since it was submitted. `None` if nobody waits for it.
    pub(super) fn answered(&mut self, id: CallId) -> Option<(Arc<CallState>, Duration)> {
        let call = self.remove(id)?;
        Some((call.state, call.submitted.elapsed()))
    }

    fn remove(&mut self, id: CallId) -> Option<UnfinishedCall> {
        let call = self.unfinished.remove(&id)?;
        if let Some(deadline) = call.deadline {
            self.deadlines.remove(&(deadline, id));
            self.deadlines.remove(&(deadline + TIMEOUT_GRACE, id));
        }
        if let Place::Away { waiting: (calls, bytes), .. } = &mut self.place {
            (*calls, *bytes) = (calls.saturating_sub(1), bytes.saturating_sub(call.state.payload.len()));
        }
        Some(call)
    }

    /// A call is not wanted any more.
    pub(super) fn cancel(&mut self, id: CallId) {
        let Some(call) = self.remove(id) else { return };
        let is_withdrawn = call.state.attempt.withdraw(ONLY_ATTEMPT);
        self.tell_cancelled(id, &call.state, is_withdrawn);
    }

    /// Tells the master, or the connection if it has not written all of the call.
    fn tell_cancelled(&self, id: CallId, state: &CallState, is_withdrawn: bool) {
        // A call that is not written yet will not be. It may wait long for its next chunk, so that the connection has to be told.
        let must_tell = !is_withdrawn || state.payload.len() > LARGEST_WHOLE_PAYLOAD;
        if let (Place::Connected(connection), true) = (&self.place, must_tell) {
            connection.state.send(Control::CancelCall { call: id.0 });
        }
    }

    /// A call runs to its end even if this process ends.
    pub(super) fn detach(&mut self, id: CallId) {
        let Some(call) = self.unfinished.get(&id) else { return };
        // First. If the request is written at the same time, its writer sees this, or the frame below comes behind it.
        call.state.set_detached();
        if let Place::Connected(connection) = &self.place {
            connection.state.send(Control::Detach { call: id.0 });
        }
    }

    /// Whether a call that runs to its end even if this process ends was not written yet.
    pub(super) fn has_unsent_detached(&self) -> bool {
        self.unfinished.values().any(|call| call.state.is_detached() && !call.state.attempt.is_sent(ONLY_ATTEMPT))
    }

    /// The node of a batch has kept this many of its calls.
    ///
    /// # Errors
    ///
    /// What a correct master never sends, as the reason why the connection is closed.
    pub(super) fn shorten(&self, id: CallId, kept: u32) -> Result<(), String> {
        let Some(call) = self.unfinished.get(&id) else { return Ok(()) };
        let count = call.state.submit_options.count;
        if !(1..count).contains(&kept) {
            return Err(format!("it gave back all but {kept} of {count} calls"));
        }
        call.state.shorten(kept);
        Ok(())
    }

    /// Ends the calls whose time is up.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Ended> {
        let mut ended = Vec::new();
        while let Some((at, id)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, id));
            let is_connected = matches!(self.place, Place::Connected(_));
            if let Some(UnfinishedCall { state, deadline: Some(deadline), .. }) = self.unfinished.get(&id) {
                // The master has it, and says how far it had come.
                if is_connected && at == *deadline && state.attempt.is_sent(ONLY_ATTEMPT) {
                    self.deadlines.insert((at + TIMEOUT_GRACE, id));
                    continue;
                }
            }
            let Some(call) = self.remove(id) else { continue };
            let is_withdrawn = call.state.attempt.withdraw(ONLY_ATTEMPT);
            let stage = if is_withdrawn { CallStage::Queued } else { CallStage::AtMaster };
            let timeout = call.state.options.timeout.unwrap_or_default();
            self.tell_cancelled(id, &call.state, is_withdrawn);
            ended.push((Arc::clone(&call.state), CallError::TimedOut { call: call.state.identity(), timeout, stage }));
        }
        ended
    }

    /// When [`expire`](Self::expire) has something to do next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The connection, if there is one.
    pub(super) fn connection(&self) -> Option<&Connection> {
        match &self.place {
            Place::Connected(connection) => Some(connection),
            _ => None,
        }
    }

    /// Since when there is no connection, and the newest failure; `None` while there is one.
    pub(super) fn absence(&self) -> Option<(Instant, &str)> {
        match &self.place {
            Place::Away { since, reason, .. } => Some((*since, reason)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
