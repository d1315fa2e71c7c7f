//! Errors of calls in few words.

use crate::error::{CallError, CallStage, ITS_MAKER, LimitOf};

pub(super) fn brief(error: &CallError) -> String {
    match error {
        CallError::NodeLost { node, attempts, .. } => format!("lost with {}, attempts {attempts}", node.name),
        CallError::Panicked { node, .. } => format!("panicked on {}", node.name),
        CallError::NoNode { wanted, .. } => format!("no node: {wanted}"),
        CallError::Overloaded { limit_of, queued, limit, unit, .. } => {
            let whose = if *limit_of == LimitOf::Caller { " of its caller" } else { "" };
            format!("overloaded: {queued} of {limit} {unit}{whose}")
        }
        CallError::TimedOut { stage, .. } => match stage {
            CallStage::Queued => "timed out, queued".to_owned(),
            CallStage::Retrying(node) => format!("timed out, to be repeated after {}", node.name),
            CallStage::Sent(node) => format!("timed out on {}", node.name),
            CallStage::AtMaster => "timed out at the master".to_owned(),
        },
        CallError::Cancelled { by, execution, .. } => {
            let text = execution.to_string();
            match &**by == ITS_MAKER {
                true => format!("cancelled, {}", text.trim_start_matches("it ")),
                false => format!("cancelled by {by}, {text}"),
            }
        }
        CallError::Poisoned { nodes, .. } => format!("poisoned by {} nodes", nodes.len()),
        other => other.to_string(),
    }
}
