//! Tables with aligned columns, as wide as the terminal.

use comfy_table::{
    Attribute, Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table as Layout, Width, presets,
};

use crate::look::{Look, Tone};

/// A column of text that is wrapped where the terminal is narrow keeps at least this width.
const NARROWEST: u16 = 16;

/// Rows below a heading.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<(String, Option<Tone>)>>,
}

/// A column, by the end of its name: `>` for numbers, which are aligned on their right; `~` for texts that may be wrapped.
#[derive(Debug)]
struct Column {
    name: String,
    is_number: bool,
    wraps: bool,
}

impl Table {
    pub(crate) fn new(columns: &[&str]) -> Self {
        let column = |name: &&str| Column {
            name: name.trim_end_matches(['>', '~']).to_owned(),
            is_number: name.ends_with('>'),
            wraps: name.ends_with('~'),
        };
        Self { columns: columns.iter().map(column).collect(), rows: Vec::new() }
    }

    /// Adds a row with a cell for each column.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) -> &mut Self {
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

    /// The table as text, each line with an end.
    pub(crate) fn text(&self, look: Look) -> String {
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
        layout.set_header(self.columns.iter().map(heading));
        for cells in &self.rows {
            layout.add_row(cells.iter().map(|(text, tone)| match tone.filter(|_| look.is_coloured) {
                Some(tone) => Cell::new(text).fg(tone.color()),
                None => Cell::new(text),
            }));
        }
        for (column, described) in layout.column_iter_mut().zip(&self.columns) {
            column.set_padding((0, 2));
            if described.is_number {
                column.set_cell_alignment(CellAlignment::Right);
            }
            column.set_constraint(match described.wraps {
                true => ColumnConstraint::LowerBoundary(Width::Fixed(NARROWEST)),
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
    fn states_have_colours_where_that_is_wanted() {
        crossterm::style::force_color_output(true);
        let coloured = table().text(Look { is_coloured: true, ..PLAIN });
        assert!(coloured.lines().nth(1).is_some_and(|line| line.contains("\u{1b}[") && line.contains("busy")));
        assert!(coloured.lines().next().is_some_and(|line| line.contains("\u{1b}[1m")), "the heading is bold");
        assert!(!table().text(PLAIN).contains('\u{1b}'));
    }
}
