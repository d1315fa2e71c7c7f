//! How many calls of each method can run, as the master has told it last.
//!
//! `.distribute()` asks before it sizes batches. The first question about a method subscribes to it, and the capacity is not
//! known yet. The master's answer then counts as a change of the nodes, so that the question is asked again.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::watch;

use crate::{
    service::{
        dispatcher::Capacity,
        method::{MethodId, MethodInfo},
        options::Labels,
    },
    wire::{Control, WatchedCapacity, connection_state::ConnectionState},
};

/// How many methods are watched at a time, each with labels. A master refuses more than 256.
const MOST_WATCHED: usize = 128;

/// What the master tells of its nodes.
#[derive(Debug)]
pub(super) struct Capacities {
    watched: HashMap<(MethodId, Labels), Watched>,
    by_id: HashMap<u32, (MethodId, Labels)>,
    next_id: u32,
    /// Counts questions, to find what was not asked for the longest time.
    uses: u64,
    changed: watch::Sender<()>,
    /// Whether the master has been away for too long, so that there is no point in waiting for what it tells.
    is_given_up: bool,
}

#[derive(Debug)]
struct Watched {
    id: u32,
    capacity: Option<Capacity>,
    used: u64,
}

impl Capacities {
    pub(super) fn new() -> Self {
        Self {
            watched: HashMap::new(),
            by_id: HashMap::new(),
            next_id: 0,
            uses: 0,
            changed: watch::channel(()).0,
            is_given_up: false,
        }
    }

    /// How many calls can run, by what the master has told.
    pub(super) fn get(
        &mut self,
        method: &MethodInfo,
        labels: &Labels,
        connection: Option<&ConnectionState>,
    ) -> Capacity {
        self.uses += 1;
        let unknown = Capacity { is_known: self.is_given_up, ..Capacity::default() };
        let key = (method.id(), labels.clone());
        if let Some(watched) = self.watched.get_mut(&key) {
            watched.used = self.uses;
            return watched.capacity.unwrap_or(unknown);
        }
        if self.watched.len() >= MOST_WATCHED {
            let oldest = self.watched.iter().min_by_key(|(_, watched)| watched.used);
            if oldest.is_some_and(|(_, watched)| watched.capacity.is_none()) {
                // All of them wait for their first answer. If one went to make room, nobody would ever see an answer, so this
                // method's batches are sized as if no node served it yet.
                return Capacity { is_known: true, ..Capacity::default() };
            }
            let oldest = oldest.map(|(key, _)| key.clone());
            if let Some(watched) = oldest.and_then(|oldest| self.watched.remove(&oldest)) {
                self.by_id.remove(&watched.id);
                if let Some(connection) = connection {
                    connection.send(Control::Unwatch { watch: watched.id });
                }
            }
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.by_id.insert(id, key.clone());
        if let Some(connection) = connection {
            connection.send(watch(id, &key));
        }
        self.watched.insert(key, Watched { id, capacity: None, used: self.uses });
        unknown
    }

    /// The master has told a capacity.
    pub(super) fn on_told(&mut self, id: u32, told: WatchedCapacity) {
        let Some(watched) = self.by_id.get(&id).and_then(|key| self.watched.get_mut(key)) else { return };
        let WatchedCapacity { nodes, slots, free, compute } = told;
        let capacity =
            Capacity { is_known: true, nodes: nodes as usize, slots: slots as usize, free: free as usize, compute };
        let before = watched.capacity.replace(capacity);
        // A slot that is taken or free does not change the nodes.
        if before.is_none_or(|before| Capacity { free: 0, ..before } != Capacity { free: 0, ..capacity }) {
            self.changed.send_replace(());
        }
    }

    /// The master has been away for too long. Calls are not held back any more, and end.
    pub(super) fn on_given_up(&mut self) {
        self.is_given_up = true;
        self.watched.values_mut().for_each(|watched| watched.capacity = None);
        self.changed.send_replace(());
    }

    /// There is a new connection, at whose other end nothing is watched yet.
    pub(super) fn on_connected(&mut self, connection: &ConnectionState) {
        self.is_given_up = false;
        for (key, watched) in &mut self.watched {
            watched.capacity = None;
            connection.send(watch(watched.id, key));
        }
        self.changed.send_replace(());
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

fn watch(id: u32, (method, labels): &(MethodId, Labels)) -> Control {
    let labels: Vec<(String, String)> = labels.as_ref().map_or_else(Vec::new, |labels: &Arc<_>| labels.to_vec());
    Control::Watch { watch: id, method: method.0, labels }
}
