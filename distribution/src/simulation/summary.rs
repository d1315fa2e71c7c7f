//! What a seed of the simulation leads to.

/// What a seed led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Events that were applied to the core.
    pub events: u64,
    /// Calls that were made.
    pub calls: u64,
    /// Those that were answered.
    pub answered: u64,
    /// Nodes that registered.
    pub nodes: u64,
    /// Hash of all events and effects in their order.
    pub history: u64,
}

/// A rule that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The seed that shows it.
    pub seed: u64,
    /// The number of the event.
    pub step: u64,
    /// What is wrong.
    pub what: String,
    /// The last events and effects before it, oldest first.
    pub history: Vec<String>,
}
