//! The same as text, for a pipe or a script.

use std::time::Duration;

use distribution::AdminClient;

use super::{header, rates::Rates, rows::Panel, snapshot::Snapshot};
use crate::{administer, arguments::Connection, failure::Failure, look::Look, output::print, table::Table};

/// Looks twice, an interval apart, because rates are counted between two looks.
pub(super) async fn print_once(connection: Connection, interval: Duration, look: Look) -> Result<(), Failure> {
    let master = connection.master.clone();
    let (earlier, later) = administer::administer(connection, async |admin: &AdminClient| {
        let earlier = Snapshot::fetch(admin).await?;
        tokio::time::sleep(interval).await;
        Ok((earlier, Snapshot::fetch(admin).await?))
    })
    .await?;
    let rates = Rates::new(Some(&earlier), &later, None);
    print(&text(&master, &later, &rates, look))
}

pub(super) fn text(master: &str, snapshot: &Snapshot, rates: &Rates, look: Look) -> String {
    let facts = header::facts(snapshot, rates);
    let facts: Vec<_> = facts.iter().map(|fact| look.paint(&fact.text, fact.tone)).collect();
    let mut text = format!("{}\n{}\n", header::title(master, Some(snapshot)), facts.join(", "));
    for run in header::runs(snapshot, usize::MAX) {
        text += &format!("{run}\n");
    }
    for panel in Panel::ALL {
        text.push('\n');
        let rows = panel.rows(snapshot, rates);
        if rows.is_empty() {
            text += &format!("{}\n", panel.when_empty());
            continue;
        }
        let names: Vec<_> = panel
            .columns()
            .iter()
            .map(|column| {
                let end = match (column.is_number, column.is_flexible) {
                    (true, _) => ">",
                    (_, true) => "~",
                    _ => "",
                };
                // The most important has the rank 0, and stays.
                format!("{}{end}{}", column.name, column.rank)
            })
            .collect();
        let mut table = Table::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for row in rows {
            table.row(row.cells.iter().map(|cell| cell.text.clone()));
            for (column, cell) in panel.columns().iter().zip(&row.cells) {
                table.tone(column.name, cell.tone);
            }
        }
        text += &table.text(look);
        if panel == Panel::Calls && snapshot.has_more {
            text += "there are more; `distribution calls` lists all\n";
        }
    }
    text
}
