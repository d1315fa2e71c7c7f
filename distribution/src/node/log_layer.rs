//! `layer()`: what gives a node the events of `tracing` that its master is to see.

use std::{
    cell::Cell,
    fmt::{self, Write as _},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::current::CurrentCall;
use crate::{
    administration::LogLevel,
    id::CallId,
    log_queue::{self, NewRecord},
    wire::log::LONGEST_RECORD,
};

thread_local! {
    /// Whether this thread writes an event out: what that logs itself is left out.
    static WRITES: Cell<bool> = const { Cell::new(false) };
    /// Whether this thread belongs to a node: outside of handlers it logs what the connection does.
    static IS_NODES_OWN: Cell<bool> = const { Cell::new(false) };
}

/// This thread belongs to a node.
pub(super) fn mark_own_thread() {
    IS_NODES_OWN.set(true);
}

/// A layer for a subscriber of `tracing` that sends events to the master, where
/// [`Master::logs`](crate::Master::logs) and `distribution logs` read them.
///
/// Add it in the process of a node:
///
/// ```
/// use tracing_subscriber::prelude::*;
///
/// tracing_subscriber::registry()
///     .with(tracing_subscriber::fmt::layer())
///     .with(distribution::logs::layer())
///     .init();
/// ```
///
/// - The events of a handler go to the master of its node, with method, call and attempt. Those of threads and tasks that the
///   handler has started go there too if they are inside a span `call` of this crate.
/// - All other events of the process go to the node that was started first, as long as it has not ended. If the process has
///   no node, they go nowhere.
///
/// Events of the level `INFO` and above are sent; [`least_level`](LogLayer::least_level) changes that. What this crate and
/// `tarpc` log about the connection is never sent.
///
/// No thread that logs waits for the connection. A node sends 1,000 records a second after a burst of 5,000, and 1 MiB a
/// second after a burst of 4 MiB; the newest beyond that are dropped, and a record says how many. A record that repeats one
/// that waits is counted there. What is longer than 8 KiB is cut, and join tokens are replaced by `[token]`. Records that are
/// under way when the connection breaks are lost.
pub fn layer() -> LogLayer {
    LogLayer { least: LogLevel::Info }
}

/// Sends events to the master; see [`layer`].
#[derive(Clone, Debug)]
pub struct LogLayer {
    least: LogLevel,
}

impl LogLayer {
    /// The least serious events that are sent; `Info` by default.
    pub fn least_level(self, least: LogLevel) -> Self {
        Self { least }
    }

    fn is_wanted(&self, metadata: &Metadata<'_>) -> bool {
        level_of(metadata.level()) >= self.least && !is_of_connection(metadata.target())
    }
}

/// What a span of a call says of it.
#[derive(Clone, Debug, Default)]
struct CallOfSpan {
    method: Option<String>,
    call: Option<u64>,
    attempt: Option<u32>,
    node: Option<String>,
}

impl<S> Layer<S> for LogLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let metadata = attributes.metadata();
        if metadata.name() != "call" || !metadata.target().starts_with("distribution") {
            return;
        }
        let Some(span) = context.span(id) else { return };
        let mut call = CallOfSpan::default();
        attributes.record(&mut call);
        // The span of a caller has the same name, and is told its call later.
        if call.call.is_some() {
            span.extensions_mut().insert(call);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if !self.is_wanted(event.metadata()) || log_queue::is_empty() || WRITES.replace(true) {
            return;
        }
        // Reset also if what follows panics, as a `Debug` of the user's may.
        let _written = Written;
        let running = CurrentCall::running();
        if let Some((call, logs)) = running.as_ref().and_then(|call| Some((call, call.nesting()?.logs()?))) {
            let method = || call.method().map(|method| method.name().to_string());
            return push(logs, event, method, Some((call.id().0, call.attempt())));
        }
        let of_span = context
            .event_scope(event)
            .and_then(|spans| spans.into_iter().find_map(|span| span.extensions().get::<CallOfSpan>().cloned()));
        let of_connection = IS_NODES_OWN.get() && !event.metadata().target().starts_with("distribution");
        match of_span {
            Some(span) => {
                let logs = span.node.as_deref().and_then(log_queue::named).or_else(log_queue::oldest);
                let call = span.call.map(|call| (call, span.attempt.unwrap_or(1)));
                logs.iter().for_each(|logs| push(logs, event, || span.method.clone(), call));
            }
            None if of_connection => {}
            None => log_queue::oldest().iter().for_each(|logs| push(logs, event, || None, None)),
        }
    }
}

/// Resets [`WRITES`].
struct Written;

impl Drop for Written {
    fn drop(&mut self) {
        WRITES.set(false);
    }
}

fn push(
    logs: &log_queue::NodeLogs,
    event: &Event<'_>,
    method: impl FnOnce() -> Option<String>,
    call: Option<(u64, u32)>,
) {
    // Whether it repeats another one is known only once it is written out; of a flood that is not worth it.
    if logs.drops_new_ones() {
        return logs.count_dropped();
    }
    let metadata = event.metadata();
    let mut text = TextOfEvent::default();
    event.record(&mut text);
    logs.push(NewRecord {
        level: level_of(metadata.level()),
        target: metadata.target().to_owned(),
        message: text.message.0,
        fields: text.fields.0,
        method: method(),
        call,
        backtrace: None,
    });
}

fn level_of(level: &Level) -> LogLevel {
    match *level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        Level::TRACE => LogLevel::Trace,
    }
}

/// Whether events of this target may come of sending others. Of this crate, only what nodes say of themselves is sent, and what
/// handlers do with its clients.
fn is_of_connection(target: &str) -> bool {
    let is_in =
        |module: &str| target.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    ["tarpc", "distribution::wire", "distribution::master", "distribution::core", "distribution::audit"]
        .into_iter()
        .any(is_in)
}

/// A text that takes no more than a record may have, whatever is written to it.
#[derive(Default)]
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // One byte more, so that it is seen to be too long.
        let room = (LONGEST_RECORD + 1).saturating_sub(self.0.len());
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        let end = (0..=room + 3).find(|&at| at >= room && text.is_char_boundary(at)).unwrap_or(0);
        self.0.push_str(&text[..end]);
        // The value that is written stops here.
        Err(fmt::Error)
    }
}

/// The message of an event, and its other fields.
#[derive(Default)]
struct TextOfEvent {
    message: Bounded,
    fields: Bounded,
}

impl TextOfEvent {
    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let name = field.name();
        // The bridge from the crate `log` adds fields that say where an event comes from.
        if name.starts_with("log.") {
            return;
        }
        let _ = match name {
            "message" => self.message.write_fmt(value),
            name => {
                let space = if self.fields.0.is_empty() { "" } else { " " };
                write!(self.fields, "{space}{name}={value}")
            }
        };
    }
}

impl Visit for TextOfEvent {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.add(field, format_args!("{value}")),
            _ if value.is_empty() || value.contains([' ', '"', '\n']) => self.add(field, format_args!("{value:?}")),
            _ => self.add(field, format_args!("{value}")),
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}

impl Visit for CallOfSpan {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "attempt" {
            self.attempt = u32::try_from(value).ok();
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "method" => self.method = Some(value.to_owned()),
            "node" => self.node = Some(value.to_owned()),
            "call" => self.call = value.parse::<CallId>().ok().map(|call| call.0),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stops_where_a_record_ends() {
        let mut text = Bounded::default();
        let mut written = 0;
        while text.write_str("äöü").is_ok() {
            written += 1;
        }
        assert!(text.0.len() > LONGEST_RECORD && text.0.len() < LONGEST_RECORD + 8, "{}", text.0.len());
        assert_eq!(written, (LONGEST_RECORD + 1) / 6);
    }

    #[test]
    fn what_the_connection_logs_is_known_by_its_target() {
        for target in
            ["tarpc", "tarpc::client", "distribution::wire::dial", "distribution::master", "distribution::audit"]
        {
            assert!(is_of_connection(target), "{target}");
        }
        for target in ["tarpcx", "program", "distribution::node::watchdog", "distribution_tests"] {
            assert!(!is_of_connection(target), "{target}");
        }
    }
}
