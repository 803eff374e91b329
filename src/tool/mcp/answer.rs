//! The result of a tool, as text for the model.

use rmcp::model::{
    CallToolResult, ContentBlock, CustomResult, ErrorCode, ErrorData, ResourceContents, ServerResult,
};
use serde_json::Value;

use super::lines::{GARBLED, TOO_LONG};
use crate::tool::http::UNKNOWN;
use crate::tool::media::{note, noted, noted_text};
use crate::tool::{CUT, Done, MAX_TEXT, cut};

/// The longest message of an error, in bytes.
const MAX_ERROR: usize = 1024;

/// From the answer to `tools/call`.
pub fn done(result: ServerResult) -> Done {
    match result {
        ServerResult::CallToolResult(result) => {
            let failed = (result.is_error == Some(true)).then_some("tool_error");
            let mut text = text_of(&result);
            if text.is_empty() {
                text = match failed {
                    None => "Done. The tool returned nothing.".to_owned(),
                    Some(_) => "The tool failed without a reason.".to_owned(),
                };
            }
            Done { output: text.into(), failed, message: None }
        }
        ServerResult::InputRequiredResult(_) => Done::failed(
            "input_required",
            "The tool needs more input, which is not possible in a call. Nothing was done.",
        ),
        // Results without content look like these.
        ServerResult::EmptyResult(_) | ServerResult::TaskAckResult(_) => {
            done(ServerResult::CallToolResult(CallToolResult::default()))
        }
        ServerResult::CustomResult(CustomResult(value)) => match leniently(&value) {
            Some(result) => done(ServerResult::CallToolResult(result)),
            None => garbage(),
        },
        _ => garbage(),
    }
}

fn garbage() -> Done {
    Done::failed("garbage", format!("The tool's answer is not readable. {UNKNOWN}"))
}

/// Reads a malformed result: what can be read of its content, and a note in place of each other block. `None`: it has
/// no content.
fn leniently(value: &Value) -> Option<CallToolResult> {
    if value.get("resultType").is_some_and(|kind| kind != "complete") {
        return None;
    }
    let content = match value.get("content")? {
        Value::String(text) => vec![ContentBlock::text(text.clone())],
        Value::Array(blocks) => blocks.iter().map(block).collect(),
        _ => return None,
    };
    let bad = match value.get("isError") {
        None | Some(Value::Null) => false,
        Some(value) => *value != Value::Bool(false),
    };
    Some(if bad { CallToolResult::error(content) } else { CallToolResult::success(content) })
}

fn block(value: &Value) -> ContentBlock {
    if let Ok(block) = serde_json::from_value(value.clone()) {
        return block;
    }
    let text = value.as_str().or_else(|| value.get("text")?.as_str());
    ContentBlock::text(match (text, value.get("type").and_then(Value::as_str)) {
        (Some(text), _) => text.to_owned(),
        (None, Some(kind @ ("image" | "audio" | "resource"))) => note(kind, None),
        (None, Some("resource_link")) => "(a link)".to_owned(),
        (None, _) => "(unreadable content)".to_owned(),
    })
}

/// From an error in place of a result.
pub fn from_error(error: &ErrorData) -> Done {
    if error.code == TOO_LONG {
        return Done::failed("too_large", format!("The tool's answer is too long. {UNKNOWN}"));
    }
    if error.code == GARBLED {
        return garbage();
    }
    let message = noted_text(error.message.trim().to_owned());
    let colon = if message.is_empty() { "" } else { ": " };
    let stop = if message.ends_with(['.', '!', '?']) { "" } else { "." };
    let sentence = |what: &str| cut(&format!("{what}{colon}{message}{stop}"), MAX_ERROR);
    match is_rejection(error.code) {
        true => Done::failed("refused", sentence("The tool rejected the request")),
        false => Done::failed("tool_error", format!("{} {UNKNOWN}", sentence("The tool failed"))),
    }
}

/// Whether the code means that the tool did not start: the request was not readable, or its method, arguments or headers
/// were wrong. With any other code, the tool may have done something.
fn is_rejection(code: ErrorCode) -> bool {
    matches!(code.0, -32700 | -32602..=-32600 | -32022..=-32020)
}

fn text_of(result: &CallToolResult) -> String {
    let mut text = String::new();
    for block in &result.content {
        if text.len() > MAX_TEXT {
            break;
        }
        let part = part_of(block);
        if !part.is_empty() && !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&cut(&part, MAX_TEXT + CUT.len()));
    }
    let has_text =
        |block: &ContentBlock| matches!(block, ContentBlock::Text(text) if !text.text.trim().is_empty());
    if let Some(value) = result.structured_content.as_ref().filter(|value| !value.is_null())
        && !result.content.iter().any(has_text)
    {
        text = [compact(noted(value.clone())), text].join("\n");
    }
    cut(text.trim(), MAX_TEXT)
}

fn part_of(block: &ContentBlock) -> String {
    match block {
        ContentBlock::Text(text) => noted_text(text.text.clone()),
        ContentBlock::Image(image) => note("image", Some(&image.mime_type)),
        ContentBlock::Audio(audio) => note("audio", Some(&audio.mime_type)),
        ContentBlock::Resource(resource) => match &resource.resource {
            ResourceContents::TextResourceContents { text, .. } => noted_text(text.clone()),
            ResourceContents::BlobResourceContents { mime_type, .. } => {
                note("resource", mime_type.as_deref())
            }
            _ => note("resource", None),
        },
        ContentBlock::ResourceLink(link) => format!("(a link to {})", link.name),
        _ => String::new(),
    }
}

fn compact(value: Value) -> String {
    match value {
        Value::String(text) => text,
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text_and_failure(result: Value) -> (String, Option<&'static str>) {
        let done = done(serde_json::from_value(result).unwrap());
        (done.output.expose().to_owned(), done.failed)
    }

    #[test]
    fn results_become_text() {
        let text = |text: &str| json!({"type": "text", "text": text});
        for (what, result, output, failed) in [
            ("texts", json!({"content": [text("one"), text("two")]}), "one\ntwo", None),
            (
                "an error",
                json!({"content": [text("no such list")], "isError": true}),
                "no such list",
                Some("tool_error"),
            ),
            (
                "structure only",
                json!({"content": [], "structuredContent": {"temperature": 22}}),
                r#"{"temperature":22}"#,
                None,
            ),
            (
                "structure and an empty text",
                json!({"content": [text("")], "structuredContent": {"temperature": 22}}),
                r#"{"temperature":22}"#,
                None,
            ),
            (
                "text before structure",
                json!({"content": [text("22 degrees")], "structuredContent": {"temperature": 22}}),
                "22 degrees",
                None,
            ),
            (
                "an image",
                json!({"content": [{"type": "image", "data": "AAAA", "mimeType": "image/png"}]}),
                "(an image, image/png)",
                None,
            ),
            (
                "an image in a structure",
                json!({"content": [{"type": "image", "data": "AAAA", "mimeType": "image/png"}], "structuredContent":
                    {"content": [{"type": "image", "data": "AAAA", "mimeType": "image/png"}]}}),
                "{\"content\":[\"(an image, image/png)\"]}\n(an image, image/png)",
                None,
            ),
            (
                "a link",
                json!({"content": [{"type": "resource_link", "uri": "file:///a", "name": "menu"}]}),
                "(a link to menu)",
                None,
            ),
            (
                "a file",
                json!({"content": [{"type": "resource", "resource": {"uri": "file:///a", "text": "open at nine"}}]}),
                "open at nine",
                None,
            ),
            ("nothing", json!({"content": []}), "Done. The tool returned nothing.", None),
            (
                "an error with an unknown block",
                json!({"content": [{"type": "verse", "lines": 2}, text("no such list")], "isError": true}),
                "(unreadable content)\nno such list",
                Some("tool_error"),
            ),
            (
                "an image without a type",
                json!({"content": [text("here"), {"type": "image", "data": "AAAA"}]}),
                "here\n(an image)",
                None,
            ),
            ("a string", json!({"content": "open at nine"}), "open at nine", None),
            (
                "a string with an error",
                json!({"content": "no such list", "isError": "yes"}),
                "no such list",
                Some("tool_error"),
            ),
            ("an empty result", json!({}), "Done. The tool returned nothing.", None),
        ] {
            assert_eq!(text_and_failure(result), (output.to_owned(), failed), "{what}");
        }
        for (what, result, code) in [
            ("no content", json!({"error": "quota"}), "garbage"),
            ("another type", json!({"resultType": "riddle", "content": [text("why?")]}), "garbage"),
            (
                "a question",
                json!({"resultType": "input_required", "inputRequests": {}, "requestState": "s"}),
                "input_required",
            ),
        ] {
            assert_eq!(text_and_failure(result).1, Some(code), "{what}");
        }
    }

    #[test]
    fn a_long_result_is_cut_between_two_characters() {
        for pad in 0..4 {
            let long = format!("{}{}", "x".repeat(pad), "é€".repeat(MAX_TEXT));
            let (output, failed) = text_and_failure(json!({"content": [{"type": "text", "text": long}]}));
            assert!(output.len() <= MAX_TEXT && output.len() > MAX_TEXT - 20, "{}", output.len());
            assert!(output.ends_with("€… (cut)") || output.ends_with("é… (cut)"));
            assert_eq!(failed, None);
        }
    }

    #[test]
    fn only_a_rejection_means_that_nothing_was_done() {
        for (code, failed, known) in [
            (-32602, "refused", true),
            (-32601, "refused", true),
            // `rmcp` reports a session that ended during the work with this code, and so do many servers.
            (-32603, "tool_error", false),
            (-32000, "tool_error", false),
            (TOO_LONG.0, "too_large", false),
            (GARBLED.0, "garbage", false),
        ] {
            let done = from_error(&ErrorData::new(ErrorCode(code), "some words", None));
            let output = done.output.expose();
            assert_eq!((output.ends_with(UNKNOWN), done.failed), (!known, Some(failed)), "{code}: {output}");
        }
    }
}
