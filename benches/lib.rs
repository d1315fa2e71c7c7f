//! Timings of `distribution`.
//!
//! `cargo bench -p distribution-benches` times small calls and compares them with the last run;
//! `cargo run --release -p distribution-benches --bin peers` runs the same work over this crate and over its peers.
