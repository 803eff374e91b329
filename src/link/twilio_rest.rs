//! Twilio's REST interface, for what TwiML cannot do: text messages, and what the account's numbers ring.
//!
//! It knows the account's credentials, which requests may be made again, and what Twilio's codes mean. No sentence
//! and no `Debug` holds a number or a credential.

mod numbers;
mod standing;
mod text;

use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use rustls::ClientConfig;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use crate::link::network::Fault;
use crate::secret::Secret;

pub use numbers::{Change, NotSet, Number};
pub use standing::{Standing, Status};
pub use text::{LONGEST_TEXT, NotSent};

/// How long one request may take as a whole.
const PATIENCE: Duration = Duration::from_secs(8);
/// The largest answer that is read, in bytes. A page of numbers has about 2 KiB for each of them.
const LARGEST: usize = 4 * 1024 * 1024;
/// The pauses before a request is made again.
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

/// Why Twilio did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RestError {
    #[error("Twilio's REST API is not reached: {0}")]
    Network(#[from] Fault),
    #[error("Twilio's REST interface answered {status}{}", code.map(|code| format!(", error {code}")).unwrap_or_default())]
    Refused {
        /// HTTP's.
        status: u16,
        /// Twilio's: <https://www.twilio.com/docs/api/errors>.
        code: Option<u32>,
    },
    #[error("what answered is not Twilio's REST interface")]
    NotTwilio,
}

impl RestError {
    /// What an owner can do about it, in one sentence without a full stop.
    /// <https://www.twilio.com/docs/api/errors>
    pub fn help(&self) -> &'static str {
        match self {
            Self::Network(fault) if fault.is_unsent() => {
                "check the network and TWILIO_API_URL; https://api.twilio.com is right for every account that \
                 keeps its numbers in the United States"
            }
            Self::Network(_) => "try again in a minute; https://status.twilio.com reports outages",
            Self::NotTwilio => {
                "check TWILIO_API_URL, and whether a proxy or a login page of this network answers in Twilio's place"
            }
            Self::Refused { status: 429, .. } => {
                "the account makes too many requests at once: try again in a minute"
            }
            Self::Refused { code: Some(20404), .. } | Self::Refused { status: 404, .. } => {
                "check TWILIO_ACCOUNT_SID: it begins with AC, and stands on the start page of Twilio's console"
            }
            Self::Refused { code: Some(20005 | 10001), .. } => {
                "the account is suspended or closed: Twilio's console says why"
            }
            // The pages name no status for it.
            Self::Refused { code: Some(70051), .. } => {
                "a restricted API key lacks this permission: give it that in Twilio's console, or use a standard key; \
                 or the key is of another account, or the account is suspended"
            }
            Self::Refused { code: Some(20003), .. } | Self::Refused { status: 401, .. } => {
                "check TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN, or TWILIO_API_KEY and TWILIO_API_SECRET: one of \
                 them is wrong, was replaced, or is of another account or region (TWILIO_API_URL); or the account is \
                 suspended or closed, which Twilio's console says"
            }
            Self::Refused { status: 403, .. } => {
                "the account is suspended or closed, which Twilio's console says; or the API key may not do this: give \
                 it the permission there, or use a standard key"
            }
            Self::Refused { code: Some(21402), .. } => {
                "Twilio takes no such address: look at PUBLIC_URL and TWILIO_FUNCTIONS_URL"
            }
            Self::Refused { status: 500.., .. } => {
                "that is a fault of Twilio's: try again in a minute, and look at https://status.twilio.com"
            }
            Self::Refused { .. } => "https://www.twilio.com/docs/api/errors explains the code",
        }
    }

    /// Whether it is no matter of what was asked: whatever is asked next would fare no better.
    pub fn is_of_all(&self) -> bool {
        match self {
            Self::Network(_) | Self::NotTwilio => true,
            Self::Refused { status: 401 | 429, .. } => true,
            // The account is suspended, closed or not active, or the key may set no number.
            Self::Refused { code: Some(10001 | 20003 | 20005 | 20403 | 70051), .. } => true,
            Self::Refused { .. } => false,
        }
    }
}

/// What may be done about a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// Only where it was certainly not taken: 429 says so, and without a connection nobody was told anything.
    NotTaken,
    /// Made twice, it does the same as made once.
    Safe,
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
        let client = super::http_client(tls).timeout(PATIENCE).build()?;
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { client, url, sid: sid.to_owned(), user: user.to_owned(), password })
    }

    /// The path of the account itself.
    fn own_path(&self) -> String {
        format!("/2010-04-01/Accounts/{}.json", self.sid)
    }

    /// `AC…`
    pub fn sid(&self) -> &str {
        &self.sid
    }

    /// The path of one of the account's resources, such as `Messages`.
    fn path(&self, resource: &str) -> String {
        format!("/2010-04-01/Accounts/{}/{resource}.json", self.sid)
    }

    /// Makes a request and reads its answer; `form` is urlencoded already.
    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        form: Option<&str>,
        again: Again,
    ) -> Result<T, RestError> {
        let mut pauses = PAUSES.iter();
        loop {
            let outcome = self.ask_once(&method, path, form).await;
            let may_again = match &outcome {
                Err(RestError::Refused { status: 429, .. }) => true,
                Err(RestError::Network(fault)) => fault.is_unsent() || again == Again::Safe,
                Err(RestError::Refused { status: 500.., .. }) => again == Again::Safe,
                Ok(_) | Err(RestError::Refused { .. } | RestError::NotTwilio) => false,
            };
            match pauses.next().filter(|_| may_again) {
                Some(pause) => sleep(*pause).await,
                None => return outcome,
            }
        }
    }

    async fn ask_once<T: DeserializeOwned>(
        &self,
        method: &Method,
        path: &str,
        form: Option<&str>,
    ) -> Result<T, RestError> {
        let request = self.client.request(method.clone(), format!("{}{path}", self.url));
        let mut request = request.basic_auth(&self.user, Some(self.password.expose()));
        if let Some(form) = form {
            request =
                request.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned());
        }
        let mut response = request.send().await.map_err(Fault::from)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(Fault::from)? {
            body.extend_from_slice(&chunk);
            if body.len() > LARGEST {
                return Err(RestError::NotTwilio);
            }
        }
        if !status.is_success() {
            return Err(refusal(status, &body));
        }
        serde_json::from_slice(&body).map_err(|_| RestError::NotTwilio)
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> RestError {
    if status.is_redirection() {
        return RestError::NotTwilio;
    }
    let code = serde_json::from_slice::<ErrorBody>(body).ok().and_then(|body| body.code);
    // A code that says "too often" says it whatever the status is.
    let status = if code == Some(20429) { 429 } else { status.as_u16() };
    // What Twilio refuses has its code. Without one, something on the way refused, such as a proxy that wants a login,
    // and nothing is known of credentials or numbers.
    if (400..500).contains(&status) && status != 429 && code.is_none() {
        return RestError::NotTwilio;
    }
    RestError::Refused { status, code }
}
