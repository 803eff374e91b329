//! The short form of `make chaos`: the rows that matter most, in the time of the test.
//!
//! `make chaos` makes all calls through the release binary; `cargo bench --bench chaos -- --list` names the rows.

#[path = "../../benches/chaos/call.rs"]
mod call;
#[path = "../../benches/chaos/judge.rs"]
mod judge;
mod process;
#[path = "../../benches/chaos/row.rs"]
mod row;
#[path = "../../benches/chaos/rows.rs"]
mod rows;
#[path = "../../benches/chaos/table.rs"]
mod table;

use futures_util::future::join_all;

/// What callers and providers have reported most, and one of each kind.
const ROWS: &[&str] = &[
    "close 1011, an answer is all made",
    "reset, an answer is all made",
    "reset, the caller speaks",
    "reset, a function runs",
    "reset, then text only, in an answer",
    "sessions last 12 s, all the time",
    "half-open, in an answer",
    "pongs only, the caller speaks",
    "refused for 1.5 s, ringing",
    "refused, ringing, fallback",
    "provider down, in an answer, fallback",
    "no speech_stopped, the caller speaks",
    "phantom speech_started, in an answer",
    "deaf, the caller speaks",
    "empty response, the greeting",
    "text only, the greeting",
    "digital silence, an answer",
    "transcript without sound, an answer",
    "endless arguments, an answer",
    "sound after 5 s, an answer",
    "failed after 1 s, in an answer",
    "cancelled after 1 s, in an answer",
    "content_filter, an answer",
    "server error, an answer",
    "rate limit for 1.5 s, every response",
    "conflict for 3 s, every request",
    "no credit, always, every response, fallback",
    "a function takes 9 s, a function runs",
    "no media for 15 s, the caller speaks",
    "no media for 15 s, a pause",
    "no media for 1 s, the caller speaks",
    "stream breaks, in an answer",
    "hold music for 90 s, a pause",
];

#[tokio::test]
async fn a_call_survives_what_providers_and_twilio_do() {
    let all = rows::all();
    let chosen = ROWS.iter().map(|name| {
        let row = all.iter().find(|row| row.name() == *name);
        row.unwrap_or_else(|| panic!("there is no row `{name}`")).clone()
    });
    let outcomes = join_all(chosen.map(call::make)).await;
    // What `make chaos ARGS=--write` does with them.
    let table = table::markdown(&outcomes);
    assert_eq!(table.lines().count(), ROWS.len() + 2, "{table}");
    let page = table::replaced(include_str!("../../docs/reliability.md"), &table);
    assert!(page.is_some_and(|page| page.contains(&table)), "the page has no place for the table");
    let mut wrong = Vec::new();
    for outcome in &outcomes {
        let name = outcome.row.name();
        if let Some(why) = outcome.failure() {
            wrong.push(format!(
                "{name}: {why} {:?}\n  heard: {}\n  end: {}; {:?}; sessions {:?}",
                outcome.silence, outcome.story, outcome.end, outcome.conversation, outcome.sessions
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_row_has_a_name_of_its_own() {
    let mut names: Vec<String> = rows::all().iter().map(row::Row::name).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(count >= 50, "{count}");
}
