//! A caller's call, from the form in which it travels to that which the core takes.

use std::sync::Arc;

use crate::{
    config::{LONGEST_TIME, from_micros},
    failed_attempt::FailedAttempt,
    id::NodeId,
    service::{
        metadata,
        method::MethodInfo,
        options::{CallOptions, Hedged, Labels, MOST_LABEL_BYTES, MOST_LABELS, SubmitOptions, are_possible},
        spans::CallTrace,
        state::CallState,
    },
    wire::{CallRequest, Payload, fetched_arguments::FetchedArguments},
};

/// What the core knows of a caller's call. Nothing of it that is the master's to decide comes from the caller.
///
/// # Errors
///
/// What a correct caller never sends.
pub(super) fn call_state(
    method: Arc<MethodInfo>,
    (payload, arguments): (Payload, Option<Arc<FetchedArguments>>),
    call: &CallRequest,
    hedge_of: Option<Hedged>,
    failed_attempts: Vec<FailedAttempt>,
    trace: Option<Box<CallTrace>>,
) -> Result<CallState, String> {
    let options = CallOptions {
        timeout: call.timeout.map(|(left, _)| from_micros(left).min(LONGEST_TIME)),
        node: call.node.map(NodeId::from_bits),
        attempts: call.attempts,
        labels: labels_of(&call.labels)?,
        affinity: call.affinity,
        retry_panics: call.retry_panics,
        metadata: metadata::from_wire(&call.metadata)
            .map_err(|rule| format!("it sent other metadata than a call can have: {rule}"))?,
        is_broadcast: call.is_broadcast,
    };
    let submit_options = SubmitOptions { count: call.count, hedge_of, failed_attempts, ..SubmitOptions::default() };
    let mut state = CallState::new(method, payload, options, submit_options);
    (state.arguments, state.trace) = (arguments, trace);
    Ok(state)
}

/// The labels that a node must have.
///
/// # Errors
///
/// What a correct caller never sends.
pub(super) fn labels_of(labels: &[(String, String)]) -> Result<Labels, String> {
    if !are_possible(labels) {
        return Err(format!("it asked for more than {MOST_LABELS} labels, or {MOST_LABEL_BYTES} bytes of them"));
    }
    if labels.is_empty() {
        return Ok(None);
    }
    let mut labels = labels.to_vec();
    // The order in which `Call::label` keeps them.
    labels.sort();
    labels.dedup();
    Ok(Some(labels.into()))
}
