//! Panics of user code, caught with all that comes of them.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, UnwindSafe, catch_unwind},
};

use crate::{error::CodecError, wire::frame::layout::BODY_HEADER_LIMIT};

/// How many payloads in a row may panic as they are dropped.
const PAYLOADS_MOST: usize = 8;

/// Runs this. If it panics, the panic's message is the error.
pub(crate) fn caught<T>(run: impl FnOnce() -> T + UnwindSafe) -> Result<T, String> {
    catch_unwind(run).map_err(message)
}

/// Decodes this. A panic of the user's `Deserialize` is an error like those that it returns, because its input came from a
/// peer.
pub(crate) fn decoded<T>(decode: impl FnOnce() -> Result<T, CodecError>) -> Result<T, CodecError> {
    // What it leaves behind is what it has made so far, of which nobody else knows.
    caught(AssertUnwindSafe(decode))
        .unwrap_or_else(|message| Err(CodecError::new(format_args!("its `Deserialize` panicked: {message}"))))
}

/// The message of a panic, if it is text. Drops the panic's payload, which may panic itself when it is dropped.
pub(crate) fn message(panic: Box<dyn Any + Send>) -> String {
    let text = text_of(&*panic);
    dispose(panic);
    text
}

/// The same of a payload that stays where it is.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    cut(text.unwrap_or("(the panic carried no text)").to_owned())
}

fn dispose(mut panic: Box<dyn Any + Send>) {
    for _ in 0..PAYLOADS_MOST {
        match catch_unwind(AssertUnwindSafe(|| drop(panic))) {
            Ok(()) => return,
            Err(next) => panic = next,
        }
    }
    // Each leaves another. The last one is left where it is.
    std::mem::forget(panic);
}

/// Shortens a message to what fits into a reply's header.
pub(crate) fn cut(mut text: String) -> String {
    const MOST: usize = 4 * 1024;
    const { assert!(2 * MOST <= BODY_HEADER_LIMIT) };
    crate::text::cut(&mut text, MOST);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_that_panics_as_it_is_dropped_is_disposed_of() {
        struct PanicsOnDrop(u32);
        impl Drop for PanicsOnDrop {
            fn drop(&mut self) {
                std::panic::panic_any(Self(self.0.saturating_sub(1)));
            }
        }
        for depth in [0, 3, u32::MAX] {
            let said = caught(|| std::panic::panic_any(PanicsOnDrop(depth)));
            assert_eq!(said.expect_err("panics"), "(the panic carried no text)");
        }
        assert_eq!(caught(|| panic!("oh")).map(|()| 1), Err("oh".to_owned()));
    }
}
