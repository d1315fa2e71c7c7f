//! Any bytes as arguments or a reply, of many types.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| distribution::fuzzing::payload(bytes));
