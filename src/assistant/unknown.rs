//! What an unknown key was probably meant to be.

use std::sync::LazyLock;

use super::schema;
use crate::problem::catalogue::Assistant;
use crate::problem::{self, Suggestion};

/// Where each key of an assistant's file stands, such as `call_control.transfer_to`.
static PLACES: LazyLock<Vec<String>> = LazyLock::new(schema::places);

/// What people look for at the top of a file, and what there is.
const WISHES: [(&[&str], &str); 27] = [
    (
        &["voicemail", "mailbox", "answering_machine", "message", "messages", "take_messages", "email"],
        "write `call_control: { take_message: { to: { email: … } } }`",
    ),
    (&["sms", "text", "texts", "send_text"], "write `call_control: { send_sms: true }`"),
    (
        &[
            "hours",
            "opening_hours",
            "business_hours",
            "schedule",
            "calendar",
            "holidays",
            "closed",
            "availability",
        ],
        "write them in `instructions` or in `variables`, next to {{ now }}: the model reads both",
    ),
    (
        &["prompt", "system", "system_prompt", "system_message", "persona", "role", "context", "personality"],
        "write it as `instructions`",
    ),
    (
        &["welcome", "welcome_message", "first_message", "initial_message", "hello", "intro", "introduction"],
        "write `greeting: { say: … }`",
    ),
    (
        &[
            "transfer",
            "transfers",
            "transfer_number",
            "forward",
            "forward_to",
            "forwarding",
            "handoff",
            "human",
            "operator",
        ],
        "write `call_control: { transfer_to: { NAME: NUMBER } }`",
    ),
    (&["hangup", "hang_up", "end", "goodbye"], "write `call_control: { end_call: true }`"),
    (
        &["keypad", "digits"],
        "keys that the caller presses reach the model by themselves; to press keys write `call_control: { send_digits: true }`",
    ),
    (
        &["number", "phone", "phone_number", "phone_numbers", "phones", "did", "extension"],
        "write `numbers: [\"+1555…\"]`",
    ),
    (&["name", "title"], "the file's name is the assistant's name; a note for yourself is a `description`"),
    (&["lang", "locale"], "write it as `language`"),
    (&["zone", "tz", "time_zone"], "write it as `timezone`"),
    (
        &["knowledge", "knowledge_base", "documents", "docs", "files", "faq", "includes"],
        "write it in `instructions`, or share it as a fragment: `fragments: [NAME]`",
    ),
    (
        &["webhook", "webhooks", "http", "api", "apis", "actions", "integrations", "tools", "tool"],
        "describe a request in `functions`; the tools of an MCP server come with `mcp`",
    ),
    (&["max_duration", "duration", "max_call_duration"], "write `limits: { call: 10m }`"),
    (&["timeout", "idle_timeout", "silence_timeout"], "write `limits: { silence: 60s }`"),
    (&["interrupt", "interruption", "barge_in", "vad", "turn_detection"], "write it in `turn_taking`"),
    (
        &["failover", "failovers", "backup", "backups", "providers", "fallbacks"],
        "write `fallback: [PROVIDER]` for when a provider fails, and `on_failure: …` for when nothing else helps",
    ),
    (&["error", "on_error", "failure"], "write `on_failure: { say: …, dial: NUMBER }`"),
    (
        &["recording", "recordings", "record_calls", "call_recording", "record_audio"],
        "write `record: { audio: true }`, and a `recording_notice`",
    ),
    (
        &["records", "recorded", "store", "storage", "retention", "privacy", "history", "keep_for"],
        "write `record: { transcript: …, audio: …, keep: 30d }`",
    ),
    (
        &["notice", "disclaimer", "announcement", "recording_message", "consent"],
        "write `recording_notice: …`, with `record: { audio: true }`",
    ),
    (
        &["key", "api_key", "openai_api_key", "credentials"],
        "remove it: set OPENAI_API_KEY in the environment or in `.env`",
    ),
    (
        &["allow", "allowlist", "whitelist", "allowed_callers"],
        "remove it: who may call is decided by a Function at Twilio, see docs/security.md",
    ),
    (&["blocked", "blocklist", "blacklist", "blocked_callers"], "write `block: [NUMBER, …]`"),
    (
        &["notification", "notifications", "on_message", "report", "reports"],
        "write `notify: { to: { email: … }, when: … }`",
    ),
    (
        &["post_call", "form", "call_summary", "analysis", "extract"],
        "write `after_call: { summary: true, fields: … }`",
    ),
];

/// What people look for within a map, and what there is.
const MOVED: [(&str, &[&str], &str); 1] =
    [("take_message", &["url", "secret", "webhook"], "write `to: { webhook: { url: …, secret: … } }`")];

/// The problem of a key that nothing reads. `parent` is the key of its map, empty for the file; `known` are the keys of
/// the map.
pub fn key(parent: &str, name: &str, known: &[&'static str]) -> Assistant {
    let dot = if parent.is_empty() { "" } else { "." };
    let key = format!("{parent}{dot}{}", problem::shown(name));
    if let Some((first, _)) = name.split_once(char::is_whitespace)
        && known.contains(&first)
    {
        return Assistant::KeyWithoutColon { key: first.to_owned() };
    }
    let moved = MOVED.iter().find(|(map, words, _)| *map == parent && words.contains(&name));
    if let Some((_, _, instead)) = moved {
        return Assistant::KeyWish { key, instead };
    }
    if !parent.is_empty() && PLACES.iter().any(|place| place == name) {
        return Assistant::KeyOfTop { key };
    }
    let word = name.to_lowercase().replace(['-', ' '], "_");
    let wish = WISHES.iter().find(|(words, _)| words.contains(&word.as_str()));
    if let Some((_, instead)) = wish.filter(|_| matches!(parent, "" | "call_control")) {
        return Assistant::KeyWish { key, instead };
    }
    if parent.is_empty() {
        // A misspelled key of a map within is not the nearest one of the file.
        let all = PLACES.iter().map(|place| last(place));
        let nearest = problem::nearest(name, all).first().map_or(name, |nearest| *nearest);
        let places: Vec<&String> = PLACES.iter().filter(|place| last(place) == nearest).collect();
        if !places.is_empty() && !known.contains(&nearest) {
            return Assistant::KeyElsewhere { key, places: problem::list(&places) };
        }
    }
    Assistant::KeyUnknown { key, suggestion: Suggestion::new(name, known.iter().copied()) }
}

fn last(place: &str) -> &str {
    place.rsplit('.').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_no_key() {
        let wishes = WISHES.iter().flat_map(|(words, _)| words.iter());
        for wish in wishes {
            assert!(!PLACES.iter().any(|place| place == wish), "{wish} is a key");
        }
    }

    #[test]
    fn an_unknown_key_is_explained_by_where_it_belongs() {
        let known = ["numbers", "instructions", "transcription", "language", "temperature"];
        for (parent, name, expected) in [
            ("", "transfer_to", "`call_control.transfer_to`"),
            ("", "transfr_to", "`call_control.transfer_to`"),
            ("", "say", "`greeting.say`"),
            ("greeting", "voice", "top"),
            ("", "voicemail", "take_message"),
            ("", "Opening-Hours", "variables"),
            ("call_control", "sms", "send_sms"),
            ("", "numbers [x", "`numbers: …`"),
            ("", "temprature", "`temperature`?"),
            ("", "record_calls", "`record: {"),
            ("", "recording", "`record: {"),
            ("", "store", "`record: {"),
            ("", "keep", "`record.keep`"),
            ("", "zebra", "valid: `numbers`"),
        ] {
            let what = key(parent, name, &known);
            let told = what.fix().unwrap();
            assert!(told.contains(expected), "{name}: {told}");
        }
    }
}
