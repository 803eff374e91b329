//! The account's numbers and their settings.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use tokio::time::timeout;

use super::{Account, RestError, Retry};
use crate::link::network::Fault;
use crate::phone::PhoneNumber;
use crate::secret::Private;

/// The numbers on a page: Twilio's maximum.
const PAGE: usize = 1_000;
/// More pages than any account has.
const MAX_PAGES: usize = 100;
/// The time limit for all pages, with retries. One takes a second or two.
const LISTING: Duration = Duration::from_secs(60);

/// A number of the account, with its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number {
    /// `PN…`
    pub sid: String,
    pub number: PhoneNumber,
    /// The owner's name for it in Twilio's console; often the number itself.
    pub friendly_name: Private,
    /// Whether it can receive calls.
    pub voice: bool,
    /// An empty text is `None`, here and below.
    pub voice_url: Option<String>,
    /// `POST` or `GET`.
    pub voice_method: String,
    pub fallback_url: Option<String>,
    pub fallback_method: String,
    pub status_callback: Option<String>,
    pub status_method: String,
    /// While one of these is set, Twilio ignores the voice URL.
    pub application: Option<String>,
    pub trunk: Option<String>,
}

/// A change of settings. `None` keeps the value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// An empty text removes the value, here and below.
    pub voice_url: Option<String>,
    /// `None`: POST, as for the fallback.
    pub voice_method: Option<String>,
    pub fallback_url: Option<String>,
    pub status_callback: Option<String>,
    /// `None`: POST.
    pub status_method: Option<String>,
    /// Removes the application or the trunk, because Twilio would ignore the voice URL.
    pub take_back: bool,
}

impl Change {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a number has the changed settings.
    fn is_done(&self, now: &Number) -> bool {
        let is_set = |should: &Option<String>, method: &Option<String>, is: &Option<String>, by: &str| {
            match should.as_deref() {
                None => true,
                // Without a URL, the method does not matter.
                Some("") => is.is_none(),
                should => is.as_deref() == should && by == method.as_deref().unwrap_or("POST"),
            }
        };
        is_set(&self.voice_url, &self.voice_method, &now.voice_url, &now.voice_method)
            && is_set(&self.fallback_url, &None, &now.fallback_url, &now.fallback_method)
            && is_set(&self.status_callback, &self.status_method, &now.status_callback, &now.status_method)
            && !(self.take_back && now.is_taken())
    }

    fn form(&self) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        for (name, value, method_name, method) in [
            ("VoiceUrl", &self.voice_url, "VoiceMethod", &self.voice_method),
            ("VoiceFallbackUrl", &self.fallback_url, "VoiceFallbackMethod", &None),
            ("StatusCallback", &self.status_callback, "StatusCallbackMethod", &self.status_method),
        ] {
            if let Some(value) = value {
                form.append_pair(name, value).append_pair(method_name, method.as_deref().unwrap_or("POST"));
            }
        }
        if self.take_back {
            form.append_pair("VoiceApplicationSid", "").append_pair("TrunkSid", "");
        }
        form.finish()
    }
}

/// Why a number was not changed, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSet {
    #[error("{0}: {help}", help = .0.help())]
    Refused(#[from] RestError),
    #[error("Twilio took the request but did not do it; Twilio's console may show why")]
    NotDone,
}

/// A page in Twilio's format. Most fields may be null.
#[derive(Deserialize)]
struct Page {
    incoming_phone_numbers: Vec<Written>,
    next_page_uri: Option<String>,
}

#[derive(Deserialize)]
struct Written {
    sid: String,
    phone_number: String,
    friendly_name: Option<String>,
    capabilities: Option<Capabilities>,
    voice_url: Option<String>,
    voice_method: Option<String>,
    voice_fallback_url: Option<String>,
    voice_fallback_method: Option<String>,
    status_callback: Option<String>,
    status_callback_method: Option<String>,
    voice_application_sid: Option<String>,
    trunk_sid: Option<String>,
}

#[derive(Deserialize)]
struct Capabilities {
    voice: Option<bool>,
}

impl Account {
    /// All numbers of the account.
    pub async fn numbers(&self) -> Result<Vec<Number>, RestError> {
        self.numbers_within(LISTING).await
    }

    async fn numbers_within(&self, limit: Duration) -> Result<Vec<Number>, RestError> {
        timeout(limit, self.all_pages()).await.unwrap_or(Err(Fault::AnswerTimeout.into()))
    }

    async fn all_pages(&self) -> Result<Vec<Number>, RestError> {
        let mut numbers = Vec::new();
        let mut path = format!("{}?PageSize={PAGE}", self.path("IncomingPhoneNumbers"));
        let mut seen = BTreeSet::new();
        // `seen` guards against pages that lead back.
        while seen.len() < MAX_PAGES && seen.insert(path.clone()) {
            let page: Page = self.ask(Method::GET, &path, None, Retry::Always).await?;
            // Short codes do not parse, and receive no calls.
            numbers.extend(page.incoming_phone_numbers.into_iter().filter_map(Number::read));
            match page.next_page_uri.filter(|uri| !uri.is_empty()) {
                // The credentials must not go to another host.
                Some(next) if next.starts_with("/2010-04-01/") => path = next,
                Some(_) => return Err(RestError::NotTwilio),
                None => return Ok(numbers),
            }
        }
        Err(RestError::NotTwilio)
    }

    /// One number, by its SID.
    pub async fn number(&self, sid: &str) -> Result<Number, RestError> {
        let path = self.path(&format!("IncomingPhoneNumbers/{sid}"));
        let written: Written = self.ask(Method::GET, &path, None, Retry::Always).await?;
        written.with_sid(sid)
    }

    /// Changes a number, and checks the result. `sid` is the number's.
    pub async fn set_number(&self, sid: &str, change: &Change) -> Result<(), NotSet> {
        let now = self.change_number(sid, change).await?;
        if change.is_done(&now) { Ok(()) } else { Err(NotSet::NotDone) }
    }

    /// Requests a change. `sid` is the number's. Returns the number as Twilio reports it then.
    pub async fn change_number(&self, sid: &str, change: &Change) -> Result<Number, RestError> {
        let path = self.path(&format!("IncomingPhoneNumbers/{sid}"));
        let written: Written = self.ask(Method::POST, &path, Some(&change.form()), Retry::Always).await?;
        written.with_sid(sid)
    }
}

impl Written {
    /// The number, if it has this SID.
    fn with_sid(self, sid: &str) -> Result<Number, RestError> {
        Number::read(self).filter(|number| number.sid == sid).ok_or(RestError::NotTwilio)
    }
}

impl Number {
    /// Whether an application or a trunk replaces the voice URL.
    pub fn is_taken(&self) -> bool {
        self.taken_by().is_some()
    }

    /// What replaces the voice URL, for people.
    pub fn taken_by(&self) -> Option<&'static str> {
        match (&self.application, &self.trunk) {
            (Some(_), _) => Some("a TwiML application"),
            (None, Some(_)) => Some("a SIP trunk"),
            (None, None) => None,
        }
    }

    fn read(written: Written) -> Option<Self> {
        let number = PhoneNumber::parse(&written.phone_number).ok()?;
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        let method = |text: Option<String>| some(text).unwrap_or_else(|| "POST".to_owned());
        Some(Self {
            sid: written.sid,
            number,
            friendly_name: written.friendly_name.unwrap_or_default().into(),
            voice: written.capabilities.and_then(|can| can.voice).unwrap_or(true),
            voice_url: some(written.voice_url),
            voice_method: method(written.voice_method),
            fallback_url: some(written.voice_fallback_url),
            fallback_method: method(written.voice_fallback_method),
            status_callback: some(written.status_callback),
            status_method: method(written.status_callback_method),
            application: some(written.voice_application_sid),
            trunk: some(written.trunk_sid),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use rustls::{ClientConfig, RootCertStore};
    use tokio::net::TcpListener;

    use super::*;
    use crate::secret::Secret;

    #[tokio::test]
    async fn a_list_has_a_time_limit_for_all_pages() {
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        // Accepts connections, and never answers.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap());
        let account = Account::new(&url, "AC1", "AC1", Secret::new("12345"), &tls).unwrap();
        let begun = Instant::now();
        let numbers = account.numbers_within(Duration::from_millis(100)).await;
        assert_eq!(numbers, Err(Fault::AnswerTimeout.into()));
        assert!(begun.elapsed() < Duration::from_secs(5), "less than the limit of one request");
    }

    #[test]
    fn a_change_is_done_when_all_settings_match() {
        let number = || {
            let text = r#"{"sid": "PN1", "phone_number": "+15550100001", "voice_url": "https://a.example.com",
                "voice_method": "GET", "status_callback": "", "trunk_sid": "TK1"}"#;
            Number::read(serde_json::from_str(text).unwrap()).unwrap()
        };
        let text = |text: &str| Some(text.to_owned());
        let voice = |url: &str, method: Option<&str>| Change {
            voice_url: text(url),
            voice_method: method.map(str::to_owned),
            ..Change::default()
        };
        for (what, change, is_done) in [
            ("nothing", Change::default(), true),
            ("the same", voice("https://a.example.com", Some("GET")), true),
            ("another method", voice("https://a.example.com", None), false),
            ("another address", voice("https://b.example.com", Some("GET")), false),
            ("not yet removed", voice("", None), false),
            ("removed", Change { status_callback: text(""), ..Change::default() }, true),
            (
                "no fallback",
                Change { fallback_url: text("https://a.example.com"), ..Change::default() },
                false,
            ),
            ("a trunk that stays", Change { take_back: true, ..Change::default() }, false),
        ] {
            assert_eq!(change.is_done(&number()), is_done, "{what}");
        }
    }
}
