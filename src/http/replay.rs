//! Asks Fly's proxy to take a request to another machine (`fly-replay`), and reads what it adds to such a request.
//!
//! Anybody can send these headers. All they can do is prevent that the request is sent on.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::wire::twilio::twiml::document;

const REPLAY: HeaderName = HeaderName::from_static("fly-replay");
const SOURCE: HeaderName = HeaderName::from_static("fly-replay-src");
const FAILED: HeaderName = HeaderName::from_static("fly-replay-failed");

/// How many machines in a row a request is sent on to.
const MOST_HOPS: u8 = 3;

/// Takes the request to the machine of this name. If it cannot be reached within a second, the request comes back.
pub fn to(machine: &str) -> Response {
    respond(&format!("instance={machine};timeout=1s;fallback=prefer_self"))
}

/// The same for a request that came straight here. `None` if it was sent on already.
pub fn elsewhere_at(headers: &HeaderMap, machine: &str) -> Option<Response> {
    (!was_tried(headers)).then(|| to(machine))
}

/// Takes the request to any other machine, or back if there is none.
pub fn elsewhere() -> Response {
    respond("elsewhere=true;timeout=1s;fallback=force_self")
}

/// The same for a request that the next machine may send on, too: a ring if it also drains, a report about a call that
/// is unknown there as well. The proxy looks for a machine for `patience`, in whole seconds. `None` if no machine is
/// left.
pub fn on(headers: &HeaderMap, patience: Duration) -> Option<Response> {
    let hops = hops(headers);
    if headers.contains_key(&FAILED) || hops >= MOST_HOPS {
        return None;
    }
    let seconds = patience.as_secs();
    Some(respond(&format!("elsewhere=true;timeout={seconds}s;fallback=force_self;state={}", hops + 1)))
}

/// Whether the headers show that the proxy took this request somewhere already.
pub fn was_tried(headers: &HeaderMap) -> bool {
    headers.contains_key(&SOURCE) || headers.contains_key(&FAILED)
}

/// How many machines have sent this request on: the last one's count, or the number of machines that the proxy lists,
/// in one header line or several.
fn hops(headers: &HeaderMap) -> u8 {
    let lines = headers.get_all(&SOURCE).iter();
    let sources = lines.flat_map(|line| line.to_str().unwrap_or_default().split(','));
    sources.zip(1..=MOST_HOPS).fold(0, |most, (source, count)| {
        let fields = source.split(';').filter_map(|field| field.trim().strip_prefix("state="));
        let counted = fields.filter_map(|state| state.parse().ok()).max().unwrap_or(0);
        most.max(counted).max(count)
    })
}

/// An ordinary answer: the proxy obeys the header and drops the rest. Without a proxy, Twilio would read any text but
/// TwiML to the caller.
fn respond(order: &str) -> Response {
    let Ok(order) = HeaderValue::from_str(order) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let kind = HeaderValue::from_static("text/xml; charset=utf-8");
    ([(REPLAY, order), (header::CONTENT_TYPE, kind)], document(&[])).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        list.iter().map(pair).collect()
    }

    fn order(response: Response) -> String {
        response.headers()[REPLAY].to_str().unwrap().to_owned()
    }

    #[test]
    fn a_request_is_sent_on_at_most_three_times() {
        for (what, given, state) in [
            ("from outside", headers(&[]), Some("state=1")),
            (
                "sent on once",
                headers(&[("fly-replay-src", "instance=m1;region=iad;t=1;state=1")]),
                Some("state=2"),
            ),
            (
                "sent on by two",
                headers(&[
                    ("fly-replay-src", "instance=m1;state=1"),
                    ("fly-replay-src", "instance=m2;state=2"),
                ]),
                Some("state=3"),
            ),
            (
                "in one line",
                headers(&[("fly-replay-src", "instance=m1;state=1, instance=m2;state=2")]),
                Some("state=3"),
            ),
            (
                "without counts",
                headers(&[("fly-replay-src", "instance=m1"), ("fly-replay-src", "instance=m2")]),
                Some("state=3"),
            ),
            ("sent on often", headers(&[("fly-replay-src", "instance=m1;state=3")]), None),
            ("with a bad count", headers(&[("fly-replay-src", "instance=m1;state=many")]), Some("state=2")),
            ("sent back", headers(&[("fly-replay-failed", "x")]), None),
        ] {
            let sent = on(&given, Duration::from_secs(5)).map(order);
            assert_eq!(sent.is_some(), state.is_some(), "{what}");
            if let (Some(sent), Some(state)) = (sent, state) {
                assert!(
                    sent.starts_with("elsewhere=true;timeout=5s;") && sent.ends_with(state),
                    "{what}: {sent}"
                );
            }
        }
    }

    #[test]
    fn without_a_proxy_the_caller_hears_nothing() {
        assert_eq!(elsewhere().headers()[header::CONTENT_TYPE], "text/xml; charset=utf-8");
    }

    #[test]
    fn a_request_comes_back_from_a_machine_that_is_gone() {
        assert_eq!(order(to("m1")), "instance=m1;timeout=1s;fallback=prefer_self");
        assert!(!was_tried(&headers(&[("host", "x")])));
        assert!(
            was_tried(&headers(&[("fly-replay-src", "")]))
                && was_tried(&headers(&[("fly-replay-failed", "")]))
        );
    }
}
