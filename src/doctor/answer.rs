//! What an HTTP answer shows about who gave it.

use crate::link::network::{Answer, Fault, error_code};
use crate::problem;
use crate::problem::catalogue::Obstacle;

/// A header's value; empty if it is missing or not text.
pub fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Whether it is a web page for people.
pub fn is_page(answer: &Answer) -> bool {
    let start =
        String::from_utf8_lossy(answer.body.get(..200).unwrap_or(&answer.body)).trim_start().to_lowercase();
    header(answer, "content-type").starts_with("text/html")
        || start.starts_with("<!doctype html")
        || start.starts_with("<html")
}

/// The answer in a few words: its status, whether it is a web page, its error code, and the header `Server`.
pub fn describe(answer: &Answer) -> String {
    let reason =
        reqwest::StatusCode::from_u16(answer.status).ok().and_then(|status| status.canonical_reason());
    let mut text = format!("{} {}", answer.status, reason.unwrap_or_default()).trim_end().to_owned();
    if is_page(answer) {
        text.push_str(", a web page");
    } else if let Some(code) = error_code(&answer.body) {
        text.push_str(&format!(", code {}", problem::shown(&code)));
    }
    if let 300..=399 = answer.status {
        text.push_str(&format!(", redirect to {}", redirect(answer)));
    }
    let server = header(answer, "server");
    if !server.is_empty() {
        text.push_str(&format!(", from {}", problem::shown(server)));
    }
    text
}

/// Where it redirects, without a query.
pub fn redirect(answer: &Answer) -> String {
    problem::shown(header(answer, "location").split(['?', '#']).next().unwrap_or_default())
}

/// What stands in the way if this is not the server's own answer.
pub fn obstacle(answer: &Answer) -> Obstacle {
    let is_cloudflare = answer.headers.contains_key("cf-ray");
    match answer.status {
        _ if answer.headers.contains_key("ngrok-error-code") => Obstacle::Ngrok,
        502 | 521..=523 | 530 if is_cloudflare => Obstacle::CloudflareDown,
        403 | 429 | 503 if is_cloudflare && is_page(answer) => Obstacle::CloudflareChallenge,
        502 | 503 if header(answer, "server").starts_with("Fly/") => Obstacle::FlyDown,
        300..=399 => Obstacle::Redirect,
        401 | 403 | 407 | 429 => Obstacle::Blocked,
        404 | 405 | 501 => Obstacle::NotPassedOn,
        408 | 411 | 413 | 415 => Obstacle::BodyLost,
        426 => Obstacle::UpgradeLost,
        500..=599 => Obstacle::Broken,
        _ if is_page(answer) => Obstacle::WebPage,
        _ => Obstacle::Other,
    }
}

/// The errors that Twilio reports for a fault: of a webhook, and of a stream.
pub fn twilio_codes(fault: &Fault) -> (&'static str, &'static str) {
    match fault {
        Fault::BadUrl => ("11200", "31923"),
        Fault::DnsFailed | Fault::ConnectTimeout | Fault::Unreachable(_) => ("11205", "31901"),
        Fault::ConnectionRefused => ("11205", "31902"),
        Fault::Untrusted(_) | Fault::NotTls | Fault::TlsFailed => ("11200", "31910"),
        Fault::ProxyUnreachable | Fault::ProxyLogin | Fault::ProxyRefused => ("11205", "31901"),
        Fault::AnswerTimeout => ("11205", "31901"),
        Fault::ConnectionClosed | Fault::NotHttp | Fault::TooSlow | Fault::BadUpgrade(_) => {
            ("11200", "31920")
        }
    }
}
