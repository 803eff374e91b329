//! Which Twilio account the settings name.

use rustls::ClientConfig;

use super::twilio_rest::Account;
use crate::settings::Settings;

impl Account {
    /// The account of the settings. `None` if its SID is not set, or neither an API key nor a token is.
    pub fn from_settings(settings: &Settings, tls: &ClientConfig) -> Result<Option<Account>, reqwest::Error> {
        let Some(sid) = &settings.twilio_account_sid else { return Ok(None) };
        let (user, password) = match (&settings.twilio_api_key, &settings.twilio_api_secret) {
            (Some(key), Some(secret)) => (key, secret),
            _ => match settings.twilio_auth_tokens.first() {
                Some(token) => (sid, token),
                None => return Ok(None),
            },
        };
        Account::new(&settings.twilio_api_url, sid, user, password.clone(), tls).map(Some)
    }
}
