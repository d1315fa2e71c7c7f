//! How much stack a value takes while it is encoded or decoded.
//!
//! How much stack a level takes depends on its types, and is several times more without optimisation. So a limit of levels
//! does not bound the stack, and a stack overflow ends the process.

/// A value may take this much stack. Threads of Rust programs, of tokio and of a node have 2 MiB by default, and the main
/// thread usually has more; a part of it is in use already. Without optimisation a level of an ordinary enum takes 2 to
/// 4 KiB, so the default limit of 128 levels fits. With optimisation a level takes a fraction of that.
///
/// The stack is measured when a level begins, so the last level comes on top. This does not protect against a type that
/// takes hundreds of KiB of stack by itself, nor on a thread whose stack is hardly larger than this.
pub(super) const MOST: usize = 1024 * 1024;

/// The place on a thread's stack where a value begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stack(usize);

impl Stack {
    #[inline]
    pub(super) fn here() -> Self {
        Self(address())
    }

    /// Whether there is room for another level.
    #[inline]
    pub(super) fn has_room(self) -> bool {
        // A stack may grow up or down.
        self.0.abs_diff(address()) <= MOST
    }
}

/// An address in the stack frame of the caller, or next to it.
#[inline(always)]
#[allow(clippy::inline_always, reason = "its own frame would be measured otherwise")]
fn address() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}
