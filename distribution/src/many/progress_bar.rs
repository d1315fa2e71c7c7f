//! The progress bar on a terminal, plain lines elsewhere, and a writer for log lines that do not overwrite the bar.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    sync::LazyLock,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::progress::Progress;

/// How often a line is printed if there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// All bars of this process: there is one terminal, and each writer has to know all bars on it.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Writes log lines to standard error without overwriting the bars of `.progress()`: each bar is hidden while a line is
/// written. Without a bar this is just standard error.
///
/// ```ignore
/// tracing_subscriber::fmt().with_writer(distribution::progress::LogWriter::new).init();
/// writeln!(LogWriter::new(), "a result: {result}")?;
/// ```
///
/// Lines that a program writes in another way, for example with `eprintln!`, can end up on the same line as the bar.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct LogWriter;

impl LogWriter {
    /// A writer to standard error.
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

    /// Writes all pieces at once: the bar must not be drawn between two of them.
    fn write_fmt(&mut self, arguments: fmt::Arguments<'_>) -> io::Result<()> {
        self.write_all(arguments.to_string().as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// The bar of one stream.
pub(super) struct Bar {
    bars: MultiProgress,
    /// Added when progress is reported first.
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
            if self.printed.elapsed() >= LINE_INTERVAL && !is_over {
                self.printed = Instant::now();
                print(&progress.to_string());
            }
            return;
        }
        let bar = self.bar.get_or_insert_with(|| self.bars.add(new_bar(progress.total)));
        bar.set_position(progress.done);
        if let Some(total) = progress.total {
            bar.set_length(total);
        }
        bar.set_message(progress.to_string());
    }

    /// Replaces the bar by a line.
    pub(super) fn end(mut self, progress: &Progress) {
        let bars = self.bars.clone();
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            bars.remove(&bar);
        }
        bars.suspend(|| print(&progress.summary()));
    }
}

#[allow(clippy::print_stderr, reason = "the user has asked for it")]
fn print(line: &str) {
    eprintln!("{line}");
}

fn new_bar(total: Option<u64>) -> ProgressBar {
    let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
    // The templates are constants and well formed; a plain bar would do otherwise.
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
