//! Each planted fault still has its place. Whether each is found takes longer: README.md says how to see that.

use std::process::Command;

#[test]
fn each_fault_can_be_planted() {
    let checked = Command::new(env!("CARGO_BIN_EXE_mutations")).arg("--check").output().expect("starts");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}
