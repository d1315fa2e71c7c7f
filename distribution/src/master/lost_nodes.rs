//! The nodes that were lost lately and have not come back. They are in no list of nodes any more, so an administrator who comes
//! later learns of them here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    administration::{Warning, WarningKind},
    core::Time,
    error::GoneReason,
    id::NodeIdentity,
    view::NodeEvent,
};

/// For how long a lost node is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(3600);

/// How many names are remembered at a time: more than anybody reads.
const MOST_REMEMBERED: usize = 1024;

/// The nodes that were lost, by name: a program that is started again has another id and, as a rule, the same name.
#[derive(Debug, Default)]
pub(super) struct LostNodes(Mutex<HashMap<Arc<str>, LostNode>>);

#[derive(Debug)]
struct LostNode {
    node: NodeIdentity,
    at: Time,
    reason: GoneReason,
    /// How many calls it had not answered.
    unanswered: usize,
}

impl LostNodes {
    /// Something has happened to a node.
    pub(super) fn on_event(&self, now: Time, event: &NodeEvent) {
        match event {
            NodeEvent::Joined { node, .. } => _ = self.lock().remove(&node.name),
            NodeEvent::Gone { node, reason, in_flight } if is_loss(reason) => {
                let mut lost = self.lock();
                if lost.len() >= MOST_REMEMBERED && !lost.contains_key(&node.name) {
                    let oldest = lost.values().min_by_key(|lost| lost.at).map(|lost| Arc::clone(&lost.node.name));
                    oldest.map(|name| lost.remove(&name));
                }
                let (node, reason) = (node.clone(), reason.clone());
                lost.insert(Arc::clone(&node.name), LostNode { node, at: now, reason, unanswered: *in_flight });
            }
            _ => {}
        }
    }

    /// A warning for each node that was lost in the last hour and has not come back, the last one first.
    pub(super) fn warnings(&self, now: Time) -> Vec<Warning> {
        let mut lost = self.lock();
        lost.retain(|_, lost| now.saturating_sub(lost.at) < REMEMBERED_FOR);
        let mut lost: Vec<&LostNode> = lost.values().collect();
        lost.sort_by(|a, b| (b.at, &a.node.name).cmp(&(a.at, &b.node.name)));
        lost.into_iter().map(|lost| lost.warning(now)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, LostNode>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LostNode {
    fn warning(&self, now: Time) -> Warning {
        let Self { node, at, reason, unanswered } = self;
        let calls = match unanswered {
            0 => String::new(),
            1 => " One of its calls was not answered.".to_owned(),
            count => format!(" {count} of its calls were not answered."),
        };
        let text = format!(
            "node {} was lost {} ago and has not come back: it {reason}.{calls} Look at its process and its machine. This is \
             said for an hour, or until a node of that name registers",
            node.name,
            ago(now.saturating_sub(*at))
        );
        Warning {
            kind: WarningKind::NodeLost,
            text,
            node: Some(node.id),
            node_name: Some(Arc::clone(&node.name)),
            method: None,
        }
    }
}

/// Whether nobody wanted the node to go. An administrator who kicks one has a reason, and its process goes on.
fn is_loss(reason: &GoneReason) -> bool {
    !matches!(reason, GoneReason::Left | GoneReason::Shutdown | GoneReason::Replaced | GoneReason::DisconnectedByMaster)
}

fn ago(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{id::NodeId, security::Principal};

    fn node(number: u32, name: &str) -> NodeIdentity {
        NodeIdentity::new(NodeId::new(1, number), name, ([127, 0, 0, 1], 1).into())
    }

    fn gone(number: u32, name: &str, reason: GoneReason) -> NodeEvent {
        NodeEvent::Gone { node: node(number, name), reason, in_flight: number as usize }
    }

    fn at(seconds: u64) -> Time {
        Duration::from_secs(seconds)
    }

    fn texts(lost: &LostNodes, seconds: u64) -> Vec<String> {
        lost.warnings(at(seconds)).into_iter().map(|warning| warning.text).collect()
    }

    #[test]
    fn a_lost_node_is_told_of_for_an_hour_or_until_it_is_back() {
        let lost = LostNodes::default();
        lost.on_event(at(10), &gone(1, "blue", GoneReason::Disconnected));
        lost.on_event(at(20), &gone(2, "green", GoneReason::Kicked));
        lost.on_event(at(20), &gone(3, "red", GoneReason::Left));
        let told = texts(&lost, 200);
        assert!(told[0].starts_with("node green was lost 3 min ago and has not come back: it was kicked"), "{told:?}");
        assert!(told[0].contains("2 of its calls were not answered"), "{told:?}");
        assert!(told[1].starts_with("node blue was lost 3 min ago") && told.len() == 2, "{told:?}");
        assert!(texts(&lost, 70)[1].starts_with("node blue was lost 60 s ago"));
        lost.on_event(at(210), &NodeEvent::Joined { node: node(4, "green"), principal: Principal::open() });
        assert_eq!(texts(&lost, 220).len(), 1, "green is back");
        assert_eq!(texts(&lost, 3609).len(), 1);
        assert_eq!(texts(&lost, 3610), [""; 0]);
    }

    #[test]
    fn of_very_many_lost_nodes_the_last_are_remembered() {
        let lost = LostNodes::default();
        for number in 1..=1500 {
            lost.on_event(at(number.into()), &gone(number, &format!("node-{number}"), GoneReason::Disconnected));
        }
        let warnings = lost.warnings(at(1500));
        assert_eq!(warnings.len(), MOST_REMEMBERED);
        assert_eq!(warnings[0].node_name.as_deref(), Some("node-1500"));
    }
}
