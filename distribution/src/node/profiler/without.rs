//! Where no profile can be taken.

use std::{
    sync::{Arc, mpsc::Receiver},
    time::Duration,
};

use crate::{id::CallId, service::method::MethodInfo, wire::profile::ProfileReply};

pub(super) fn take(_length: Duration, _stopped: &Receiver<()>) -> ProfileReply {
    let why = match cfg!(feature = "profiling") {
        true => "profiles are taken on Linux only, with the GNU C library as a shared one, on x86-64 and on 64-bit Arm",
        false => "its program was built without the feature `profiling` of `distribution`",
    };
    Err(why.to_owned())
}

/// Nobody looks at what threads do.
pub(in crate::node) struct RunningGuard;

pub(in crate::node) fn running(_call: CallId, _attempt: u32, _method: Option<&Arc<MethodInfo>>) -> RunningGuard {
    RunningGuard
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_says_what_is_missing() {
        let (_stop, stopped) = std::sync::mpsc::channel();
        let why = take(Duration::from_millis(1), &stopped).expect_err("cannot be taken");
        assert_eq!(why.contains("feature `profiling`"), !cfg!(feature = "profiling"), "{why}");
    }
}
