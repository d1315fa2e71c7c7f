//! The callers that are connected, and the numbers that their calls have.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    administration::{CallInfo, CallerInfo},
    error::GoneReason,
    id::{CallId, CallerId},
    security::{Access, Principal},
};

/// The callers that are connected.
#[derive(Debug)]
pub(super) struct Callers {
    /// What the numbers of the master's own calls begin with.
    own: u32,
    locked: Mutex<Locked>,
}

#[derive(Debug, Default)]
struct Locked {
    connected: HashMap<CallerId, Arc<ConnectedCaller>>,
    /// What the numbers of the last new caller's calls begin with.
    last: Option<u32>,
}

/// A caller that is connected.
#[derive(Debug)]
pub(super) struct ConnectedCaller {
    pub(super) id: CallerId,
    pub(super) name: String,
    pub(super) addr: SocketAddr,
    pub(super) principal: Principal,
    access: Access,
    connected: Instant,
    /// Its calls that are not answered yet.
    calls: AtomicUsize,
    pub(super) closed: CancellationToken,
    close_reason: Mutex<Option<GoneReason>>,
}

impl Callers {
    /// `epoch` is what the numbers of the master's own calls begin with.
    pub(super) fn new(epoch: u32) -> Self {
        Self { own: CallId::first(epoch).prefix(), locked: Mutex::default() }
    }

    /// Adds a caller, and chooses what the numbers of its calls begin with: what no other caller's begin with.
    /// `closed` also ends when the master does.
    pub(super) fn insert(
        &self,
        name: String,
        addr: SocketAddr,
        (principal, access): (Principal, Access),
        closed: CancellationToken,
    ) -> Arc<ConnectedCaller> {
        let mut locked = self.lock();
        // Downwards from the master's own, because the master's own numbers carry upwards.
        let mut prefix = locked.last.unwrap_or(self.own);
        loop {
            prefix = CallId::prefix_before(prefix);
            if prefix != self.own && !locked.connected.contains_key(&CallerId::of_prefix(prefix)) {
                break;
            }
        }
        locked.last = Some(prefix);
        let id = CallerId::of_prefix(prefix);
        let caller = Arc::new(ConnectedCaller {
            id,
            name,
            addr,
            principal,
            access,
            connected: Instant::now(),
            calls: AtomicUsize::new(0),
            closed,
            close_reason: Mutex::default(),
        });
        locked.connected.insert(id, Arc::clone(&caller));
        caller
    }

    pub(super) fn remove(&self, id: CallerId) {
        self.lock().connected.remove(&id);
    }

    /// Ends the connection of a caller for this reason.
    #[cfg(feature = "tls")]
    pub(super) fn close(&self, id: CallerId, reason: GoneReason) {
        let caller = self.lock().connected.get(&id).cloned();
        if let Some(caller) = caller {
            *caller.close_reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
            caller.closed.cancel();
        }
    }

    /// How many callers are connected, in all and with this credential.
    pub(super) fn count(&self, principal: &Principal) -> (usize, usize) {
        let locked = self.lock();
        let same = locked.connected.values().filter(|caller| caller.principal.id == principal.id).count();
        (locked.connected.len(), same)
    }

    /// How many callers are connected.
    pub(in crate::master) fn len(&self) -> usize {
        self.lock().connected.len()
    }

    /// All callers, those first that have been connected longest.
    pub(in crate::master) fn list(&self) -> Vec<CallerInfo> {
        let mut callers: Vec<_> = self.lock().connected.values().map(Arc::clone).collect();
        // Several may have come in the same moment.
        callers.sort_by_key(|caller| (caller.connected, caller.id));
        callers.iter().map(|caller| caller.info()).collect()
    }

    /// Fills in who made each of these calls.
    pub(in crate::master) fn name_callers_of(&self, calls: &mut [CallInfo]) {
        let locked = self.lock();
        for call in calls {
            let caller = locked.connected.get(&CallerId::of_prefix(call.id.prefix()));
            call.caller = caller.map(|caller| caller.name.as_str().into());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Locked> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectedCaller {
    /// The number of its first call.
    pub(super) fn first_call(&self) -> CallId {
        self.id.first_call()
    }

    /// As administrators see it.
    fn info(&self) -> CallerInfo {
        CallerInfo {
            name: self.name.as_str().into(),
            addr: self.addr,
            principal: self.principal.clone(),
            access: self.access,
            connected_for: self.connected.elapsed(),
            calls: self.calls.load(Ordering::Relaxed),
            first_call: self.first_call(),
        }
    }

    /// It has made this many calls.
    pub(super) fn on_calls_made(&self, count: u32) {
        self.calls.fetch_add(count as usize, Ordering::Relaxed);
    }

    /// This many of its calls are answered.
    pub(super) fn on_calls_answered(&self, count: u32) {
        self.calls.fetch_sub(count as usize, Ordering::Relaxed);
    }

    /// Waits until the connection is to be closed, and returns why.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub(super) async fn closed(&self) -> GoneReason {
        self.closed.cancelled().await;
        let reason = self.close_reason.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Without a reason of its own the connection ends with the master.
        reason.unwrap_or(GoneReason::Shutdown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_callers_and_not_the_master_have_the_same_numbers() {
        let callers = Callers::new(0xff00_0001);
        let insert = || {
            let addr = ([127, 0, 0, 1], 1).into();
            callers.insert("c".to_owned(), addr, (Principal::open(), Access::Callers), CancellationToken::new())
        };
        let first: Vec<_> = (0..3).map(|_| insert().first_call().to_string()).collect();
        assert_eq!(first, ["000000-0", "ffffff-0", "fffffe-0"], "downwards, beginning before the master's 000001");
        callers.lock().last = Some(2);
        assert_eq!(insert().first_call().to_string(), "fffffd-0", "the others are taken");
        assert_eq!(callers.count(&Principal::open()), (4, 4));
        callers.remove(CallerId::of_prefix(0));
        callers.lock().last = Some(2);
        assert_eq!(insert().first_call().to_string(), "000000-0");
    }
}
