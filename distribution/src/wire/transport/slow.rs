//! Since when something that a peer has begun makes too little progress.

use tokio::time::Instant;

/// Something that has begun.
#[derive(Debug)]
pub(super) struct Slow {
    since: Instant,
    /// Bytes that have come since.
    came: u64,
}

impl Slow {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), came: 0 }
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Notes whether there is something that has begun.
    pub(super) fn set(this: &mut Option<Self>, has_begun: bool) {
        if has_begun {
            this.get_or_insert_with(Self::new);
        } else {
            *this = None;
        }
    }

    /// This many bytes have come of it. With `enough` of them its time begins anew.
    pub(super) fn on_came(this: &mut Option<Self>, count: usize, enough: u64) {
        let Some(slow) = this else { return };
        slow.came += count as u64;
        if slow.came >= enough {
            *slow = Self::new();
        }
    }
}
