//! Where no profile can be taken.

use std::time::Duration;

use crate::{node::current::CurrentCall, wire::profile::ProfileReply};

pub(super) fn take(_length: Duration) -> ProfileReply {
    let why = match cfg!(feature = "profiling") {
        true => "profiles are taken on Linux only, on x86-64 and on 64-bit Arm",
        false => "its program was built without the feature `profiling` of `distribution`",
    };
    Err(why.to_owned())
}

/// Nobody looks at what threads do.
pub(in crate::node) struct RunningGuard;

pub(in crate::node) fn running(_call: &CurrentCall) -> RunningGuard {
    RunningGuard
}
