//! The outcomes as a table in Markdown.

use std::fmt::Write as _;

use super::judge::{Conversation, Outcome};
use super::row::Goal;

pub const BEGIN: &str = "<!-- chaos:begin -->";
pub const END: &str = "<!-- chaos:end -->";

pub fn markdown(outcomes: &[Outcome]) -> String {
    let mut table = "| what fails | when | fallback | longest silence | conversation | end of the call |\n\
                     | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for outcome in outcomes {
        let silence = outcome.silence.map_or(0.0, |silence| silence.span.lasts().as_secs_f64());
        // Writing to a string does not fail.
        let _ = writeln!(
            table,
            "| {} | {} | {} | {silence:.1} s{} | {}{} | {} |",
            outcome.row.what,
            outcome.row.when,
            if outcome.row.fallback { "yes" } else { "" },
            mark(outcome.row.goal != Goal::Shown && outcome.is_too_silent()),
            conversation(outcome),
            mark(outcome.missed().is_some()),
            code(&outcome.end),
        );
    }
    table
}

fn mark(fails: bool) -> &'static str {
    if fails { " (!)" } else { "" }
}

fn conversation(outcome: &Outcome) -> &'static str {
    match outcome.conversation {
        Conversation::Kept => "goes on",
        Conversation::Replayed => "goes on in a new session",
        Conversation::FellBack => "goes on at the fallback",
        Conversation::Forgotten => "forgotten",
        Conversation::Lost if matches!(outcome.row.goal, Goal::Ends | Goal::EndsAs(_)) => "ends",
        Conversation::Lost => "lost",
        Conversation::None => "no call",
    }
}

/// The first word is the reason, a code of ours.
fn code(end: &str) -> String {
    end.split(' ').map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" ")
}

/// The page with the table between its marks; `None` if it has no marks.
pub fn replaced(page: &str, table: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}{END}{after}"))
}
