//! Any bytes in place of a handshake, at the master and at the node.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| distribution::fuzzing::preface(bytes));
