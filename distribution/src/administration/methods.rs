//! Methods as administrators see them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A method that a registered node serves, or that is called. If nodes or callers have it with other structures of its
/// types, each of these forms is listed by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MethodSummary {
    /// The name of its service on the wire.
    pub service: String,
    /// Its name.
    pub name: String,
    /// The version of its service.
    pub version: u32,
    /// Its signature: `fn(Vec<i64>) -> i64`.
    pub signature: String,
    /// How nodes run it: as those that serve it say, or, if no registered node does, as its callers say.
    pub kind: MethodKind,
    /// Whether its trait says that its calls may be run again: on all nodes that serve it, or, if no registered node does, for
    /// its callers. It is the caller's trait that decides about a call.
    pub idempotent: bool,
    /// How many nodes serve it, busy, suspect and cordoned ones included, and draining ones not.
    pub nodes: usize,
    /// How many calls of it wait at the master. Each call of a batch counts.
    pub waiting: usize,
    /// How many calls of it were sent to a node and are not answered yet.
    pub running: usize,
}

/// How nodes run a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MethodKind {
    /// It is a `fn`: each call takes a slot.
    Compute,
    /// It is an `async fn`: calls wait on the node's runtime, up to the node's [`async_limit`](crate::NodeBuilder::async_limit).
    Async,
}

/// A service that a registered node serves, or that is called, in one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServiceSummary {
    /// Its name on the wire.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// Its methods with their signatures, sorted: `sum: fn(Vec<i64>) -> i64`.
    pub methods: Vec<String>,
    /// How many nodes serve the method of it that most nodes serve.
    pub nodes: usize,
    /// How many calls of it wait at the master.
    pub waiting: usize,
    /// How many calls of it were sent to a node and are not answered yet.
    pub running: usize,
}

impl ServiceSummary {
    /// Puts the methods of each service and version together.
    pub(crate) fn of_methods(methods: Vec<MethodSummary>) -> Vec<Self> {
        let mut services: BTreeMap<(String, u32), Self> = BTreeMap::new();
        for method in methods {
            let MethodSummary { service, name, version, signature, nodes, waiting, running, .. } = method;
            let row = services.entry((service, version)).or_insert_with_key(|(service, _)| Self {
                name: service.clone(),
                version,
                methods: Vec::new(),
                nodes: 0,
                waiting: 0,
                running: 0,
            });
            let signature = format!("{name}: {signature}");
            // A method is listed once for each structure of its types.
            if !row.methods.contains(&signature) {
                row.methods.push(signature);
            }
            row.nodes = row.nodes.max(nodes);
            row.waiting += waiting;
            row.running += running;
        }
        services
            .into_values()
            .map(|mut service| {
                service.methods.sort();
                service
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_methods_of_each_version_of_a_service_are_counted_together() {
        let method = |name: &str, version, nodes, waiting| MethodSummary {
            service: "Arith".to_owned(),
            name: name.to_owned(),
            version,
            signature: "fn() -> i64".to_owned(),
            kind: MethodKind::Compute,
            idempotent: false,
            nodes,
            waiting,
            running: 1,
        };
        let methods =
            vec![method("sum", 1, 2, 5), method("add", 1, 3, 1), method("add", 1, 1, 1), method("add", 2, 1, 0)];
        let [first, second] = &ServiceSummary::of_methods(methods)[..] else { panic!("two versions") };
        assert_eq!((first.version, first.nodes, first.waiting, first.running), (1, 3, 7, 3));
        assert_eq!(first.methods, ["add: fn() -> i64", "sum: fn() -> i64"]);
        assert_eq!((second.version, second.nodes, second.waiting, second.running), (2, 1, 0, 1));
    }
}
