//! What came of a call: the longest silence, the conversation, the end, and what nobody may do.

use std::time::{Duration, Instant};

use serde_json::Value;
use switchboard_simulator::caller::{CallEnd, CallRecord};
use switchboard_simulator::ear::{Ear, Owed};
use switchboard_simulator::model::{Aim, Closed, SessionLog, SpokenItem};

use super::call::{CONTROL, PATIENCE, WORD};
use super::row::{Goal, Row};

/// The longest silence that a caller may hear while the assistant owes something.
pub const LIMIT: Duration = Duration::from_secs(3);
/// The most requests for a response in one second, whatever the provider answers.
const REQUESTS: usize = 10;
/// The most connections to one provider in a call: two a second until the last step of the ladder.
pub const SESSIONS: usize = 60;
const SECOND: Duration = Duration::from_secs(1);

/// What came of a row.
#[derive(Debug)]
pub struct Outcome {
    pub row: Row,
    /// The longest silence while something was owed.
    pub silence: Option<Owed>,
    pub conversation: Conversation,
    /// The end line of the log: its reason, and what else it says about the failure.
    pub end: String,
    /// What was heard, for people.
    pub story: String,
    /// Sessions of the first and of the second provider.
    pub sessions: [usize; 2],
    /// What Twilio or the provider would complain about, and what was said twice.
    pub violations: Vec<String>,
}

/// Whether the control question was answered by a model that knows the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversation {
    /// In the session in which it began.
    Kept,
    /// In a session that was given what had been said.
    Replayed,
    /// The same, at the second provider.
    FellBack,
    /// An answer came, but from a session that knows nothing.
    Forgotten,
    Lost,
    /// The call did not come about.
    None,
}

impl Outcome {
    /// Of a call that ended. `sessions` are those of the first and of the second provider.
    pub fn of(
        row: &Row,
        asked: Option<Asked>,
        end: Option<&Value>,
        record: &CallRecord,
        sessions: &[Vec<SessionLog>; 2],
    ) -> Self {
        let ear = Ear::new(record);
        let all = sessions.concat();
        let mut violations: Vec<String> =
            record.violations.iter().map(|fault| format!("{}: {}", fault.code, fault.what)).collect();
        violations.extend(refused(&all));
        violations.extend(said_twice(&ear, &all));
        violations.extend(sessions.iter().filter_map(|sessions| too_many_requests(sessions)));
        Self {
            row: row.clone(),
            silence: ear.longest_silence(&debts(&ear, record, &all)),
            conversation: asked.map_or(Conversation::Lost, |asked| asked.judge(&ear, sessions)),
            end: end.map_or_else(|| "none".to_owned(), shown_end),
            story: format!("{}; sessions: {}", ear.story(record, &all), endings(&all)),
            sessions: [sessions[0].len(), sessions[1].len()],
            violations,
        }
    }

    /// Of a call that did not come about, or never ended.
    pub fn none(row: Row, story: String) -> Self {
        Self {
            row,
            silence: None,
            conversation: Conversation::None,
            end: "no call".to_owned(),
            story,
            sessions: [0, 0],
            violations: Vec::new(),
        }
    }

    /// Why the row fails, if it does.
    pub fn failure(&self) -> Option<String> {
        if self.row.goal == Goal::Shown {
            return None;
        }
        let silence = self.silence.filter(|_| self.is_too_silent());
        let silence = silence.map(|owed| format!("{:.1} s of silence", owed.span.lasts().as_secs_f64()));
        let violation = self.violations.first().cloned();
        let all: Vec<String> = [silence, self.missed(), violation].into_iter().flatten().collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Whether the silence is longer than it may be.
    pub fn is_too_silent(&self) -> bool {
        self.silence.is_some_and(|silence| silence.span.lasts() > LIMIT)
    }

    /// What did not come of the conversation, as it should have.
    pub fn missed(&self) -> Option<String> {
        use Conversation::{FellBack, Forgotten, Kept, Lost, None as NoCall, Replayed};
        match (self.row.goal, self.conversation) {
            (Goal::Shown, _) => None,
            (_, NoCall) => Some("there was no call".to_owned()),
            (Goal::Survives, Forgotten) => Some("the conversation is forgotten".to_owned()),
            (Goal::Survives, Lost) => Some("the conversation is lost".to_owned()),
            (Goal::EndsAs(reason), _) if !self.end.starts_with(reason) => {
                Some(format!("it did not end as {reason}"))
            }
            (
                Goal::Survives | Goal::Ends | Goal::EndsAs(_),
                Kept | Replayed | FellBack | Forgotten | Lost,
            ) => None,
        }
    }
}

/// When the control question was asked, and the first words before it.
pub struct Asked {
    pub first: Instant,
    pub control: Instant,
}

impl Asked {
    fn judge(&self, ear: &Ear, all: &[Vec<SessionLog>; 2]) -> Conversation {
        for (provider, sessions) in all.iter().enumerate() {
            for session in sessions.iter().rev() {
                let answers =
                    |item: &&SpokenItem| item.line == CONTROL && ear.heard_whole(item.number, item.sent_ms);
                if !session.items.iter().any(|item| answers(&item)) {
                    continue;
                }
                let from_the_first = session.first_append.is_some_and(|at| at <= self.first);
                let given = session.events.iter().any(|event| {
                    event.kind() == "conversation.item.create" && event.at < self.control + PATIENCE && {
                        let item = event.event["item"].to_string().to_lowercase();
                        item.contains(WORD) || item.contains("input_audio")
                    }
                });
                return match (from_the_first, given, provider) {
                    (true, ..) => Conversation::Kept,
                    (_, true, 0) => Conversation::Replayed,
                    (_, true, _) => Conversation::FellBack,
                    _ => Conversation::Forgotten,
                };
            }
        }
        Conversation::Lost
    }
}

/// What the assistant owed. A caller who hangs up because nothing comes is owed it until then; after a goodbye nothing is.
fn debts(ear: &Ear, record: &CallRecord, sessions: &[SessionLog]) -> Vec<Owed> {
    let mut owed = ear.owed(sessions);
    // A sentence of Twilio's voice at the end is the goodbye.
    if let (CallEnd::HungUp, Some(said)) = (&record.end, record.said.last()) {
        let said = said.at.saturating_duration_since(record.started);
        owed.iter_mut().for_each(|owed| owed.span.until = owed.span.until.min(said.max(owed.span.from)));
    }
    owed
}

/// The events that a strict provider refused because they were wrong, by the codes of its errors.
fn refused(sessions: &[SessionLog]) -> impl Iterator<Item = String> + use<'_> {
    const WRONG: &[&str] = &[
        "unknown_parameter",
        "missing_required_parameter",
        "invalid_value",
        "invalid_type",
        "invalid_json",
        "invalid_event",
        "item_create_duplicate_item_id",
        "item_create_invalid_previous_item_id",
        "item_create_invalid_call_id",
        "item_truncate_invalid_item_id",
        "unsupported_content_type",
        "cannot_update_voice",
    ];
    let errors = sessions.iter().flat_map(|session| &session.errors);
    errors
        .filter(|code| WRONG.contains(&code.as_str()))
        .map(|code| format!("the provider refused an event: {code}"))
}

/// The lines that the caller heard twice to their end. He asks each question once.
fn said_twice(ear: &Ear, sessions: &[SessionLog]) -> Vec<String> {
    let mut heard: Vec<&str> = Vec::new();
    for session in sessions {
        let complete = |item: &&SpokenItem| {
            let response = session.responses.iter().find(|response| response.id == item.response);
            response.is_some_and(|response| {
                response.status == "completed" && !matches!(response.aim, Aim::Aside | Aim::Form)
            })
        };
        let whole = |item: &&SpokenItem| !item.silent && ear.heard_whole(item.number, item.sent_ms);
        heard.extend(session.items.iter().filter(complete).filter(whole).map(|item| item.line.as_str()));
    }
    heard.sort_unstable();
    let twice = heard.windows(2).filter(|two| two[0] == two[1]);
    twice.map(|two| format!("said twice: “{}”", two[0])).collect()
}

/// Whether a provider got more requests in a second than it ever may.
fn too_many_requests(sessions: &[SessionLog]) -> Option<String> {
    let events = sessions.iter().flat_map(|session| &session.events);
    let mut asked: Vec<Instant> =
        events.filter(|event| event.kind() == "response.create").map(|event| event.at).collect();
    asked.sort_unstable();
    let within = |from: &Instant| asked.iter().filter(|at| *at >= from && **at < *from + SECOND).count();
    let most = asked.iter().map(within).max().filter(|most| *most > REQUESTS);
    most.map(|most| format!("{most} requests in a second"))
}

/// The reason, and what the line says about the provider's failure.
fn shown_end(line: &Value) -> String {
    let text = |key: &str| match &line[key] {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text.clone()),
        value => Some(value.to_string()),
    };
    let more = ["class", "code", "status", "close", "close_reason"].into_iter().filter_map(text);
    text("reason").into_iter().chain(more).collect::<Vec<_>>().join(" ")
}

fn endings(sessions: &[SessionLog]) -> String {
    let ended = |session: &SessionLog| match &session.closed {
        None => "open".to_owned(),
        Some(Closed::ByClient(code)) => format!("closed by us {}", code.unwrap_or(1_005)),
        Some(Closed::ByServer(code, _)) => format!("closed {code}"),
        Some(how) => format!("{how:?}").to_lowercase(),
    };
    let all = sessions.iter().map(|session| {
        let mut errors: Vec<&str> = session.errors.iter().map(String::as_str).collect();
        errors.sort_unstable();
        let errors: Vec<String> = errors
            .chunk_by(|one, other| one == other)
            .map(|same| format!("{} × {}", same.len(), same[0]))
            .collect();
        let errors = errors.join(", ");
        let responses: Vec<&str> =
            session.responses.iter().map(|response| response.status.as_str()).collect();
        format!(
            "{} [{}]{}{errors}",
            ended(session),
            responses.join(" "),
            if errors.is_empty() { "" } else { " errors: " }
        )
    });
    all.collect::<Vec<_>>().join(" / ")
}
