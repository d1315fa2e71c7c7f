//! A progress bar on a terminal, plain lines elsewhere, and log lines that do not meet the bar.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    sync::LazyLock,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::progress::Progress;

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// All bars of this process, because there is one terminal, and what writes to it has to know of them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Standard error for log lines, beside the bars of `.progress()`: a bar steps aside while a line is written, so
/// that neither garbles the other. Without a bar it is standard error and nothing else.
///
/// ```ignore
/// tracing_subscriber::fmt().with_writer(distribution::progress::LogWriter::new).init();
/// writeln!(LogWriter::new(), "a result: {result}")?;
/// ```
///
/// Lines that a program writes past this, with `eprintln!`, can end up behind the bar's; they are not lost.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct LogWriter;

impl LogWriter {
    /// Writes to standard error.
    pub fn new() -> Self {
        Self
    }
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        BARS.suspend(|| io::stderr().write(bytes))
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        BARS.suspend(|| io::stderr().write_all(bytes))
    }

    /// All of it together: with the bar drawn between two pieces a line would be torn.
    fn write_fmt(&mut self, arguments: fmt::Arguments<'_>) -> io::Result<()> {
        self.write_all(arguments.to_string().as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// What a stream shows on standard error.
pub(super) struct Bar {
    bars: MultiProgress,
    /// Begun with the first look.
    bar: Option<ProgressBar>,
    is_terminal: bool,
    printed: Instant,
}

impl Bar {
    pub(super) fn new() -> Self {
        Self { bars: BARS.clone(), bar: None, is_terminal: io::stderr().is_terminal(), printed: Instant::now() }
    }

    pub(super) fn draw(&mut self, progress: &Progress) {
        if !self.is_terminal {
            let is_over = progress.total == Some(progress.done);
            if self.printed.elapsed() >= LINE_EVERY && !is_over {
                self.printed = Instant::now();
                print(&progress.to_string());
            }
            return;
        }
        let bar = self.bar.get_or_insert_with(|| self.bars.add(begin(progress.total)));
        bar.set_position(progress.done);
        if let Some(total) = progress.total {
            bar.set_length(total);
        }
        bar.set_message(progress.to_string());
    }

    /// Takes the bar away and leaves a line.
    pub(super) fn end(mut self, progress: &Progress) {
        let bars = self.bars.clone();
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            bars.remove(&bar);
        }
        bars.suspend(|| print(&progress.summary()));
    }
}

#[allow(clippy::print_stderr, reason = "this is what was asked for")]
fn print(line: &str) {
    eprintln!("{line}");
}

fn begin(total: Option<u64>) -> ProgressBar {
    let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
    // The templates are ours and well formed; a plain bar is good enough otherwise.
    match ProgressStyle::with_template(if total.is_some() { "{bar:20} {wide_msg}" } else { "{spinner} {wide_msg}" }) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

impl fmt::Debug for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bar").field("is_terminal", &self.is_terminal).finish_non_exhaustive()
    }
}
