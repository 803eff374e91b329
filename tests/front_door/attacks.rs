//! The security rules, one attack each.

use std::time::Duration;

use switchboard::call::{Anomaly, EndReason};
use switchboard_simulator::caller::{CallEnd, Fault, PhoneOptions, StreamEnd, sign};
use switchboard_simulator::model::{ModelOptions, Speech};

use crate::harness::{CLINIC, Harness, TOKEN, counted, finished, http, logged};

fn quick() -> ModelOptions {
    ModelOptions { think: Duration::from_millis(50), speech: Speech::Tagged, ..ModelOptions::default() }
}

const UPGRADE: &str =
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";

/// Sends an upgrade request; returns the status.
async fn knock(server: &str, path: &str, more: &str) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut socket = tokio::net::TcpStream::connect(server.trim_start_matches("http://")).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n{UPGRADE}{more}\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 64];
    let read = socket.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..read]).split(' ').nth(1).unwrap().parse().unwrap()
}

/// A ringing call, as Twilio signs it.
fn ringing(call: &str) -> [(&str, &str); 4] {
    [("CallSid", call), ("From", "+15550100100"), ("To", "+15550100001"), ("CallStatus", "ringing")]
}

/// Sends `form` to a webhook with the signature that Twilio made for `signed`.
async fn webhook(
    harness: &Harness,
    path: &str,
    form: &[(&str, &str)],
    signed: &[(&str, &str)],
) -> (u16, String) {
    let owned: Vec<_> =
        signed.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let code = sign(TOKEN, &format!("{}{path}", harness.server), &owned);
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    http(&harness.server, "POST", path, &format!("X-Twilio-Signature: {code}\r\n"), &body).await
}

/// Sends an incoming-call webhook; returns the ticket in the answer.
async fn ticket(harness: &Harness, call: &str) -> String {
    let form = ringing(call);
    let (status, answer) = webhook(harness, "/incoming-call", &form, &form).await;
    assert_eq!(status, 200, "{answer}");
    let ticket = answer.split("/media-stream/").nth(1).unwrap().split('"').next().unwrap();
    ticket.to_owned()
}

#[tokio::test]
async fn a_webhook_without_twilios_signature_is_forbidden() {
    for fault in [Fault::BadSignature, Fault::NoSignature] {
        let harness = Harness::open(CLINIC, quick()).await;
        let mut options = harness.phone();
        options.faults = vec![fault];
        let record = finished(harness.dial(options)).await;
        assert_eq!(record.documents[0].status, Some(403), "{fault:?}");
        assert!(matches!(record.end, CallEnd::Failed(_)));
        assert!(harness.model.sessions().is_empty(), "no model was called");
        let why = if fault == Fault::NoSignature { "signature_missing" } else { "signature_wrong" };
        let count = format!(r#"switchboard_refusals_total{{layer="signature",why="{why}"}}"#);
        assert!(counted(&count) > 0, "{fault:?} is counted");
        let warned = logged(&["requests=1", &harness.server]);
        assert_eq!(warned, fault == Fault::BadSignature, "a wrong token is logged with the URL");
        harness.quit().await;
    }
    let harness = Harness::open(CLINIC, quick()).await;
    for path in ["/after-stream/abc", "/stream-status", "/call-status", "/incoming-call"] {
        for method in ["POST", "GET"] {
            assert_eq!(
                http(&harness.server, method, path, "", "CallSid=CA00000000000000000000000000000001").await.0,
                403,
                "{method} {path}"
            );
        }
    }
    harness.quit().await;
}

#[tokio::test]
async fn a_signed_ring_that_is_sent_again_opens_nothing() {
    let mut harness = Harness::open(CLINIC, quick()).await;
    let call = "CA000000000000000000000000000a77ac";
    let options = PhoneOptions { call_sid: call.to_owned(), ..harness.phone() };
    let phone = harness.dial(options);
    assert!(phone.wait_until_playing_for(Duration::from_millis(100)).await);
    let form = ringing(call);
    for when in ["during the call", "after its end"] {
        let (status, answer) = webhook(&harness, "/incoming-call", &form, &form).await;
        assert_eq!(status, 403, "{when}");
        assert!(!answer.contains("Stream"), "{when}: {answer}");
        if when == "during the call" {
            phone.hang_up();
            assert_eq!(harness.ended().await.reason, EndReason::CallerHungUp);
        }
    }
    finished(phone).await.assert_clean();
    assert_eq!(harness.model.sessions().len(), 1, "no other session was opened");
    assert!(counted(r#"switchboard_refusals_total{layer="admission",why="replayed"}"#) >= 2);
    harness.quit().await;
}

/// As of a number whose status callback was set to the address for calls, or of a call that this server never knew.
#[tokio::test]
async fn a_status_callback_for_a_call_that_is_over_opens_nothing() {
    let harness = Harness::open(CLINIC, quick()).await;
    let mut form = ringing("CA000000000000000000000000000a77ad");
    form[3] = ("CallStatus", "completed");
    for path in ["/incoming-call", "/call-status"] {
        let (status, answer) = webhook(&harness, path, &form, &form).await;
        assert!(matches!(status, 200 | 204), "{path}: {status}");
        assert!(!answer.contains("Stream"), "{path}: {answer}");
    }
    assert!(harness.model.sessions().is_empty(), "no session was opened");
    form[3] = ("CallStatus", "ringing");
    assert_eq!(webhook(&harness, "/incoming-call", &form, &form).await.0, 403, "the call is over");
    harness.quit().await;
}

/// Twilio's signature joins names and values without separators, so other forms have the same.
#[tokio::test]
async fn a_form_that_can_be_read_in_two_ways_opens_nothing() {
    let harness = Harness::open(CLINIC, quick()).await;
    let call = "CA000000000000000000000000000a77ac";
    let signed = ringing(call);
    let over = [("CallSid", call), ("CallStatus", "completed")];
    let twice = [("CallSid", call), ("CallSid", call), ("CallStatus", "ringing"), ("To", "+15550100001")];
    for (what, form, signed) in [
        (
            "a SID with the next name",
            &[(signed[0].0, &*format!("{call}CallStatusringing")), signed[1], signed[2]][..],
            &signed[..],
        ),
        (
            "a status with the next name",
            &[signed[0], ("CallStatus", "ringingFrom+15550100100"), signed[2]],
            &signed,
        ),
        ("a name with its value", &[signed[0], ("CallStatuscompleted", "")], &over),
        ("no status", &[signed[0]], &signed[..1]),
        ("a parameter twice", &twice, &twice),
    ] {
        let (status, answer) = webhook(&harness, "/incoming-call", form, signed).await;
        assert_eq!(status, 400, "{what}: {answer}");
    }
    let (status, _) = webhook(&harness, "/incoming-call?a=1&a=2", &signed, &signed).await;
    assert_eq!(status, 400, "a parameter twice in the query");
    assert!(harness.model.sessions().is_empty());
    harness.quit().await;
}

#[tokio::test]
async fn a_stream_with_a_wrong_signature_is_forbidden_and_leaves_the_ticket_unused() {
    let harness = Harness::open(CLINIC, quick()).await;
    let path = format!("/media-stream/{}", ticket(&harness, "CA00000000000000000000000000000001").await);
    let wrong = "X-Twilio-Signature: AcOu8WjCweLnbv1U7RB3QNsqIu0=\r\n";
    assert_eq!(knock(&harness.server, &path, wrong).await, 403);
    let url = format!("{}{path}", harness.server.replace("http", "ws"));
    let right = format!("X-Twilio-Signature: {}\r\n", sign(TOKEN, &url, &[]));
    assert_eq!(knock(&harness.server, &path, &right).await, 101, "the ticket was not used up");
    harness.quit().await;
}

#[tokio::test]
async fn a_ticket_opens_one_stream() {
    let mut harness = Harness::open(CLINIC, quick()).await;
    let mut options = harness.phone();
    options.faults = vec![Fault::TwoConnects];
    let phone = harness.dial(options);
    assert!(phone.wait_until_playing_for(Duration::from_millis(100)).await, "the first is served");
    phone.hang_up();
    let record = finished(phone).await;
    record.assert_clean();
    assert_eq!(record.streams[0].second_connect, Some(403));
    assert_eq!(harness.ended().await.reason, EndReason::CallerHungUp);
    harness.quit().await;
}

#[tokio::test]
async fn a_forged_or_broken_ticket_is_forbidden() {
    let harness = Harness::open(CLINIC, quick()).await;
    let good = ticket(&harness, "CA00000000000000000000000000000001").await;
    let mut forged = good.clone();
    forged.replace_range(10..11, if &good[10..11] == "A" { "B" } else { "A" });
    for bad in ["x", &forged, &good[..good.len() - 4], "..%2F..%2Fetc", &"A".repeat(4_000)] {
        let path = format!("/media-stream/{bad}");
        assert_eq!(knock(&harness.server, &path, "").await, 403, "{bad}");
    }
    let path = format!("/media-stream/{good}");
    assert_eq!(http(&harness.server, "GET", &path, "", "").await.0, 426, "no upgrade");
    assert_eq!(http(&harness.server, "GET", "/media-stream/x", "", "").await.0, 426, "no upgrade, no ticket");
    assert_eq!(knock(&harness.server, &format!("{path}/"), "").await, 101, "a trailing slash is fine");
    harness.quit().await;
}

/// As behind a proxy that strips the headers of the upgrade.
#[tokio::test]
async fn a_stream_that_comes_without_an_upgrade_is_logged_as_that() {
    let mut harness = Harness::open(CLINIC, quick()).await;
    let call = "CA00000000000000000000000000000426";
    let mut ticket = ticket(&harness, call).await;
    let form = [("CallSid", call), ("CallStatus", "in-progress")];
    for attempt in [1, 2] {
        let path = format!("/media-stream/{ticket}");
        assert_eq!(http(&harness.server, "GET", &path, "", "").await.0, 426);
        let (status, answer) = webhook(&harness, &format!("/after-stream/{ticket}"), &form, &form).await;
        assert_eq!(status, 200);
        let next = answer.split("/media-stream/").nth(1).and_then(|rest| rest.split('"').next());
        assert_eq!(next.is_some(), attempt == 1, "it is tried once more: {answer}");
        ticket = next.unwrap_or_default().to_owned();
    }
    assert_eq!(harness.ended().await.reason, EndReason::CallerLost);
    assert!(logged(&["why=\"not_an_upgrade\""]));
    harness.quit().await;
}

#[tokio::test]
async fn a_ticket_is_only_valid_for_its_own_call() {
    let mut harness = Harness::open(CLINIC, quick()).await;
    let mut options = harness.phone();
    options.faults = vec![Fault::WrongCallSid];
    let record = finished(harness.dial(options)).await;
    assert!(
        matches!(&record.streams[0].end, StreamEnd::ServerClosed { code: 1008, .. }),
        "{:?}",
        record.streams[0].end
    );
    assert_eq!(record.streams[0].media_received, 0);
    assert_eq!(harness.ended().await.reason, EndReason::CallerRefused);
    assert_eq!(record.said[0].text, "Sorry, something broke.");
    harness.quit().await;
}

#[tokio::test]
async fn a_stream_that_does_not_start_is_closed_and_retried_once() {
    let mut harness = Harness::open(CLINIC, quick()).await;
    let mut options = harness.phone();
    options.faults = vec![Fault::NoStart];
    let record = finished(harness.dial(options)).await;
    assert_eq!(record.streams.len(), 2, "retried with another ticket");
    assert_ne!(record.streams[0].url, record.streams[1].url);
    for stream in &record.streams {
        assert!(matches!(&stream.end, StreamEnd::ServerClosed { code: 1008, .. }), "{:?}", stream.end);
        let lasted = stream.ended - stream.opened.unwrap();
        assert!((4.5..6.5).contains(&lasted.as_secs_f64()), "{lasted:?}");
    }
    assert_eq!(harness.ended().await.reason, EndReason::CallerLost);
    assert_eq!(record.said[0].text, "Sorry, something broke.");
    harness.quit().await;
}

#[tokio::test]
async fn a_query_on_the_stream_url_breaks_the_signature() {
    let harness = Harness::open(CLINIC, quick()).await;
    let mut options = harness.phone();
    options.faults = vec![Fault::QueryOnTicket];
    let record = finished(harness.dial(options)).await;
    assert!(
        matches!(record.streams[0].end, StreamEnd::Refused { status: Some(403), .. }),
        "{:?}",
        record.streams[0].end
    );
    assert_eq!(record.said[0].text, "Sorry, something broke.", "the caller hears an apology");
    harness.quit().await;
}

#[tokio::test]
async fn requests_have_limits() {
    let harness = Harness::open(CLINIC, quick()).await;
    let body = "a=".to_owned() + &"x".repeat(70_000);
    assert_eq!(
        http(&harness.server, "POST", "/incoming-call", "X-Twilio-Signature: x\r\n", &body).await.0,
        413
    );
    let header = format!("X-Long: {}\r\n", "x".repeat(20_000));
    assert_eq!(http(&harness.server, "GET", "/healthz", &header, "").await.0, 431);
    assert_eq!(http(&harness.server, "GET", "/nothing", "", "").await.0, 404);
    assert_eq!(http(&harness.server, "DELETE", "/incoming-call", "", "").await.0, 405);
    assert_eq!(
        http(&harness.server, "GET", "/metrics", "", "").await.0,
        404,
        "without a token there is no page"
    );
    harness.quit().await;
}

#[tokio::test]
async fn hostile_frames_are_counted_and_do_not_affect_other_calls() {
    let mut harness = Harness::open(CLINIC, quick()).await;
    let calm = harness.dial(harness.phone());
    for (fault, counted) in [
        (Fault::Garbage, Some(Anomaly::CallerBadFrame)),
        (Fault::Binary, Some(Anomaly::CallerBinaryFrame)),
        (Fault::MediaFirst, Some(Anomaly::CallerBadFrame)),
        (Fault::WrongStream, Some(Anomaly::CallerWrongStream)),
        (Fault::TwoStops, None),
    ] {
        let mut options = harness.phone();
        options.faults = vec![fault];
        let phone = harness.dial(options);
        assert!(phone.wait_until_playing_for(Duration::from_millis(400)).await, "{fault:?}");
        phone.hang_up();
        finished(phone).await;
        let ended = harness.ended().await;
        assert_eq!(ended.reason, EndReason::CallerHungUp, "{fault:?}");
        if let Some(anomaly) = counted {
            assert!(ended.count(anomaly) > 0, "{fault:?} is counted: {:?}", ended.record.anomalies);
        }
    }
    let mut options = harness.phone();
    options.faults = vec![Fault::Oversized];
    finished(harness.dial(options)).await;
    assert_eq!(harness.ended().await.reason, EndReason::CallerLost, "a frame of 100 KiB ends its own call");
    assert!(calm.wait_until_quiet(Duration::from_millis(100)).await);
    calm.hang_up();
    finished(calm).await.assert_clean();
    assert_eq!(harness.ended().await.reason, EndReason::CallerHungUp);
    harness.quit().await;
}
