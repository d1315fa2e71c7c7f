//! The responses to a caller: how each of its calls ended, and what it asked for.

use super::requests::CallerRequests;
use crate::{
    config::to_micros,
    error::{CallError, Execution, Part},
    id::CallId,
    service::state::{CallFailure, CallState, RawAnswer},
    view::NodeInfo,
    wire::{
        CallerEnd, Payload, batch, codec::encode_payload, frame::layout::BODY_HEADER_LIMIT,
        transport::OutgoingCallerReply,
    },
};

impl CallerRequests {
    /// The caller has the ends of these calls.
    pub(super) fn on_confirmed(&self, calls: Vec<Option<CallId>>) {
        self.lock().calls.on_confirmed(calls.into_iter().flatten());
    }

    /// The end of a call that is asked for again after it was dropped.
    pub(super) fn lost(&self, id: CallId, state: &CallState) -> OutgoingCallerReply {
        let error = CallError::MasterLost {
            call: state.identity(),
            master: self.shared.local_addr.to_string(),
            reason: "its result was lost with the connection, because too many bytes of results waited for the caller"
                .to_owned(),
            execution: Execution::MayHaveRun,
        };
        self.failure(Some(id), &error, false)
    }

    pub(super) fn reply(
        &self,
        id: CallId,
        state: &CallState,
        mut end: Result<RawAnswer, CallFailure>,
    ) -> OutgoingCallerReply {
        let limit = self.reply_limit().saturating_sub(BODY_HEADER_LIMIT);
        let is_batch = state.submit_options.count > 1;
        if let (Ok(answer), true) = (&mut end, is_batch) {
            // The limit is for each value.
            answer.payload = batch::without_large(std::mem::take(&mut answer.payload), limit);
        }
        let limit = if is_batch { limit.saturating_add(batch::ROOM) } else { limit };
        match end {
            Ok(answer) if answer.payload.len() > limit => {
                let (size, limit) = (answer.payload.len() as u64, limit as u64);
                self.failure(
                    Some(id),
                    &CallError::TooLarge { call: state.identity(), part: Part::Reply, size, limit },
                    false,
                )
            }
            Ok(RawAnswer { is_error, payload, count, node, attempts, elapsed, run }) => OutgoingCallerReply {
                call: Some(id),
                end: CallerEnd::Answered {
                    is_error,
                    count,
                    node: (node.id.to_bits(), node.name.to_string()),
                    addr: self.shared.shows_addresses().then_some(node.addr),
                    attempts,
                    elapsed: to_micros(elapsed),
                    run: to_micros(run),
                },
                payload: payload.into(),
            },
            Err(CallFailure { error, was_tried, failed_attempts }) => {
                if let Some(first) = state.id().filter(|_| was_tried && state.submit_options.count > 1) {
                    self.lock().lost.note(first, state.submit_options.count, failed_attempts);
                }
                self.failure(Some(id), &error, was_tried)
            }
        }
    }

    pub(super) fn failure(&self, call: Option<CallId>, error: &CallError, was_tried: bool) -> OutgoingCallerReply {
        let limit = self.reply_limit().saturating_sub(BODY_HEADER_LIMIT);
        let sent = error.clone().widen::<()>();
        let sent = if self.shared.shows_addresses() { sent } else { sent.without_addresses() };
        // An error is far smaller than the smallest limit of a message. If it were not, the caller is told the same of the
        // call by the error that takes its place.
        let payload = encode_payload(&sent, limit).unwrap_or_else(|_| {
            let short =
                error.call().map(|call| CallError::<()>::Shutdown { call: call.clone(), execution: error.execution() });
            short.and_then(|short| encode_payload(&short, limit).ok()).unwrap_or(Payload::EMPTY)
        });
        OutgoingCallerReply { call, end: CallerEnd::Failed { failed_attempts: u32::from(was_tried) }, payload }
    }

    pub(super) fn list(&self, nodes: Vec<NodeInfo>) -> OutgoingCallerReply {
        let nodes: Vec<NodeInfo> = match self.shared.shows_addresses() {
            true => nodes,
            false => nodes.into_iter().map(NodeInfo::without_address).collect(),
        };
        let limit = self.reply_limit().saturating_sub(BODY_HEADER_LIMIT);
        match encode_payload(&nodes, limit) {
            Ok(payload) => OutgoingCallerReply { call: None, end: CallerEnd::Nodes, payload },
            Err(error) => {
                tracing::warn!(caller = self.caller.name, reason = ?error, "the list of nodes is too long for a caller");
                OutgoingCallerReply { call: None, end: CallerEnd::Nodes, payload: Payload::EMPTY }
            }
        }
    }
}
