//! What `#[distribution::service]` takes, and what it refuses and how it says so.
//!
//! Run with `TRYBUILD=overwrite` after a message has changed, and read the difference: every error is to stand at the
//! smallest place that is wrong, and nothing is to follow from it.
//!
//! In a package of its own, because trybuild builds all that its package depends on once more.

#[test]
fn the_macro_takes_what_real_traits_have_and_refuses_the_rest() {
    let cases = trybuild::TestCases::new();
    cases.pass("pass/*.rs");
    cases.compile_fail("fail/*.rs");
}
