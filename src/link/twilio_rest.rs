//! Twilio's REST API, for what TwiML cannot do: text messages, and the settings of the account's numbers.
//!
//! It knows the credentials, which requests may be retried, and what Twilio's codes mean. No message and no `Debug`
//! contains a number or a credential.

mod numbers;
mod standing;
mod text;

use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use rustls::ClientConfig;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use crate::link::network::{self, Fault};
use crate::secret::Secret;

pub use numbers::{Change, NotSet, Number};
pub use standing::{Standing, Status};
pub use text::{LONGEST_TEXT, NotSent};

/// The time limit of one request.
const TIMEOUT: Duration = Duration::from_secs(8);
/// The largest answer, in bytes. A page of numbers has about 2 KiB for each.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// The pauses between attempts.
const PAUSES: [Duration; 3] = [Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(2)];

/// A Twilio account with credentials.
pub struct Account {
    client: Client,
    /// Without a slash at its end.
    url: String,
    sid: String,
    /// An API key's SID, or the account's own.
    user: String,
    password: Secret,
}

/// Why a request to Twilio failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RestError {
    #[error("cannot reach Twilio's REST API: {0}")]
    Network(#[from] Fault),
    #[error("Twilio's REST API answered {status}{}", code.map(|code| format!(", error {code}")).unwrap_or_default())]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Twilio's error code: <https://www.twilio.com/docs/api/errors>.
        code: Option<u32>,
    },
    #[error("the server at TWILIO_API_URL is not Twilio's REST API")]
    NotTwilio,
}

impl RestError {
    /// What the owner can do, as a sentence without a full stop.
    /// <https://www.twilio.com/docs/api/errors>
    pub fn help(&self) -> &'static str {
        match self {
            Self::Network(fault) if fault.is_unsent() => {
                "check the network and TWILIO_API_URL; https://api.twilio.com is right unless the account uses \
                 another Twilio region (IE1, AU1)"
            }
            Self::Network(_) => "try again in a minute; https://status.twilio.com reports outages",
            Self::NotTwilio => {
                "check TWILIO_API_URL, and whether a proxy or a login page answers instead of Twilio"
            }
            Self::Refused { status: 429, .. } => "the account sends too many requests; try again in a minute",
            Self::Refused { code: Some(20404), .. } | Self::Refused { status: 404, .. } => {
                "check TWILIO_ACCOUNT_SID: it starts with AC, and is on the start page of Twilio's console"
            }
            Self::Refused { code: Some(20005 | 10001), .. } => {
                "the account is suspended or closed; Twilio's console shows why"
            }
            // Twilio documents no status for it.
            Self::Refused { code: Some(70051), .. } => {
                "the restricted API key lacks this permission: grant it in Twilio's console, or use a standard key. \
                 Or the key belongs to another account, or the account is suspended"
            }
            Self::Refused { code: Some(20003), .. } | Self::Refused { status: 401, .. } => {
                "check TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN, or TWILIO_API_KEY and TWILIO_API_SECRET: one is \
                 wrong or belongs to another account or region (TWILIO_API_URL). Or the account is suspended or \
                 closed, as Twilio's console shows"
            }
            Self::Refused { status: 403, .. } => {
                "the account is suspended or closed, as Twilio's console shows. Or the API key lacks this permission: \
                 grant it there, or use a standard key"
            }
            Self::Refused { code: Some(21402), .. } => {
                "Twilio does not accept the address; check PUBLIC_URL and TWILIO_FUNCTIONS_URL"
            }
            Self::Refused { status: 500.., .. } => {
                "Twilio has an error; try again in a minute, and check https://status.twilio.com"
            }
            Self::Refused { .. } => "https://www.twilio.com/docs/api/errors explains the code",
        }
    }

    /// Whether other requests would fail as well.
    pub fn affects_all(&self) -> bool {
        match self {
            Self::Network(_) | Self::NotTwilio => true,
            Self::Refused { status: 401 | 429, .. } => true,
            // The account is suspended, closed or not active, or the key may set no number.
            Self::Refused { code: Some(10001 | 20003 | 20005 | 20403 | 70051), .. } => true,
            Self::Refused { .. } => false,
        }
    }
}

/// When a failed request may be retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retry {
    Never,
    /// If Twilio certainly did nothing: after 429, or without a connection.
    IfUndone,
    /// The request is idempotent.
    Always,
}

/// The part of Twilio's error body that we use.
#[derive(Deserialize)]
struct ErrorBody {
    code: Option<u32>,
}

impl Account {
    /// `user` and `password` are an API key and its secret, or the account's SID and its token.
    pub fn new(
        url: &str,
        sid: &str,
        user: &str,
        password: Secret,
        tls: &ClientConfig,
    ) -> Result<Self, reqwest::Error> {
        let client = super::http_client(tls).timeout(TIMEOUT).build()?;
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { client, url, sid: sid.to_owned(), user: user.to_owned(), password })
    }

    /// `AC…`
    pub fn sid(&self) -> &str {
        &self.sid
    }

    /// The path of one of the account's resources, such as `Messages`.
    fn path(&self, resource: &str) -> String {
        format!("/2010-04-01/Accounts/{}/{resource}.json", self.sid)
    }

    /// Sends a request and reads the answer. `form` is urlencoded.
    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        form: Option<&str>,
        retry: Retry,
    ) -> Result<T, RestError> {
        let mut pauses = PAUSES.iter();
        loop {
            let outcome = self.ask_once(&method, path, form).await;
            let may_retry = match &outcome {
                _ if retry == Retry::Never => false,
                Err(RestError::Refused { status: 429, .. }) => true,
                Err(RestError::Network(fault)) => fault.is_unsent() || retry == Retry::Always,
                Err(RestError::Refused { status: 500.., .. }) => retry == Retry::Always,
                Ok(_) | Err(RestError::Refused { .. } | RestError::NotTwilio) => false,
            };
            match pauses.next().filter(|_| may_retry) {
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
        let response = request.send().await.map_err(Fault::from)?;
        let status = response.status();
        let body = network::body(response, MAX_BODY).await?.ok_or(RestError::NotTwilio)?;
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
    // The code for too many requests counts with any status.
    let status = if code == Some(20429) { 429 } else { status.as_u16() };
    // A refusal of Twilio's has a code. One without is from something in between, such as a proxy that wants a login.
    if (400..500).contains(&status) && status != 429 && code.is_none() {
        return RestError::NotTwilio;
    }
    RestError::Refused { status, code }
}
