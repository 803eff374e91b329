//! The public address: a running server behind proxies that do what proxies do.

use std::time::Duration;

use switchboard_simulator::twilio::ACCOUNT;
use tokio::net::TcpListener;

use crate::proxy::{Habit, Proxy};
use crate::{OTHER_TOKEN, Place, Serving, TOKEN, Told};

const PAGE: &str =
    "<!DOCTYPE html><html><head><title>Just a moment</title></head><body>+15550100001</body></html>";

/// A check-up through a proxy with this habit.
async fn through(habit: Habit) -> Told {
    let proxy = Proxy::start(habit).await;
    let serving = Serving::start(&proxy.url, TOKEN);
    proxy.lead_to(serving.port);
    Place::new().with(&[("PUBLIC_URL", &proxy.url)]).doctor(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_that_pass_on_are_fine() {
    let chunks = ("one that cuts answers up", Habit::Chunks);
    for (what, habit) in [("a plain one", Habit::Plain), ("another Host", Habit::OtherHost), chunks] {
        through(habit).await.fine(what, &["public.server", "public.signature", "public.stream"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_strips_the_upgrade_is_told_by_426() {
    let told = through(Habit::NoUpgrades).await;
    let words = [
        "as a plain request: a proxy takes the upgrade out (426",
        "31920",
        "proxy_set_header Upgrade $http_upgrade",
    ];
    told.says("no upgrades", "public.stream", "error", words);
    told.fine("no upgrades", &["public.server", "public.signature"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_loses_the_signature_is_told_apart_from_a_wrong_token() {
    let told = through(Habit::Loses("x-twilio-signature")).await;
    told.says(
        "lost",
        "public.signature",
        "error",
        ["(403): the signature does not reach it", "11200", "`X-Twilio-Signature`"],
    );
    told.fine("lost", &["public.server", "public.stream"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_runs_with_something_else_does_not_believe_us() {
    let both = format!("{TOKEN},{OTHER_TOKEN}");
    let either = "its TWILIO_AUTH_TOKEN or its PUBLIC_URL is not the one that is set here";
    for (what, servers, theirs, ours, words, fix) in [
        ("another token", None, OTHER_TOKEN, TOKEN, either, "letter by letter"),
        ("another address", Some("http://phone.example.com"), TOKEN, TOKEN, either, "scheme, port and path"),
        (
            "the second token",
            None,
            OTHER_TOKEN,
            both.as_str(),
            "it knows entry 2 of TWILIO_AUTH_TOKEN",
            "fly secrets set",
        ),
    ] {
        let proxy = Proxy::start(Habit::Plain).await;
        let serving = Serving::start(servers.unwrap_or(&proxy.url), theirs);
        proxy.lead_to(serving.port);
        let place = Place::new().with(&[("PUBLIC_URL", &proxy.url), ("TWILIO_AUTH_TOKEN", ours)]);
        let told = place.doctor(&[]).await;
        told.says(what, "public.signature", "error", [words, "11200 on every webhook", fix]);
        // The ticket is refused without a look at the signature that is not there.
        told.fine(what, &["public.server", "public.stream"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_believes_in_another_scheme_is_told_so() {
    let proxy = Proxy::start(Habit::Plain).await;
    let serving = Serving::start(&proxy.url.replace("http://", "https://"), TOKEN);
    proxy.lead_to(serving.port);
    let told = Place::new().with(&[("PUBLIC_URL", &proxy.url)]).doctor(&[]).await;
    let words = ["its PUBLIC_URL begins with https://", "11200", "the PUBLIC_URL that is set here"];
    told.says("another scheme", "public.signature", "error", words);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_behind_a_proxy_is_told_by_what_was_seen() {
    for (what, habit, check, words, fine) in [
        (
            "a path of its own",
            Habit::Moves("/call-status"),
            "public.signature",
            [
                "does not reach the server: its path or method is not passed on (404",
                "11200",
                "every path and method",
            ],
            "public.stream",
        ),
        (
            "streams elsewhere",
            Habit::Moves("/media-stream"),
            "public.stream",
            ["does not reach the server: its path is not passed on (404", "31920", "/media-stream/"],
            "public.signature",
        ),
        (
            "no streams at all",
            Habit::SaysAt("/media-stream", "502 Bad Gateway", PAGE),
            "public.stream",
            [
                "is lost behind the proxy (502 Bad Gateway, a web page titled `Just a moment`)",
                "31920",
                "proxy's log",
            ],
            "public.signature",
        ),
        (
            "a firewall before streams",
            Habit::SaysAt("/media-stream", "403 Forbidden", PAGE),
            "public.stream",
            ["is turned away before the server is asked (403", "31920", "through the firewall"],
            "public.signature",
        ),
        (
            "a firewall before upgrades",
            Habit::SaysToUpgrades("403 Forbidden", "Content-Type: text/plain\r\n", "Access denied"),
            "public.stream",
            ["is turned away before the server is asked (403", "31920", "through the firewall"],
            "public.signature",
        ),
        (
            "one that says no more",
            Habit::SaysToUpgrades("403 Forbidden", "Content-Type: text/plain\r\n", ""),
            "public.stream",
            ["is turned away before the server is asked (403", "31920", "through the firewall"],
            "public.signature",
        ),
        (
            "one in Go",
            Habit::SaysToUpgrades("403 Forbidden", "Content-Type: text/plain\r\n", "Forbidden\n"),
            "public.stream",
            ["is turned away before the server is asked (403", "31920", "through the firewall"],
            "public.signature",
        ),
        (
            "one with our words",
            Habit::SaysAt("/media-stream", "403 Forbidden", "Forbidden"),
            "public.stream",
            ["is turned away before the server is asked (403", "31920", "through the firewall"],
            "public.signature",
        ),
        (
            "a stream that is a page",
            Habit::SaysAt("/media-stream", "200 OK", PAGE),
            "public.stream",
            ["nothing there knows WebSockets (200", "31920", "with upgrades"],
            "public.signature",
        ),
        (
            "a status nobody has seen",
            Habit::SaysAt("/media-stream", "418 I'm a teapot", "short"),
            "public.stream",
            [
                "in a way that Switchboard does not answer (418 I'm a teapot, `short`)",
                "31920",
                "as they came",
            ],
            "public.signature",
        ),
        (
            "an agreement that is none",
            Habit::SaysAt("/media-stream", "101 Switching Protocols", ""),
            "public.stream",
            ["agrees to a WebSocket, and does it wrong", "31920", "pass upgrades on"],
            "public.signature",
        ),
        (
            "a firewall before what is posted",
            Habit::SaysAt("/call-status", "403 Forbidden", PAGE),
            "public.signature",
            ["is turned away before the server is asked (403", "11200", "/incoming-call, /after-stream/"],
            "public.stream",
        ),
        (
            "too large for it",
            Habit::SaysAt("/call-status", "413 Too Large", ""),
            "public.signature",
            ["loses its body on the way (413", "11200", "64 KiB"],
            "public.stream",
        ),
        (
            "a yes to everything",
            Habit::SaysAt("/call-status", "200 OK", "thanks"),
            "public.signature",
            ["taken by something that is not Switchboard (200 OK, `thanks`)", "12100", "every path"],
            "public.stream",
        ),
        (
            "one that takes whatever is posted",
            Habit::SaysAt("/call-status", "204 No Content", ""),
            "public.signature",
            ["taken by something that is not Switchboard (204 No Content)", "12100", "every path"],
            "public.stream",
        ),
        (
            "another number nobody has seen",
            Habit::SaysAt("/call-status", "299 Odd", ""),
            "public.signature",
            ["is taken by something", "11200", "every path"],
            "public.stream",
        ),
    ] {
        let told = through(habit).await;
        told.says(what, check, "error", words);
        told.fine(what, &["public.server", fine]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_else_at_the_address_is_told_once() {
    for (what, habit, words) in [
        (
            "a page for everything",
            Habit::Says("200 OK", "Content-Type: text/html\r\n", PAGE),
            ["a web page titled `Just a moment`", "12100", "mend PUBLIC_URL"],
        ),
        (
            "a proxy alone",
            Habit::Says("502 Bad Gateway", "Server: nginx\r\n", PAGE),
            [
                "does not reach the server behind it (502 Bad Gateway, a web page titled `Just a moment`, from `nginx`)",
                "11200",
                "point the proxy at its PORT",
            ],
        ),
        (
            "a proxy alone, at Fly",
            Habit::Says("503 Service Unavailable", "Server: Fly/1a2b (2026-11-01)\r\n", ""),
            ["503", "31920", "`fly status`"],
        ),
        (
            "a tunnel without its agent",
            Habit::Says("404 Not Found", "ngrok-error-code: ERR_NGROK_3200\r\n", "gone"),
            ["404", "11200", "the tunnel's agent is not running"],
        ),
        (
            "a check for browsers",
            Habit::Says("403 Forbidden", "cf-ray: 1\r\ncf-mitigated: challenge\r\n", PAGE),
            ["403", "31920", "let Twilio through"],
        ),
        (
            "elsewhere",
            Habit::Says(
                "301 Moved Permanently",
                "Location: https://phone.example.com/healthz?key=hush-hush\r\n",
                "",
            ),
            [
                "which leads to https://phone.example.com/healthz",
                "31920: a stream is not sent on",
                "set PUBLIC_URL to https://phone.example.com, if that is this server",
            ],
        ),
        (
            "a password",
            Habit::Says("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", "no"),
            ["wants a password", "Twilio has none", "take the password away"],
        ),
        (
            "another program",
            Habit::Says("404 Not Found", "", "nothing"),
            ["has no /healthz", "11200", "with its path"],
        ),
        (
            "a fault",
            Habit::Says("500 Internal Server Error", "", "oops"),
            ["has a fault of its own", "11200", "look at the log"],
        ),
        (
            "a status nobody has seen",
            Habit::Says("799 Odd", "X-Odd: 1\r\n", "{\"error\":{\"code\":\"strange\"}}"),
            [
                "answers, and not as Switchboard does (status 799, code `strange`)",
                "11200 or 12100",
                "as it came",
            ],
        ),
        (
            "an ok that is not ours",
            Habit::Says("200 OK", "", "ok"),
            ["something answers `ok`", "12100", "pass every path on"],
        ),
    ] {
        let told = through(habit).await;
        told.says(what, "public.server", "error", words);
        assert_eq!(told.all("public.server").len(), 1, "{what}: {}", told.out);
        told.silent(what, &["public.reach", "public.signature", "public.stream"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_at_the_address_is_told_once() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let refused = Place::new().with(&[("PUBLIC_URL", &format!("http://127.0.0.1:{free}"))]).doctor(&[]).await;
    let mut tolds = vec![(
        "refused",
        refused,
        ["refuses connections", "11205 when a phone rings, and 31902", "start `switchboard serve`"],
    )];
    for (what, habit, words) in [
        (
            "dropped",
            Habit::Drops,
            ["breaks the connection off", "11200 when a phone rings, and 31920", "log of the proxy"],
        ),
        ("garbage", Habit::Garbage, ["what it answers is not HTTP", "11200", "a web server"]),
        (
            "silent",
            Habit::Silent,
            ["does not answer in 10 s", "11205 when a phone rings, and 31901", "start `switchboard serve`"],
        ),
    ] {
        tolds.push((what, through(habit).await, words));
    }
    let nowhere = Place::new().with(&[("PUBLIC_URL", "https://nobody.invalid")]).doctor(&[]).await;
    tolds.push(("no such name", nowhere, ["nobody knows its host's name", "11205", "spelling of the host"]));
    let silent = Proxy::start(Habit::Silent).await;
    let by_tls = silent.url.replace("http://", "https://");
    let by_tls = Place::new().with(&[("PUBLIC_URL", &by_tls)]).doctor(&[]).await;
    tolds.push((
        "no word of TLS",
        by_tls,
        ["was made in 5 s", "11205 when a phone rings, and 31901", "speaks TLS"],
    ));
    for (what, told, words) in tolds {
        told.says(what, "public.reach", "error", words);
        told.silent(what, &["public.server", "public.signature", "public.stream"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_said_what_takes_long() {
    for (path, what) in [
        ("/healthz", "to answer /healthz"),
        ("/call-status", "to answer a webhook"),
        ("/media-stream", "to answer an upgrade to a WebSocket"),
    ] {
        let told = through(Habit::Slow(path, Duration::from_millis(2_300))).await;
        told.says(path, "public.slow", "warning", [what, "11205 after 15 s", "auto_stop_machines"]);
        assert!(told.all("public.slow")[0]["message"].as_str().unwrap().contains("takes 2."), "{}", told.out);
        told.fine(path, &["public.server", "public.signature", "public.stream"]);
        assert!(told.err.contains("Waiting for ") && told.err.contains("the public address"), "{}", told.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_told_apart() {
    let (proxy, pem) = Proxy::secure(Habit::Plain, "localhost").await;
    let serving = Serving::start(&proxy.url, TOKEN);
    proxy.lead_to(serving.port);
    let place = Place::new().with(&[("PUBLIC_URL", &proxy.url), ("SSL_CERT_FILE", "bundle.pem")]);
    place.file("bundle.pem", &pem);
    place.doctor(&[]).await.fine("trusted", &["public.server", "public.signature", "public.stream"]);

    let (other, other_pem) = Proxy::secure(Habit::Plain, "phone.example.com").await;
    place.file("bundle.pem", &other_pem);
    let told = place.doctor(&[]).await;
    told.says(
        "nobody's",
        "public.reach",
        "error",
        ["nobody we trust vouches for it", "31910", "SSL_CERT_FILE"],
    );
    let told = place.with(&[("PUBLIC_URL", &other.url)]).doctor(&[]).await;
    told.says(
        "another name's",
        "public.reach",
        "error",
        ["it is for another name", "31910", "public authority"],
    );

    let told = Place::new()
        .with(&[("PUBLIC_URL", &format!("https://127.0.0.1:{}", serving.port))])
        .doctor(&[])
        .await;
    told.says("no TLS", "public.reach", "error", ["does not speak TLS", "31910", "http://"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_says_of_itself_is_passed_on() {
    const JSON: &str = "503 Service Unavailable";
    for (what, status, body, words) in [
        (
            "draining",
            JSON,
            "{\"status\":\"draining\",\"assistants\":1,\"generation\":1,\"problems\":0}",
            ["takes no new calls", "sent elsewhere", "start `switchboard serve`"],
        ),
        (
            "an edit held back",
            "200 OK",
            "{\"status\":\"ready\",\"assistants\":1,\"generation\":1,\"problems\":2}",
            ["holds back an edit", "before the edit", "`switchboard check`"],
        ),
        (
            "another folder",
            "200 OK",
            "{\"status\":\"ready\",\"assistants\":7,\"generation\":1,\"problems\":0}",
            ["has 7 assistants, and the folder here has 1", "other assistants", "deploy the folder"],
        ),
    ] {
        let told = through(Habit::SaysAt("/readyz", status, body)).await;
        told.says(what, "public.server", "warning", words);
        told.fine(what, &["public.signature", "public.stream"]);
    }
}

/// A proxy that keeps a path to itself takes no call away.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_asked_how_it_is_is_still_one() {
    for (what, habit, seen) in [
        (
            "its life kept from strangers",
            Habit::SaysAt("/healthz", "403 Forbidden", "no"),
            "/healthz is not answered: 403 Forbidden",
        ),
        (
            "its life unknown to a proxy",
            Habit::SaysAt("/healthz", "404 Not Found", "no"),
            "/healthz is not answered: 404 Not Found",
        ),
        (
            "its life dropped",
            Habit::DropsAt("/healthz"),
            "/healthz is not answered: it breaks the connection off",
        ),
        (
            "a proxy's page",
            Habit::SaysAt("/readyz", "503 Service Unavailable", PAGE),
            "/readyz is not answered: 503 Service Unavailable, a web page titled `Just a moment`",
        ),
        (
            "kept from strangers",
            Habit::SaysAt("/readyz", "403 Forbidden", "no"),
            "/readyz is not answered: 403 Forbidden",
        ),
        (
            "unknown to it",
            Habit::SaysAt("/readyz", "404 Not Found", "no"),
            "/readyz is not answered: 404 Not Found",
        ),
        ("dropped", Habit::DropsAt("/readyz"), "/readyz is not answered: it breaks the connection off"),
    ] {
        let told = through(habit).await;
        let (cause, fix, findings) = match seen.contains("/healthz") {
            // It says itself that it takes calls.
            true => ("takes it for dead", "pass /healthz on", 2),
            false => ("whether it takes calls", "pass /readyz on", 1),
        };
        told.says(what, "public.server", "warning", [seen, cause, fix]);
        assert_eq!(told.all("public.server").len(), findings, "{what}: {}", told.out);
        told.fine(what, &["public.signature", "public.stream"]);
        told.silent(what, &["public.reach"]);
    }
}

/// A slow server is asked about all tokens at once: one after the other would take longer than a check may.
#[tokio::test(flavor = "multi_thread")]
async fn many_tokens_are_tried_side_by_side() {
    use axum::http::{HeaderMap, StatusCode, Uri};
    use axum::response::IntoResponse as _;
    let tokens: Vec<String> = (1..=12).map(|at| format!("{at:032x}")).collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let form = [("CallSid", "CA00000000000000000000000000000000"), ("CallStatus", "completed")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let code_of =
        |token: &str| switchboard_simulator::caller::sign(token, &format!("{url}/call-status"), &form);
    let (first, last) = (code_of(&tokens[0]), code_of(&tokens[11]));
    // All but the first token, and that for the other scheme, come together, or none is answered.
    let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(12));
    let router = axum::Router::new().fallback(move |uri: Uri, headers: HeaderMap| {
        let code = headers.get("x-twilio-signature").map(|code| code.to_str().unwrap().to_owned());
        let (barrier, first, last) = (barrier.clone(), first.clone(), last.clone());
        async move {
            match (uri.path(), code) {
                ("/healthz", _) => "ok".into_response(),
                ("/readyz", _) => "{\"status\":\"ready\",\"assistants\":1,\"problems\":0}".into_response(),
                ("/call-status", Some(code)) => {
                    if code == first {
                        return (StatusCode::FORBIDDEN, "Forbidden").into_response();
                    }
                    barrier.wait().await;
                    match code == last {
                        true => StatusCode::NO_CONTENT.into_response(),
                        false => (StatusCode::FORBIDDEN, "Forbidden").into_response(),
                    }
                }
                _ => (StatusCode::FORBIDDEN, "Forbidden").into_response(),
            }
        }
    });
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let place = Place::new().with(&[("PUBLIC_URL", &url), ("TWILIO_AUTH_TOKEN", &tokens.join(","))]);
    let told = place.doctor(&[]).await;
    let words = ["it knows entry 12 of TWILIO_AUTH_TOKEN", "11200", "the same TWILIO_AUTH_TOKEN"];
    told.says("twelve", "public.signature", "error", words);
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_an_end_is_judged_by_what_came() {
    let told = through(Habit::Endless).await;
    assert!(
        told.all("public.server")[0]["message"].as_str().unwrap().contains("`drip drip "),
        "{}",
        told.out
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_is_told_with_whose_it_is() {
    let told = through(Habit::Dates("Mon, 23 Nov 2020 04:43:43 GMT")).await;
    let words = ["the server at PUBLIC_URL is", "tickets live 60 s", "`timedatectl`"];
    told.says("a wrong clock", "clock.skew", "warning", words);
    assert!(told.all("clock.skew")[0]["message"].as_str().unwrap().ends_with("days behind this machine"));
    // It may be this machine, which always agrees with itself.
    through(Habit::Plain).await.silent("a right clock", &["clock.skew"]);
    // Another's is no better known for a server that may be here.
    let proxy = Proxy::start(Habit::Plain).await;
    let serving = Serving::start(&proxy.url, TOKEN);
    proxy.lead_to(serving.port);
    let twilio = crate::twilio(vec![]).await;
    let between = Proxy::start(Habit::Dates("Mon, 23 Nov 2020 04:43:43 GMT")).await;
    between.lead_to(twilio.url().rsplit(':').next().unwrap().parse().unwrap());
    let told = Place::new()
        .with(&[
            ("PUBLIC_URL", &proxy.url),
            ("TWILIO_ACCOUNT_SID", ACCOUNT),
            ("TWILIO_API_URL", &between.url),
        ])
        .doctor(&[])
        .await;
    let words = ["behind this machine", "", "`timedatectl`"];
    told.says("another's clock", "clock.skew", "warning", words);
    assert!(told.all("clock.skew")[0]["message"].as_str().unwrap().starts_with("Twilio is "), "{}", told.out);
}
