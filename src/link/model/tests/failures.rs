//! What the provider's failures become.

use super::*;

#[test]
fn the_end_of_the_call_follows_from_the_class_of_the_error() {
    use EndReason::{
        ModelMisconfigured as Misconfigured, ModelRefused as Refused, ModelUnreachable as Unreachable,
    };
    let closed = |code, reason: &str| NotConnected::Closed { code, reason: reason.to_owned() };
    let answered = |status, body: &str, headers: &[(&'static str, &'static str)]| {
        let header = |(name, value): &(&'static str, &'static str)| {
            (reqwest::header::HeaderName::from_static(name), reqwest::header::HeaderValue::from_static(value))
        };
        let headers = headers.iter().map(header).collect();
        NotConnected::Refused(Box::new(network::Answer {
            status,
            headers,
            body: body.into(),
            took: Duration::ZERO,
        }))
    };
    let refused = |status, body: &str| answered(status, body, &[]);
    for (error, reason, is_temporary) in [
        (closed(Some(3000), "invalid_request_error.invalid_api_key"), Refused, false),
        (closed(Some(4000), "server_error.internal_error"), Unreachable, true),
        (closed(Some(1008), ""), Refused, false),
        (closed(Some(4321), "who_knows"), Unreachable, true),
        (closed(Some(1011), ""), Unreachable, true),
        (closed(None, ""), Unreachable, true),
        (refused(401, ""), Refused, false),
        (refused(403, ""), Refused, false),
        (refused(429, ""), Unreachable, true),
        (refused(429, r#"{"error": {"code": "insufficient_quota"}}"#), Refused, false),
        (refused(400, r#"{"error": {"code": "OpperationNotSupported"}}"#), Refused, false),
        (refused(503, "<html>"), Unreachable, true),
        (NotConnected::BadKey, Refused, false),
        (NotConnected::Error(Failure::default()), Unreachable, true),
        (NotConnected::Network(network::Fault::BadUrl), Misconfigured, false),
        (NotConnected::Misconfigured("invalid_value".to_owned()), Misconfigured, false),
        (NotConnected::Late { garbage: 1 }, Unreachable, true),
    ] {
        let found = (EndReason::from(&error.lost()), error.is_temporary());
        assert_eq!(found, (reason, is_temporary), "{error:?}");
    }
    let busy = answered(429, "", &[("retry-after", "2")]).failure();
    assert_eq!((busy.status, busy.retry_after), (Some(429), Some(Duration::from_secs(2))));
}

#[tokio::test]
async fn an_error_before_the_session_has_a_class() {
    for (error, cause) in [
        (r#"{"type":"invalid_request_error","code":"invalid_api_key"}"#, Some(Cause::Key)),
        // No key reached the provider.
        (r#"{"type":"invalid_request_error","code":null}"#, Some(Cause::Key)),
        (r#"{"type":"server_error","code":null}"#, Some(Cause::ServerError)),
        (r#"{"type":"invalid_request_error","code":"brand_new"}"#, None),
    ] {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let plan = placed(plan(Dialect::Ga), &listener);
        let server = async {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut socket = tokio_tungstenite::accept_async(tcp).await.unwrap();
            let frame = format!(r#"{{"type":"error","error":{error}}}"#);
            socket.send(Message::Text(frame.into())).await.unwrap();
        };
        let (link, ()) = tokio::join!(ModelLink::connect(Arc::new(plan), tls()), server);
        assert_eq!(link.err().map(|error| error.failure().cause), Some(cause), "{error}");
    }
}

#[tokio::test]
async fn errors_are_matched_to_our_requests() {
    let (mut link, mut socket) = linked(plan(Dialect::Ga)).await;
    link.ask();
    link.ask();
    link.say_out_of_band(&Request::Filler);
    let mut fault = async |code: &str, of: &str, message: &str| {
        let error = json!({"type": "error", "error": {"code": code, "event_id": of, "message": message}});
        socket.send(Message::Text(error.to_string().into())).await.unwrap();
        match timeout(Duration::from_secs(5), step(&mut link)).await.unwrap() {
            ModelStep::Event(Event::ModelFault(fault)) => fault,
            step => panic!("{step:?}"),
        }
    };
    let busy = "conversation_already_has_active_response";
    for (code, of, about, class) in [
        ("rate_limit_exceeded", "ask2", About::Request, Some(Class::Transient)),
        ("rate_limit_exceeded", "ask1", About::Other, Some(Class::Transient)),
        ("response_cancel_not_active", "e7", About::Other, None),
        (busy, "ask2", About::Request, Some(Class::Conflict)),
        (busy, "ask1", About::Other, Some(Class::Conflict)),
        ("server_error", "out_of_band_1", About::OutOfBand, Some(Class::Transient)),
        // The call decides what follows.
        ("insufficient_quota", "e7", About::Other, Some(Class::Failover)),
        ("brand_new", "ask2", About::Request, None),
    ] {
        let fault = fault(code, of, "").await;
        assert_eq!((fault.about, fault.failure.class()), (about, class), "{code} of {of}");
        assert_eq!((fault.failure.code.as_deref(), fault.active), (Some(code), None), "{code} of {of}");
    }
    let words = "Conversation already has an active response in progress: resp_X. Wait until it is finished.";
    assert_eq!(fault(busy, "ask2", words).await.active, Some("resp_X".into()));
    let limited = fault("rate_limit_exceeded", "ask2", "Please try again in 1.5s.").await;
    assert_eq!(limited.failure.retry_after, Some(Duration::from_millis(1_500)));
}

#[tokio::test]
async fn responses_are_matched_to_our_requests() {
    for (dialect, expected) in
        [(Dialect::Ga, json!("ask1")), (Dialect::Beta, json!("ask1")), (Dialect::Xai, Value::Null)]
    {
        for said in [None, Some(("Hello.".to_owned(), json!({"purpose": "greeting"})))] {
            let sent = configure::response_create(&plan(dialect), "ask1", said);
            let sent: Value = serde_json::from_str(&sent).unwrap();
            assert_eq!(sent["response"]["metadata"]["request"], expected, "{sent}");
        }
    }
    let (mut link, mut socket) = linked(plan(Dialect::Ga)).await;
    let mut created = async |metadata: Value| {
        let response = json!({"id": "r", "metadata": metadata});
        let frame = json!({"type": "response.created", "response": response});
        socket.send(Message::Text(frame.to_string().into())).await.unwrap();
        match timeout(Duration::from_secs(5), step(&mut link)).await.unwrap() {
            ModelStep::Event(Event::ResponseStarted { origin, .. }) => origin,
            step => panic!("{step:?}"),
        }
    };
    assert_eq!(created(Value::Null).await, Origin::Unknown, "perhaps it never echoes");
    assert_eq!(created(json!({"purpose": "goodbye", "request": "ask7"})).await, Origin::Request(7));
    assert_eq!(created(Value::Null).await, Origin::Model);
}

#[tokio::test]
async fn the_status_of_a_response_becomes_its_outcome() {
    let (mut link, mut socket) = linked(plan(Dialect::Ga)).await;
    let failed = |code: &str| {
        let message = "Please try again in 20ms.";
        let error = json!({"type": "tokens", "code": code, "message": message});
        json!({"type": "failed", "error": error})
    };
    let failure = |code: &str, cause| {
        let retry_after = Some(Duration::from_millis(20));
        Outcome::Failed(Failure { cause, code: Some(code.into()), retry_after, ..Failure::default() })
    };
    for (status, details, expected) in [
        ("completed", Value::Null, Outcome::Completed),
        ("incomplete", Value::Null, Outcome::Incomplete(Why::Unknown)),
        ("incomplete", json!({"reason": "max_output_tokens"}), Outcome::Incomplete(Why::TooLong)),
        ("incomplete", json!({"reason": "content_filter"}), Outcome::Incomplete(Why::Filtered)),
        ("cancelled", Value::Null, Outcome::Cancelled(By::Unknown)),
        ("cancelled", json!({"reason": "turn_detected"}), Outcome::Cancelled(By::Caller)),
        ("cancelled", json!({"reason": "client_cancelled"}), Outcome::Cancelled(By::Us)),
        ("failed", Value::Null, Outcome::Failed(Failure::default())),
        ("failed", failed("rate_limit_exceeded"), failure("rate_limit_exceeded", Some(Cause::RateLimit))),
        ("failed", failed("insufficient_quota"), failure("insufficient_quota", Some(Cause::Credit))),
        ("failed", failed("brand_new"), failure("brand_new", None)),
        ("failed", failed("content_filter"), Outcome::Incomplete(Why::Filtered)),
    ] {
        let response = json!({"id": "r1", "status": status, "status_details": details, "output": []});
        let done = json!({"type": "response.done", "response": response});
        socket.send(Message::Text(done.to_string().into())).await.unwrap();
        let outcome = loop {
            let step = timeout(Duration::from_secs(5), step(&mut link)).await.unwrap();
            if let ModelStep::Event(Event::ResponseEnded { outcome, .. }) = step {
                break outcome;
            }
        };
        assert_eq!(outcome, expected, "{status} {details}");
    }
}

#[tokio::test]
async fn a_closed_session_says_how_it_was_closed() {
    for (close, class, reason) in [
        (
            Some((3000, "invalid_request_error.invalid_api_key")),
            Some(Class::Failover),
            EndReason::ModelRefused,
        ),
        (
            Some((1001, "Your session hit the maximum duration.")),
            Some(Class::Transient),
            EndReason::ModelLost,
        ),
        (Some((1011, "")), Some(Class::Transient), EndReason::ModelLost),
        (Some((4321, "who_knows")), None, EndReason::ModelLost),
        (None, Some(Class::Transient), EndReason::ModelLost),
    ] {
        let (mut link, mut socket) = linked(plan(Dialect::Ga)).await;
        match close {
            Some((code, reason)) => {
                let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
                socket.close(Some(frame)).await.unwrap();
            }
            None => drop(socket),
        }
        let step = timeout(Duration::from_secs(5), step(&mut link)).await.unwrap();
        let ModelStep::Event(Event::ModelLost(lost)) = step else { panic!("{step:?}") };
        assert_eq!(lost.failure.class(), class, "{close:?}");
        assert_eq!(lost.failure.close, close.map(|(code, _)| code));
        let said = close.map(|(_, reason)| reason).filter(|said| !said.is_empty() && !said.contains(' '));
        assert_eq!(lost.failure.reason.as_deref(), said, "only code words");
        assert_eq!(EndReason::from(&lost), reason, "{close:?}");
    }
}

#[tokio::test]
async fn limits_that_are_almost_used_up_are_reported() {
    let (mut link, mut socket) = linked(plan(Dialect::Ga)).await;
    let limit = |name: &str, remaining: u64, reset: f64| json!({"name": name, "limit": 1000, "remaining": remaining, "reset_seconds": reset});
    for limits in [
        json!([limit("tokens", 500, 9.0)]),
        json!("none"),
        json!([{"name": "tokens", "remaining": 0}]),
        json!([limit("requests", 999, 900.0), limit("tokens", 3, 2.5)]),
    ] {
        let frame = json!({"type": "rate_limits.updated", "rate_limits": limits});
        socket.send(Message::Text(frame.to_string().into())).await.unwrap();
    }
    let before = now();
    let step = timeout(Duration::from_secs(5), step(&mut link)).await.unwrap();
    let ModelStep::Event(Event::RateLimited { until }) = step else { panic!("{step:?}") };
    let reset = Duration::from_millis(2_500);
    assert!(until <= now() + reset && until >= before + reset);
}

#[tokio::test]
async fn the_end_of_the_session_is_known() {
    let now_secs = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let hour = Duration::from_secs(60 * 60);
    let most = |expires_at| connect::left(expires_at, hour);
    let soon = most(Some(now_secs() + 600));
    assert!(soon > Duration::from_secs(590) && soon <= Duration::from_secs(600), "{soon:?}");
    for (what, expires_at) in [("none", None), ("the past", Some(now_secs() - 5)), ("0", Some(0))] {
        assert_eq!(most(expires_at), hour, "{what}");
    }
    assert!(most(Some(u64::MAX)) <= Duration::from_secs(24 * 60 * 60));
    let (mut link, _socket) = linked(plan(Dialect::Ga)).await;
    let expires = link.take_expiry().unwrap();
    assert!(expires > now() + hour - Duration::from_secs(60) && expires <= now() + hour);
    assert_eq!(link.take_expiry(), None, "it is reported once");
}

#[test]
fn an_error_is_logged_by_its_code_and_never_quotes() {
    for (frame, described) in [
        (
            r#"{"type":"error","error":{"code":"invalid_value","param":"session.tools[12].name"}}"#,
            "invalid_value at session.tools[12].name",
        ),
        (
            r#"{"type":"error","error":{"type":"server_error","message":"call +1 555 010 9999"}}"#,
            "server_error",
        ),
        (r#"{"type":"error","error":{"code":"no_15550109999"}}"#, "unknown code"),
        (
            r#"{"type":"error","error":{"code":"555-010-9999","param":"482913"}}"#,
            "unknown code at unknown code",
        ),
        (r#"{"type":"error","error":{"code":"my name is Ann"}}"#, "unknown code"),
        (r#"{"type":"error","error":{}}"#, "no code"),
    ] {
        let frame = bytes::Bytes::from(frame);
        let Ok(realtime::Incoming::Error(error)) = realtime::parse(&frame) else { panic!("{frame:?}") };
        assert_eq!(super::described(&error), described, "{frame:?}");
    }
}
