//! The TwiML documents that we answer with.
//!
//! No verb follows `</Connect>`, because with an `action` it would never run.

use std::fmt::Write as _;

/// One verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb<'a> {
    /// Opens a bidirectional stream. When it ends, Twilio requests `action`.
    ConnectStream {
        url: &'a str,
        action: &'a str,
        status: &'a str,
    },
    /// Speaks with Twilio's own voice, in one of its own locales, such as `de-DE`. [`sayable`] says which texts it speaks.
    Say {
        text: &'a str,
        language: &'a str,
    },
    /// Rings a number (E.164) for `timeout_secs`. When it ends, Twilio requests `action`, or runs the next verb without
    /// one. The number sees `caller_id`, or the caller's number without one.
    Dial {
        number: &'a str,
        timeout_secs: u64,
        caller_id: Option<&'a str>,
        action: Option<&'a str>,
    },
    /// Presses keys: 0 to 9, `*`, `#`, and `w` for a wait of half a second.
    PlayDigits(&'a str),
    /// Continues with the document at this address.
    Redirect(&'a str),
    Hangup,
    /// Does not answer the call: the caller hears that the number is not in service, and nobody pays. Only as the first.
    Reject,
}

/// The longest text of `<Say>` in bytes of UTF-8 with Twilio's basic voices; a longer one is not spoken (13521).
pub const LONGEST_SAY: usize = 4_096;
/// The same with the voices of Amazon Polly, which an account may choose. Google's take 5,000.
pub const LONGEST_SAY_POLLY: usize = 3_000;

/// Why Twilio does not speak a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsayable {
    /// It contains no letter and no digit (13520).
    Empty,
    /// It is longer than [`LONGEST_SAY`].
    TooLong,
}

/// Whether `<Say>` speaks this text.
///
/// # Errors
/// Twilio would skip it.
pub fn sayable(text: &str) -> Result<(), Unsayable> {
    if text.len() > LONGEST_SAY {
        return Err(Unsayable::TooLong);
    }
    if text.chars().any(char::is_alphanumeric) { Ok(()) } else { Err(Unsayable::Empty) }
}

/// The document. Without verbs it is an empty answer, which ends an ongoing call.
pub fn document(verbs: &[Verb<'_>]) -> String {
    let mut xml = String::from(r#"<?xml version="1.0" encoding="UTF-8"?><Response>"#);
    for verb in verbs {
        match verb {
            Verb::ConnectStream { url, action, status } => write!(
                xml,
                r#"<Connect action="{}" method="POST"><Stream url="{}" statusCallback="{}" statusCallbackMethod="POST"/></Connect>"#,
                escaped(action),
                escaped(url),
                escaped(status),
            ),
            Verb::Say { text, language } => {
                write!(xml, r#"<Say language="{}">{}</Say>"#, escaped(language), escaped(text))
            }
            Verb::Dial { number, timeout_secs, caller_id, action } => {
                let caller_id = caller_id.map(|id| format!(r#" callerId="{}""#, escaped(id)));
                let action = action.map(|url| format!(r#" action="{}" method="POST""#, escaped(url)));
                write!(
                    xml,
                    r#"<Dial timeout="{timeout_secs}"{}{}>{}</Dial>"#,
                    caller_id.unwrap_or_default(),
                    action.unwrap_or_default(),
                    escaped(number)
                )
            }
            Verb::PlayDigits(digits) => write!(xml, r#"<Play digits="{}"/>"#, escaped(digits)),
            Verb::Redirect(url) => write!(xml, r#"<Redirect method="POST">{}</Redirect>"#, escaped(url)),
            Verb::Hangup => write!(xml, "<Hangup/>"),
            Verb::Reject => write!(xml, "<Reject/>"),
        }
        .expect("writing to a String never fails");
    }
    xml.push_str("</Response>");
    xml
}

/// Text escaped for XML 1.0, without the characters that XML cannot contain.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'.. => {
                out.push(character);
            }
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ringing_phone_is_connected_to_a_stream() {
        let xml = document(&[Verb::ConnectStream {
            url: "wss://voice.example.com/media-stream/t1",
            action: "https://voice.example.com/after-stream/t1",
            status: "https://voice.example.com/stream-status",
        }]);
        assert_eq!(
            xml,
            concat!(
                r#"<?xml version="1.0" encoding="UTF-8"?><Response>"#,
                r#"<Connect action="https://voice.example.com/after-stream/t1" method="POST">"#,
                r#"<Stream url="wss://voice.example.com/media-stream/t1" "#,
                r#"statusCallback="https://voice.example.com/stream-status" statusCallbackMethod="POST"/>"#,
                "</Connect></Response>"
            )
        );
    }

    #[test]
    fn text_cannot_become_markup() {
        let xml = document(&[
            Verb::Say { text: "Tom & Jerry's <b>\"bar\"</b>\u{0}", language: "en-US\"" },
            Verb::Dial { number: "+15550100009", timeout_secs: 20, caller_id: None, action: None },
            Verb::Hangup,
        ]);
        let parsed = roxmltree::Document::parse(&xml).expect("well-formed");
        let verbs: Vec<_> = parsed.root_element().children().collect();
        assert_eq!(verbs[0].text(), Some("Tom & Jerry's <b>\"bar\"</b>"));
        assert_eq!(verbs[0].attribute("language"), Some("en-US\""));
        assert_eq!(verbs[1].text(), Some("+15550100009"));
        assert_eq!(verbs.len(), 3);
    }

    #[test]
    fn a_transfer_has_a_caller_id_and_an_action() {
        let xml = document(&[Verb::Dial {
            number: "+15550100009",
            timeout_secs: 20,
            caller_id: Some("+15550100007"),
            action: Some("https://voice.example.com/after-stream/t1"),
        }]);
        assert!(xml.contains(concat!(
            r#"<Response><Dial timeout="20" callerId="+15550100007" "#,
            r#"action="https://voice.example.com/after-stream/t1" method="POST">+15550100009</Dial></Response>"#
        )));
    }

    #[test]
    fn keys_are_pressed_without_a_recording() {
        assert!(
            document(&[Verb::PlayDigits("1w2#")]).contains(r#"<Response><Play digits="1w2#"/></Response>"#)
        );
    }

    #[test]
    fn a_call_is_sent_to_another_document() {
        let xml = document(&[Verb::Redirect("https://voice.example.com/incoming-call?a=1&b=2")]);
        assert!(xml.ends_with(concat!(
            r#"<Response><Redirect method="POST">https://voice.example.com/incoming-call?a=1&amp;b=2"#,
            "</Redirect></Response>"
        )));
    }

    #[test]
    fn what_twilio_would_not_speak_is_known() {
        for (text, expected) in [
            ("a".repeat(LONGEST_SAY), Ok(())),
            ("a".repeat(LONGEST_SAY + 1), Err(Unsayable::TooLong)),
            ("ü".repeat(LONGEST_SAY / 2 + 1), Err(Unsayable::TooLong)),
            ("7".to_owned(), Ok(())),
            (" … \u{7}".to_owned(), Err(Unsayable::Empty)),
        ] {
            assert_eq!(sayable(&text), expected, "{}", text.len());
        }
    }

    #[test]
    fn no_verbs_are_an_empty_response() {
        assert_eq!(document(&[]), r#"<?xml version="1.0" encoding="UTF-8"?><Response></Response>"#);
    }
}
