//! Timings of `distribution`: `cargo bench -p distribution-benches`.
