//! The table of `switchboard calls list`.

use jiff::tz::TimeZone;

use crate::record::RecordId;
use crate::record::print::one_line;
use crate::store::Row;

/// The width of a terminal.
const WIDTH: usize = 80;
/// As much of an id as tells the milliseconds of two rings apart.
const ID: usize = 10;
/// The columns: id, time, caller, assistant, length, reason, cost, mark.
const COLUMNS: usize = 8;
const HEAD: [&str; COLUMNS] = ["ID", "TIME", "CALLER", "ASSISTANT", "MIN", "REASON", "USD", ""];
const CALLER: usize = 2;
const ASSISTANT: usize = 3;
const REASON: usize = 5;
/// Which columns are cut if the table is too wide, in this order, and what is left of them at least.
const CUTS: [(usize, usize); 3] = [(ASSISTANT, 6), (CALLER, 12), (REASON, 12)];

/// Marks of a row, and what they mean.
const MARKS: [(char, &str); 3] = [('!', "anomalies"), ('x', "broken off"), ('t', "test call")];

/// Calls by day, with times in this zone.
pub(super) fn table(rows: &[Row], zone: &TimeZone) -> String {
    let ids = ids(rows);
    let cells: Vec<[String; COLUMNS]> = rows.iter().zip(&ids).map(|(row, id)| cells(row, id, zone)).collect();
    let widths = widths(&cells);
    let mut text = line(&HEAD.map(str::to_owned), &widths);
    let mut last_day = None;
    for (row, cells) in rows.iter().zip(&cells) {
        let day = zone.to_datetime(row.started).date();
        if last_day.replace(day) != Some(day) {
            let abbreviation = zone.to_offset_info(row.started).abbreviation().to_owned();
            text += &format!("{} ({abbreviation})\n", day.strftime("%A, %-d %B %Y"));
        }
        text += &line(cells, &widths);
    }
    let used: Vec<String> = MARKS
        .iter()
        .filter(|(mark, _)| cells.iter().any(|cells| cells[COLUMNS - 1].contains(*mark)))
        .map(|(mark, meaning)| format!("{mark} {meaning}"))
        .collect();
    if !used.is_empty() {
        text += &format!("\n{}\n", used.join("   "));
    }
    text
}

fn cells(row: &Row, id: &str, zone: &TimeZone) -> [String; COLUMNS] {
    let seconds = row.seconds.max(0.0) as u64;
    let marks = [row.anomalies > 0, row.broken_off, row.test];
    let marks = MARKS.iter().zip(marks).filter_map(|((mark, _), applies)| applies.then_some(*mark));
    [
        id.to_owned(),
        zone.to_datetime(row.started).strftime("%H:%M").to_string(),
        one_line(row.from.as_deref().unwrap_or("-")),
        row.assistant.as_deref().unwrap_or("-").to_owned(),
        format!("{}:{:02}", seconds / 60, seconds % 60),
        row.reason.as_deref().unwrap_or("(running)").to_owned(),
        row.cost.map_or_else(|| "-".to_owned(), |cost| format!("{cost:.2}")),
        marks.collect(),
    ]
}

/// The beginning of each id, long enough to tell it from the others of the list.
fn ids(rows: &[Row]) -> Vec<String> {
    let start = |id: &RecordId, length: usize| id.as_str().chars().take(length).collect::<String>();
    rows.iter()
        .map(|row| {
            let full = row.id.as_str().len();
            let is_unique = |length: &usize| {
                let own = start(&row.id, *length);
                rows.iter().filter(|other| start(&other.id, *length) == own).count() == 1
            };
            start(&row.id, (ID..full).find(is_unique).unwrap_or(full))
        })
        .collect()
}

fn widths(cells: &[[String; COLUMNS]]) -> [usize; COLUMNS] {
    let mut widths = HEAD.map(|head| head.chars().count());
    for row in cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for (column, least) in CUTS {
        let all = widths.iter().sum::<usize>() + gaps();
        let cut = all.saturating_sub(WIDTH).min(widths[column].saturating_sub(least));
        widths[column] -= cut;
    }
    widths
}

/// The spaces between the columns: two, and one before the mark.
fn gaps() -> usize {
    2 * (COLUMNS - 2) + 1
}

fn line(cells: &[String; COLUMNS], widths: &[usize; COLUMNS]) -> String {
    let mut text = String::new();
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let cell = match cell.chars().count() > *width {
            true => cell.chars().take(width - 1).chain(['…']).collect(),
            false => cell.clone(),
        };
        let gap = if column == COLUMNS - 2 { " " } else { "  " };
        // Figures stand on the right.
        match column {
            4 | 6 => text += &format!("{cell:>width$}{gap}"),
            _ => text += &format!("{cell:<width$}{gap}"),
        }
    }
    format!("{}\n", text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, started: &str) -> Row {
        Row {
            id: id.into(),
            call: "CA0".to_owned(),
            assistant: Some("pizzeria".to_owned()),
            from: Some("+15550100100".to_owned()),
            to: Some("+15550100001".to_owned()),
            started: started.parse().unwrap(),
            seconds: 151.0,
            reason: Some("caller.hung_up".to_owned()),
            broken_off: false,
            test: false,
            cost: Some(0.1234),
            anomalies: 0,
        }
    }

    #[test]
    fn calls_are_listed_by_day_with_marks() {
        let first = row("01JDZZZZZZAAAAAAAAAAAAAAAA", "2026-12-01T00:30:00Z");
        let odd = Row {
            anomalies: 2,
            broken_off: true,
            reason: Some("server.fault".to_owned()),
            cost: None,
            ..row("01JDYYYYYYAAAAAAAAAAAAAAAA", "2026-11-30T22:59:00Z")
        };
        let running = Row {
            reason: None,
            from: None,
            test: true,
            ..row("01JDYYYYYYBBBBBBBBBBBBBBBB", "2026-11-30T22:58:00Z")
        };
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        insta::assert_snapshot!(table(&[first, odd, running], &zone), @r"
        ID           TIME   CALLER        ASSISTANT   MIN  REASON           USD
        Tuesday, 1 December 2026 (CET)
        01JDZZZZZZ   01:30  +15550100100  pizzeria   2:31  caller.hung_up  0.12
        Monday, 30 November 2026 (CET)
        01JDYYYYYYA  23:59  +15550100100  pizzeria   2:31  server.fault       - !x
        01JDYYYYYYB  23:58  -             pizzeria   2:31  (running)       0.12 t

        ! anomalies   x broken off   t test call
        ");
    }

    #[test]
    fn a_table_fits_a_terminal() {
        let long = Row {
            from: Some("+155512345678901".to_owned()),
            assistant: Some("the-assistant-of-the-front-desk".to_owned()),
            reason: Some("assistant.transferred".to_owned()),
            seconds: 3_599.0,
            cost: Some(12.5),
            anomalies: 1,
            ..row("01JDZZZZZZAAAAAAAAAAAAAAAA", "2026-12-01T00:30:00Z")
        };
        let text = table(&[long], &TimeZone::UTC);
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        assert!(text.contains("+1555123456") && text.contains("the-a…"), "{text}");
    }
}
