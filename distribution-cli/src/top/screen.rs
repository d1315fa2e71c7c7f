//! Draws all of it, in whatever room there is.

use std::time::Instant;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Clear, Paragraph},
};
use unicode_width::UnicodeWidthStr;

use super::{
    columns::{Fitted, GAP, fit},
    header::{self, Fact},
    help,
    rows::{Panel, Row},
    state::{App, Mode},
};
use crate::{
    lines::{cut, wrap},
    look::Tone,
    table::shown,
    units::{count, time},
};

/// Lines that the facts may take.
const MOST_FACTS: usize = 4;

/// Runs under way that have a line above the panels, where there are at least this many lines.
const MOST_RUNS: usize = 3;
const TALL: u16 = 20;

/// Lines for what is known of the selected row.
const DETAILS: usize = 3;

/// Details are shown if the table keeps this many rows.
const FEWEST_ROWS: u16 = 4;

/// Draws the screen. Notes in the app which rows and columns there was room for.
pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App, now: Instant) {
    let area = frame.area();
    let mut facts = Vec::new();
    if let Some(snapshot) = &app.snapshot {
        facts = flow(&header::facts(snapshot, &app.rates), area.width, MOST_FACTS, app);
        let runs = header::runs(snapshot, if area.height >= TALL { MOST_RUNS } else { 0 });
        facts.extend(runs.into_iter().map(|run| Line::from(cut(&run, area.width))));
    }
    let rows = app.rows();
    let head = u16::try_from(facts.len()).unwrap_or(u16::MAX).saturating_add(2);
    let room = area.height.saturating_sub(head).saturating_sub(2);
    let details = if room >= FEWEST_ROWS + DETAILS as u16 { DETAILS as u16 } else { 0 };
    let [top, facts_area, tabs, table, details_area, bottom] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(head - 2),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(details),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(title(app, now, area.width), top);
    frame.render_widget(Paragraph::new(facts), facts_area);
    frame.render_widget(panels(app, rows.len(), area.width), tabs);
    draw_table(frame, app, &rows, table);
    if let Some(row) = rows.get(app.view().at) {
        let lines = wrap(&row.details, area.width, usize::from(details));
        frame.render_widget(Paragraph::new(lines.into_iter().map(Line::from).collect::<Vec<_>>()), details_area);
    }
    frame.render_widget(last_line(app, area.width), bottom);
    if app.mode == Mode::Helping {
        draw_help(frame, area);
    }
}

fn style(app: &App, tone: Option<Tone>) -> Style {
    let color = match tone.filter(|_| app.is_coloured) {
        None => return Style::new(),
        Some(Tone::Good) => Color::Green,
        Some(Tone::Attention) => Color::Yellow,
        Some(Tone::Bad) => Color::Red,
    };
    Style::new().fg(color)
}

fn title(app: &App, now: Instant, width: u16) -> Line<'static> {
    let (text, tone) = match &app.lost {
        Some(lost) => {
            let since = time(now.saturating_duration_since(lost.since));
            (shown(&format!("NO ANSWER for {since} from {}: {}", app.master, lost.why)), Some(Tone::Bad))
        }
        None if app.is_paused => {
            (format!("PAUSED, p goes on; {}", header::title(&app.master, app.snapshot.as_ref())), Some(Tone::Attention))
        }
        None => (header::title(&app.master, app.snapshot.as_ref()), None),
    };
    Line::styled(cut(&text, width), style(app, tone).add_modifier(Modifier::BOLD))
}

/// Facts side by side, on as many lines as they need.
fn flow(facts: &[Fact], width: u16, most: usize, app: &App) -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'static>> = Vec::new();
    for fact in facts {
        let span = Span::styled(cut(&fact.text, width), style(app, fact.tone));
        let is_full = lines.len() >= most;
        match lines.last_mut() {
            Some(line) if line.width() + 2 + span.width() <= usize::from(width) => {
                line.push_span("  ");
                line.push_span(span);
            }
            _ if !is_full => lines.push(Line::from(span)),
            _ => break,
        }
    }
    lines
}

/// The names of the panels, the one that is shown in reverse, with the number of its lines.
fn panels(app: &App, lines: usize, width: u16) -> Line<'static> {
    let mut line = Line::default();
    for (number, panel) in (1..).zip(Panel::ALL) {
        let is_shown = panel == app.panel;
        let text = if is_shown {
            format!(" {number} {} {} ", panel.name(), listed(app, lines))
        } else {
            format!(" {number} {} ", panel.name())
        };
        let style = if is_shown { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        line.push_span(Span::styled(text, style));
    }
    if !app.filter.is_empty() && app.mode != Mode::Filtering {
        let left = usize::from(width).saturating_sub(line.width() + 1);
        line.push_span(Span::styled(
            format!(" {}", cut(&format!("only with `{}`", app.filter), u16::try_from(left).unwrap_or(0))),
            style(app, Some(Tone::Attention)),
        ));
    }
    line
}

/// How many lines there are, and of how many calls they are the oldest.
fn listed(app: &App, lines: usize) -> String {
    let Some(snapshot) = app.snapshot.as_ref().filter(|snapshot| app.panel == Panel::Calls && snapshot.has_more) else {
        return count(lines as u64);
    };
    let all = snapshot.stats.queued + snapshot.stats.in_flight;
    format!("{} of {}", count(lines as u64), count(all as u64))
}

fn draw_table(frame: &mut Frame<'_>, app: &mut App, rows: &[Row], area: Rect) {
    let height = usize::from(area.height.saturating_sub(1));
    app.settle(rows, height);
    let columns = app.panel.columns();
    let fitted = fit(columns, rows.iter(), area.width);
    app.view_mut().columns.clone_from(&fitted);
    let view = app.view();
    if rows.is_empty() {
        let text = match &app.snapshot {
            None => "the master is asked",
            Some(_) if !app.filter.is_empty() => "no line has this text",
            Some(_) => app.panel.when_empty(),
        };
        frame.render_widget(Paragraph::new(cut(text, area.width)), area);
        return;
    }
    let headings = fitted.iter().map(|column| {
        let name = columns[column.at].name;
        let text = match view.sorted_by {
            Some(by) if by == column.at => {
                // Numbers begin with the largest.
                let is_descending = columns[by].is_number != view.is_reversed;
                format!("{name}{}", if is_descending { '▼' } else { '▲' })
            }
            _ => name.to_owned(),
        };
        (text, Style::new().add_modifier(Modifier::BOLD))
    });
    let mut lines = vec![table_line(columns, &fitted, headings)];
    for (at, row) in rows.iter().enumerate().skip(view.offset).take(height) {
        let cells = fitted.iter().map(|column| {
            let cell = &row.cells[column.at];
            (cell.text.clone(), style(app, cell.tone))
        });
        let line = table_line(columns, &fitted, cells);
        let style = if at == view.at { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        lines.push(line.style(style));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn table_line(
    columns: &[super::rows::Column],
    fitted: &[Fitted],
    cells: impl Iterator<Item = (String, Style)>,
) -> Line<'static> {
    let mut line = Line::default();
    for (place, (column, (text, style))) in fitted.iter().zip(cells).enumerate() {
        let text = cut(&text, column.width);
        let padding = " ".repeat(usize::from(column.width).saturating_sub(text.width()));
        let gap = if place == 0 { String::new() } else { " ".repeat(usize::from(GAP)) };
        let (before, after) =
            if columns[column.at].is_number { (gap + &padding, String::new()) } else { (gap, padding) };
        line.push_span(before);
        line.push_span(Span::styled(text, style));
        line.push_span(after);
    }
    line
}

fn last_line(app: &App, width: u16) -> Line<'static> {
    match &app.mode {
        Mode::Asking(question) => {
            // The end is the question, so what is cut off is the middle.
            let what = cut(&shown(&question.what), width.saturating_sub(7));
            Line::styled(format!("{what}? (y/n)"), style(app, Some(Tone::Attention)).add_modifier(Modifier::BOLD))
        }
        Mode::Filtering => Line::from(cut(&format!("only lines with: {}_", app.filter), width)),
        Mode::Looking | Mode::Helping => match &app.message {
            Some(message) => {
                let tone = if message.is_error { Tone::Bad } else { Tone::Good };
                Line::styled(cut(&shown(&message.text), width), style(app, Some(tone)))
            }
            None => hints(width),
        },
    }
}

fn hints(width: u16) -> Line<'static> {
    let mut line = Line::default();
    for (key, what) in help::HINTS {
        let gap = if line.spans.is_empty() { "" } else { "  " };
        if line.width() + gap.len() + key.len() + 1 + what.len() > usize::from(width) {
            break;
        }
        line.push_span(gap);
        line.push_span(Span::styled(*key, Style::new().add_modifier(Modifier::BOLD)));
        line.push_span(format!(" {what}"));
    }
    line
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let keys = help::KEYS.iter().map(|(key, _)| key.width()).max().unwrap_or(0);
    let room = usize::from(area.width).saturating_sub(keys + 4);
    let mut lines = vec![Line::styled(" keys", Style::new().add_modifier(Modifier::BOLD))];
    for (key, what) in help::KEYS {
        let what = wrap(what, u16::try_from(room).unwrap_or(u16::MAX), 3);
        for (at, part) in what.into_iter().enumerate() {
            let key = if at == 0 { *key } else { "" };
            lines.push(Line::from(format!(" {key:keys$}  {part}")));
        }
    }
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines), area);
}
