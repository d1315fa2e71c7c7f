//! What the examples have in common. Each is a file beside this one; run it as
//! `cargo run --release --example palindromes`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Writes logs to standard error: those that `RUST_LOG` asks for, or these.
pub fn start_logs(unless_told: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(unless_told));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
}

/// Prints an error with its causes.
#[allow(clippy::print_stderr, reason = "the place for errors of a program")]
pub fn report(error: &dyn std::error::Error) {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    eprintln!("error: {text}");
}
