//! Requests to the server, as Twilio fills in, signs and sends them.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::address::Address;
use super::http;
use super::options::{Fault, PhoneOptions};
use super::record::{StreamEnd, Violation};
use super::sign::sign;
use super::state::Call;
use super::twiml::Method;
use crate::clock::now;

/// Twilio's code for a failed webhook.
pub(super) const HTTP_FAILED: u32 = 11_200;

pub(super) type Form = Vec<(String, String)>;

impl Call {
    /// The form of every voice webhook (reference §2.4).
    pub fn form(&self, status: &str) -> Form {
        let PhoneOptions { account_sid, call_sid, from, to, .. } = &self.options;
        pairs(&[
            ("AccountSid", account_sid),
            ("ApiVersion", "2010-04-01"),
            ("CallSid", call_sid),
            ("CallStatus", status),
            ("CallToken", "{\"parentCallInfoToken\":\"eyJhbGciOiJFUzI1NiJ9.e30.c2ln\"}"),
            ("Called", to),
            ("CalledCity", ""),
            ("CalledCountry", "US"),
            ("CalledState", "CA"),
            ("CalledZip", ""),
            ("Caller", from),
            ("CallerCity", "SAN FRANCISCO"),
            ("CallerCountry", "US"),
            ("CallerState", "CA"),
            ("CallerZip", "94105"),
            ("Direction", "inbound"),
            ("From", from),
            ("FromCity", "SAN FRANCISCO"),
            ("FromCountry", "US"),
            ("FromState", "CA"),
            ("FromZip", "94105"),
            ("StirVerstat", "TN-Validation-Passed-A"),
            ("To", to),
            ("ToCity", ""),
            ("ToCountry", "US"),
            ("ToState", "CA"),
            ("ToZip", ""),
        ])
    }

    /// Prepares a signed request.
    pub fn request(&mut self, url: &str, method: Method, form: Form) -> Prepared {
        let encoded: String =
            form_urlencoded::Serializer::new(String::new()).extend_pairs(form.iter()).finish();
        let url = url.split('#').next().unwrap_or(url);
        let (url, form, body) = match method {
            Method::Post => (url.to_owned(), form, encoded),
            Method::Get => {
                let joint = if url.contains('?') { '&' } else { '?' };
                (format!("{url}{joint}{encoded}"), Vec::new(), String::new())
            }
        };
        let faults = &self.options.faults;
        let signature = match sign(&self.options.auth_token, &url, &form) {
            _ if faults.contains(&Fault::NoSignature) => None,
            _ if faults.contains(&Fault::BadSignature) => Some(sign("wrong", &url, &form)),
            right => Some(right),
        };
        Prepared {
            address: self.options.address(&url),
            method: if method == Method::Post { "POST" } else { "GET" },
            signature,
            body,
            up: self.options.network.up + self.jitter(),
            down: self.options.network.down + self.jitter(),
        }
    }

    /// Posts a status callback in the background.
    pub fn call_back(&mut self, url: String, form: Form) {
        let request = self.request(&url, Method::Post, form);
        self.callbacks.spawn(async move {
            let what = match request.send().await {
                Ok(answer) if (200..300).contains(&answer.status) => return None,
                Ok(answer) => format!("a status callback was answered with status {}", answer.status),
                Err(why) => format!("a status callback was not answered: {why}"),
            };
            Some(Violation { at: now(), code: HTTP_FAILED, what })
        });
    }

    pub fn stream_status(
        &mut self,
        url: String,
        name: Option<&str>,
        stream_sid: &str,
        event: &str,
        end: Option<&StreamEnd>,
    ) {
        let PhoneOptions { account_sid, call_sid, .. } = &self.options;
        let mut form = pairs(&[
            ("AccountSid", account_sid),
            ("CallSid", call_sid),
            ("StreamSid", stream_sid),
            ("StreamName", name.unwrap_or(stream_sid)),
            ("StreamEvent", event),
            ("Timestamp", &timestamp()),
        ]);
        if event == "stream-error" {
            let code = match end {
                Some(StreamEnd::Refused { code, .. }) => *code,
                Some(StreamEnd::Broken(_)) => 31_924,
                _ => 31_921,
            };
            form.extend(pairs(&[("StreamError", &code.to_string())]));
        }
        self.call_back(url, form);
    }
}

/// A request that is ready to be sent.
pub(super) struct Prepared {
    address: Result<Address, String>,
    method: &'static str,
    signature: Option<String>,
    body: String,
    up: Duration,
    down: Duration,
}

impl Prepared {
    pub async fn send(self) -> Result<http::Answer, String> {
        let address = self.address?;
        let token = sid("");
        let mut headers = vec![
            ("User-Agent", "TwilioProxy/1.1"),
            ("Accept", "*/*"),
            ("I-Twilio-Idempotency-Token", token.as_str()),
        ];
        if let Some(signature) = &self.signature {
            headers.push(("X-Twilio-Signature", signature));
        }
        let request = http::Request {
            server: &address.server,
            host: &address.host,
            method: self.method,
            target: &address.path,
            headers: &headers,
            body: &self.body,
        };
        pass(self.up).await;
        let answer = timeout(Duration::from_secs(20), http::send(&request)).await;
        pass(self.down).await;
        answer.map_err(|_| "no answer in 20 s".to_owned())?
    }
}

/// Waits. A zero wait returns at once, because tokio's shortest sleep is a millisecond.
pub(super) async fn pass(long: Duration) {
    if !long.is_zero() {
        sleep(long).await;
    }
}

pub(super) fn sid(prefix: &str) -> String {
    format!("{prefix}{:032x}", rand::random::<u128>())
}

pub(super) fn pairs(list: &[(&str, &str)]) -> Form {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub(super) fn timestamp() -> String {
    jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}
