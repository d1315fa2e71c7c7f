//! The name of a node or a caller that was given none.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::text::is_shown;

/// `host-process`, and a count for all but the first of a process. `otherwise` stands for the host if it has no name.
pub(crate) fn default_name(otherwise: &str) -> String {
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    let host: String =
        gethostname::gethostname().to_string_lossy().chars().filter(|c| is_shown(*c) && *c != ' ').take(64).collect();
    let host = if host.is_empty() { otherwise } else { &host };
    let process = std::process::id();
    match STARTED.fetch_add(1, Ordering::Relaxed) {
        0 => format!("{host}-{process}"),
        nth => format!("{host}-{process}-{nth}"),
    }
}
