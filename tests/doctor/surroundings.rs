//! What lies around: settings, `.env`, the folder, `fly.toml`, the Functions.

use std::io::{BufRead as _, BufReader, Write as _};

use tokio::net::TcpListener;

use crate::proxy::{Habit, Proxy};
use crate::{OTHER_TOKEN, Place, TOKEN, WHISPER};

#[tokio::test(flavor = "multi_thread")]
async fn with_nothing_at_all_everything_that_is_missing_is_told() {
    let place = Place { folder: tempfile::tempdir().unwrap(), environment: Default::default() };
    // No question leaves this machine.
    let told = place.with(&[("OPENAI_REALTIME_URL", "ws://127.0.0.1:9")]).doctor(&[]).await;
    for (name, fix) in [
        ("OPENAI_API_KEY", "OPENAI_API_KEY="),
        ("TWILIO_AUTH_TOKEN", "Twilio console"),
        ("PUBLIC_URL", "PUBLIC_URL=https://"),
        ("PUBLIC_URL", "`switchboard serve --tunnel`"),
    ] {
        told.says(name, "settings.missing", "error", [&format!("{name} is not set"), "does not start", fix]);
    }
    told.says(
        "no folder",
        "folder.check",
        "error",
        ["the folder `assistants` does not exist", "does not start", "run `switchboard new NAME`"],
    );
    told.says(
        "no account",
        "twilio.credentials",
        "warning",
        ["there are no credentials", "", "TWILIO_ACCOUNT_SID"],
    );
    told.says("no key", "provider.key", "error", ["needs a key", "", "OPENAI_API_KEY"]);
    assert_eq!(told.code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_env_sets_in_vain_is_told_and_a_bad_value_is_blamed_on_its_line() {
    let place = Place::new();
    place.file(
        ".env",
        "\nDESK_NUMBR=+15550100001\nDESK_NUMBER=5550100001\nDESK_NUMBER=\nOPENAI_API_KEY=sk-…\n",
    );
    place.file("assistants/desk.yaml", "numbers: [\"${DESK_NUMBER:-}\"]\ninstructions: Hi.\n");
    let told = place.without("OPENAI_API_KEY").without("OPENAI_REALTIME_URL").doctor(&[]).await;
    told.says(
        "a name",
        "settings.odd",
        "warning",
        [".env:2:1: nothing reads DESK_NUMBR", "", "remove the line"],
    );
    let twice = [".env:4:1: DESK_NUMBER is set here and in line 3; line 3 is used", "", "keep one"];
    told.says("twice", "settings.odd", "warning", twice);
    let blamed = "the value of DESK_NUMBER (.env, line 3) is not a phone number";
    told.says("a number", "folder.check", "error", [blamed, "does not start", "run `switchboard check`"]);
    let placeholder = ["OPENAI_API_KEY only holds the place of a value", "does not start", "make a key at"];
    told.says("a placeholder", "settings.secret", "error", placeholder);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_setting_hides_no_other_finding() {
    let proxy = Proxy::start(Habit::Says("404 Not Found", "", "")).await;
    let place = Place::new().with(&[("PORT", "many"), ("PUBLIC_URL", &proxy.url)]);
    place.file(".env", &format!("what is this\nTOOL_TOKEN={WHISPER}\nTWILIO_API_KEY={WHISPER}\n"));
    place.file("switchboard.yaml", "prot: 1\n");
    place.file("assistants/broken.yaml", "instrctions: Hi.\n");
    let told = place.doctor(&[]).await;
    told.says("a port", "settings.read", "error", ["PORT must be a port", "does not start", ""]);
    told.says(
        "a line",
        "settings.read",
        "error",
        [".env:1:1: this line has no `=`", "does not start", "NAME=value"],
    );
    told.says(
        "a key",
        "settings.read",
        "error",
        ["switchboard.yaml:1:1: there is no setting `prot`", "", "did you mean `port`?"],
    );
    told.says("a SID", "settings.secret", "error", ["TWILIO_API_KEY must be `SK`", "20003", ""]);
    told.says("half a pair", "settings.secret", "error", ["TWILIO_API_SECRET is not", "20003", ""]);
    let words = ["assistants has ", "held back", "run `switchboard check`"];
    told.says("the folder", "folder.check", "error", words);
    told.says("the address", "public.server", "error", ["has no /healthz", "", ""]);
    told.says("the model", "provider.reach", "error", ["it refuses connections", "", ""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_and_wrong_is_not_missing_besides() {
    let place = Place::new().with(&[("PUBLIC_URL", "phone.example.com"), ("TWILIO_API_URL", "x")]);
    let told = place.without("OPENAI_API_KEY").without("TWILIO_AUTH_TOKEN");
    told.file(".env", "OPENAI_API_KEY: sk-simulated\n");
    told.file("switchboard.yaml", "prot: 1\ntwilio_auth_token: \"${OUR_TOKEN}\"\nmax_calls: many\n");
    let told = told.with(&[("OUR_TOKEN", TOKEN)]).doctor(&[]).await;
    let words =
        ["PUBLIC_URL `phone.example.com` is not a URL", "does not start", "write it so where it is set"];
    told.says("an address", "settings.read", "error", words);
    let words = ["the public address, the signature and the stream cannot be checked", "", ""];
    told.says("what comes of it", "settings.read", "error", words);
    told.says("a line", "settings.read", "error", [".env:1:1: ", "", ""]);
    told.says("the file", "settings.read", "error", ["switchboard.yaml:3:", "", "write it so at that place"]);
    told.silent("what is there", &["settings.missing", "settings.secret"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_serve_would_stumble_over_here_is_told() {
    let place = Place::new().with(&[
        ("PORT", "9091"),
        ("METRICS_PORT", "9091"),
        ("RUST_LOG", "info,[["),
        ("STATE_DIR", "switchboard.yaml"),
    ]);
    place.file("switchboard.yaml", "");
    let told = place.doctor(&[]).await;
    told.says(
        "ports",
        "settings.read",
        "error",
        ["METRICS_PORT is 9091", "does not start", "METRICS_PORT=9092"],
    );
    told.says(
        "a filter",
        "settings.read",
        "error",
        ["RUST_LOG cannot be read", "does not start", "RUST_LOG=info"],
    );
    told.says(
        "a folder",
        "settings.state",
        "warning",
        ["it is a file", "lost with the server", "set STATE_DIR"],
    );
    let place = Place::new();
    place.file("tunnel.json", "{}");
    let words = ["a tunnel that was killed", "11205", "run `switchboard serve --tunnel` once more"];
    place.doctor(&[]).await.says("a tunnel", "number.tunnel", "warning", words);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shapes_of_secrets_are_told_and_never_the_secrets() {
    let place =
        Place::new().with(&[("TWILIO_AUTH_TOKEN", "hush-hush"), ("OPENAI_API_KEY", "\"sk-simulated\"")]);
    let told = place.doctor(&[]).await;
    let words = ["TWILIO_AUTH_TOKEN is not an auth token", "11200", "Twilio's console"];
    told.says("a token", "settings.secret", "error", words);
    told.says(
        "a key for another's address",
        "settings.secret",
        "warning",
        ["OPENAI_API_KEY has quotes", "`model.refused`", "without quotes"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_are_not_there_are_told() {
    let told = Place::new().with(&[("SSL_CERT_FILE", "nowhere.pem")]).doctor(&[]).await;
    let words = ["SSL_CERT_FILE names a file that cannot be read", "`model.unreachable`", "PEM"];
    told.says("no bundle", "settings.certificates", "error", words);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_is_told_in_short() {
    let place = Place::new();
    for name in ["a", "b", "c", "d", "e"] {
        place.file(&format!("assistants/{name}.yaml"), "instrctions: Hi.\n");
    }
    let told = place.doctor(&[]).await;
    let errors: Vec<_> = told.all("folder.check").into_iter().filter(|f| f["severity"] == "error").collect();
    let message = errors[0]["message"].as_str().unwrap();
    assert_eq!(message.lines().count(), 5, "{message}");
    assert!(message.contains("assistants/a.yaml:1:1: ") && message.contains(" more"), "{message}");
    let place = Place::new();
    place.file("assistants/clinic.yaml", "instructions: Hi.\n");
    let told = place.doctor(&[]).await;
    told.says("no number", "folder.numbers", "warning", ["no number rings", "not in use", "`numbers`"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_from_a_remote_folder_is_the_one_that_counts() {
    let host = Proxy::start(Habit::Says("401 Unauthorized", "", "")).await;
    let url = format!("{}/archive.tar.gz?key={WHISPER}", host.url);
    let told = Place::new().with(&[("ASSISTANTS_URL", &url)]).doctor(&[]).await;
    told.says(
        "not fetched",
        "folder.fetch",
        "error",
        ["wants a token (401)", "edits do not reach", "ASSISTANTS_TOKEN"],
    );
}

/// Answers every request with an archive of one assistant of this text.
pub fn archive_host(text: &str) -> String {
    let packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(packed);
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "repo-main/assistants/clinic.yaml", text.as_bytes()).unwrap();
    let archive = archive.into_inner().unwrap().finish().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/archive.tar.gz", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            let _ = BufReader::new(&socket).lines().map_while(Result::ok).find(String::is_empty);
            let length = archive.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let _ = socket.write_all(&[head.as_bytes(), &archive].concat());
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_from_a_remote_folder_tells_what_nothing_reads() {
    let url = archive_host("numbers: [\"${CLINIC_NUMBER}\"]\ninstructions: Hi.\n");
    let place = Place::new().with(&[("ASSISTANTS_URL", &url)]);
    place.file("assistants/desk.yaml", "numbers: [\"${DESK_NUMBER:-}\"]\ninstructions: Hi.\n");
    place.file(".env", "CLINIC_NUMBER=+15550100002\nDESK_NUMBER=+15550100001\n");
    let told = place.doctor(&[]).await;
    told.says("fetched", "folder.fetch", "ok", ["can be fetched", "", ""]);
    let words = [".env:2:1: nothing reads DESK_NUMBER", "", "remove the line"];
    told.says("not in it", "settings.odd", "warning", words);
    let findings =
        told.findings.iter().filter(|finding| finding["message"].to_string().contains("nothing reads"));
    assert_eq!(findings.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn fly_toml_is_read_where_it_is() {
    let place = Place::new();
    place.file("fly.toml", "app = \"voice\"\nkill_timeout = 30\n[http_service]\ninternal_port = 8080\n");
    let told = place.doctor(&[]).await;
    told.says("time", "fly.stop", "error", ["DRAIN_SECONDS is 280", "31921", "`kill_timeout = 300`"]);
    told.says("signal", "fly.stop", "warning", ["kill_signal is not set", "", "SIGTERM"]);
    told.says("port", "fly.service", "error", ["8080, and the server listens on 5050", "(502)", "5050"]);
    Place::new().doctor(&[]).await.silent("no file", &["fly.stop", "fly.deploy", "fly.service"]);
}

const REJECT: &str = "<?xml version=\"1.0\"?><Response><Reject/></Response>";
const XML: &str = "Content-Type: text/xml\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_functions_are_asked_as_twilio_asks() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    for (what, habit, severity, words) in [
        (
            "it refuses us",
            Habit::Says("200 OK", XML, REJECT),
            "ok",
            ["refuses a caller without a number", "", ""],
        ),
        (
            "with a word",
            Habit::Says("200 OK", XML, "<Response><Say>No.</Say><Hangup/></Response>"),
            "ok",
            ["refuses a caller", "", ""],
        ),
        (
            "here",
            Habit::Says(
                "200 OK",
                XML,
                "<Response><Redirect method=\"POST\">http://127.0.0.1:9/incoming-call</Redirect></Response>",
            ),
            "ok",
            ["sends them here", "", ""],
        ),
        (
            "elsewhere",
            Habit::Says(
                "200 OK",
                XML,
                "<Response><Redirect>https://old.example.com/incoming-call</Redirect></Response>",
            ),
            "error",
            [
                "sends callers to https://old.example.com/incoming-call, not here",
                "11200",
                "set WEBHOOK_URL of the Functions to http://127.0.0.1:9/incoming-call",
            ],
        ),
        (
            "nothing",
            Habit::Says("200 OK", XML, "<Response/>"),
            "error",
            ["neither refuses", "callers hear nothing", "make deploy-function"],
        ),
        (
            "not there",
            Habit::Says("404 Not Found", "", ""),
            "error",
            ["is not there (404", "11200", "make deploy-function"],
        ),
        (
            "another account's",
            Habit::Says("403 Forbidden", "", ""),
            "error",
            ["does not believe", "", "TWILIO_AUTH_TOKEN"],
        ),
        (
            "broken",
            Habit::Says("500 Internal Server Error", "", "{\"message\":\"boom\"}"),
            "error",
            ["breaks down (500", "11200", "its log"],
        ),
        (
            "a page",
            Habit::Says("200 OK", "Content-Type: text/html\r\n", "<html></html>"),
            "error",
            ["answers with a web page", "12100", "TWILIO_FUNCTIONS_URL"],
        ),
        (
            "words",
            Habit::Says("200 OK", "Content-Type: text/plain\r\n", "hello"),
            "error",
            ["no TwiML (200 OK, `hello`)", "12100", "make deploy-function"],
        ),
        ("odd", Habit::Says("418 Teapot", "", ""), "error", ["do not answer (418", "11200", ""]),
        (
            "another host",
            Habit::Says("302 Found", "Location: https://login.example.com/\r\n", ""),
            "error",
            ["sends whoever asks elsewhere", "11200", "such as a login page"],
        ),
        (
            "the same host",
            Habit::Says("301 Moved Permanently", "Location: https://127.0.0.1/functions\r\n", ""),
            "error",
            ["sends whoever asks elsewhere", "11200", "set TWILIO_FUNCTIONS_URL to where it leads"],
        ),
        (
            "dropped",
            Habit::Drops,
            "error",
            ["is not reached: it breaks the connection off", "11200", "TWILIO_FUNCTIONS_URL"],
        ),
    ] {
        let proxy = Proxy::start(habit).await;
        let place =
            Place::new().with(&[("TWILIO_FUNCTIONS_URL", &proxy.url), ("PUBLIC_URL", "http://127.0.0.1:9")]);
        let told = place.doctor(&[]).await;
        told.says(what, "function.allowlist", severity, words);
        let fallback = told.all("function.fallback");
        assert_eq!(fallback.len(), 1, "{what}: {}", told.out);
        assert!(!fallback[0].to_string().contains("on every call"), "{what}: {}", told.out);
    }
    let gone = format!("http://127.0.0.1:{free}");
    let told = Place::new().with(&[("TWILIO_FUNCTIONS_URL", &gone)]).doctor(&[]).await;
    told.says("gone", "function.fallback", "error", ["is not reached", "11205", "TWILIO_FUNCTIONS_URL"]);
    Place::new().doctor(&[]).await.silent("none", &["function.allowlist", "function.fallback"]);
}

/// A Function that only its own account may ask: it looks at the signature as Twilio's gateway does.
#[tokio::test(flavor = "multi_thread")]
async fn a_protected_function_believes_us() {
    use axum::http::{HeaderMap, StatusCode, Uri, header};
    use axum::response::IntoResponse as _;
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
    let place = Place::new().with(&[("TWILIO_FUNCTIONS_URL", &base)]);
    let told = place.doctor(&[]).await;
    told.fine("signed", &["function.allowlist", "function.fallback"]);
    // The new token is promoted last: until then Twilio checks with the old one.
    let rotating = format!("{OTHER_TOKEN},{TOKEN}");
    let told = place.with(&[("TWILIO_AUTH_TOKEN", &rotating)]).doctor(&[]).await;
    told.fine("while the token is rotated", &["function.allowlist", "function.fallback"]);
    serving.abort();
}
