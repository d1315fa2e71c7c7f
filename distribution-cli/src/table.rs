//! Tables with aligned columns, as wide as the terminal.

use comfy_table::{
    Attribute, Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table as Layout, Width, presets,
};

use unicode_width::UnicodeWidthStr;

use crate::{
    lines::wrap,
    look::{Look, Tone},
};

/// A column of text that is wrapped where the terminal is narrow keeps at least this width.
const NARROWEST: usize = 16;

/// Between two columns.
const GAP: usize = 2;

/// Rows below a heading.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<(String, Option<Tone>)>>,
}

/// A column, by the end of its name: `>` for numbers, which are aligned on their right; `~` for texts that may be wrapped; and
/// behind that a digit, if the column is left out where the terminal is too narrow for all, the one with the largest digit
/// first.
#[derive(Debug)]
struct Column {
    name: String,
    is_number: bool,
    wraps: bool,
    rank: u32,
}

impl Table {
    pub(crate) fn new(columns: &[&str]) -> Self {
        let column = |described: &&str| {
            let name = described.trim_end_matches(|letter: char| letter.is_ascii_digit());
            Column {
                name: name.trim_end_matches(['>', '~']).to_owned(),
                is_number: name.ends_with('>'),
                wraps: name.ends_with('~'),
                rank: described[name.len()..].parse().unwrap_or(0),
            }
        };
        Self { columns: columns.iter().map(column).collect(), rows: Vec::new() }
    }

    /// Adds a row with a cell for each column.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) -> &mut Self {
        self.rows.push(cells.into_iter().map(|cell| (shown(&cell), None)).collect());
        self
    }

    /// Gives a colour to the cell of this column in the last row.
    pub(crate) fn tone(&mut self, column: &str, tone: Option<Tone>) -> &mut Self {
        let at = self.columns.iter().position(|known| known.name == column);
        debug_assert!(at.is_some(), "there is no column {column}");
        if let Some(cell) = at.zip(self.rows.last_mut()).and_then(|(at, row)| row.get_mut(at)) {
            cell.1 = tone;
        }
        self
    }

    /// The least width of a column.
    fn narrowest(&self, at: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|(text, _)| text.width());
        let widest = cells.max().unwrap_or(0).max(self.columns[at].name.width());
        if self.columns[at].wraps { widest.min(NARROWEST) } else { widest }
    }

    /// The columns that fit into this width, and those that do not.
    fn fitting(&self, width: Option<u16>) -> (Vec<usize>, Vec<usize>) {
        let mut shown: Vec<(usize, usize)> = (0..self.columns.len()).map(|at| (at, self.narrowest(at))).collect();
        let mut left_out = Vec::new();
        let room = width.map_or(usize::MAX, usize::from);
        while shown.iter().map(|(_, width)| width + GAP).sum::<usize>().saturating_sub(GAP) > room {
            let ranks = shown.iter().enumerate().map(|(place, (at, _))| (self.columns[*at].rank, place));
            match ranks.max() {
                None | Some((0, _)) => break,
                Some((_, place)) => left_out.push(shown.remove(place).0),
            }
        }
        left_out.sort_unstable();
        (shown.into_iter().map(|(at, _)| at).collect(), left_out)
    }

    /// The table as text, each line with an end. A last line names the columns that are left out.
    pub(crate) fn text(&self, look: Look) -> String {
        let (shown, left_out) = self.fitting(look.width);
        let table = self.text_of(&shown, look);
        if left_out.is_empty() {
            return table;
        }
        let left_out: Vec<_> = left_out.into_iter().map(|at| &*self.columns[at].name).collect();
        let note = format!("too narrow for: {}", left_out.join(", "));
        table + &wrap(&note, look.width.unwrap_or(u16::MAX), usize::MAX).join("\n") + "\n"
    }

    fn text_of(&self, shown: &[usize], look: Look) -> String {
        let columns = || shown.iter().map(|at| &self.columns[*at]);
        let mut layout = Layout::new();
        layout.load_preset(presets::NOTHING);
        match look.width {
            Some(width) => layout.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
            None => layout.set_content_arrangement(ContentArrangement::Disabled),
        };
        match look.is_coloured {
            true => layout.enforce_styling(),
            false => layout.force_no_tty(),
        };
        let heading = |column: &Column| match look.is_coloured {
            true => Cell::new(&column.name).add_attribute(Attribute::Bold),
            false => Cell::new(&column.name),
        };
        layout.set_header(columns().map(heading));
        for cells in &self.rows {
            let cells = shown.iter().filter_map(|at| cells.get(*at));
            layout.add_row(cells.map(|(text, tone)| match tone.filter(|_| look.is_coloured) {
                Some(tone) => Cell::new(text).fg(tone.color()),
                None => Cell::new(text),
            }));
        }
        for (column, at) in layout.column_iter_mut().zip(shown) {
            let described = &self.columns[*at];
            // Behind the last, a coloured heading would be longer than the line.
            let gap = if Some(at) == shown.last() { 0 } else { GAP };
            column.set_padding((0, gap as u16));
            if described.is_number {
                column.set_cell_alignment(CellAlignment::Right);
            }
            column.set_constraint(match described.wraps {
                true => ColumnConstraint::LowerBoundary(Width::Fixed((self.narrowest(*at) + gap) as u16)),
                false => ColumnConstraint::ContentWidth,
            });
        }
        layout.trim_fmt() + "\n"
    }
}

/// A text of a peer must not move the cursor or change the terminal.
pub(crate) fn shown(text: &str) -> String {
    text.chars()
        .flat_map(|letter| match letter.is_control() {
            true => letter.escape_default().collect::<Vec<_>>(),
            false => vec![letter],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Look = Look { is_coloured: false, width: None };

    fn table() -> Table {
        let mut table = Table::new(&["NAME", "CALLS>", "WHY~"]);
        table.row(["n1".to_owned(), "7".to_owned(), "busy".to_owned()]).tone("WHY", Some(Tone::Attention));
        let why = "it is for node n1, which is busy \u{1b}[2J".to_owned();
        table.row(["a-longer-ñame".to_owned(), "12345678".to_owned(), why]);
        table
    }

    #[test]
    fn columns_are_aligned_and_control_characters_escaped() {
        assert_eq!(
            table().text(PLAIN).lines().collect::<Vec<_>>(),
            [
                "NAME              CALLS  WHY",
                "n1                    7  busy",
                "a-longer-ñame  12345678  it is for node n1, which is busy \\u{1b}[2J",
            ]
        );
    }

    #[test]
    fn texts_are_wrapped_where_the_terminal_is_narrow_and_ids_are_not() {
        let narrow = |width| table().text(Look { width: Some(width), ..PLAIN });
        let text = narrow(50);
        assert!(text.lines().all(|line| line.chars().count() <= 50), "{text}");
        assert!(text.contains("a-longer-ñame  12345678  it is for node n1,"), "{text}");
        let text = narrow(10);
        assert!(text.contains("a-longer-ñame  12345678  it is for node"), "{text}");
    }

    #[test]
    fn columns_that_matter_less_are_left_out_where_the_terminal_is_narrow_and_named() {
        let mut table = Table::new(&["NAME", "STATE2", "CALLS>1", "ADDRESS3"]);
        table.row(["n1", "alive", "7", "10.0.0.1:4000"].map(str::to_owned));
        let text = |width| table.text(Look { width, ..PLAIN });
        let all = "NAME  STATE  CALLS  ADDRESS\nn1    alive      7  10.0.0.1:4000\n";
        assert_eq!(text(None), all);
        assert_eq!(text(Some(33)), all);
        assert_eq!(text(Some(32)), "NAME  STATE  CALLS\nn1    alive      7\ntoo narrow for: ADDRESS\n");
        assert_eq!(text(Some(17)), "NAME  CALLS\nn1        7\ntoo narrow for:\nSTATE, ADDRESS\n");
        assert_eq!(text(Some(8)), "NAME\nn1\ntoo\nnarrow\nfor:\nSTATE,\nCALLS,\nADDRESS\n");
    }

    #[test]
    fn states_have_colours_where_that_is_wanted() {
        crossterm::style::force_color_output(true);
        let coloured = table().text(Look { is_coloured: true, ..PLAIN });
        assert!(coloured.lines().nth(1).is_some_and(|line| line.contains("\u{1b}[") && line.contains("busy")));
        assert!(coloured.lines().next().is_some_and(|line| line.contains("\u{1b}[1m")), "the heading is bold");
        assert!(!table().text(PLAIN).contains('\u{1b}'));
    }
}
