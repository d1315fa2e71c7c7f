//! Any bytes as the body of a registration.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| distribution::fuzzing::registration(bytes));
