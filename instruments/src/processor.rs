//! The processor time of a process, as Linux counts it.

use std::{io, time::Duration};

/// Ticks of the system's clock in a second, as Linux counts them for programs.
const TICKS: u64 = 100;

/// The processor time that a process has used.
///
/// # Errors
///
/// If there is no such process, or no `/proc`.
pub fn used(process: u32) -> io::Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let stat = std::fs::read_to_string(&path)?;
    // The name in parentheses may have blanks. In user mode and in the kernel are the 14th and 15th field.
    let fields: Vec<&str> = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    match (ticks(11), ticks(12)) {
        (Some(user), Some(kernel)) => Ok(Duration::from_millis((user + kernel) * 1000 / TICKS)),
        _ => Err(io::Error::other(format!("{path} has no processor time"))),
    }
}
