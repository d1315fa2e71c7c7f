//! One look at the master: asks it for what the page shows, and makes an event of each part that has changed.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use distribution::{
    AdminClient, CallError, Stats,
    administration::{HistoryFilter, MethodMetrics, TimedEvent},
};
use futures::{StreamExt, stream::BoxStream};
use serde_json::{Value, json};

use super::{
    answers::Answers,
    hub::Parts,
    measured::Measured,
    part::Part,
    rows::{EventRow, MOST_ROWS},
};

/// How many of the newest events are shown.
const MOST_EVENTS: usize = 200;

/// How many seconds of the history an event brings. A page that misses some asks for them.
const MOST_POINTS: usize = 30;

/// How long the master may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Reads a master, and remembers what it needs for the next look.
pub(super) struct Reader {
    admin: AdminClient,
    /// The events that come; `None` after an error, until the next look.
    following: Option<BoxStream<'static, Result<TimedEvent, CallError>>>,
    events: VecDeque<EventRow>,
    /// How many events there have been, so that the page knows a new one.
    event_number: u64,
    totals: Option<(Instant, Stats)>,
    measured: Arc<Mutex<Measured>>,
    /// The next second of the history.
    next_point: u64,
    /// The version of the first state of each part.
    first_version: u64,
    parts: BTreeMap<&'static str, Part>,
    /// When the figures are from that are shown.
    read_at: Option<f64>,
}

impl Reader {
    pub(super) fn new(admin: AdminClient, measured: Arc<Mutex<Measured>>) -> Self {
        Self {
            admin,
            following: None,
            events: VecDeque::new(),
            event_number: 0,
            totals: None,
            measured,
            next_point: 0,
            first_version: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros()
                as u64,
            parts: BTreeMap::new(),
            read_at: None,
        }
    }

    /// Waits, and takes events meanwhile.
    pub(super) async fn rest(&mut self, time: Duration) {
        let end = tokio::time::Instant::now() + time;
        let mut following = self.following.take().unwrap_or_else(|| follow(&self.admin));
        loop {
            match tokio::time::timeout_at(end, following.next()).await {
                Err(_) => {
                    self.following = Some(following);
                    return;
                }
                Ok(Some(Ok(event))) => self.on_event(event),
                // The next look begins anew.
                Ok(Some(Err(_)) | None) => return tokio::time::sleep_until(end).await,
            }
        }
    }

    fn on_event(&mut self, event: TimedEvent) {
        self.event_number += 1;
        self.events.push_front(EventRow::new(self.event_number, &event));
        self.events.truncate(MOST_EVENTS);
    }

    /// Asks the master for everything.
    pub(super) async fn read(&mut self) -> Parts {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        match tokio::time::timeout(ANSWER_TIME, Answers::ask(&self.admin, MOST_ROWS)).await {
            Ok(Ok((answers, methods))) => {
                self.read_at = Some(now);
                self.show(answers, methods, now);
                self.show_history().await;
            }
            // What was read before stays, and the page says from when it is.
            Ok(Err(error)) => self.set("trouble", json!({ "sentence": error.to_string(), "since": self.read_at })),
            Err(_) => {
                let sentence =
                    format!("the master has not answered for {} s; it may be stalled", ANSWER_TIME.as_secs());
                self.set("trouble", json!({ "sentence": sentence, "since": self.read_at }));
            }
        }
        self.parts.values().cloned().collect()
    }

    fn show(&mut self, answers: Answers, methods: Vec<MethodMetrics>, now: f64) {
        let rates = self.rates(&answers.stats);
        self.set("trouble", json!({}));
        let measured = Arc::clone(&self.measured);
        let mut measured = measured.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = answers.into_parts(now, rates, &measured.window(methods), MOST_ROWS);
        drop(measured);
        for (name, part) in parts {
            self.set(name, part);
        }
        let events = json!({ "events": self.events });
        self.set("events", events);
    }

    /// Shows the seconds since the last look. What was before, the page asks for once.
    async fn show_history(&mut self) {
        let filter = HistoryFilter::default().from(self.next_point);
        let Ok(Ok(history)) = tokio::time::timeout(ANSWER_TIME, async { self.admin.history(filter).await }).await
        else {
            return;
        };
        self.next_point = history.next;
        let newest = history.cluster.len().saturating_sub(MOST_POINTS);
        let points = &history.cluster[newest..];
        self.set("history", json!({ "started": history.started.as_secs_f64(), "points": points }));
    }

    /// Calls a second since the last look.
    fn rates(&mut self, stats: &Stats) -> Value {
        let now = Instant::now();
        let before = self.totals.replace((now, *stats));
        let Some((at, before)) = before else { return Value::Null };
        let seconds = now.duration_since(at).as_secs_f64().max(0.001);
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        json!({
            "answered": rate(stats.answered, before.answered),
            "failed": rate(stats.failed, before.failed),
            "cancelled": rate(stats.cancelled, before.cancelled),
        })
    }

    fn set(&mut self, name: &'static str, content: Value) {
        match self.parts.get_mut(name) {
            Some(part) => part.set(content),
            None => _ = self.parts.insert(name, Part::new(name, self.first_version, content)),
        }
    }
}

fn follow(admin: &AdminClient) -> BoxStream<'static, Result<TimedEvent, CallError>> {
    admin.events().boxed()
}
