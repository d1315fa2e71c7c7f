//! The callers that are connected, and the numbers that their calls have.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::new_caller::NewConnection;

use crate::{
    administration::{CallInfo, CallerInfo},
    error::GoneReason,
    id::{CallId, CallerId},
    security::{Access, Principal},
    wire::{
        credential::{CallerGrant, Credential},
        handshake::{KnownSession, SessionDigest},
    },
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
    /// Who has which session.
    sessions: HashMap<SessionDigest, CallerId>,
    /// What the numbers of the last new caller's calls begin with.
    last: Option<u32>,
}

/// A caller that is connected.
#[derive(Debug)]
pub(super) struct ConnectedCaller {
    pub(super) id: CallerId,
    pub(super) name: String,
    /// Where its newest connection comes from.
    addr: Mutex<SocketAddr>,
    pub(super) principal: Principal,
    access: Access,
    connected: Instant,
    /// Its calls that are not answered yet.
    calls: AtomicUsize,
    pub(super) closed: CancellationToken,
    close_reason: Mutex<Option<GoneReason>>,
    /// The node whose handlers make the calls, and what the credential of another caller allows. With other ones it is
    /// another caller.
    came_as: (Option<u128>, Option<CallerGrant>),
    /// What it names to go on with its calls. Changed under the lock of the table.
    session: Mutex<Option<KnownSession>>,
    /// The connection on which it goes on.
    next: Mutex<Option<Box<NewConnection>>>,
    /// Wakes the session's task: a connection was handed over.
    handed_over: Notify,
    /// Whether that connection still exists.
    is_connected: AtomicBool,
    /// Whether it has no connection and no calls. The master has nothing to lose with it; but what the caller has sent may not
    /// have arrived.
    is_idle: AtomicBool,
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
        came_as: (Option<u128>, Option<CallerGrant>),
        session: Option<SessionDigest>,
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
            addr: Mutex::new(addr),
            principal,
            access,
            connected: Instant::now(),
            calls: AtomicUsize::new(0),
            closed,
            close_reason: Mutex::default(),
            came_as,
            session: Mutex::new(session.map(KnownSession::new)),
            next: Mutex::default(),
            handed_over: Notify::new(),
            is_connected: AtomicBool::new(true),
            is_idle: AtomicBool::new(false),
        });
        locked.sessions.extend(session.map(|session| (session, id)));
        locked.connected.insert(id, Arc::clone(&caller));
        caller
    }

    pub(super) fn remove(&self, id: CallerId) {
        self.lock().remove(id);
    }

    /// The caller that has this session, if it came with the same credential and rights and, for nested calls, from this
    /// process. The session has another id from now on.
    pub(super) fn resume(
        &self,
        named: SessionDigest,
        (credential, process): (&Credential, Option<u128>),
        next: SessionDigest,
    ) -> Option<Arc<ConnectedCaller>> {
        let mut locked = self.lock();
        let caller = Arc::clone(locked.connected.get(locked.sessions.get(&named)?)?);
        let grant = credential.grant.as_ref().filter(|_| process.is_none());
        let is_same = caller.principal == credential.principal
            && caller.access == credential.access
            && (caller.came_as.0, caller.came_as.1.as_ref()) == (process, grant);
        if !is_same || caller.closed.is_cancelled() {
            return None;
        }
        let known = (*caller.session())?;
        let renewed = known.renewed(named, next);
        *caller.session() = Some(renewed);
        known.ids().for_each(|id| _ = locked.sessions.remove(&id));
        locked.sessions.extend(renewed.ids().map(|id| (id, caller.id)));
        // It is about to have a connection, so it must not make room for another caller.
        caller.is_idle.store(false, Ordering::Relaxed);
        Some(caller)
    }

    /// Something has come from a caller on the connection with which it was given this id. An id that it was given on another
    /// connection may not have arrived.
    pub(super) fn on_heard(&self, caller: &ConnectedCaller, given: Option<SessionDigest>) {
        let mut locked = self.lock();
        if let Some(known) = caller.session().as_mut().filter(|known| Some(known.newest()) == given) {
            let before = *known;
            known.on_heard();
            before.ids().filter(|id| !known.is_named(*id)).for_each(|id| _ = locked.sessions.remove(&id));
        }
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

    /// Makes room for another caller: ends a session that has no connection and no calls, of this credential if one is given.
    /// Returns whether there was one.
    pub(super) fn end_idle(&self, principal: Option<&Principal>) -> bool {
        let mut locked = self.lock();
        let is_idle = |caller: &&Arc<ConnectedCaller>| {
            caller.is_idle.load(Ordering::Relaxed) && principal.is_none_or(|of| caller.principal.id == of.id)
        };
        let Some(caller) = locked.connected.values().find(is_idle).map(Arc::clone) else { return false };
        locked.remove(caller.id);
        *caller.close_reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(GoneReason::Disconnected);
        caller.closed.cancel();
        true
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

    /// The names of those that are connected, by their ids.
    pub(in crate::master) fn names(&self) -> HashMap<CallerId, Arc<str>> {
        let locked = self.lock();
        locked.connected.iter().map(|(id, caller)| (*id, caller.name.as_str().into())).collect()
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

impl Locked {
    fn remove(&mut self, id: CallerId) {
        if let Some(caller) = self.connected.remove(&id) {
            for session in caller.session().iter().flat_map(KnownSession::ids) {
                self.sessions.remove(&session);
            }
        }
    }
}

impl ConnectedCaller {
    /// Where its newest connection comes from.
    pub(super) fn addr(&self) -> SocketAddr {
        *self.addr.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It goes on with a connection from there.
    pub(super) fn on_connected(&self, addr: SocketAddr) {
        *self.addr.lock().unwrap_or_else(PoisonError::into_inner) = addr;
        self.is_connected.store(true, Ordering::Relaxed);
        self.is_idle.store(false, Ordering::Relaxed);
    }

    /// It has no connection.
    pub(super) fn on_disconnected(&self, has_calls: bool) {
        self.is_connected.store(false, Ordering::Relaxed);
        self.is_idle.store(!has_calls, Ordering::Relaxed);
    }

    /// The number of its first call.
    pub(super) fn first_call(&self) -> CallId {
        self.id.first_call()
    }

    /// Gives the task of the session another connection. Of two the newer one counts.
    pub(super) fn hand_over(&self, connection: NewConnection) {
        *self.next() = Some(Box::new(connection));
        self.handed_over.notify_one();
    }

    /// Waits for another connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub(super) async fn next_connection(&self) -> Box<NewConnection> {
        loop {
            if let Some(connection) = self.next().take() {
                return connection;
            }
            self.handed_over.notified().await;
        }
    }

    fn next(&self) -> MutexGuard<'_, Option<Box<NewConnection>>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn session(&self) -> MutexGuard<'_, Option<KnownSession>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As administrators see it.
    fn info(&self) -> CallerInfo {
        CallerInfo {
            name: self.name.as_str().into(),
            addr: self.addr(),
            principal: self.principal.clone(),
            access: self.access,
            is_connected: self.is_connected.load(Ordering::Relaxed),
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
    use crate::wire::handshake::SessionId;

    impl Callers {
        /// Adds a caller that needed no credential.
        pub(in crate::master) fn insert_open(
            &self,
            came_as: (Option<u128>, Option<CallerGrant>),
            session: Option<SessionDigest>,
        ) -> Arc<ConnectedCaller> {
            let who = (Principal::open(), Access::Callers);
            let addr = ([127, 0, 0, 1], 1).into();
            self.insert("c".to_owned(), addr, who, came_as, session, CancellationToken::new())
        }
    }

    #[test]
    fn no_two_callers_and_not_the_master_have_the_same_numbers() {
        let callers = Callers::new(0xff00_0001);
        let insert = || callers.insert_open((None, None), None);
        let first: Vec<_> = (0..3).map(|_| insert().first_call().to_string()).collect();
        assert_eq!(first, ["000000-0", "ffffff-0", "fffffe-0"], "downwards, beginning before the master's 000001");
        callers.lock().last = Some(2);
        assert_eq!(insert().first_call().to_string(), "fffffd-0", "the others are taken");
        assert_eq!(callers.count(&Principal::open()), (4, 4));
        callers.remove(CallerId::of_prefix(0));
        callers.lock().last = Some(2);
        assert_eq!(insert().first_call().to_string(), "000000-0");
    }

    #[test]
    fn a_session_is_resumed_once_by_who_began_it() {
        let callers = Callers::new(1);
        let [first, second, third, wrong] = [1, 2, 3, 4].map(|number| SessionId::new(number).digest());
        let open = Credential::open(Access::Callers);
        let insert = |process, session| callers.insert_open((process, None), Some(session));
        let (caller, nested) = (insert(None, first), insert(Some(7), SessionId::new(9).digest()));
        let other = Principal { kind: crate::security::PrincipalKind::Token, ..Principal::open() };
        let other = {
            let mut credential = open.clone();
            credential.principal = other;
            credential
        };
        assert!(callers.resume(wrong, (&open, None), second).is_none(), "nobody has it");
        assert!(callers.resume(first, (&other, None), second).is_none(), "another credential");
        assert!(callers.resume(first, (&open, Some(7)), second).is_none(), "not of a node");
        let admin = Credential::open(Access::Admins);
        assert!(callers.resume(first, (&admin, None), second).is_none(), "other rights");
        assert!(callers.resume(SessionId::new(9).digest(), (&open, Some(8)), second).is_none(), "another node");
        assert_eq!(callers.resume(first, (&open, None), second).map(|caller| caller.id), Some(caller.id));
        // The reply may have been lost, so that the caller knows the old id only.
        assert_eq!(callers.resume(first, (&open, None), third).map(|caller| caller.id), Some(caller.id));
        assert!(callers.resume(second, (&open, None), wrong).is_none(), "it was never used");
        callers.on_heard(&caller, Some(second));
        assert!(callers.resume(first, (&open, None), third).is_some(), "that was an earlier connection");
        callers.on_heard(&caller, Some(third));
        assert!(callers.resume(first, (&open, None), wrong).is_none(), "it has the next one");
        // Its credential was revoked.
        caller.closed.cancel();
        assert!(callers.resume(third, (&open, None), wrong).is_none());
        callers.remove(caller.id);
        callers.remove(nested.id);
        assert!(callers.lock().sessions.is_empty(), "{:?}", callers.lock().sessions);
    }

    #[test]
    fn sessions_that_nobody_may_need_make_room() {
        let callers = Callers::new(1);
        let insert = || callers.insert_open((None, None), None);
        let (busy, idle) = (insert(), insert());
        assert!(!callers.end_idle(None), "both are connected");
        idle.on_disconnected(false);
        #[cfg(feature = "tls")]
        {
            let other = Principal { id: crate::security::id_of_key(b"another"), ..Principal::open() };
            assert!(!callers.end_idle(Some(&other)), "it is of another credential");
        }
        assert!(callers.end_idle(Some(&Principal::open())));
        assert!(idle.closed.is_cancelled() && !busy.closed.is_cancelled());
        assert_eq!(callers.len(), 1);
    }
}
