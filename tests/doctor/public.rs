//! The public address: a running server behind proxies that do what proxies do.

use std::time::Duration;

use tokio::net::TcpListener;

use crate::proxy::{Habit, Proxy};
use crate::{OTHER_TOKEN, Place, Report, Serving, TOKEN};

const PAGE: &str = "<!DOCTYPE html><html><head><title>Just a moment</title></head></html>";
const ALL: [&str; 3] = ["public.server", "public.signature", "public.stream"];

/// A report with this PUBLIC_URL.
async fn at(url: &str) -> Report {
    Place::new().with(&[("PUBLIC_URL", url)]).doctor(&[]).await
}

/// The same, with a server behind a proxy.
async fn through(habit: Habit) -> Report {
    let proxy = Proxy::start(habit).await;
    let serving = Serving::start(&proxy.url, TOKEN);
    proxy.forward_to(serving.port);
    at(&proxy.url).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_forwards_everything_is_fine() {
    for (what, habit) in [("unchanged", Habit::Plain), ("with another Host", Habit::OtherHost)] {
        let report = through(habit).await;
        report.assert_fine(what, &ALL);
        // The server may run on this machine, whose clock always agrees with itself.
        report.assert_lacks(what, &["clock.skew"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_spoils_one_path_is_reported_for_that_path() {
    let webhook = ("public.webhook", "error");
    let upgrade = ("public.upgrade", "error");
    for (what, habit, expected) in [
        ("no upgrades", Habit::NoUpgrades, upgrade),
        ("no signatures", Habit::Loses("x-twilio-signature"), ("public.signature_lost", "error")),
        ("webhooks moved", Habit::MovesAt("/call-status"), webhook),
        ("webhooks blocked", Habit::SaysAt("/call-status", "403 Forbidden", PAGE), webhook),
        ("webhooks too large", Habit::SaysAt("/call-status", "413 Too Large", ""), webhook),
        ("webhooks accepted by another", Habit::SaysAt("/call-status", "200 OK", "thanks"), webhook),
        ("unsigned webhooks accepted", Habit::SaysAt("/call-status", "204 No Content", ""), webhook),
        ("streams moved", Habit::MovesAt("/media-stream"), upgrade),
        ("streams lost", Habit::SaysAt("/media-stream", "502 Bad Gateway", PAGE), upgrade),
        ("streams that are a page", Habit::SaysAt("/media-stream", "200 OK", PAGE), upgrade),
        (
            "streams blocked in our words",
            Habit::SaysAt("/media-stream", "403 Forbidden", "Forbidden"),
            upgrade,
        ),
        ("upgrades blocked", Habit::SaysToUpgrades("401 Unauthorized", "Access denied"), upgrade),
        ("an invalid upgrade", Habit::SaysAt("/media-stream", "101 Switching Protocols", ""), upgrade),
    ] {
        let report = through(habit).await;
        report.assert_bad(what, "public.", &[expected]);
        report.assert_fine(what, &["public.server"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_other_settings_rejects_our_signature() {
    let both = format!("{TOKEN},{OTHER_TOKEN}");
    for (what, its_url, its_token, our_tokens, code) in [
        ("another token", None, OTHER_TOKEN, TOKEN, "public.signature_rejected"),
        ("another address", Some("http://phone.example.com"), TOKEN, TOKEN, "public.signature_rejected"),
        ("our second token", None, OTHER_TOKEN, both.as_str(), "public.token"),
        ("another scheme", Some("https://"), TOKEN, TOKEN, "public.url"),
    ] {
        let proxy = Proxy::start(Habit::Plain).await;
        let its_url = match its_url {
            Some("https://") => proxy.url.replace("http://", "https://"),
            Some(other) => other.to_owned(),
            None => proxy.url.clone(),
        };
        let serving = Serving::start(&its_url, its_token);
        proxy.forward_to(serving.port);
        let place = Place::new().with(&[("PUBLIC_URL", &proxy.url), ("TWILIO_AUTH_TOKEN", our_tokens)]);
        let report = place.doctor(&[]).await;
        report.assert_bad(what, "public.", &[(code, "error")]);
        report.assert_fine(what, &["public.server", "public.stream"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_at_the_address_is_reported_once() {
    let moved = "Location: https://phone.example.com/healthz?key=hush-hush\r\n";
    for (what, habit) in [
        ("a page", Habit::Says("200 OK", "Content-Type: text/html\r\n", PAGE)),
        ("a proxy without a server", Habit::Says("502 Bad Gateway", "Server: nginx\r\n", PAGE)),
        ("Fly without a machine", Habit::Says("503 Service Unavailable", "Server: Fly/1a2b\r\n", "")),
        ("ngrok without its agent", Habit::Says("404 Not Found", "ngrok-error-code: ERR_NGROK_3200\r\n", "")),
        ("Cloudflare's check for browsers", Habit::Says("403 Forbidden", "cf-ray: 1\r\n", PAGE)),
        ("a redirect", Habit::Says("301 Moved Permanently", moved, "")),
        ("a login", Habit::Says("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", "no")),
        ("another program", Habit::Says("404 Not Found", "", "nothing")),
        ("a server error", Habit::Says("500 Internal Server Error", "", "oops")),
        ("an unknown status", Habit::Says("799 Odd", "", "{\"error\":{\"code\":\"strange\"}}")),
        ("a body that never ends", Habit::EndlessBody),
    ] {
        let proxy = Proxy::start(habit).await;
        let report = at(&proxy.url).await;
        report.assert_bad(what, "public.", &[("public.server", "error")]);
        report.assert_lacks(what, &["public.signature", "public.stream"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_without_an_answer_is_reported_once() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let mut reports = vec![
        ("connection refused", at(&format!("http://127.0.0.1:{free}")).await),
        ("no such name", at("https://nobody.invalid").await),
    ];
    for (what, habit, scheme) in [
        ("closed", Habit::Drops, "http://"),
        ("not HTTP", Habit::Garbage, "http://"),
        ("silent", Habit::Silent, "http://"),
        ("silent to TLS", Habit::Silent, "https://"),
        ("not TLS", Habit::Says("200 OK", "", "ok"), "https://"),
    ] {
        let proxy = Proxy::start(habit).await;
        reports.push((what, at(&proxy.url.replace("http://", scheme)).await));
    }
    for (what, report) in reports {
        report.assert_bad(what, "public.", &[("public.reach", "error")]);
        assert_eq!(report.found("public.").len(), 1, "{what}: {}", report.out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_answer_is_a_warning() {
    for path in ["/call-status", "/media-stream"] {
        let report = through(Habit::SlowAt(path, Duration::from_millis(2_300))).await;
        report.assert_bad(path, "public.", &[("public.slow", "warning")]);
        report.assert_fine(path, &ALL);
        assert!(report.err.contains("PUBLIC_URL"), "it shows what it waits for: {}", report.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_must_be_trusted_and_for_the_name() {
    let (proxy, pem) = Proxy::secure(Habit::Plain, "localhost").await;
    let serving = Serving::start(&proxy.url, TOKEN);
    proxy.forward_to(serving.port);
    let place = Place::new().with(&[("PUBLIC_URL", &proxy.url), ("SSL_CERT_FILE", "bundle.pem")]);
    place.file("bundle.pem", &pem);
    place.doctor(&[]).await.assert_fine("trusted", &ALL);

    let (other, other_pem) = Proxy::secure(Habit::Plain, "phone.example.com").await;
    place.file("bundle.pem", &other_pem);
    place.doctor(&[]).await.assert_bad("unknown issuer", "public.", &[("public.reach", "error")]);
    let place = place.with(&[("PUBLIC_URL", &other.url)]);
    place.doctor(&[]).await.assert_bad("another name", "public.", &[("public.reach", "error")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_the_running_server_is_reported() {
    let state = |status: &str, assistants: u32, problems: u32| -> &'static str {
        let state =
            format!("{{\"status\":\"{status}\",\"assistants\":{assistants},\"problems\":{problems}}}");
        state.leak()
    };
    for (code, status, body) in [
        ("public.draining", "503 Service Unavailable", state("draining", 1, 0)),
        ("public.rejected_edit", "200 OK", state("ready", 1, 2)),
        ("public.folder", "200 OK", state("ready", 7, 0)),
    ] {
        let report = through(Habit::SaysAt("/readyz", status, body)).await;
        report.assert_bad(code, "public.", &[(code, "warning")]);
        report.assert_fine(code, &["public.signature", "public.stream"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_hides_the_state_does_not_hide_the_server() {
    for (what, habit) in [
        ("health blocked", Habit::SaysAt("/healthz", "403 Forbidden", "no")),
        ("health dropped", Habit::DropsAt("/healthz")),
        ("readiness a page", Habit::SaysAt("/readyz", "503 Service Unavailable", PAGE)),
        ("readiness dropped", Habit::DropsAt("/readyz")),
    ] {
        let report = through(habit).await;
        report.assert_bad(what, "public.", &[("public.hidden", "warning")]);
        report.assert_fine(what, &["public.signature", "public.stream"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_differs_is_a_warning() {
    let report = through(Habit::Dates("Mon, 23 Nov 2020 04:43:43 GMT")).await;
    report.assert_bad("wrong by years", "clock.", &[("clock.skew", "warning")]);
}
