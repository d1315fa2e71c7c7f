//! Tells the master how far the runs of many calls have come, not too often.

use std::time::Duration;

use tokio::time::Instant;

use crate::wire::{Control, RunReport, connection_state::ConnectionState};

/// Reports in a second. A run is told of once a second, so that a program with more runs than this has some that are told of
/// less often. A master takes four times as many.
pub(crate) const MOST_IN_A_SECOND: u32 = 64;

/// Ends of runs that are kept while there is no connection.
const MOST_KEPT: usize = 64;

/// What is told, and what was told in this second.
#[derive(Debug, Default)]
pub(super) struct RunReports {
    /// When the second began, and how many reports it has seen.
    second: Option<(Instant, u32)>,
    /// The last reports of runs that have ended while there was no connection.
    ended: Vec<RunReport>,
}

impl RunReports {
    /// Sends a report. Without a connection only that of the end is kept: of a run that goes on there will be another.
    pub(super) fn send(&mut self, report: RunReport, connection: Option<&ConnectionState>) {
        let Some(connection) = connection else {
            if report.is_over && self.ended.len() < MOST_KEPT {
                self.ended.push(report);
            }
            return;
        };
        let now = Instant::now();
        let (began, sent) = match self.second {
            Some((began, sent)) if now.saturating_duration_since(began) < Duration::from_secs(1) => (began, sent),
            _ => (now, 0),
        };
        // The end of a run is told whatever else was; there are few of them beside what makes them.
        let most = if report.is_over { MOST_IN_A_SECOND * 2 } else { MOST_IN_A_SECOND };
        if sent < most {
            self.second = Some((began, sent + 1));
            connection.send(Control::Run { report });
        }
    }

    /// There is a connection again.
    pub(super) fn on_connected(&mut self, connection: &ConnectionState) {
        for report in std::mem::take(&mut self.ended) {
            self.send(report, Some(connection));
        }
    }
}
