//! The master's decisions, as a pure state machine.
//!
//! [`Core`] takes events together with the time they happened, as methods named `on_...` ([`Core::on_node_joined`],
//! [`Core::on_call_submitted`], [`Core::on_attempt_finished`], [`Core::on_tick`] and so on), and returns [`Effect`]s to be
//! carried out: send this call to that node, end this call. It has no clock, does no I/O, and uses no randomness except the
//! seed in its settings. The same events in the same order give the same effects, so that a simulator can check every rule.
//!
//! | subject | files |
//! |---|---|
//! | events | [`node_events`], [`joining`], [`absence`] and [`node_connection`] (nodes whose connection has broken), [`call_events`], [`attempts`], [`grants`] (how many calls of a batch a node may start), [`lending`] (slots of handlers that wait), [`tick`], [`shutdown`]; [`queries`] |
//! | administration | [`administration`] (cordon, drain, kick, cancel), [`call_listing`] and [`availability`] (what calls do, and what they wait for), [`method_listing`] and [`called_methods`] (methods, and how many of their calls there are), [`stopping`] and [`stopping_calls`] (handlers that go on after their call has ended) |
//! | nodes | [`registry`], [`node`], [`registration`], [`group`] (nodes that serve the same methods), [`serving`], [`label_views`], [`compatibility`], [`snapshot`] |
//! | which node gets a call | [`balance`] (the whole rule), [`slow_start`] (what a new node gets), [`health`] and [`ejection`] (what a failing node gets); the indexes [`ready`] and [`ring`] |
//! | calls that wait | [`queues`], [`turns`] (the order in which they are taken), [`queue_heads`] and [`avoiding_heads`] (where nodes look for them), [`queue_listing`], [`schedule`] (which call goes where), [`reconsider`], [`avoidance`] |
//! | calls that cannot go on | [`retry`] (their node was lost), [`expiry`] and [`unserved`] (no node serves them), [`liveness`] (silent nodes), [`dependents`] and [`cancellation`] (what made them is gone) |
//! | what is counted | [`metrics`] with [`counters`] (calls and attempts, by method, node and caller) and [`metrics_listing`], [`timeline`] with [`rows`] (what ran on which slot) and [`timeline_listing`], [`failure_groups`] |
//! | long work | [`deferred`], [`slices`] |
//! | checks | `sanity`, `sanity_of_listing`, `sanity_of_metrics`, `test_support` |

mod absence;
mod administration;
mod attempts;
mod availability;
mod avoidance;
mod avoiding_heads;
mod balance;
mod call;
mod call_events;
mod call_listing;
mod called_methods;
mod calls;
mod cancellation;
mod compatibility;
mod counters;
mod deferred;
mod dependents;
mod effect;
mod ejection;
mod expiry;
mod failure_groups;
mod grants;
mod group;
mod health;
mod host;
mod joining;
mod label_views;
mod lending;
mod liveness;
mod liveness_scan;
mod method_listing;
mod metrics;
mod metrics_listing;
mod node;
mod node_connection;
mod node_events;
mod per_kind;
mod queries;
mod queue_heads;
mod queue_ids;
mod queue_listing;
mod queues;
mod ready;
mod reconsider;
mod registration;
mod registry;
mod retry;
mod ring;
mod rows;
#[cfg(any(test, feature = "simulation"))]
mod sanity;
#[cfg(any(test, feature = "simulation"))]
mod sanity_of_listing;
#[cfg(any(test, feature = "simulation"))]
mod sanity_of_metrics;
mod schedule;
mod serving;
mod settings;
mod shutdown;
mod slices;
mod slow_start;
mod snapshot;
mod state;
mod stopping;
mod stopping_calls;
#[cfg(any(test, feature = "simulation"))]
mod test_support;
#[cfg(test)]
mod tests;
mod tick;
mod timeline;
mod timeline_listing;
mod turns;
mod unserved;

pub(crate) use absence::Resumption;
pub(crate) use call::Demand;
pub(crate) use compatibility::{Served, incompatibility};
pub(crate) use effect::{AttemptEnd, CallAnswer, Effect, Effects};
pub(crate) use host::{Host, HostCall, HostLink, Time};
pub(crate) use joining::JoinRefused;
pub(crate) use liveness::{GONE_AFTER, SUSPECT_AFTER};
pub(crate) use method_listing::MethodList;
pub(crate) use metrics_listing::{MethodSample, NodeSample};
pub(crate) use node_connection::NodeConnection;
pub(crate) use registration::split_registration;
pub(crate) use settings::{SLICE, Settings};
pub(crate) use slow_start::SLOW_START;
pub(crate) use snapshot::NodeSnapshot;
pub(crate) use state::Core;
