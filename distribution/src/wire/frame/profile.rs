//! A profile of a node's process, as it travels to the master: in parts, each of which is a small control frame.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::layout::CONTROL_LIMIT;
use crate::administration::ThreadState;

/// The longest time that samples are taken for. Their number, and so the memory that they take, is bounded with it.
pub(crate) const LONGEST_SAMPLING: Duration = Duration::from_secs(60);

/// The most frames of a stack.
pub(crate) const DEEPEST: usize = 128;

/// The most bytes of a part. The rest of its frame are numbers.
pub(crate) const LONGEST_PART: usize = CONTROL_LIMIT - 64;

/// The most bytes of a profile on its way.
pub(crate) const LARGEST_PROFILE: usize = 4 * 1024 * 1024;

/// The most bytes of the names of all its frames, where each name counts as often as it comes. A node leaves the rarest stacks
/// out of a larger one.
pub(crate) const MOST_TEXT: usize = 8 * 1024 * 1024;

/// The most bytes of a name.
pub(crate) const LONGEST_NAME: usize = 1024;

/// What a node answers: a profile, or why it has none.
pub(crate) type ProfileReply = Result<SentProfile, String>;

/// A profile. Names of functions stand in a list once, because they come again in most stacks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SentProfile {
    /// Milliseconds.
    pub(crate) length: u32,
    pub(crate) frequency: u32,
    pub(crate) left_out: u64,
    pub(crate) missed: u64,
    /// Threads and functions.
    pub(crate) names: Vec<String>,
    pub(crate) stacks: Vec<SentStack>,
    pub(crate) handlers: Vec<SentHandler>,
}

/// A stack that samples have found. Its frames are places in the list of names, the outermost first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SentStack {
    pub(crate) frames: Vec<u32>,
    pub(crate) samples: u64,
}

/// What a handler was doing. Names are places in the list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SentHandler {
    pub(crate) call: u64,
    pub(crate) attempt: u32,
    pub(crate) method: u32,
    pub(crate) thread: u32,
    /// Milliseconds.
    pub(crate) running: u64,
    pub(crate) state: ThreadState,
    /// Of a core, in thousandths.
    pub(crate) cpu: Option<u32>,
    pub(crate) frames: Vec<u32>,
}
