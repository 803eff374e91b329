//! What numbers at Twilio are to ring.

use super::Settings;

/// The three addresses of a number at Twilio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberUrls {
    /// Asked when it rings: the Function in front, or this server.
    pub voice: String,
    /// Asked when the first one fails; known only with Functions.
    pub fallback: Option<String>,
    /// Told when a call is over.
    pub status: String,
}

impl Settings {
    /// What each number at Twilio is to be set to; `None` without a public URL.
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
