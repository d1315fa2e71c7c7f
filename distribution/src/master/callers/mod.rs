//! Callers in other processes: their connections, the calls that they make, and what they are told of the nodes.
//!
//! A caller's connection is the mirror of a node's: the caller runs tarpc's client, and the master its server. The master
//! knows none of the caller's types. It takes each request to the core as a call like those of its own process
//! ([`requests`]), and passes arguments and results on as bytes.

mod call_state;
mod connection;
mod credential_guard;
mod declared;
mod ends;
mod join;
mod lost_batches;
mod numbers;
mod permission;
mod requests;
mod session;
mod unfinished;
mod watches;

pub(super) use self::join::join;
