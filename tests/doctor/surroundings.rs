//! What the program reads where it starts: settings, `.env`, the folder, `fly.toml`; and the Functions.

use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::IntoResponse as _;
use tokio::net::TcpListener;

use crate::proxy::{Habit, Proxy};
use crate::{OTHER_TOKEN, Place, TOKEN, WHISPER};

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_missing_is_reported() {
    let place = Place { folder: tempfile::tempdir().unwrap(), environment: Default::default() };
    // Nothing is asked outside this machine.
    let report = place.with(&[("OPENAI_REALTIME_URL", "ws://127.0.0.1:9")]).doctor(&[]).await;
    report.assert_bad("settings", "setting.", &[("setting.missing", "error"); 3]);
    report.assert_bad("folder", "folder.", &[("folder.unreadable", "error")]);
    report.assert_bad("account", "twilio.", &[("twilio.credentials_missing", "warning")]);
    report.assert_bad("the missing key is reported once", "provider.", &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_env_without_effect_and_bad_values_are_reported() {
    let place = Place::new().without("OPENAI_API_KEY").without("OPENAI_REALTIME_URL");
    let env = "\nDESK_NUMBR=+15550100001\nDESK_NUMBER=5550100001\nDESK_NUMBER=\nOPENAI_API_KEY=sk-…\n";
    place.file(".env", env);
    place.file("assistants/desk.yaml", "numbers: [\"${DESK_NUMBER:-}\"]\ninstructions: Hi.\n");
    let report = place.doctor(&[]).await;
    report.assert_has("a placeholder", "setting.placeholder", "error");
    report.assert_has("a number", "folder.check", "error");
    report.assert_has("a number", "number.invalid", "error");
    report.assert_bad("lines", "env.", &[("env.unread", "warning"), ("env.double", "warning")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_setting_hides_no_other_problem() {
    let proxy = Proxy::start(Habit::Says("404 Not Found", "", "")).await;
    let place = Place::new().with(&[("PORT", "many"), ("PUBLIC_URL", &proxy.url)]);
    place.file(".env", &format!("what is this\nTOOL_TOKEN={WHISPER}\nTWILIO_API_KEY={WHISPER}\n"));
    place.file("switchboard.yaml", "prot: 1\n");
    place.file("assistants/broken.yaml", "instrctions: Hi.\n");
    let report = place.doctor(&[]).await;
    for code in ["setting.value", "env.line", "setting.unknown", "folder.check", "key.unknown"] {
        report.assert_has(code, code, "error");
    }
    assert_eq!(report.found("setting.secret"), [("setting.secret", "warning"); 2], "{}", report.out);
    report.assert_bad("the address", "public.", &[("public.server", "error")]);
    report.assert_bad("the model", "provider.", &[("provider.reach", "error")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_is_wrong_is_not_reported_as_missing_too() {
    let place = Place::new().with(&[("PUBLIC_URL", "phone.example.com"), ("OUR_TOKEN", TOKEN)]);
    let place = place.without("TWILIO_AUTH_TOKEN");
    place.file("switchboard.yaml", "twilio_auth_token: \"${OUR_TOKEN}\"\nmax_calls: many\n");
    let report = place.doctor(&[]).await;
    report.assert_bad("settings", "setting.", &[("setting.value", "error"); 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_with_which_the_server_would_fail_are_reported() {
    let place = Place::new().with(&[
        ("PORT", "9091"),
        ("METRICS_PORT", "9091"),
        ("RUST_LOG", "info,[["),
        ("STATE_DIR", "switchboard.yaml"),
        ("SSL_CERT_FILE", "nowhere.pem"),
        ("PUBLIC_URL", "http://127.0.0.1:9"),
        ("TWILIO_AUTH_TOKEN", WHISPER),
        ("OPENAI_API_KEY", "\"sk-simulated\""),
    ]);
    place.file("switchboard.yaml", "");
    let report = place.doctor(&[]).await;
    for (code, severity, count) in [
        ("setting.value", "error", 2),
        ("setting.secret", "warning", 2),
        ("setting.state", "warning", 1),
        ("setting.certificates", "error", 1),
        ("setting.out_of_reach", "warning", 1),
    ] {
        assert_eq!(report.found(code), vec![(code, severity); count], "{}", report.out);
    }
    let place = Place::new();
    place.file("state/tunnel.json", "{}");
    place.doctor(&[]).await.assert_bad("a killed tunnel", "number.", &[("number.tunnel", "warning")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_first_problems_of_a_folder_are_shown() {
    let place = Place::new();
    for name in ["a", "b", "c", "d", "e"] {
        place.file(&format!("assistants/{name}.yaml"), "instrctions: Hi.\n");
    }
    let report = place.doctor(&[]).await;
    report.assert_bad("errors", "folder.", &[("folder.check", "error")]);
    assert_eq!(report.found("key.").len(), 3, "{}", report.out);
    let place = Place::new();
    place.file("assistants/clinic.yaml", "instructions: Hi.\n");
    place.doctor(&[]).await.assert_bad("no number", "folder.", &[("folder.numbers", "warning")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fly_toml_is_checked_if_there_is_one() {
    let place = Place::new();
    place.doctor(&[]).await.assert_lacks("no file", &["fly."]);
    place.file("fly.toml", "app = \"voice\"\nkill_timeout = 30\n[http_service]\ninternal_port = 8080\n");
    let report = place.doctor(&[]).await;
    report.assert_has("time", "fly.stop", "error");
    report.assert_has("port", "fly.port", "error");
}

const REJECT: &str = "<?xml version=\"1.0\"?><Response><Reject/></Response>";
const XML: &str = "Content-Type: text/xml\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_of_a_function_has_its_code() {
    let to = |url: &str| -> &'static str {
        format!("<Response><Redirect method=\"POST\">{url}/incoming-call</Redirect></Response>").leak()
    };
    let fine = ("function.allowlist", "ok");
    let unexpected = ("function.answer", "error");
    for (what, habit, expected) in [
        ("it rejects us", Habit::Says("200 OK", XML, REJECT), fine),
        ("to this server", Habit::Says("200 OK", XML, to("http://127.0.0.1:9")), fine),
        (
            "to another server",
            Habit::Says("200 OK", XML, to("https://old.example.com")),
            ("function.target", "error"),
        ),
        ("no verb", Habit::Says("200 OK", XML, "<Response/>"), unexpected),
        ("a page", Habit::Says("200 OK", "Content-Type: text/html\r\n", "<html></html>"), unexpected),
        ("not deployed", Habit::Says("404 Not Found", "", ""), unexpected),
        ("a server error", Habit::Says("500 Internal Server Error", "", "boom"), unexpected),
        ("a redirect", Habit::Says("302 Found", "Location: https://login.example.com/\r\n", ""), unexpected),
        ("another account", Habit::Says("403 Forbidden", "", ""), ("function.signature", "error")),
        ("closed", Habit::Drops, ("function.reach", "error")),
    ] {
        let proxy = Proxy::start(habit).await;
        let set = [("TWILIO_FUNCTIONS_URL", &*proxy.url), ("PUBLIC_URL", "http://127.0.0.1:9")];
        let report = Place::new().with(&set).doctor(&[]).await;
        assert_eq!(report.found("function.").len(), 2, "{what}: {}", report.out);
        report.assert_has(what, expected.0, expected.1);
    }
    Place::new().doctor(&[]).await.assert_lacks("no Functions", &["function."]);
}

/// It checks the signature as Twilio's gateway does.
#[tokio::test(flavor = "multi_thread")]
async fn a_protected_function_accepts_our_signature() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let signed_for = base.clone();
    let router = axum::Router::new().fallback(move |uri: Uri, headers: HeaderMap, body: String| {
        let form: Vec<_> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        assert!(form.iter().all(|(name, _)| name != "From"), "no caller is made up");
        let code = switchboard_simulator::caller::sign(TOKEN, &format!("{signed_for}{}", uri.path()), &form);
        let is_signed = headers.get("x-twilio-signature").is_some_and(|given| given == code.as_str());
        let say = "<Response><Say>Nobody is here.</Say></Response>";
        let text = if uri.path() == "/fallback-function" { say } else { REJECT };
        let answer = match is_signed {
            true => ([(header::CONTENT_TYPE, "text/xml; charset=utf-8")], text).into_response(),
            false => StatusCode::FORBIDDEN.into_response(),
        };
        async { answer }
    });
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    // A new token is promoted last: until then Twilio checks with the old one.
    for tokens in [TOKEN.to_owned(), format!("{OTHER_TOKEN},{TOKEN}")] {
        let place = Place::new().with(&[("TWILIO_FUNCTIONS_URL", &base), ("TWILIO_AUTH_TOKEN", &tokens)]);
        place.doctor(&[]).await.assert_fine("signed", &["function.allowlist", "function.fallback"]);
    }
    serving.abort();
}
