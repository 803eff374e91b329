//! The table of `switchboard messages list`.

use jiff::tz::TimeZone;

use super::letter;
use crate::record::print::one_line;
use crate::store::Listed;

/// The columns: id, time, what it is for, way, assistant, state, attempts, next attempt, error.
const COLUMNS: usize = 9;
const HEAD: [&str; COLUMNS] = ["ID", "TAKEN", "FOR", "VIA", "ASSISTANT", "STATE", "TRIES", "NEXT", "ERROR"];
/// As much of an id as tells most from each other, with what it begins with.
const ID: usize = 12;
/// The widest that the name of an assistant gets.
const NAME: usize = 12;

/// Times are in this zone.
pub(super) fn table(messages: &[Listed], zone: &TimeZone) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(messages.iter().map(|message| cells(message, &id(message, messages), zone)));
    let mut widths = [0; COLUMNS];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

fn cells(message: &Listed, id: &str, zone: &TimeZone) -> [String; COLUMNS] {
    let Listed { purpose, via, assistant, taken, state, attempts, next, error, .. } = message;
    let time = |at| zone.to_datetime(at).strftime("%m-%d %H:%M").to_string();
    let assistant = one_line(assistant);
    let assistant = match assistant.chars().count() > NAME {
        true => assistant.chars().take(NAME - 1).chain(['…']).collect(),
        false if assistant.is_empty() => "-".to_owned(),
        false => assistant,
    };
    [
        id.to_owned(),
        time(*taken),
        purpose.clone(),
        via.clone(),
        assistant,
        state.clone(),
        attempts.to_string(),
        next.map_or_else(|| "-".to_owned(), time),
        error.clone().unwrap_or_default(),
    ]
}

/// The beginning of an id, long enough to tell its letter from the others of the list.
fn id(message: &Listed, all: &[Listed]) -> String {
    let full = letter(&message.id);
    let start = |id: &str, length: usize| id.chars().take(length).collect::<String>();
    let is_unique = |length: &usize| {
        let own = start(full, *length);
        all.iter().map(|other| letter(&other.id)).all(|other| other == full || start(other, *length) != own)
    };
    start(full, (ID..full.len()).find(is_unique).unwrap_or(full.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str, via: &str, state: &str, error: Option<&str>) -> Listed {
        let next = (state == "waiting").then(|| "2026-12-01T10:00:00Z".parse().unwrap());
        Listed {
            id: id.to_owned(),
            purpose: "message".to_owned(),
            via: via.to_owned(),
            assistant: "the-front-desk".to_owned(),
            call: Some("CA1".to_owned()),
            taken: "2026-12-01T09:30:00Z".parse().unwrap(),
            state: state.to_owned(),
            attempts: 3,
            next,
            error: error.map(str::to_owned),
        }
    }

    #[test]
    fn what_goes_several_ways_has_one_id_and_what_differs_late_has_a_longer_one() {
        let alert = Listed {
            purpose: "alert".to_owned(),
            assistant: String::new(),
            ..message("alr_00112233445566", "webhook", "delivered", None)
        };
        let all = [
            message("msg_0011223344a5", "webhook", "waiting", Some("status.503")),
            message("msg_0011223344a5.email", "email", "given_up", Some("smtp.login")),
            message("msg_0011223344b5.sms", "sms", "given_up", Some("unclear")),
            alert,
        ];
        insta::assert_snapshot!(table(&all, &TimeZone::UTC), @r"
        ID               TAKEN        FOR      VIA      ASSISTANT     STATE      TRIES  NEXT         ERROR
        msg_0011223344a  12-01 09:30  message  webhook  the-front-d…  waiting    3      12-01 10:00  status.503
        msg_0011223344a  12-01 09:30  message  email    the-front-d…  given_up   3      -            smtp.login
        msg_0011223344b  12-01 09:30  message  sms      the-front-d…  given_up   3      -            unclear
        alr_00112233     12-01 09:30  alert    webhook  -             delivered  3      -
        ");
    }
}
