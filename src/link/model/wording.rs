//! What the model is asked to say, in words.

use serde_json::{Value, json};

use crate::assistant::plan::Plan;
use crate::call::{EndReason, Request};

/// The longest value that the API accepts in a response's metadata.
const METADATA_MAX_CHARACTERS: usize = 512;

/// What the response is for, in a form that programs can read. The server echoes it.
pub(super) fn metadata(request: &Request) -> Value {
    let purpose = match request {
        Request::Greeting(_) => "greeting",
        Request::GoOn(_) => "go_on",
        Request::SayAloud => "say_aloud",
        Request::CannotHelp => "cannot_help",
        Request::CheckCaller { .. } => "check_caller",
        Request::Filler => "filler",
        Request::StatusUpdate => "status_update",
        Request::ToolTimedOut => "tool_timeout",
        Request::Goodbye(_) => "goodbye",
    };
    let mut metadata = json!({"purpose": purpose});
    if let Request::Greeting(line) = request
        && line.chars().count() <= METADATA_MAX_CHARACTERS
    {
        metadata["line"] = json!(line);
    }
    metadata
}

/// The language to speak, as a part of a sentence.
pub(super) fn tongue(plan: &Plan) -> String {
    match &plan.language {
        Some(language) => {
            format!(
                "in the language of the conversation, or in {} if the caller has not spoken yet",
                language.name()
            )
        }
        None => "in the language of the conversation".to_owned(),
    }
}

/// What the model is asked to say, in words.
pub(super) fn wording(request: &Request, tongue: &str) -> String {
    match request {
        Request::Greeting(line) => {
            format!("The call begins now. Say exactly this, word for word, and nothing else: \"{line}\"")
        }
        Request::GoOn(last) if last.expose().trim().is_empty() => format!(
            "Your last answer broke off, and the caller did not hear the end of it. Give the rest of it now, {tongue}, \
             without repeating what was heard."
        ),
        Request::GoOn(last) => format!(
            "Your last answer broke off after these words: \"{}\". Say the rest of it now, {tongue}, and do not repeat \
             what was heard.",
            last.expose().trim()
        ),
        Request::SayAloud => {
            format!("Your last answer had no sound, so the caller heard nothing. Say it aloud now, {tongue}.")
        }
        Request::CannotHelp => {
            format!(
                "You cannot answer that. Say in one short sentence, {tongue}, that you cannot help with it."
            )
        }
        Request::CheckCaller { heard: false } => format!(
            "Nobody has spoken for a while. Ask in one short sentence, {tongue}, whether the caller is still there."
        ),
        Request::CheckCaller { heard: true } => format!(
            "There has been sound on the line for a while, but nothing that you could answer. Say so in one short \
             sentence, {tongue}, and ask whether the caller can hear you."
        ),
        Request::Filler => format!(
            "What you are doing for the caller takes a moment. Say so in one short sentence, {tongue}, and nothing \
             else: no result, no question."
        ),
        Request::StatusUpdate => format!(
            "You have used tools several times without saying anything. In one or two short sentences, {tongue}, tell \
             the caller how far you are. If it is unclear how to continue, ask."
        ),
        Request::ToolTimedOut => format!(
            "What you started for the caller took too long, and you are no longer waiting for it. It is unknown \
             whether it was done. Tell the caller so in one or two short sentences, {tongue}. If it is unclear how to \
             continue, ask."
        ),
        Request::Goodbye(reason) => {
            let why = match reason {
                EndReason::LimitSilence => "There has been no conversation for a long time",
                // What calls cost is not the caller's business.
                EndReason::LimitDuration | EndReason::LimitCost => {
                    "The call has reached its maximum duration"
                }
                EndReason::ServerDraining => "The line is closing for maintenance",
                _ => "The conversation is over",
            };
            format!("{why}, and the call ends now. Say goodbye in one short sentence, {tongue}.")
        }
    }
}
