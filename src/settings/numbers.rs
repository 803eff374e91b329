//! The addresses that numbers at Twilio should have.

use super::Settings;

/// The three addresses of a number at Twilio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberUrls {
    /// The voice URL: the Function in front, or this server.
    pub voice: String,
    /// Called if the voice URL fails; known only with Functions.
    pub fallback: Option<String>,
    /// Called when a call has ended.
    pub status: String,
}

impl Settings {
    /// The addresses of each number; `None` without a public URL.
    pub fn number_urls(&self) -> Option<NumberUrls> {
        let public_url = self.public_url.as_deref()?;
        let functions = self.twilio_functions_url.as_deref();
        Some(NumberUrls {
            voice: functions.map_or_else(
                || format!("{public_url}/incoming-call"),
                |functions| format!("{functions}/allowlist-function"),
            ),
            fallback: functions.map(|functions| format!("{functions}/fallback-function")),
            status: format!("{public_url}/call-status"),
        })
    }
}
