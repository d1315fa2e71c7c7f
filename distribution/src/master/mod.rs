//! A master: nodes register with it, and it sends each call to one of them.
//!
//! A program sets a master up with a [`builder`] and holds [`handle`]s of it. [`accept`] takes connections past
//! [`admission`] control, checks registrations against the [`registration_policy`], and hands each node's connection to
//! [`connection`], which drives it. [`tick`] lets time pass, and `revocation` disconnects nodes whose credentials are not
//! valid any more. All of these, the [`dispatcher`] of the clients and
//! the [`administration`] (through handles, or through the service that [`admin`] answers) bring their events through [`shared`] to the
//! [core](crate::core), which decides; [`effects`] carries out what it decided. Nodes of the same process may connect
//! through memory ([`in_process`]). [`history`] looks at the core's counts once a second and [`history_log`] remembers how they grow; [`metrics`], [`inspection`] and
//! [`warnings`], with [`lost_nodes`] and [`recent`] counts, tell programs and administrators of it. [`profiles`] asks a node
//! which code it runs.

mod accept;
mod admin;
mod administration;
mod administrator;
mod admission;
mod allowance;
mod awaited_profile;
mod batch_frame_limit;
mod builder;
mod caller_table;
mod callers;
mod connection;
#[cfg(feature = "tls")]
mod credentials;
mod dispatcher;
mod effects;
mod event_log;
mod events;
#[cfg(feature = "metrics")]
mod facade;
mod gone_callers;
mod handle;
mod heartbeat_limit;
mod history;
mod history_log;
mod host;
mod in_process;
mod inspection;
mod kept_bytes;
mod link;
mod log_limit;
mod log_store;
mod logs;
mod lost_nodes;
mod metrics;
mod new_caller;
mod profiles;
mod recent;
mod refused_calls;
mod registration_policy;
#[cfg(feature = "tls")]
mod revocation;
mod run_listing;
mod runs;
mod settings;
mod shared;
mod shutdown;
#[cfg(feature = "simulation")]
mod simulated;
mod tick;
mod uncallable;
mod wait_for_service;
mod warnings;

pub use builder::MasterBuilder;
pub use events::Events;
pub use handle::Master;
