//! What a tool gave, as text for the model.

use rmcp::model::{
    CallToolResult, ContentBlock, CustomResult, ErrorCode, ErrorData, ResourceContents, ServerResult,
};
use serde_json::Value;

use super::lines::{GARBLED, TOO_LONG};
use crate::tool::Done;
use crate::tool::http::UNKNOWN;

/// The longest text that the model gets, in bytes: what it reads costs tokens, and what it says takes time.
pub const LONGEST: usize = 16 * 1024;
/// The longest message of an error, in bytes.
const LONGEST_ERROR: usize = 1024;
const CUT: &str = "… (cut)";

/// What the model is told of an answer to `tools/call`.
pub fn done(result: ServerResult) -> Done {
    match result {
        ServerResult::CallToolResult(result) => {
            let failed = (result.is_error == Some(true)).then_some("tool_error");
            let mut text = text_of(&result);
            if text.is_empty() {
                text = match failed {
                    None => "It worked, and there is nothing to tell.".to_owned(),
                    Some(_) => "It did not work, and the tool does not say why.".to_owned(),
                };
            }
            Done { output: text.into(), failed }
        }
        ServerResult::InputRequiredResult(_) => failed(
            "input_required",
            "The tool wants to ask back, which cannot be done in a call. It was not done.",
        ),
        // Results without a content look like these.
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
    failed("garbage", "The tool's answer cannot be understood. It is not known whether it was done.")
}

/// A result that is not quite as it should be: what can be read of its content, and notes in place of the rest.
/// `None`: it has no content.
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
        // Whatever it is, it is not the word that it worked.
        Some(said) => *said != Value::Bool(false),
    };
    Some(if bad { CallToolResult::error(content) } else { CallToolResult::success(content) })
}

fn block(value: &Value) -> ContentBlock {
    if let Ok(block) = serde_json::from_value(value.clone()) {
        return block;
    }
    let text = value.as_str().or_else(|| value.get("text")?.as_str());
    ContentBlock::text(match (text, value.get("type").and_then(Value::as_str)) {
        (Some(text), _) => text,
        (None, Some("image")) => "(an image)",
        (None, Some("audio")) => "(a sound)",
        (None, Some("resource")) => "(a file)",
        (None, Some("resource_link")) => "(a link)",
        (None, _) => "(something that cannot be read here)",
    })
}

/// What the model is told of an error in place of an answer.
pub fn refused(error: &ErrorData) -> Done {
    if error.code == TOO_LONG {
        return failed("too_large", &format!("The tool's answer is too long to be read. {UNKNOWN}"));
    }
    if error.code == GARBLED {
        return garbage();
    }
    let said = error.message.trim();
    let colon = if said.is_empty() { "" } else { ": " };
    let stop = if said.ends_with(['.', '!', '?']) { "" } else { "." };
    match is_refusal(error.code) {
        true => {
            failed("refused", &cut(&format!("The tool refused to do it{colon}{said}{stop}"), LONGEST_ERROR))
        }
        false => failed(
            "tool_error",
            &format!("{} {UNKNOWN}", cut(&format!("The tool failed{colon}{said}{stop}"), LONGEST_ERROR)),
        ),
    }
}

/// Whether a code says that the request was not even begun: it could not be read, is of no known method, or its
/// arguments or headers are wrong. Any other may come from the midst of the work.
fn is_refusal(code: ErrorCode) -> bool {
    matches!(code.0, -32700 | -32602..=-32600 | -32022..=-32020)
}

/// A failure, with what the model is told of it.
pub fn failed(why: &'static str, output: &str) -> Done {
    Done { output: output.to_owned().into(), failed: Some(why) }
}

fn text_of(result: &CallToolResult) -> String {
    let mut text = String::new();
    for block in &result.content {
        // Far more than is kept need not be put together.
        if text.len() > LONGEST {
            break;
        }
        let part = part_of(block);
        if !part.is_empty() && !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&cut(&part, LONGEST + CUT.len()));
    }
    let says =
        |block: &ContentBlock| matches!(block, ContentBlock::Text(text) if !text.text.trim().is_empty());
    let words = result.content.iter().any(says);
    match &result.structured_content {
        Some(value) if !words && !value.is_null() => {
            text = [compact(value), text].join("\n").trim_end().to_owned();
        }
        _ => {}
    }
    cut(text.trim(), LONGEST)
}

fn part_of(block: &ContentBlock) -> String {
    match block {
        ContentBlock::Text(text) => text.text.clone(),
        ContentBlock::Image(image) => format!("(an image, {})", image.mime_type),
        ContentBlock::Audio(audio) => format!("(a sound, {})", audio.mime_type),
        ContentBlock::Resource(resource) => match &resource.resource {
            ResourceContents::TextResourceContents { text, .. } => text.clone(),
            ResourceContents::BlobResourceContents { mime_type, .. } => {
                format!("(a file, {})", mime_type.as_deref().unwrap_or("of unknown kind"))
            }
            _ => "(a file)".to_owned(),
        },
        ContentBlock::ResourceLink(link) => format!("(a link to {})", link.name),
        _ => String::new(),
    }
}

fn compact(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// At most so many bytes, cut between two characters.
fn cut(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    let mut end = longest - CUT.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{CUT}", &text[..end])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(result: Value) -> (String, Option<&'static str>) {
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
            ("nothing", json!({"content": []}), "It worked, and there is nothing to tell.", None),
            (
                "an error in a block that nobody knows",
                json!({"content": [{"type": "verse", "lines": 2}, text("no such list")], "isError": true}),
                "(something that cannot be read here)\nno such list",
                Some("tool_error"),
            ),
            (
                "an image of no kind",
                json!({"content": [text("here"), {"type": "image", "data": "AAAA"}]}),
                "here\n(an image)",
                None,
            ),
            ("a mere text", json!({"content": "open at nine"}), "open at nine", None),
            (
                "a mere text of an error",
                json!({"content": "no such list", "isError": "yes"}),
                "no such list",
                Some("tool_error"),
            ),
            (
                "no content at all",
                json!({"error": "quota"}),
                "The tool's answer cannot be understood. It is not known whether it was done.",
                Some("garbage"),
            ),
            (
                "a result of another type",
                json!({"resultType": "riddle", "content": [text("why?")]}),
                "The tool's answer cannot be understood. It is not known whether it was done.",
                Some("garbage"),
            ),
            ("less than nothing", json!({}), "It worked, and there is nothing to tell.", None),
        ] {
            assert_eq!(told(result), (output.to_owned(), failed), "{what}");
        }
        let (output, failed) =
            told(json!({"resultType": "input_required", "inputRequests": {}, "requestState": "s"}));
        assert_eq!(failed, Some("input_required"), "{output}");
    }

    #[test]
    fn a_long_result_is_cut_between_two_characters() {
        for pad in 0..4 {
            let long = format!("{}{}", "x".repeat(pad), "é€".repeat(LONGEST));
            let (output, failed) = told(json!({"content": [{"type": "text", "text": long}]}));
            assert!(output.len() <= LONGEST && output.len() > LONGEST - 20, "{}", output.len());
            assert!(output.ends_with("€… (cut)") || output.ends_with("é… (cut)"));
            assert_eq!(failed, None);
        }
    }

    #[test]
    fn an_error_in_place_of_an_answer_is_a_sentence() {
        let error = |code, message: &str| refused(&ErrorData::new(ErrorCode(code), message.to_owned(), None));
        for (code, message, output, failed, known) in [
            (-32602, "bad cursor", "The tool refused to do it: bad cursor.", "refused", true),
            (-32601, "", "The tool refused to do it", "refused", true),
            // Its own transport says so when the session ends in the midst of the work; and so do many servers.
            (-32603, "session was lost", "The tool failed: session was lost", "tool_error", false),
            (-32000, "", "The tool failed", "tool_error", false),
            (TOO_LONG.0, "x", "The tool's answer is too long to be read.", "too_large", false),
        ] {
            let done = error(code, message);
            let told = done.output.expose();
            assert!(told.starts_with(output), "{code}: {told}");
            assert_eq!((told.ends_with(UNKNOWN), done.failed), (!known, Some(failed)), "{code}: {told}");
        }
    }
}
