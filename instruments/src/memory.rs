//! The memory of a process, as Linux counts it.

use std::io;

/// What a process holds now, in KiB.
///
/// # Errors
///
/// If there is no such process, or no `/proc`.
pub fn resident(process: u32) -> io::Result<u64> {
    read(process, "VmRSS:")
}

/// The most that a process has held at any time, in KiB.
///
/// # Errors
///
/// If there is no such process, or no `/proc`.
pub fn most_resident(process: u32) -> io::Result<u64> {
    read(process, "VmHWM:")
}

fn read(process: u32, name: &str) -> io::Result<u64> {
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(&path)?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.ok_or_else(|| io::Error::other(format!("{path} has no {name}")))
}
