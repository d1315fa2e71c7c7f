//! Carries out what the core has decided: sends, cancels and ends calls, closes connections, and logs events.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{
    host::MasterHost,
    link::{Attempt, NodeRequest},
};
use crate::{
    core::{CallAnswer, Effect},
    error::{CallError, GoneReason},
    failed_attempt::FailedAttempt,
    id::NodeIdentity,
    service::state::{CallFailure, CallState, RawAnswer},
    view::NodeEvent,
    wire::{Control, Outcome},
};

/// Carries one effect out. Never called under the core's lock: it wakes tasks and runs the drops of others.
pub(super) fn carry_out(effect: Effect<MasterHost>) {
    match effect {
        Effect::Send { link, call, id, attempt, granted, deadline } => {
            let deadline = deadline.map(|deadline| link.origin + deadline);
            // If the connection's task has ended, the node is about to be reported gone, which queues the call again.
            let request = NodeRequest::Attempt(Attempt { call: Arc::clone(&call), id, attempt, granted, deadline });
            let _: Result<(), mpsc::error::SendError<NodeRequest>> = link.requests.send(request);
        }
        Effect::AskAgain { link, id, attempt, method } => {
            let _ =
                link.requests.send(NodeRequest::AskAgain { id, attempt, method, permit: link.asking_again.permit() });
        }
        Effect::AskedAgain { link, requests } => link.asking_again.expect(requests),
        Effect::Cancel { link, id, attempt } => link.state.send(Control::Cancel { call: id.0, attempt }),
        Effect::End { call, end, failed_attempts } => {
            log_end(&call, &end, &failed_attempts);
            call.finish(end.map(raw_answer).map_err(|error| CallFailure::after(failed_attempts, error)));
        }
        Effect::Grant { link, id, attempt, upto } => link.state.send(Control::Grant { call: id.0, attempt, upto }),
        Effect::TellFailed { call, failed_attempt } => {
            if let Some(trace) = &call.trace {
                trace.on_attempt_failed(&failed_attempt);
            }
        }
        Effect::Shorten { call, kept } => call.shorten(kept),
        Effect::Retract { link } => link.state.send(Control::Retract),
        Effect::RequestDrain { link } => link.state.send(Control::RequestDrain),
        Effect::ConfirmDrained { link } => link.state.send(Control::Drained),
        Effect::Disconnect { link, reason } => link.close(reason),
        Effect::ReportOverdue { node, method, id, stopping_for } => tracing::warn!(
            call = %id,
            method = %method.name(),
            node = &*node.name,
            node_id = %node.id,
            duration = ?stopping_for,
            "a handler goes on although its call was cancelled or its time was up, and holds its slot; if it does not end, \
             drain its node and restart the node's process: only that ends the handler"
        ),
        Effect::Publish(event) => log_event(&event),
    }
}

/// Logs what has happened to a node.
fn log_event(event: &NodeEvent) {
    let Some(NodeIdentity { id, name, addr, .. }) = event.node() else { return };
    let (node, node_id, address) = (&**name, tracing::field::display(id), tracing::field::display(addr));
    match event {
        NodeEvent::Joined { principal, .. } => {
            tracing::info!(node, node_id, address, %principal, "a node has registered")
        }
        NodeEvent::Suspect { silent_for, .. } => {
            tracing::warn!(node, node_id, address, duration = ?silent_for, "a node is silent, and gets no new calls");
        }
        NodeEvent::Recovered { .. } => {
            tracing::info!(node, node_id, address, "a node is heard again, and gets new calls again");
        }
        NodeEvent::Disconnected { reason, in_flight: calls, .. } => tracing::warn!(
            node,
            node_id,
            address,
            calls,
            %reason,
            "the connection of a node has broken; the master waits for it to come back"
        ),
        NodeEvent::Resumed { in_flight: calls, .. } => {
            tracing::info!(node, node_id, address, calls, "a node is connected again, and goes on with its calls");
        }
        NodeEvent::Draining { .. } => {
            tracing::info!(node, node_id, address, "a node is draining: it finishes its calls and gets no new ones");
        }
        // A shutdown has ended the calls that a node still has, and has warned of them.
        NodeEvent::Gone { reason: reason @ GoneReason::Shutdown, in_flight: calls, .. }
        | NodeEvent::Gone { reason: reason @ GoneReason::Left, in_flight: calls @ 0, .. } => {
            tracing::info!(node, node_id, address, calls, %reason, "a node is gone");
        }
        NodeEvent::Gone { reason, in_flight: calls, .. } => {
            tracing::warn!(node, node_id, address, calls, %reason, "a node was lost");
        }
        NodeEvent::Ejected { rest, why: reason, .. } => {
            tracing::warn!(node, node_id, address, duration = ?rest, %reason, "a node is ejected, and gets no calls for a while");
        }
        NodeEvent::Restored { .. } => {
            tracing::info!(node, node_id, address, "a node answers its calls again, and is no longer ejected");
        }
        NodeEvent::Cordoned { .. } => {
            tracing::info!(
                node,
                node_id,
                address,
                "a node is cordoned: it gets no new calls and keeps those that it has"
            );
        }
        NodeEvent::Uncordoned { .. } => {
            tracing::info!(node, node_id, address, "a node is uncordoned, and gets new calls again");
        }
        // Only streams of events have these.
        NodeEvent::Present { .. } | NodeEvent::Missed(_) => {}
    }
}

/// Logs a call that did not simply end with a value: on which node each attempt was made, and how it failed.
fn log_end(call: &CallState, end: &Result<CallAnswer, CallError>, failed_attempts: &[FailedAttempt]) {
    if end.is_ok() && failed_attempts.is_empty() {
        return;
    }
    let method = call.method.name();
    let id = call.id().map(tracing::field::display);
    let attempts: Vec<String> = failed_attempts.iter().map(FailedAttempt::to_string).collect();
    let attempts = attempts.join("; ");
    let count = call.submit_options.count;
    // Where the last attempt failed.
    let node = failed_attempts.last().map(|last| &*last.node.name);
    match end {
        // No attempt at the batch failed, so this is not about a node, and each of its calls says why it ended.
        Err(error) if failed_attempts.is_empty() && count > 1 => {
            tracing::debug!(call = id, %method, count, reason = ?error.to_string(), "batch failed");
        }
        Err(_) if count > 1 => {
            tracing::warn!(call = id, %method, node, count, failed_attempts = attempts, "a batch failed; those of its calls that may be repeated are sent again one by one");
        }
        Ok(ended) => {
            let node = &*ended.node.name;
            tracing::info!(call = id, %method, node, failed_attempts = attempts, "a node answered the call after failed attempts")
        }
        // Quoted, because a handler's message may contain anything. Without a failed attempt the caller can judge the
        // error best, and there may be very many: each call that is refused because the queue is full is one.
        Err(error) if failed_attempts.is_empty() => {
            tracing::debug!(call = id, %method, reason = ?error.to_string(), "call failed");
        }
        // The error is that of the only attempt, and says all of it.
        Err(error @ (CallError::NodeLost { .. } | CallError::Panicked { .. })) if failed_attempts.len() == 1 => {
            tracing::warn!(call = id, %method, node, reason = ?error.to_string(), "call failed");
        }
        Err(error) => {
            tracing::warn!(call = id, %method, node, failed_attempts = attempts, reason = ?error.to_string(), "call failed");
        }
    }
}

fn raw_answer(ended: CallAnswer) -> RawAnswer {
    let CallAnswer { reply, node, attempts, elapsed } = ended;
    RawAnswer {
        is_error: reply.outcome == Outcome::Error,
        payload: reply.payload.into_bytes(),
        count: reply.count,
        node,
        attempts,
        elapsed,
        run: reply.run,
    }
}
