//! Answers requests.

use std::future::pending;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State as Shared;
use axum::http::{HeaderMap, Method, Uri, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::account::{Desk, RestFault, RestRequest, State};
use super::number;
use super::refusal::{Outcome, Refusal};

/// Answers one request.
pub(super) async fn answer(
    Shared(desk): Shared<Arc<Desk>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request = RestRequest {
        method: method.to_string(),
        target: uri.to_string(),
        credentials: credentials(&headers),
        form: form_urlencoded::parse(&body).into_owned().collect(),
        status: 0,
    };
    let is_form = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    let (fault, index, done) = {
        let mut state = desk.lock();
        let fault = state.strike(&format!("{method} {uri}"));
        let does_it =
            matches!(fault, None | Some(RestFault::Slow(_) | RestFault::BreakAfter { .. } | RestFault::Cut));
        let done = does_it.then(|| state.act(&request, &uri, is_form));
        state.requests.push(request);
        (fault, state.requests.len() - 1, done)
    };
    let response = respond(fault, done).await;
    desk.lock().requests[index].status = response.status().as_u16();
    response
}

/// The response, as the fault leaves it.
async fn respond(fault: Option<RestFault>, done: Option<Outcome>) -> Response {
    let page = |title: &str| format!("<html><head><title>{title}</title></head><body>{title}</body></html>");
    let html = |status, title: &str| plain(status, "text/html", page(title));
    match fault {
        None => twilio_answer(done),
        Some(RestFault::Slow(pause)) => {
            sleep(pause).await;
            twilio_answer(done)
        }
        Some(RestFault::Refuse { status, code }) => twilio_answer(Some(Err(Refusal::new(
            status,
            code,
            "The simulated server is set to refuse this request",
        )))),
        Some(RestFault::BreakAfter { status }) => {
            twilio_answer(Some(Err(Refusal::new(status, 20500, "An internal server error has occurred"))))
        }
        Some(RestFault::Silence) => pending().await,
        Some(RestFault::Cut) => {
            let pieces = [Ok(Bytes::from_static(b"{\"sid\":")), Err(std::io::Error::other("cut"))];
            let mut response = Response::new(Body::from_stream(stream::iter(pieces)));
            response.headers_mut().insert(header::CONTENT_LENGTH, 1_000.into());
            response
        }
        Some(RestFault::Garbage) => plain(200, "application/json", "}{ \u{7f} not JSON".to_owned()),
        Some(RestFault::Stranger) => plain(200, "application/json", r#"{"hello":"world"}"#.to_owned()),
        Some(RestFault::Proxy { status }) => html(status, "Bad gateway"),
        Some(RestFault::Answer(body)) => twilio_answer(Some(Ok((200, body)))),
        Some(RestFault::Redirect { status, to }) => {
            let mut response = html(status, "Elsewhere");
            if let Ok(to) = to.parse() {
                response.headers_mut().insert(header::LOCATION, to);
            }
            response
        }
    }
}

/// An answer in Twilio's form.
fn twilio_answer(done: Option<Outcome>) -> Response {
    let refusal = match done {
        Some(Ok((status, body))) => return plain(status, "application/json", body.to_string()),
        Some(Err(refusal)) => refusal,
        None => Refusal::new(500, 20500, "An internal server error has occurred"),
    };
    let Refusal { status, code, message } = refusal;
    let more_info = format!("https://www.twilio.com/docs/errors/{code}");
    let body = json!({"code": code, "message": message, "more_info": more_info, "status": status});
    let mut response = plain(status, "application/json", body.to_string());
    response.headers_mut().insert("x-twilio-error-code", code.into());
    if status == 401 {
        let realm = header::HeaderValue::from_static("Basic realm=\"Twilio API\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
    }
    response
}

fn plain(status: u16, kind: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status.try_into().unwrap_or_default();
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let header = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let decoded = String::from_utf8(STANDARD.decode(header.strip_prefix("Basic ")?).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

impl State {
    /// The fault for this request, which is then used up.
    fn strike(&mut self, line: &str) -> Option<RestFault> {
        let at = self.faults.iter().position(|planned| line.contains(&planned.only) && planned.left > 0)?;
        let planned = &mut self.faults[at];
        planned.left -= usize::from(planned.left != usize::MAX);
        Some(planned.fault.clone())
    }

    /// Performs the request.
    fn act(&mut self, request: &RestRequest, uri: &Uri, is_form: bool) -> Outcome {
        let path = uri.path();
        let known =
            request.credentials.as_ref().is_some_and(|given| self.options.credentials.contains(given));
        if !known {
            return Err(Refusal::new(401, 20003, "Authenticate"));
        }
        let rest = path.strip_prefix("/2010-04-01/Accounts/").and_then(|rest| rest.strip_suffix(".json"));
        let (account, resource) = rest
            .map(|rest| rest.split_once('/').unwrap_or((rest, "")))
            .ok_or_else(|| Refusal::not_found(path))?;
        // Credentials belong to one account: https://www.twilio.com/docs/api/errors/20003
        if account != self.options.sid {
            return Err(Refusal::new(401, 20003, "Authenticate"));
        }
        let is_get = match request.method.as_str() {
            "GET" => true,
            "POST" => false,
            _ => return Err(Refusal::new(405, 20004, "Method not allowed")),
        };
        if resource.is_empty() && is_get {
            // The same page: a standard API key may not read the account itself.
            let is_key = request.credentials.as_ref().is_some_and(|(user, _)| user.starts_with("SK"));
            return match is_key {
                true => Err(Refusal::new(401, 20003, "Authenticate")),
                false => Ok((200, self.account())),
            };
        }
        // https://www.twilio.com/docs/api/errors/20403
        if self.options.status != "active" {
            return Err(Refusal::new(403, 20403, "Forbidden"));
        }
        if !is_get && !is_form {
            return Err(Refusal::new(415, 20415, "Unsupported Media Type"));
        }
        let options = &mut self.options;
        match (resource.split_once('/').unwrap_or((resource, "")), is_get) {
            (("IncomingPhoneNumbers", ""), true) => {
                number::page(options, path, uri.query().unwrap_or_default())
            }
            (("IncomingPhoneNumbers", sid), true) => {
                number::find(options, sid, path).map(|one| (200, one.clone()))
            }
            (("IncomingPhoneNumbers", sid), false) if !sid.is_empty() => {
                number::change(options, sid, path, &request.form).map(|one| (200, one))
            }
            (("Messages", ""), false) => self.send(request),
            _ => Err(Refusal::not_found(path)),
        }
    }

    fn account(&self) -> Value {
        let options = &self.options;
        json!({
            "sid": options.sid,
            "owner_account_sid": options.sid,
            "friendly_name": "Example Company",
            "status": options.status,
            "type": options.kind,
            "auth_token": "redacted",
            "date_created": "Mon, 02 Mar 2026 10:00:00 +0000",
            "date_updated": "Mon, 02 Mar 2026 10:00:00 +0000",
            "uri": format!("/2010-04-01/Accounts/{}.json", options.sid),
            "subresource_uris": {
                "incoming_phone_numbers": format!("/2010-04-01/Accounts/{}/IncomingPhoneNumbers.json", options.sid),
            },
        })
    }

    /// Accepts a message to send.
    fn send(&mut self, request: &RestRequest) -> Outcome {
        let field = |name| request.field(name).filter(|value: &&str| !value.is_empty());
        let refused = |code, message: &str| Err(Refusal::new(400, code, message));
        let Some(to) = field("To") else { return refused(21604, "A 'To' phone number is required.") };
        let Some(from) = field("From").or(field("MessagingServiceSid")) else {
            return refused(21603, "A 'From' phone number is required.");
        };
        let Some(body) = field("Body") else { return refused(21602, "Message body is required.") };
        if !number::is_e164(to) {
            return refused(21211, "Invalid 'To' Phone Number");
        }
        let sender = self.options.numbers.iter().find(|number| number["phone_number"] == from);
        match sender {
            None => {
                return refused(21659, "'From' is not a Twilio phone number or Short Code country mismatch");
            }
            Some(number) if number["capabilities"]["sms"] != true => {
                return refused(
                    21606,
                    "The 'From' phone number provided is not a valid message-capable number",
                );
            }
            Some(_) => {}
        }
        if body.chars().count() > 1_600 {
            return refused(21617, "The concatenated message body exceeds the 1600 character limit");
        }
        let sid = format!("SM{:032x}", self.messages.len() + 1);
        let message = json!({
            "sid": sid, "account_sid": self.options.sid, "to": to, "from": from, "body": body, "status": "queued",
            "direction": "outbound-api", "num_segments": "1", "num_media": "0", "price": null, "error_code": null,
            "date_created": "Mon, 02 Mar 2026 10:00:00 +0000", "date_sent": null,
        });
        self.messages.push(message.clone());
        Ok((201, message))
    }
}
