//! Twilio's REST interface, for what TwiML cannot do: a text message.
//!
//! It knows the account's credentials, and turns Twilio's codes into sentences. No sentence holds a number.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode};
use rustls::ClientConfig;
use serde::Deserialize;
use tokio::time::sleep;

use crate::phone::PhoneNumber;
use crate::secret::Secret;

/// How long a connection may take to be made, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// How long one request may take as a whole.
const PATIENCE: Duration = Duration::from_secs(8);
/// The longest text that Twilio sends, in characters.
pub const LONGEST_TEXT: usize = 1_600;
/// The largest answer that is read, in bytes. Twilio's have about 1 KiB.
const LARGEST: usize = 64 * 1024;
/// The pauses before a request that Twilio did not take is made again.
const PAUSES: [Duration; 3] = [Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(2)];

/// An account at Twilio, with what is needed to act for it.
pub struct Account {
    client: Client,
    /// Without a slash at its end.
    url: String,
    sid: String,
    /// An API key's SID, or the account's own.
    user: String,
    password: Secret,
}

/// Why a text was not sent, as the assistant is told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    #[error("The text message is empty. Write what is to be sent into `text`.")]
    Empty,
    #[error("The text message is too long. Make it shorter than 1600 characters and try again.")]
    TooLong,
    #[error("The caller's number cannot receive text messages.")]
    NoTexts,
    #[error("The caller has asked not to get text messages from this number.")]
    OptedOut,
    #[error("This line cannot send text messages to the caller's number.")]
    NotFromHere,
    #[error("Text messages cannot be sent at the moment: the line's account does not allow it.")]
    Denied,
    #[error("Too many text messages are being sent at the moment. Try again in a minute.")]
    Busy,
    #[error("The text message service cannot be reached. The text was not sent.")]
    Unreachable,
    #[error(
        "The text message service did not answer. Whether the text was sent is not known; do not send it again."
    )]
    Unknown,
    #[error("The text message was not accepted.")]
    Refused,
}

impl NotSent {
    /// One word for log and metric.
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

/// Twilio's error body; only the code is of use.
#[derive(Deserialize)]
struct ErrorBody {
    code: Option<u32>,
}

impl Account {
    /// `user` and `password` are an API key and its secret, or the account's SID and its token.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(
        url: &str,
        sid: &str,
        user: &str,
        password: Secret,
        tls: &ClientConfig,
    ) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .user_agent(concat!("switchboard/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(PATIENCE)
            .no_proxy()
            .build()?;
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { client, url, sid: sid.to_owned(), user: user.to_owned(), password })
    }

    /// Sends a text of 1 to 1,600 characters. A request that may have been taken is never made twice.
    ///
    /// # Errors
    /// [`NotSent`].
    pub async fn send_text(&self, from: &PhoneNumber, to: &PhoneNumber, text: &str) -> Result<(), NotSent> {
        if text.trim().is_empty() {
            return Err(NotSent::Empty);
        }
        if text.chars().count() > LONGEST_TEXT {
            return Err(NotSent::TooLong);
        }
        let url = format!("{}/2010-04-01/Accounts/{}/Messages.json", self.url, self.sid);
        let form: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("To", to.expose())
            .append_pair("From", from.expose())
            .append_pair("Body", text)
            .finish();
        let mut pauses = PAUSES.iter();
        loop {
            let request = self.client.post(&url).basic_auth(&self.user, Some(self.password.expose()));
            let request =
                request.header("content-type", "application/x-www-form-urlencoded").body(form.clone());
            match (attempt(request).await, pauses.next()) {
                // Neither was taken: 429 says so, and without a connection nobody was told anything.
                (Err(NotSent::Busy | NotSent::Unreachable), Some(pause)) => sleep(*pause).await,
                (outcome, _) => return outcome,
            }
        }
    }
}

async fn attempt(request: RequestBuilder) -> Result<(), NotSent> {
    let mut response = request.send().await.map_err(|error| match error.is_connect() {
        true => NotSent::Unreachable,
        false => NotSent::Unknown,
    })?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let mut body = Vec::new();
    while body.len() < LARGEST
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    let code = serde_json::from_slice::<ErrorBody>(&body).ok().and_then(|body| body.code);
    Err(refusal(status, code))
}

/// What a code means for the caller. <https://www.twilio.com/docs/api/errors>
fn refusal(status: StatusCode, code: Option<u32>) -> NotSent {
    match (status.as_u16(), code) {
        (_, Some(21211 | 21214 | 21217 | 21614)) => NotSent::NoTexts,
        (_, Some(21610)) => NotSent::OptedOut,
        (_, Some(21617 | 21605)) => NotSent::TooLong,
        (_, Some(21602 | 14103)) => NotSent::Empty,
        (_, Some(21210 | 21212 | 21408 | 21606 | 21608 | 21612 | 21659 | 21660)) => NotSent::NotFromHere,
        (429, _) | (_, Some(20429)) => NotSent::Busy,
        (401 | 403 | 404, _) => NotSent::Denied,
        // It may have been taken before that broke.
        (500.., _) => NotSent::Unknown,
        _ => NotSent::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_of_twilios_is_a_sentence_without_a_number() {
        for (what, status, code, expected) in [
            ("no such number", 400, Some(21211), NotSent::NoTexts),
            ("a landline", 400, Some(21614), NotSent::NoTexts),
            ("opted out", 400, Some(21610), NotSent::OptedOut),
            ("too long", 400, Some(21617), NotSent::TooLong),
            ("trial account", 400, Some(21608), NotSent::NotFromHere),
            ("a line for voice only", 400, Some(21606), NotSent::NotFromHere),
            ("wrong credentials", 401, Some(20003), NotSent::Denied),
            ("no such account", 404, Some(20404), NotSent::Denied),
            ("too often", 429, Some(20429), NotSent::Busy),
            ("too often, from a proxy", 429, None, NotSent::Busy),
            ("a fault of theirs", 503, None, NotSent::Unknown),
            ("anything else", 400, Some(99_999), NotSent::Refused),
        ] {
            let refused = refusal(StatusCode::from_u16(status).unwrap(), code);
            assert_eq!(refused, expected, "{what}");
            let sentence = refused.to_string();
            assert!(sentence.ends_with('.') && !sentence.contains('+'), "{what}: {sentence}");
        }
    }
}
