//! What `#[distribution::service]` takes, and what it refuses and how it says so.
//!
//! Run with `TRYBUILD=overwrite` after a message has changed, and read the difference: every error is to stand at the
//! smallest place that is wrong, and nothing is to follow from it.
//!
//! In a package of its own, because trybuild builds all that its package depends on again.

use std::process::Command;

#[test]
fn the_macro_takes_what_real_traits_have() {
    for program in [
        env!("CARGO_BIN_EXE_attributes"),
        env!("CARGO_BIN_EXE_macros"),
        env!("CARGO_BIN_EXE_names"),
        env!("CARGO_BIN_EXE_places"),
        env!("CARGO_BIN_EXE_shapes"),
        env!("CARGO_BIN_EXE_stream_shapes"),
    ] {
        let ended = Command::new(program).output().expect("it starts");
        assert!(ended.status.success(), "{program} {}: {}", ended.status, String::from_utf8_lossy(&ended.stderr));
    }
}

#[test]
fn the_macro_refuses_the_rest_and_says_why() {
    trybuild::TestCases::new().compile_fail("fail/*.rs");
}
