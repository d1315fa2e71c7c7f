//! Accepts a caller that has authenticated itself, if it may come, and serves it until it is gone.

use std::{net::SocketAddr, sync::Arc};

use super::session;
use crate::{
    error::GoneReason,
    master::{admission::LogKind, caller_table::ConnectedCaller, new_caller::NewConnection, shared::Shared},
    security::{Access, Operation, PrincipalKind},
    wire::{
        channel::Channel,
        credential::Credential,
        handshake::{CallerHello, CallerWelcome, SessionId, send_welcome},
    },
};

/// Callers that may be connected at a time.
const MOST_CALLERS: usize = 10_000;

/// How many of them may have come by one credential, so that one that was stolen does not keep all others out.
const MOST_OF_ONE_CREDENTIAL: usize = MOST_CALLERS / 2;

/// Accepts a caller that has authenticated itself, and serves it until its connection ends.
pub(in crate::master) async fn join(
    shared: Arc<Shared>,
    channel: Channel,
    credential: Credential,
    hello: CallerHello,
    peer: SocketAddr,
) {
    let may_come = credential.access.may(match hello.node {
        Some(_) => Operation::CallNested,
        None if matches!(credential.access, Access::Admins | Access::Viewers) => Operation::View,
        None => Operation::Call,
    });
    let checked = hello.check().map_err(|reason| (reason, true)).and_then(|()| {
        if !may_come {
            let reason =
                format!("{} is for {}s, and they make no calls of their own", credential.principal, credential.access);
            return Err((reason, true));
        }
        match hello.node {
            Some(node) => {
                let checked = shared.check_calling_node(node.instance, &credential.principal);
                checked.map_err(|reason| (reason, false))
            }
            None => Ok(()),
        }
    });
    if let Err((reason, for_good)) = checked {
        return refuse(&shared, channel, &credential, peer, reason, for_good).await;
    }
    let process = hello.node.map(|node| node.instance);
    let session = shared.resumes_callers().then(SessionId::random);
    let resumed = hello
        .session
        .zip(session)
        .and_then(|(named, next)| shared.callers.resume(named.digest(), (&credential, process), next.digest()));
    if let Some(caller) = resumed {
        // The task that holds the calls of this session goes on with the new connection.
        return caller.hand_over(NewConnection { channel, credential, hello, peer, session, is_resumed: true });
    }
    // Nodes are not limited as callers.
    let grant = credential.grant.clone().filter(|_| process.is_none());
    let allowed = match no_room(&shared, &credential) {
        Some(reason) => Err(reason),
        None => grant.as_ref().map(|grant| shared.allowances.connect(grant)).transpose(),
    };
    let allowance = match allowed {
        Ok(allowance) => allowance,
        Err(reason) => return refuse(&shared, channel, &credential, peer, reason, false).await,
    };
    let access = credential.access;
    let (name, who) = (hello.name.clone(), (credential.principal.clone(), credential.access));
    let connection = NewConnection { channel, credential, hello, peer, session, is_resumed: false };
    let digest = session.map(SessionId::digest);
    let caller = shared.callers.insert(name, peer, who, (process, grant), digest, shared.closed.child_token());
    let _leave = LeaveOnDrop { shared: &shared, caller: &caller };
    let reason = session::run(&shared, &caller, connection, allowance).await;
    match reason {
        // Each command of an administrator is a caller, and one line for it is enough.
        GoneReason::Left if matches!(access, Access::Admins | Access::Viewers) => {
            tracing::debug!(caller = caller.name, address = %caller.addr(), %reason, "a caller has left");
        }
        GoneReason::Left | GoneReason::Shutdown => {
            tracing::info!(caller = caller.name, address = %caller.addr(), %reason, "a caller has left");
        }
        _ => tracing::warn!(caller = caller.name, address = %caller.addr(), %reason, "a caller was lost"),
    }
}

/// Why one more caller with this credential cannot be accepted, if it cannot. Sessions that nobody may need make room for it.
fn no_room(shared: &Shared, Credential { principal, .. }: &Credential) -> Option<String> {
    let (connected, same) = shared.callers.count(principal);
    if connected >= MOST_CALLERS && !shared.callers.end_idle(None) {
        return Some(format!("{MOST_CALLERS} callers are connected already"));
    }
    let is_open = principal.kind == PrincipalKind::Open;
    let is_full = same >= MOST_OF_ONE_CREDENTIAL && !is_open && !shared.callers.end_idle(Some(principal));
    is_full.then(|| format!("{MOST_OF_ONE_CREDENTIAL} callers are connected by this {principal} already"))
}

async fn refuse(
    shared: &Shared,
    mut channel: Channel,
    credential: &Credential,
    peer: SocketAddr,
    reason: String,
    for_good: bool,
) {
    if let Some(suppressed) = shared.admission.should_log(LogKind::Refused, peer.ip()) {
        tracing::warn!(address = %peer, principal = %credential.principal, reason, suppressed, "refused a caller");
    }
    // It may be gone already, and then it needs no answer.
    let _ = send_welcome(&mut channel, &CallerWelcome::Refused { reason, for_good }).await;
    shared.admission.turn_away(peer.ip(), for_good);
}

/// Takes a caller off the list when its session has ended, however it ended.
struct LeaveOnDrop<'a> {
    shared: &'a Shared,
    caller: &'a ConnectedCaller,
}

impl Drop for LeaveOnDrop<'_> {
    fn drop(&mut self) {
        // Before it is off the list, so that its name is known at any time.
        let failed = || self.shared.lock().core.callers_with_failures();
        self.shared.gone_callers.note(self.caller.id, &self.caller.name, failed);
        self.shared.callers.remove(self.caller.id);
    }
}
