//! Functions that are a request over HTTP, as the owner wrote it. What the service says becomes text for the model.
//!
//! No sentence about what went wrong holds an address or a body: both may be personal.

use reqwest::{Client, Method, Response};
use rustls::ClientConfig;
use serde_json::{Map, Value};

use super::Done;
use crate::assistant::plan::HttpCall;
use crate::link;
use crate::link::network::{Fault, same_origin};

/// The largest answer that is read, in bytes.
const LARGEST: usize = 1024 * 1024;
/// The longest text that the model gets, in bytes.
const LONGEST: usize = 16 * 1024;

/// Makes the requests of all functions.
pub struct Web(Client);

impl Web {
    /// Trusted are the certificates of `tls`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
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
            Err(error) => match Fault::from(error) {
                Fault::BadUrl => return Done::failed("bad_request", NOT_MADE),
                fault if fault.is_unsent() => return Done::failed("unreachable", UNREACHABLE),
                _ => return unknown("broke_off", BROKE_OFF),
            },
        };
        let status = response.status();
        let good = match &call.success[..] {
            [] => status.is_success(),
            codes => codes.contains(&status.as_u16()),
        };
        if !good {
            let code = status.as_u16();
            return match code {
                // Sent on after the work, as a form is, or a fault before or after it.
                301..=303 | 500.. => unknown("status", &format!("The service answered with status {code}.")),
                _ => Done::failed("status", format!("The service refused the request (status {code}).")),
            };
        }
        match body(response).await {
            Ok(body) => answer(call, body),
            Err(done) => done,
        }
    }
}

const NOT_MADE: &str = "The request cannot be made with these arguments.";
const UNREACHABLE: &str = "The service cannot be reached.";
const BROKE_OFF: &str = "The service broke off in the middle of its answer.";
const TOO_LARGE: &str = "The service's answer is too large to be used.";
const NOT_TEXT: &str = "The service did what was asked of it, but its answer cannot be read.";
const NOTHING_THERE: &str =
    "The service did what was asked of it, but what was to be told of it is not in its answer.";
/// What a service that says nothing means.
const DONE: &str = "Done.";

/// What the model must know where the service may have done what it was asked for.
pub(super) const UNKNOWN: &str =
    "It is not known whether it was done: say so, and do not do it again unless the caller asks.";

/// It failed, and may have been done all the same.
fn unknown(why: &'static str, sentence: &str) -> Done {
    Done::failed(why, format!("{sentence} {UNKNOWN}"))
}

/// The whole body, where it is not too large.
async fn body(mut response: Response) -> Result<Vec<u8>, Done> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > LARGEST => {
                return Err(unknown("too_large", TOO_LARGE));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(_) => return Err(unknown("broke_off", BROKE_OFF)),
        }
    }
}

/// What the model gets of the body: the part that the owner named, or all of it.
fn answer(call: &HttpCall, body: Vec<u8>) -> Done {
    let Ok(text) = String::from_utf8(body) else { return Done::failed("not_text", NOT_TEXT) };
    if text.trim().is_empty() {
        return Done::well(DONE);
    }
    match serde_json::from_str::<Value>(&text) {
        Ok(value) => match call.part(&value) {
            Some(Value::String(text)) => Done::well(cut(&text)),
            Some(value) => Done::well(cut(&value.to_string())),
            None => Done::failed("nothing_there", NOTHING_THERE),
        },
        Err(_) if call.answer.is_some() => Done::failed("nothing_there", NOTHING_THERE),
        Err(_) => Done::well(cut(text.trim())),
    }
}

/// As much as the model can take, cut between two characters.
fn cut(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let end = (0..=LONGEST).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    format!("{} … (the rest is left out)", &text[..end])
}
