//! The speech model: whatever may answer at its address, or not.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;

use switchboard_simulator::model::{ConnectError, Fault, ModelOptions, ModelServer, When};

use crate::proxy::{Habit, Proxy};
use crate::{Place, Told};

const PAGE: &str = "<html><head><title>Sign in</title></head></html>";
const REFUSED: &str = "every call ends `model.refused`";
const UNREACHABLE: &str = "every call ends `model.unreachable`";

/// A check-up with the model at this address.
async fn at(url: &str) -> Told {
    Place::new().with(&[("OPENAI_REALTIME_URL", url)]).doctor(&[]).await
}

async fn with_fault(fault: Fault) -> Told {
    let model =
        ModelServer::start(ModelOptions { faults: vec![fault], ..ModelOptions::default() }).await.unwrap();
    at(&model.url()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_refuse_is_told_apart() {
    let now = When::After(Duration::ZERO);
    let close = |code, reason| Fault::Close { when: now, code, reason };
    for (what, fault, check, severity, words) in [
        (
            "the key",
            Fault::RefuseConnect(ConnectError::InvalidKey),
            "provider.key",
            "error",
            ["does not accept the key (invalid_api_key)", REFUSED, "https://platform.openai.com/api-keys"],
        ),
        (
            "no key came",
            Fault::RefuseConnect(ConnectError::MissingKey),
            "provider.key",
            "error",
            ["where no key comes through", REFUSED, "OPENAI_API_KEY"],
        ),
        (
            "the model",
            Fault::RefuseConnect(ConnectError::UnknownModel),
            "provider.model",
            "error",
            ["no such model for this key (invalid_model), for `clinic`", REFUSED, "`gpt-realtime-2.1`"],
        ),
        (
            "credit",
            Fault::RefuseConnect(ConnectError::InsufficientQuota),
            "provider.credit",
            "error",
            ["no credit left (insufficient_quota)", REFUSED, "billing"],
        ),
        (
            "the beta",
            Fault::RefuseConnect(ConnectError::BetaHeader),
            "provider.reach",
            "error",
            ["the beta", UNREACHABLE, "`dialect`"],
        ),
        (
            "401",
            Fault::UpgradeStatus(401),
            "provider.key",
            "error",
            ["does not accept the key (401", REFUSED, "OPENAI_API_KEY"],
        ),
        (
            "403",
            Fault::UpgradeStatus(403),
            "provider.key",
            "error",
            ["accepts no session with this key (403", REFUSED, "countries"],
        ),
        (
            "404",
            Fault::UpgradeStatus(404),
            "provider.model",
            "error",
            ["no such endpoint or model (404", REFUSED, "OPENAI_REALTIME_URL"],
        ),
        (
            "400",
            Fault::UpgradeStatus(400),
            "provider.model",
            "error",
            ["does not take such a request", REFUSED, "model's name"],
        ),
        (
            "429",
            Fault::UpgradeStatus(429),
            "provider.credit",
            "warning",
            ["allows no more (429", "`model.unreachable`", "limits"],
        ),
        (
            "503",
            Fault::UpgradeStatus(503),
            "provider.reach",
            "error",
            ["a fault of its own", UNREACHABLE, "status page"],
        ),
        (
            "426",
            Fault::UpgradeStatus(426),
            "provider.reach",
            "error",
            ["saw no upgrade", UNREACHABLE, "`Connection: upgrade`"],
        ),
        (
            "a status nobody has seen",
            Fault::UpgradeStatus(418),
            "provider.reach",
            "error",
            ["does not answer as a Realtime server does (418", UNREACHABLE, "login page"],
        ),
        (
            "closed with a fault",
            close(1011, "too many sessions"),
            "provider.reach",
            "error",
            ["closes the connection at once, with 1011, `too many sessions`", UNREACHABLE, "status page"],
        ),
        (
            "closed without a word",
            close(1011, ""),
            "provider.reach",
            "error",
            ["closes the connection at once, with 1011, for", UNREACHABLE, "status page"],
        ),
        (
            "closed on the key",
            close(3000, "session limit reached"),
            "provider.key",
            "error",
            [
                "does not accept the key: it closes with 3000, `session limit reached`",
                REFUSED,
                "OPENAI_API_KEY",
            ],
        ),
        (
            "closed with a code nobody has seen",
            close(4321, "whatever"),
            "provider.session",
            "error",
            ["begins no session: it closes with 4321, `whatever`", REFUSED, "look up the code"],
        ),
        ("dropped", Fault::Drop(now), "provider.reach", "error", ["", UNREACHABLE, ""]),
    ] {
        // What strikes at a time must not come after the session's beginning.
        let faults = match fault.clone() {
            Fault::Close { .. } | Fault::Drop(_) => vec![fault, Fault::NoCreated],
            fault => vec![fault],
        };
        let model = ModelServer::start(ModelOptions { faults, ..ModelOptions::default() }).await.unwrap();
        let told = at(&model.url()).await;
        told.says(what, check, severity, words);
        let others: Vec<_> =
            told.findings.iter().filter(|f| f["check"].as_str().unwrap().starts_with("provider.")).collect();
        assert_eq!(others.len(), 1, "{what}: {}", told.out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_accepts_and_says_nothing_is_waited_for_no_longer_than_that() {
    let began = std::time::Instant::now();
    let (tcp, created) = tokio::join!(with_fault(Fault::SilentTcp), with_fault(Fault::NoCreated));
    tcp.says(
        "a silent port",
        "provider.reach",
        "error",
        ["accepts the connection, and does not answer in 10 s", UNREACHABLE, "OPENAI_REALTIME_URL"],
    );
    created.says(
        "a silent socket",
        "provider.reach",
        "error",
        ["begins no session in 8 s", UNREACHABLE, "Realtime endpoint"],
    );
    for told in [tcp, created] {
        assert!(told.err.contains("Waiting for the model at 127.0.0.1"), "{}", told.err);
    }
    assert!(began.elapsed() < Duration::from_secs(30));
}

/// The address of somebody who opens a WebSocket to whoever comes, waits, and says these.
async fn saying(pause: Duration, frames: Vec<Message>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/v1/realtime", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let frames = frames.clone();
            tokio::spawn(async move {
                let mut socket = tokio_tungstenite::accept_async(tcp).await.unwrap();
                tokio::time::sleep(pause).await;
                for frame in frames {
                    // Who has read enough closes.
                    let _ = socket.send(frame).await;
                }
                while let Some(Ok(_)) = socket.next().await {}
            });
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_as_good_as_calls_find_it() {
    let created = || {
        Message::text(
            r#"{"type":"session.created","event_id":"event_1","session":{"id":"sess_1","type":"realtime"}}"#,
        )
    };
    let odd = || vec![Message::binary(vec![1]), Message::text("hello")].into_iter().cycle().take(7);
    let now = Duration::ZERO;
    for (what, url, check, severity, words) in [
        (
            "odd things before it begins",
            saying(now, odd().chain([created()]).collect()),
            "provider.session",
            "ok",
            ["begins, for `clinic`", "", ""],
        ),
        (
            "odd things alone",
            saying(now, odd().collect()),
            "provider.reach",
            "error",
            ["what it says there is no event", UNREACHABLE, "`dialect`"],
        ),
        (
            "more at once than a call takes",
            saying(now, vec![Message::text(format!("[\"{}\"]", "x".repeat(2_000_000))), created()]),
            "provider.reach",
            "error",
            ["larger than a call takes", UNREACHABLE, "Realtime endpoint"],
        ),
        (
            "later than callers wait",
            saying(Duration::from_millis(3_200), vec![created()]),
            "provider.reach",
            "warning",
            ["begins, for `clinic`, after 3.", "silence", "network"],
        ),
        (
            "later than calls wait",
            saying(Duration::from_millis(5_200), vec![created()]),
            "provider.reach",
            "error",
            ["begins, for `clinic`, after 5.", UNREACHABLE, "network"],
        ),
    ] {
        let told = at(&url.await).await;
        told.says(what, check, severity, words);
        let others = told.findings.iter().filter(|f| f["check"].as_str().unwrap().starts_with("provider."));
        assert_eq!(others.count(), 1, "{what}: {}", told.out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_else_stands_there_is_told_as_it_was_seen() {
    for (what, habit, words) in [
        (
            "a page",
            Habit::Says("200 OK", "Content-Type: text/html\r\n", PAGE),
            ["does not answer as a Realtime server does (200 OK, a web page titled `Sign in`)", "login page"],
        ),
        (
            "a firewall's page",
            Habit::Says("403 Forbidden", "Content-Type: text/html\r\n", PAGE),
            ["a firewall in between", "let this machine through"],
        ),
        (
            "elsewhere",
            Habit::Says("302 Found", "Location: https://example.com/login?next=1\r\n", ""),
            [
                "which leads to https://example.com/login)",
                "something in between answers, such as a login page",
            ],
        ),
        (
            "elsewhere at the same host",
            Habit::Says("308 Permanent Redirect", "Location: http://127.0.0.1:9/v1/realtime\r\n", ""),
            ["which leads to http://127.0.0.1:9/v1/realtime)", "set OPENAI_REALTIME_URL to where it leads"],
        ),
        (
            "a code in JSON",
            Habit::Says("429 Too Many Requests", "", "{\"error\":{\"code\":\"insufficient_quota\"}}"),
            ["no credit left (insufficient_quota)", "billing"],
        ),
        (
            "Azure's model",
            Habit::Says("400 Bad Request", "", "{\"error\":{\"code\":\"OpperationNotSupported\"}}"),
            ["no such model", "may use"],
        ),
        ("no HTTP", Habit::Garbage, ["what it answers is not HTTP", "web server"]),
        ("nothing", Habit::Drops, ["breaks the connection off", "OPENAI_REALTIME_URL"]),
        (
            "itself",
            Habit::Says("308 Permanent Redirect", "Location: /v1/realtime\r\n", ""),
            ["which leads to /v1/realtime)", "no Realtime endpoint does so"],
        ),
        ("a trickle", Habit::Trickles, ["its answer comes byte by byte, or has no end", "slows it down"]),
        (
            "a promise that is none",
            Habit::Says("101 Switching Protocols", "", ""),
            ["agrees to a WebSocket, and does it wrong", "as it came"],
        ),
    ] {
        let proxy = Proxy::start(habit).await;
        let told = at(&proxy.url.replace("http://", "ws://")).await;
        let found: Vec<_> =
            told.findings.iter().filter(|f| f["check"].as_str().unwrap().starts_with("provider.")).collect();
        assert_eq!(found.len(), 1, "{what}: {}", told.out);
        assert_eq!(found[0]["severity"], "error", "{what}");
        assert!(found[0]["message"].as_str().unwrap().contains(words[0]), "{what}: {}", found[0]);
        assert!(found[0]["fix"].as_str().unwrap().contains(words[1]), "{what}: {}", found[0]);
    }
    let (secure, _) = Proxy::secure(Habit::Drops, "localhost").await;
    let told = at(&secure.url.replace("https://", "wss://")).await;
    told.says(
        "a certificate",
        "provider.reach",
        "error",
        ["its certificate is not trusted", UNREACHABLE, "SSL_CERT_FILE"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_provider_and_model_that_is_used_is_asked_once() {
    let [first, second] =
        [ModelOptions::default(), ModelOptions { key: "other".to_owned(), ..ModelOptions::default() }];
    let (first, second) =
        (ModelServer::start(first).await.unwrap(), ModelServer::start(second).await.unwrap());
    let place = Place::new().with(&[("OPENAI_REALTIME_URL", &first.url())]);
    place.file("switchboard.yaml", &format!("providers:\n  second: {{ url: \"{}\", key: wrong-key }}\n  locked: {{ url: \"ws://127.0.0.1:9\", key: \"${{LOCKED_KEY}}\" }}\n", second.url()));
    place.file("assistants/desk.yaml", "instructions: Hi.\n");
    place.file("assistants/old.yaml", "instructions: Hi.\nmodel: gpt-realtime\n");
    place.file("assistants/other.yaml", "instructions: Hi.\nprovider: second\n");
    place.file("assistants/locked.yaml", "instructions: Hi.\nprovider: locked\n");
    let told = place.doctor(&[]).await;
    assert_eq!((first.sessions().len(), second.sessions().len()), (2, 1));
    told.says("two share one", "provider.session", "ok", ["for `clinic` and `desk`", "", ""]);
    told.says("an old model", "provider.session", "ok", ["`gpt-realtime` of `openai`", "", ""]);
    let going = told.all("provider.shutdown");
    assert!(
        going.len() == 1 && going[0]["fix"].as_str().unwrap().contains("`model: gpt-realtime-2.1`"),
        "{}",
        told.out
    );
    let words = ["`second`", REFUSED, "the variable that `key` of `second` in switchboard.yaml names"];
    told.says("a wrong key", "provider.key", "error", words);
    told.says(
        "no key",
        "provider.key",
        "error",
        ["`locked` needs a key, and there is none", "does not start", "switchboard.yaml"],
    );
    assert!(!told.out.contains("wrong-key"));
}

/// A key that is in no word by chance, as long as keys are; and in the forms in which others quote what they got.
macro_rules! key {
    () => {
        "sk-echo/0a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T"
    };
}
const BASE64: &str = "c2stZWNoby8wYTFCMmMzRDRlNUY2ZzdIOGk5SjBrMUwybTNONG81UDZxN1I4czlU";

/// What is told is cut after 48 or 80 letters, which must not cut the key in two before it is hidden.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_comes_back_is_shown_by_no_part_of_it() {
    let answers = [
        ("a text", Habit::Says("400 Bad Request", "", concat!("You sent us the wrong key: ", key!()))),
        (
            "JSON",
            Habit::Says(
                "400 Bad Request",
                "",
                "{\"detail\":\"wrong key: sk-echo\\/0a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T\"}",
            ),
        ),
        (
            "a code",
            Habit::Says(
                "400 Bad Request",
                "",
                concat!("{\"error\":{\"code\":\"you have no such key as is this ", key!(), "\"}}"),
            ),
        ),
        (
            "a page",
            Habit::Says(
                "403 Forbidden",
                "Content-Type: text/html\r\n",
                concat!("<html><title>We keep you out, Bearer ", key!(), "</title></html>"),
            ),
        ),
        ("a header", Habit::Says("500 Oh", concat!("Server: not for ", key!(), "\r\n"), "")),
        (
            "an address",
            Habit::Says(
                "302 Found",
                "Location: https://example.com/login/sk-echo%2F0a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T/in\r\n",
                "",
            ),
        ),
        (
            "Base64",
            Habit::Says(
                "400 Bad Request",
                "",
                "no: c2stZWNoby8wYTFCMmMzRDRlNUY2ZzdIOGk5SjBrMUwybTNONG81UDZxN1I4czlU",
            ),
        ),
        ("half of it", Habit::Says("400 Bad Request", "", "no sk-echo/0a1B2c3D4e5F6g7")),
    ];
    let mut proxies = Vec::new();
    let mut urls = Vec::new();
    for (what, habit) in answers {
        let proxy = Proxy::start(habit).await;
        urls.push((what, proxy.url.replace("http://", "ws://")));
        proxies.push(proxy);
    }
    let quoted =
        Proxy::start(Habit::Says("400 Bad Request", "", "no: /v1/realtime?api-key=hunter2hunter2")).await;
    let url = format!("{}/v1/realtime?api-key=hunter2hunter2", quoted.url.replace("http://", "ws://"));
    let told = at(&url).await;
    assert!(told.out.contains("api-key=•••") && !told.out.contains("hunter2"), "{}", told.out);

    let reason = concat!("not a key that we know here: ", key!(), ".");
    let close = Fault::Close { when: When::After(Duration::ZERO), code: 4000, reason };
    let options = ModelOptions {
        faults: vec![close, Fault::NoCreated],
        key: key!().to_owned(),
        ..ModelOptions::default()
    };
    let model = ModelServer::start(options).await.unwrap();
    urls.push(("a close", model.url()));
    for (what, url) in urls {
        let set = [("OPENAI_API_KEY", key!()), ("OPENAI_REALTIME_URL", url.as_str())];
        let told = Place::new().with(&set).doctor(&[]).await;
        let found: Vec<_> =
            told.findings.iter().filter(|f| f["check"].as_str().unwrap().starts_with("provider.")).collect();
        let message = found[0]["message"].as_str().unwrap();
        assert!(found.len() == 1 && message.contains("•••"), "{what}: {}", told.out);
        for part in ["sk-e", "sk-echo", "0a1B", &BASE64[..6], "c2st"] {
            assert!(!told.out.contains(part), "{what}: `{part}` is in\n{}", told.out);
        }
    }
}
