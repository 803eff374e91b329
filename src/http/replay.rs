//! Fly's proxy, asked to take a request to another machine (`fly-replay`), and what it says of a request that it took
//! here so.
//!
//! Anybody can send the headers that it adds. They only ever keep a request from being sent on again.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::wire::twilio::twiml::document;

const REPLAY: HeaderName = HeaderName::from_static("fly-replay");
const SOURCE: HeaderName = HeaderName::from_static("fly-replay-src");
const FAILED: HeaderName = HeaderName::from_static("fly-replay-failed");

/// Machines that a request is sent on to, one after the other: by then a ring is refused, and news are nobody's.
const MOST_HOPS: u8 = 3;

/// Takes the request to the machine of this name. Where that one cannot be reached in a second, it comes back.
pub fn to(machine: &str) -> Response {
    respond(&format!("instance={machine};timeout=1s;fallback=prefer_self"))
}

/// Takes the request to any other machine, or back where there is none.
pub fn elsewhere() -> Response {
    respond("elsewhere=true;timeout=1s;fallback=force_self")
}

/// The same for what the other machine may send on likewise: a ring where it closes too, news of a call that it does
/// not have either. It waits so long for one that can be reached, in whole seconds. `None`: nobody is there to take it.
pub fn on(headers: &HeaderMap, patience: Duration) -> Option<Response> {
    let hops = hops(headers);
    if headers.contains_key(&FAILED) || hops >= MOST_HOPS {
        return None;
    }
    let seconds = patience.as_secs();
    Some(respond(&format!("elsewhere=true;timeout={seconds}s;fallback=force_self;state={}", hops + 1)))
}

/// Whether the proxy, or whoever says so, has taken this request somewhere already.
pub fn was_tried(headers: &HeaderMap) -> bool {
    headers.contains_key(&SOURCE) || headers.contains_key(&FAILED)
}

/// How many machines have sent this request on: as the last of them counted, or as many as the proxy names. It adds to
/// what is there already, as a line of its own or to the same one.
fn hops(headers: &HeaderMap) -> u8 {
    let lines = headers.get_all(&SOURCE).iter();
    let sources = lines.flat_map(|line| line.to_str().unwrap_or_default().split(','));
    sources.zip(1..=MOST_HOPS).fold(0, |most, (source, count)| {
        let fields = source.split(';').filter_map(|field| field.trim().strip_prefix("state="));
        let counted = fields.filter_map(|state| state.parse().ok()).max().unwrap_or(0);
        most.max(counted).max(count)
    })
}

/// Not an upgrade, and no error: the proxy obeys the header and drops the rest. Where none is there to obey, Twilio
/// would read any other text to the caller.
fn respond(orders: &str) -> Response {
    let Ok(orders) = HeaderValue::from_str(orders) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let kind = HeaderValue::from_static("text/xml; charset=utf-8");
    ([(REPLAY, orders), (header::CONTENT_TYPE, kind)], document(&[])).into_response()
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

    fn orders(response: Response) -> String {
        response.headers()[REPLAY].to_str().unwrap().to_owned()
    }

    #[test]
    fn what_is_sent_on_is_sent_on_a_few_times_and_no_more() {
        for (what, given, state) in [
            ("it comes from outside", headers(&[]), Some("state=1")),
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
                "of whom none counts",
                headers(&[("fly-replay-src", "instance=m1"), ("fly-replay-src", "instance=m2")]),
                Some("state=3"),
            ),
            ("sent on often", headers(&[("fly-replay-src", "instance=m1;state=3")]), None),
            ("by who knows whom", headers(&[("fly-replay-src", "instance=m1;state=many")]), Some("state=2")),
            ("and back", headers(&[("fly-replay-failed", "x")]), None),
        ] {
            let sent = on(&given, Duration::from_secs(5)).map(orders);
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
    fn without_a_proxy_nothing_is_read_to_the_caller() {
        assert_eq!(elsewhere().headers()[header::CONTENT_TYPE], "text/xml; charset=utf-8");
    }

    #[test]
    fn a_machine_that_is_gone_yields() {
        assert_eq!(orders(to("m1")), "instance=m1;timeout=1s;fallback=prefer_self");
        assert!(!was_tried(&headers(&[("host", "x")])));
        assert!(
            was_tried(&headers(&[("fly-replay-src", "")]))
                && was_tried(&headers(&[("fly-replay-failed", "")]))
        );
    }
}
