//! How much stack a value takes while it is encoded or decoded.
//!
//! A level takes as much as its types do, and several times that without optimisation. So a limit of levels alone does
//! not bound it. What overflows a stack ends the process.

/// A value may take this much stack. Threads of Rust programs have 2 MiB unless told otherwise, those of tokio and of a
/// node too, and the main thread usually more; some of it is taken before. Without optimisation a level of an ordinary
/// enum takes 2 to 4 KiB, so that the 128 that a value may have by default fit in; with it they take a fraction of that.
///
/// It is looked at as each level begins, so that the last one comes on top. A type that takes hundreds of KiB of stack by
/// itself is beyond help, and so is a thread whose stack is hardly larger than this.
pub(super) const MOST: usize = 1024 * 1024;

/// Where on its thread's stack a value begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stack(usize);

impl Stack {
    #[inline]
    pub(super) fn here() -> Self {
        Self(address())
    }

    /// Whether there is room for one level more.
    #[inline]
    pub(super) fn has_room(self) -> bool {
        // Whichever way the stack grows.
        self.0.abs_diff(address()) <= MOST
    }
}

/// Some address in the frame of who asks, or next to it.
#[inline(always)]
#[allow(clippy::inline_always, reason = "a frame of its own would be another's")]
fn address() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}
