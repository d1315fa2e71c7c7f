//! Writes to standard output, and notes to standard error.

use std::io::{self, ErrorKind, Write};

use serde::Serialize;

use crate::failure::Failure;

/// Prints a text. That nobody reads it any more, as with `| head`, ends the program in order.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.map_err(|error| Failure::other(format!("standard output cannot be written: {error}"))),
    }
}

/// Prints a value as one line of JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value);
    let text = text.map_err(|error| Failure::other(format!("the answer cannot be written as JSON: {error}")))?;
    print(&(text + "\n"))
}

/// Says something beside what was asked for, on standard error.
pub(crate) fn note(text: &str) {
    // Nobody may read it.
    let _ = writeln!(io::stderr().lock(), "distribution: {text}");
}
