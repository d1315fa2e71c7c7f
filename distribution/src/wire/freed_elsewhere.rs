//! Memory of large values that is given back on another thread. To unmap some hundred MiB takes tens of milliseconds, in which
//! the task of a connection would write neither heartbeats nor cancels.

use bytes::Bytes;
use tokio::runtime::Handle;

/// Smaller values are freed at once, which takes less than half a millisecond.
const FREED_AT_ONCE: usize = 4 * 1024 * 1024;

/// The same bytes. When the last of their slices is dropped, a thread for blocking work frees them if they are large.
pub(super) fn freed_elsewhere(bytes: Bytes) -> Bytes {
    if bytes.len() < FREED_AT_ONCE { bytes } else { Bytes::from_owner(FreedElsewhere(bytes)) }
}

struct FreedElsewhere(Bytes);

impl AsRef<[u8]> for FreedElsewhere {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for FreedElsewhere {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.0);
        // Without a runtime nobody waits.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn_blocking(move || drop(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    /// Tells which thread drops it.
    struct Told(Vec<u8>, mpsc::Sender<thread::ThreadId>);

    impl AsRef<[u8]> for Told {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    impl Drop for Told {
        fn drop(&mut self) {
            // Nobody listens any more if the test has failed.
            let _ = self.1.send(thread::current().id());
        }
    }

    #[tokio::test]
    async fn a_large_value_is_freed_by_another_thread_with_its_last_slice() {
        let (sender, freed) = mpsc::channel();
        let value = |length| freed_elsewhere(Bytes::from_owner(Told(vec![1; length], sender.clone())));
        drop(value(FREED_AT_ONCE - 1));
        assert_eq!(freed.recv(), Ok(thread::current().id()));
        let mut large = value(FREED_AT_ONCE);
        let slice = large.split_to(10);
        drop(large);
        assert!(freed.try_recv().is_err(), "a slice is left");
        drop(slice);
        assert_ne!(freed.recv(), Ok(thread::current().id()));
        let large = value(FREED_AT_ONCE);
        let thread = thread::spawn(move || drop(large)).thread().id();
        assert_eq!(freed.recv(), Ok(thread), "there is no runtime");
    }
}
