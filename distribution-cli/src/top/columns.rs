//! Which columns of a panel fit into a terminal, and how wide each is.

use unicode_width::UnicodeWidthStr;

use super::rows::{Column, Row};

/// Between two columns.
pub(super) const GAP: u16 = 2;

/// A flexible column is left out where it would be narrower.
const NARROWEST: u16 = 12;

/// A column that is not flexible is cut off here, and where the terminal is narrow at a third of it.
const WIDEST: u16 = 32;

/// A column that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fitted {
    /// Which column of the panel it is.
    pub(super) at: usize,
    pub(super) width: u16,
}

/// The columns that fit into this width, in their order.
pub(super) fn fit<'a>(columns: &[Column], rows: impl Iterator<Item = &'a Row> + Clone, width: u16) -> Vec<Fitted> {
    let widest = |at: usize| {
        let cells = rows.clone().filter_map(|row| row.cells.get(at)).map(|cell| cell.text.width());
        // The sign of the sorted column needs a place in each heading.
        let widest = cells.max().unwrap_or(0).max(columns[at].name.width() + 1);
        u16::try_from(widest).unwrap_or(u16::MAX)
    };
    let mut by_rank: Vec<usize> = (0..columns.len()).collect();
    by_rank.sort_by_key(|at| columns[*at].rank);
    let mut fitted: Vec<Fitted> = Vec::new();
    let mut left = width;
    for at in by_rank {
        let gap = if fitted.is_empty() { 0 } else { GAP };
        let full = widest(at);
        let wanted =
            if columns[at].is_flexible { full.min(NARROWEST) } else { full.min(WIDEST.min(width / 3).max(NARROWEST)) };
        let needed = wanted.saturating_add(gap);
        if needed <= left {
            left -= needed;
            fitted.push(Fitted { at, width: wanted });
        } else if fitted.is_empty() {
            return vec![Fitted { at, width: left }];
        } else {
            // A column that is less important would jump about as widths change.
            break;
        }
    }
    if let Some(flexible) = fitted.iter_mut().find(|column| columns[column.at].is_flexible) {
        flexible.width += left.min(widest(flexible.at).saturating_sub(flexible.width));
    }
    fitted.sort_by_key(|column| column.at);
    fitted
}
