//! What is looked at: the panel, the line, the order, the filter, and the question that is open.

use std::time::Instant;

use distribution::{CallId, NodeId};

use super::{
    columns::Fitted,
    rates::{Rates, Window},
    rows::{Panel, Row, RowId},
    snapshot::Snapshot,
};

/// What is done to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Cancel(CallId),
    Drain(NodeId),
    Cordon(NodeId),
    Uncordon(NodeId),
}

/// An action that waits for `y`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) action: Action,
    /// What is done to what: `drain n1 (5f3a91c2-7)`.
    pub(super) what: String,
}

/// What keys are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Looking,
    Filtering,
    Asking(Question),
    Helping,
}

/// What the last line says until a key is pressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) text: String,
    pub(super) is_error: bool,
}

/// The master does not answer.
#[derive(Clone, Debug)]
pub(super) struct Lost {
    pub(super) since: Instant,
    pub(super) why: String,
}

/// How a panel is looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// What the selected line is about, and where that line was when it was drawn.
    pub(super) selected: Option<RowId>,
    pub(super) at: usize,
    /// The first line that is shown.
    pub(super) offset: usize,
    /// How many lines there is room for.
    pub(super) height: usize,
    /// The columns that were shown.
    pub(super) columns: Vec<Fitted>,
    /// The column by which lines are sorted, if it is not the order in which the master lists them.
    pub(super) sorted_by: Option<usize>,
    pub(super) is_reversed: bool,
}

/// All that is drawn.
#[derive(Debug)]
pub(super) struct App {
    /// The master's address, as the user gave it.
    pub(super) master: String,
    pub(super) is_coloured: bool,
    pub(super) panel: Panel,
    views: [View; Panel::ALL.len()],
    pub(super) filter: String,
    pub(super) mode: Mode,
    pub(super) is_paused: bool,
    pub(super) message: Option<Message>,
    pub(super) lost: Option<Lost>,
    pub(super) snapshot: Option<Snapshot>,
    pub(super) rates: Rates,
    window: Window,
}

impl App {
    pub(super) fn new(master: &str, is_coloured: bool) -> Self {
        Self {
            master: master.to_owned(),
            is_coloured,
            panel: Panel::Nodes,
            views: Default::default(),
            filter: String::new(),
            mode: Mode::Looking,
            is_paused: false,
            message: None,
            lost: None,
            snapshot: None,
            rates: Rates::default(),
            window: Window::default(),
        }
    }

    pub(super) fn view(&self) -> &View {
        &self.views[self.panel as usize]
    }

    pub(super) fn view_mut(&mut self) -> &mut View {
        &mut self.views[self.panel as usize]
    }

    /// The master has answered.
    pub(super) fn on_snapshot(&mut self, snapshot: Snapshot) {
        self.lost = None;
        if self.is_paused {
            return;
        }
        let begin = self.window.add(&snapshot.metrics);
        self.rates = Rates::new(self.snapshot.as_ref(), &snapshot, begin);
        self.snapshot = Some(snapshot);
    }

    /// The master does not answer, and is asked again.
    pub(super) fn on_lost(&mut self, why: String, now: Instant) {
        let since = self.lost.as_ref().map_or(now, |lost| lost.since);
        self.lost = Some(Lost { since, why });
    }

    /// An action has ended.
    pub(super) fn on_done(&mut self, text: String, is_error: bool) {
        self.message = Some(Message { text, is_error });
    }

    /// The lines of the panel that match the filter, in order.
    pub(super) fn rows(&self) -> Vec<Row> {
        let Some(snapshot) = &self.snapshot else { return Vec::new() };
        let filter = self.filter.to_lowercase();
        let mut rows = self.panel.rows(snapshot, &self.rates);
        rows.retain(|row| row.matches(&filter));
        let view = self.view();
        if let Some(by) = view.sorted_by {
            let is_number = self.panel.columns()[by].is_number;
            // Stable: lines that are alike keep the master's order.
            rows.sort_by(|one, other| {
                let order = one.cells[by].compare(&other.cells[by]);
                if is_number { order.reverse() } else { order }
            });
        }
        if view.is_reversed {
            rows.reverse();
        }
        rows
    }

    /// Selects the line that was selected, wherever it is now, or the one at its place if it is gone.
    pub(super) fn settle(&mut self, rows: &[Row], height: usize) {
        let view = self.view_mut();
        view.height = height.max(1);
        let found = view.selected.as_ref().and_then(|selected| rows.iter().position(|row| row.id == *selected));
        view.at = found.unwrap_or(view.at).min(rows.len().saturating_sub(1));
        view.selected = rows.get(view.at).map(|row| row.id.clone());
        let last_offset = rows.len().saturating_sub(view.height);
        let first = (view.at + 1).saturating_sub(view.height);
        view.offset = view.offset.clamp(first, view.at.max(first)).min(last_offset);
    }

    /// Selects the line that is this many lines away.
    pub(super) fn move_by(&mut self, lines: isize) {
        let rows = self.rows();
        let view = self.view_mut();
        view.at = view.at.saturating_add_signed(lines).min(rows.len().saturating_sub(1));
        view.selected = rows.get(view.at).map(|row| row.id.clone());
    }

    /// Sorts by the next of the columns that are shown, and after the last by none.
    pub(super) fn sort_by_next(&mut self) {
        let view = self.view_mut();
        let mut shown = view.columns.iter().map(|column| column.at);
        view.sorted_by = match view.sorted_by {
            None => shown.next(),
            Some(by) => shown.find(|at| *at > by),
        };
    }

    /// The line that is selected.
    pub(super) fn selected(&self) -> Option<&RowId> {
        self.view().selected.as_ref()
    }
}
