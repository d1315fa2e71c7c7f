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

/// The most ends that are kept for a caller, however small they are. One that confirms what it has received has fewer.
const MOST_ENDS: usize = 320 * 1024;

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
    has_forgotten: bool,
    /// The bytes of the ends that are kept.
    kept: usize,
    /// How many ends are kept.
    ends: usize,
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
pub(super) enum AskedAgain {
    /// It is to be answered with this.
    Answer(Box<Request>, OutgoingCallerReply),
    /// It never arrived.
    NotReceived(Box<Request>),
    /// It is answered when the call ends. Of a batch its node has kept this many calls.
    Goes { kept: Option<u32> },
}

impl Unfinished {
    pub(super) fn new(of_all: Arc<KeptBytes>) -> Self {
        Self { of_all, calls: HashMap::new(), connection: 0, keeps: false, has_forgotten: true, kept: 0, ends: 0 }
    }

    /// The session goes on with a new connection. `keeps`: the caller confirms ends, and asks for others again.
    pub(super) fn on_connected(&mut self, keeps: bool) {
        self.connection += 1;
        self.keeps = keeps;
        self.has_forgotten = false;
    }

    /// The connection has ended: nothing is answered on it any more.
    pub(super) fn on_connection_ended(&mut self) {
        for call in self.calls.values_mut() {
            if let Progress::Active { request, .. } = &mut call.progress {
                *request = None;
            }
        }
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
                // It is small, and counts among the ends.
                false => Kept { bytes: 0, end: lost() },
            };
            call.progress = Progress::Ended(kept);
            self.ends += 1;
        } else {
            self.calls.remove(&id);
        }
        request
    }

    /// The caller asks for the end of a call that it has sent on an earlier connection.
    pub(super) fn ask_again(&mut self, id: CallId, request: Request) -> AskedAgain {
        let request = Box::new(request);
        let Some(call) = self.calls.get_mut(&id) else { return AskedAgain::NotReceived(request) };
        call.connection = self.connection;
        match &mut call.progress {
            Progress::Active { request: place, kept, .. } => {
                *place = Some(request);
                AskedAgain::Goes { kept: *kept }
            }
            Progress::Ended(kept) => AskedAgain::Answer(request, kept.end.clone()),
        }
    }

    /// The caller has asked again for all ends that it wants: forgets the others, and returns the calls that nobody waits for.
    ///
    /// # Errors
    ///
    /// What a correct caller never sends, as the reason why the connection is closed.
    pub(super) fn forget_others(&mut self) -> Result<Vec<Arc<CallState>>, String> {
        if std::mem::replace(&mut self.has_forgotten, true) {
            return Err("it said twice that it had asked for all earlier calls".to_owned());
        }
        let (current, mut unwanted) = (self.connection, Vec::new());
        let (mut forgotten, mut ends) = (0, 0);
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
                ends += 1;
                false
            }
        });
        self.ends -= ends;
        self.subtract(forgotten);
        Ok(unwanted)
    }

    /// The caller has these ends.
    pub(super) fn on_confirmed(&mut self, calls: impl IntoIterator<Item = CallId>) {
        for id in calls {
            if let Some(Call { progress: Progress::Ended(kept), .. }) = self.calls.get(&id) {
                let bytes = kept.bytes;
                self.calls.remove(&id);
                self.ends -= 1;
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
        self.ends = 0;
        self.subtract(self.kept);
    }

    /// Whether the caller does not confirm what it receives.
    pub(super) fn has_too_many_ends(&self) -> bool {
        self.ends > MOST_ENDS
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
