//! Tables with aligned columns.

/// Rows below a heading. Columns of numbers are aligned on their right.
#[derive(Debug)]
pub(crate) struct Table {
    /// The columns' names; one that ends with `>` is aligned on its right.
    heading: Vec<String>,
    is_right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[&str]) -> Self {
        Self {
            heading: columns.iter().map(|name| name.trim_end_matches('>').to_owned()).collect(),
            is_right: columns.iter().map(|name| name.ends_with('>')).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row with a cell for each column.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into_iter().map(|cell| shown(&cell)).collect());
    }

    /// The table as text, each line with an end.
    pub(crate) fn text(&self) -> String {
        let lines = || std::iter::once(&self.heading).chain(&self.rows);
        let widest = |column: usize| lines().filter_map(|line| line.get(column)).map(|cell| width(cell)).max();
        let widths: Vec<usize> = (0..self.heading.len()).map(|column| widest(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for cells in lines() {
            let mut line = String::new();
            for ((cell, wide), is_right) in cells.iter().zip(&widths).zip(&self.is_right) {
                let gap = " ".repeat(wide - width(cell));
                line += if line.is_empty() { "" } else { "  " };
                line += &if *is_right { gap + cell } else { cell.clone() + &gap };
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

/// A text of a peer must not move the cursor or change the terminal.
fn shown(cell: &str) -> String {
    cell.chars()
        .flat_map(|letter| match letter.is_control() {
            true => letter.escape_default().collect::<Vec<_>>(),
            false => vec![letter],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_control_characters_escaped() {
        let mut table = Table::new(&["NAME", "CALLS>", "WHY"]);
        table.row(["n1".to_owned(), "7".to_owned(), "busy".to_owned()]);
        table.row(["a-longer-ñame".to_owned(), "12345678".to_owned(), "\u{1b}[2J".to_owned()]);
        let lines: Vec<_> = table.text().lines().map(str::to_owned).collect();
        assert_eq!(
            lines,
            ["NAME              CALLS  WHY", "n1                    7  busy", "a-longer-ñame  12345678  \\u{1b}[2J",]
        );
    }
}
