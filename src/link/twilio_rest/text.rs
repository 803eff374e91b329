//! Sending a text message.

use reqwest::Method;
use serde::de::IgnoredAny;

use super::{Account, RestError, Retry};
use crate::phone::PhoneNumber;

/// The longest text, in characters.
pub const LONGEST_TEXT: usize = 1_600;

/// Why a text was not sent, as a sentence for the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    #[error("The text message is empty. Set `text`.")]
    Empty,
    #[error("The text message is longer than 1600 characters. Shorten it and try again.")]
    TooLong,
    #[error("The caller's number cannot receive text messages.")]
    NoTexts,
    #[error("The caller has unsubscribed from text messages of this number.")]
    OptedOut,
    #[error("This line cannot send text messages to the caller's number.")]
    NotFromHere,
    #[error("Text messages cannot be sent: the account of this line does not allow it.")]
    Denied,
    #[error("Too many text messages at the moment. Try again in a minute.")]
    Busy,
    #[error("The text message service cannot be reached. The text was not sent.")]
    Unreachable,
    #[error(
        "The text message service did not answer. It is unknown whether the text was sent; do not send it again."
    )]
    Unknown,
    #[error("The text message was not accepted.")]
    Refused,
}

impl NotSent {
    /// For log and metric of the tool.
    pub fn code(self) -> &'static str {
        match self {
            Self::Empty | Self::TooLong => "bad_text",
            Self::NoTexts | Self::OptedOut | Self::NotFromHere | Self::Refused => "refused",
            Self::Denied => "denied",
            Self::Busy => "busy",
            Self::Unreachable => "unreachable",
            Self::Unknown => "unknown",
        }
    }
}

impl Account {
    /// Sends a text of 1 to 1,600 characters. It does not retry a request that may have been carried out.
    pub async fn send_text(&self, from: &PhoneNumber, to: &PhoneNumber, text: &str) -> Result<(), NotSent> {
        self.text(from, to, text, Retry::IfUndone).await
    }

    /// [`Self::send_text`] in one request.
    pub async fn send_text_once(
        &self,
        from: &PhoneNumber,
        to: &PhoneNumber,
        text: &str,
    ) -> Result<(), NotSent> {
        self.text(from, to, text, Retry::Never).await
    }

    async fn text(
        &self,
        from: &PhoneNumber,
        to: &PhoneNumber,
        text: &str,
        retry: Retry,
    ) -> Result<(), NotSent> {
        if text.trim().is_empty() {
            return Err(NotSent::Empty);
        }
        if text.chars().count() > LONGEST_TEXT {
            return Err(NotSent::TooLong);
        }
        let form: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("To", to.expose())
            .append_pair("From", from.expose())
            .append_pair("Body", text)
            .finish();
        let path = self.path("Messages");
        let sent: Result<IgnoredAny, _> = self.ask(Method::POST, &path, Some(&form), retry).await;
        sent.map(drop).map_err(for_the_caller)
    }
}

/// What an error means for the caller. <https://www.twilio.com/docs/api/errors>
fn for_the_caller(error: RestError) -> NotSent {
    let (status, code) = match error {
        RestError::Network(fault) if fault.is_unsent() => return NotSent::Unreachable,
        // An answer that cannot be read may have been a yes.
        RestError::Network(_) | RestError::NotTwilio => return NotSent::Unknown,
        RestError::Refused { status, code } => (status, code),
    };
    match (status, code) {
        (_, Some(21211 | 21214 | 21217 | 21614)) => NotSent::NoTexts,
        (_, Some(21610)) => NotSent::OptedOut,
        (_, Some(21617 | 21605)) => NotSent::TooLong,
        (_, Some(21602 | 14103)) => NotSent::Empty,
        (_, Some(21210 | 21212 | 21408 | 21606 | 21608 | 21612 | 21659 | 21660)) => NotSent::NotFromHere,
        (429, _) => NotSent::Busy,
        (401 | 403 | 404, _) => NotSent::Denied,
        // It may have been sent before the error.
        (500.., _) => NotSent::Unknown,
        _ => NotSent::Refused,
    }
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;
    use crate::link::twilio_rest::refusal;

    #[test]
    fn a_code_of_twilio_becomes_a_sentence_without_a_number() {
        for (what, status, code, expected) in [
            ("no such number", 400, Some(21211), NotSent::NoTexts),
            ("a landline", 400, Some(21614), NotSent::NoTexts),
            ("opted out", 400, Some(21610), NotSent::OptedOut),
            ("too long", 400, Some(21617), NotSent::TooLong),
            ("trial account", 400, Some(21608), NotSent::NotFromHere),
            ("a line for voice only", 400, Some(21606), NotSent::NotFromHere),
            ("wrong credentials", 401, Some(20003), NotSent::Denied),
            ("no such account", 404, Some(20404), NotSent::Denied),
            ("too many", 429, Some(20429), NotSent::Busy),
            ("too many, from a proxy", 429, None, NotSent::Busy),
            ("a server error", 503, None, NotSent::Unknown),
            ("anything else", 400, Some(99_999), NotSent::Refused),
        ] {
            let body = code.map(|code: u32| format!(r#"{{"code":{code},"message":"…","status":{status}}}"#));
            let status = StatusCode::from_u16(status).unwrap();
            let refused = for_the_caller(refusal(status, body.unwrap_or_default().as_bytes()));
            assert_eq!(refused, expected, "{what}");
            let sentence = refused.to_string();
            assert!(sentence.ends_with('.') && !sentence.contains('+'), "{what}: {sentence}");
        }
    }
}
