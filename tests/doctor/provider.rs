//! The speech model: whatever may answer at its address.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use switchboard_simulator::model::{ConnectError, Fault, ModelOptions, ModelServer, When};
use tokio_tungstenite::tungstenite::Message;

use crate::proxy::{Habit, Proxy};
use crate::{Place, Report};

const PAGE: &str = "<html><head><title>Sign in</title></head></html>";
const HTML: &str = "Content-Type: text/html\r\n";

/// A report with the model at this address.
async fn at(url: &str) -> Report {
    Place::new().with(&[("OPENAI_REALTIME_URL", url)]).doctor(&[]).await
}

async fn with_faults(faults: Vec<Fault>) -> Report {
    let model = ModelServer::start(ModelOptions { faults, ..ModelOptions::default() }).await.unwrap();
    at(&model.url()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rejection_of_a_provider_has_its_code() {
    let now = When::After(Duration::ZERO);
    let close = |code, reason| Fault::Close { when: now, code, reason };
    for (what, fault, expected) in [
        ("a wrong key", Fault::RefuseConnect(ConnectError::InvalidKey), ("provider.key", "error")),
        ("no key", Fault::RefuseConnect(ConnectError::MissingKey), ("provider.key", "error")),
        ("the model", Fault::RefuseConnect(ConnectError::UnknownModel), ("provider.model", "error")),
        ("no credit", Fault::RefuseConnect(ConnectError::InsufficientQuota), ("provider.credit", "error")),
        ("the beta API", Fault::RefuseConnect(ConnectError::BetaHeader), ("provider.dialect", "error")),
        ("401", Fault::UpgradeStatus(401), ("provider.key", "error")),
        ("403", Fault::UpgradeStatus(403), ("provider.answer", "error")),
        ("404", Fault::UpgradeStatus(404), ("provider.model", "error")),
        ("426", Fault::UpgradeStatus(426), ("provider.answer", "error")),
        ("429", Fault::UpgradeStatus(429), ("provider.rate_limit", "warning")),
        ("503", Fault::UpgradeStatus(503), ("provider.server_error", "warning")),
        ("an unknown status", Fault::UpgradeStatus(418), ("provider.answer", "error")),
        ("closed by a server error", close(1011, "too many sessions"), ("provider.closed", "error")),
        ("closed because of the key", close(3000, "session limit reached"), ("provider.key", "error")),
        ("closed with an unknown code", close(4321, "whatever"), ("provider.closed", "error")),
        ("dropped", Fault::Drop(now), ("provider.closed", "error")),
    ] {
        // A close must not come after the session has begun.
        let report = with_faults(vec![fault, Fault::NoCreated]).await;
        report.assert_bad(what, "provider.", &[expected]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_stays_silent_is_not_waited_for_longer_than_a_call_waits() {
    let began = std::time::Instant::now();
    let (port, socket) =
        tokio::join!(with_faults(vec![Fault::SilentTcp]), with_faults(vec![Fault::NoCreated]));
    port.assert_bad("a silent port", "provider.", &[("provider.reach", "error")]);
    socket.assert_bad("a silent socket", "provider.", &[("provider.late", "error")]);
    for report in [port, socket] {
        assert!(report.err.contains("127.0.0.1"), "it shows what it waits for: {}", report.err);
    }
    assert!(began.elapsed() < Duration::from_secs(30));
}

/// The address of a server that accepts any WebSocket, waits, and sends these frames.
async fn sending(pause: Duration, frames: Vec<Message>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/v1/realtime", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let frames = frames.clone();
            tokio::spawn(async move {
                let mut socket = tokio_tungstenite::accept_async(tcp).await.unwrap();
                tokio::time::sleep(pause).await;
                for frame in frames {
                    // A client that has read enough closes.
                    let _ = socket.send(frame).await;
                }
                while let Some(Ok(_)) = socket.next().await {}
            });
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_must_begin_as_calls_need_it() {
    let created = || {
        Message::text(
            r#"{"type":"session.created","event_id":"event_1","session":{"id":"sess_1","type":"realtime"}}"#,
        )
    };
    let garbage = || vec![Message::binary(vec![1]), Message::text("hello")];
    let large = Message::text(format!("[\"{}\"]", "x".repeat(2_000_000)));
    let now = Duration::ZERO;
    for (what, url, expected) in [
        ("garbage first", sending(now, [garbage(), vec![created()]].concat()), None),
        ("only garbage", sending(now, garbage()), Some(("provider.invalid", "error"))),
        ("too large a frame", sending(now, vec![large, created()]), Some(("provider.invalid", "error"))),
        (
            "later than callers wait",
            sending(Duration::from_millis(3_200), vec![created()]),
            Some(("provider.slow", "warning")),
        ),
    ] {
        at(&url.await).await.assert_bad(what, "provider.", expected.as_slice());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_not_a_provider_is_reported() {
    let redirect = "Location: https://example.com/login?next=1\r\n";
    let no_credit = "{\"error\":{\"code\":\"insufficient_quota\"}}";
    let azure = "{\"error\":{\"code\":\"OpperationNotSupported\"}}";
    for (what, habit, code) in [
        ("a page", Habit::Says("200 OK", HTML, PAGE), "provider.answer"),
        ("a firewall", Habit::Says("403 Forbidden", HTML, PAGE), "provider.answer"),
        ("a redirect", Habit::Says("302 Found", redirect, ""), "provider.answer"),
        ("a code in JSON", Habit::Says("429 Too Many Requests", "", no_credit), "provider.credit"),
        ("Azure's code", Habit::Says("400 Bad Request", "", azure), "provider.model"),
        ("not HTTP", Habit::Garbage, "provider.reach"),
        ("closed", Habit::Drops, "provider.reach"),
        ("headers that never end", Habit::EndlessHeaders, "provider.reach"),
        ("an invalid upgrade", Habit::Says("101 Switching Protocols", "", ""), "provider.reach"),
    ] {
        let proxy = Proxy::start(habit).await;
        let report = at(&proxy.url.replace("http://", "ws://")).await;
        report.assert_bad(what, "provider.", &[(code, "error")]);
    }
    let (secure, _) = Proxy::secure(Habit::Drops, "localhost").await;
    let report = at(&secure.url.replace("https://", "wss://")).await;
    report.assert_bad("an untrusted certificate", "provider.", &[("provider.reach", "error")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_provider_and_model_in_use_is_asked_once() {
    let [first, second] =
        [ModelOptions::default(), ModelOptions { key: "other".to_owned(), ..ModelOptions::default() }];
    let (first, second) =
        (ModelServer::start(first).await.unwrap(), ModelServer::start(second).await.unwrap());
    let place = Place::new().with(&[("OPENAI_REALTIME_URL", &first.url())]);
    let providers = format!(
        "providers:\n  second: {{ url: \"{}\", key: wrong-key }}\n  locked: {{ url: \"ws://127.0.0.1:9\", key: \
         \"${{LOCKED_KEY}}\" }}\n",
        second.url()
    );
    place.file("switchboard.yaml", &providers);
    place.file("assistants/desk.yaml", "instructions: Hi.\n");
    place.file("assistants/old.yaml", "instructions: Hi.\nmodel: gpt-realtime\n");
    place.file("assistants/other.yaml", "instructions: Hi.\nprovider: second\n");
    place.file(
        "assistants/locked.yaml",
        "instructions: Hi.\nfallback: [second, locked, openai/gpt-realtime]\n",
    );
    let report = place.doctor(&[]).await;
    assert_eq!((first.sessions().len(), second.sessions().len()), (2, 1));
    assert_eq!(report.found("provider.session").len(), 2, "{}", report.out);
    for (code, count) in [("provider.shutdown", 1), ("provider.key_missing", 1), ("provider.key", 2)] {
        assert_eq!(report.found(code).len(), count, "{code}: {}", report.out);
    }
    assert!(!report.out.contains("wrong-key"), "{}", report.out);
}

/// As long as keys are, and in no text by chance.
macro_rules! key {
    () => {
        "sk-echo/0a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T"
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn no_part_of_a_key_that_a_server_quotes_is_shown() {
    let encoded = "Location: https://example.com/sk-echo%2F0a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T/in\r\n";
    let code = concat!("{\"error\":{\"code\":\"there is no such key as this ", key!(), "\"}}");
    let mut proxies = Vec::new();
    for (what, habit) in [
        ("a code", Habit::Says("400 Bad Request", "", code)),
        ("a header", Habit::Says("418 Oh", concat!("Server: not for ", key!(), "\r\n"), "")),
        ("an address", Habit::Says("302 Found", encoded, "")),
    ] {
        proxies.push((what, Proxy::start(habit).await));
    }
    let mut urls: Vec<_> =
        proxies.iter().map(|(what, proxy)| (*what, proxy.url.replace("http://", "ws://"))).collect();
    let close =
        Fault::Close { when: When::After(Duration::ZERO), code: 4000, reason: concat!("no ", key!()) };
    let options = ModelOptions { faults: vec![close, Fault::NoCreated], ..ModelOptions::default() };
    let model = ModelServer::start(options).await.unwrap();
    urls.push(("a close", model.url()));
    for (what, url) in urls {
        let url = format!("{url}?api-key=hunter2hunter2");
        let set = [("OPENAI_API_KEY", key!()), ("OPENAI_REALTIME_URL", url.as_str())];
        let report = Place::new().with(&set).doctor(&[]).await;
        assert_eq!(report.found("provider.").len(), 1, "{what}: {}", report.out);
        for part in ["sk-e", "0a1B", "hunter2"] {
            assert!(!report.out.contains(part), "{what}: `{part}` is in\n{}", report.out);
        }
    }
}
