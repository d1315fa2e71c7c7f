//! The warnings of a master, each with the panel that tells more.

use distribution::administration::{Warning, WarningKind, WarningLevel};
use serde::Serialize;

/// A warning as the page shows it.
#[derive(Debug, Serialize)]
pub(crate) struct WarningRow {
    #[serde(flatten)]
    warning: Warning,
    level: WarningLevel,
    panel: &'static str,
}

impl WarningRow {
    pub(crate) fn new(warning: Warning) -> Self {
        let panel = match warning.kind {
            WarningKind::MasterStalled | WarningKind::ShuttingDown => "overview",
            WarningKind::NobodyServes | WarningKind::SlotsHeld | WarningKind::RunsLong => "calls",
            WarningKind::QueueFull => "callers",
            WarningKind::LargeBatches => "methods",
            WarningKind::Ejected => "failures",
            WarningKind::NodeLost => "events",
            _ => "nodes",
        };
        Self { level: warning.kind.level(), panel, warning }
    }
}
