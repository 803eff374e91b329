//! Functions that make an HTTP request of the owner's. The answer becomes text for the model.
//!
//! No sentence about a failure holds an address or a body: both may be personal.

use reqwest::{Client, Method};
use rustls::ClientConfig;
use serde_json::{Map, Value};

use super::media::{noted, noted_text};
use super::{Done, MAX_ANSWER, MAX_TEXT, cut};
use crate::assistant::plan::HttpCall;
use crate::link;
use crate::link::network::{self, Fault, same_origin};

/// Makes the requests of all functions.
pub struct Web(Client);

impl Web {
    pub fn new(tls: &ClientConfig) -> Result<Self, reqwest::Error> {
        let client = link::http_client(tls).redirect(same_origin()).build()?;
        Ok(Self(client))
    }

    /// Makes the request with the model's arguments.
    pub async fn run(&self, call: &HttpCall, arguments: &Map<String, Value>) -> Done {
        let (method, request) = match call.request(arguments) {
            Ok(request) => match Method::from_bytes(request.method.as_bytes()) {
                Ok(method) => (method, request),
                Err(_) => return Done::failed("bad_request", NOT_MADE),
            },
            Err(sentence) => return Done::failed("bad_arguments", sentence),
        };
        let mut builder = self.0.request(method, &request.url);
        for (name, value) in &request.headers {
            builder = builder.header(name, value.expose());
        }
        if let Some(body) = request.body {
            builder = builder.body(body);
        }
        let response = match builder.send().await {
            Ok(response) => response,
            Err(error) => {
                return match Fault::from(error) {
                    Fault::BadUrl => Done::failed("bad_request", NOT_MADE),
                    fault if fault.is_unsent() => Done::failed("unreachable", UNREACHABLE),
                    _ => unknown("broke_off", BROKE_OFF),
                };
            }
        };
        let status = response.status();
        let good = match &call.success[..] {
            [] => status.is_success(),
            codes => codes.contains(&status.as_u16()),
        };
        if !good {
            let code = status.as_u16();
            return match code {
                // A redirect after the work, as after a form, or an error before or after it.
                301..=303 | 500.. => unknown("status", &format!("The service answered with status {code}.")),
                _ => Done::failed("status", format!("The service refused the request (status {code}).")),
            };
        }
        match network::body(response, MAX_ANSWER).await {
            Ok(Some(body)) => answer(call, body),
            Ok(None) => unknown("too_large", TOO_LARGE),
            Err(_) => unknown("broke_off", BROKE_OFF),
        }
    }
}

const NOT_MADE: &str = "The request cannot be made with these arguments.";
const UNREACHABLE: &str = "The service cannot be reached.";
const BROKE_OFF: &str = "The service closed the connection before the end of its answer.";
const TOO_LARGE: &str = "The service's answer is too large.";
const NOT_TEXT: &str = "The service carried out the request, but its answer is not readable.";
const NOTHING_THERE: &str =
    "The service carried out the request, but its answer does not contain the expected information.";
/// The text of an empty answer.
const DONE: &str = "Done.";

/// For the model, if the service may have carried out the request.
pub(super) const UNKNOWN: &str =
    "It is unknown whether it was done: say so, and do not do it again unless the caller asks.";

/// A failure after which the request may have been carried out.
fn unknown(why: &'static str, sentence: &str) -> Done {
    Done::failed(why, format!("{sentence} {UNKNOWN}"))
}

/// The text for the model: the part of the body that the owner named, or all of it.
fn answer(call: &HttpCall, body: Vec<u8>) -> Done {
    let Ok(text) = String::from_utf8(body) else { return Done::failed("not_text", NOT_TEXT) };
    if text.trim().is_empty() {
        return Done::ok(DONE);
    }
    match serde_json::from_str::<Value>(&text) {
        Ok(value) => match call.part(&value).map(noted) {
            Some(Value::String(text)) => Done::ok(cut(&text, MAX_TEXT)),
            Some(value) => Done::ok(cut(&value.to_string(), MAX_TEXT)),
            None => Done::failed("nothing_there", NOTHING_THERE),
        },
        Err(_) if call.answer.is_some() => Done::failed("nothing_there", NOTHING_THERE),
        Err(_) => Done::ok(cut(noted_text(text).trim(), MAX_TEXT)),
    }
}
