//! The remote folder, fetched from servers on this machine that work, fail, are slow or hostile.

mod host;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use host::{Answer, Host, kind, tls, to, trusting, whole};
use rustls::{ClientConfig, RootCertStore};
use switchboard::assistant::plan::RecordPolicy;
use switchboard::assistant::{Folder, Roster};
use switchboard::provider::Provider;
use switchboard::reload::fetch::{FetchError, Fetched, Remote, Rounds};
use switchboard::reload::{Keeper, RemoteFolder};
use switchboard::secret::Secret;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "sesame-0f1e2d3c";
const QUERY: &str = "private=hunter2hunter2";

/// All log lines of this process, of every level and crate.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn watch_the_log() {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(|| Log)
        .finish();
    let _ = tracing::subscriber::set_global_default(subscriber);
}

fn logged() -> String {
    String::from_utf8(LOG.lock().unwrap().clone()).unwrap()
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append(&header, *bytes).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

const CLINIC: &[u8] = b"numbers: [\"+15550100001\"]\ninstructions: You answer the clinic's phone.\n";

fn clinic() -> Vec<u8> {
    archive(&[("repo-main/README.md", b"# Ours"), ("repo-main/assistants/clinic.yaml", CLINIC)])
}

fn folder(fetched: Fetched) -> Folder {
    match fetched {
        Fetched::Folder(folder) => folder,
        Fetched::Unchanged => panic!("unchanged"),
    }
}

#[tokio::test]
async fn a_folder_is_requested_again_with_its_tag() {
    let host = Host::start(|head, _| match head.to_lowercase().contains("if-none-match: w/\"v1\"") {
        true => whole("304 Not Modified", "ETag: W/\"v1\"\r\n", ""),
        false => whole("200 OK", "ETag: W/\"v1\"\r\n", clinic()),
    })
    .await;
    let mut remote = host.remote();
    let fetched = folder(remote.fetch().await.unwrap());
    assert_eq!(fetched.assistants[0].path, "ASSISTANTS_URL/assistants/clinic.yaml");
    assert_eq!(fetched.assistants[0].bytes, CLINIC);
    let openai =
        Provider::openai("wss://api.openai.com/v1/realtime".to_owned(), Some(Secret::new("sk-simulated")));
    let roster = Roster::check(&fetched, &Default::default(), &[Arc::new(openai)]).roster.unwrap();
    assert_eq!(roster.len(), 1);

    for _ in 0..2 {
        assert_eq!(remote.fetch().await.unwrap(), Fetched::Unchanged);
    }
    let heads = host.heads();
    assert_eq!(heads.len(), 3);
    assert!(heads[0].starts_with(&format!("GET /shop/repo.tar.gz?{QUERY} HTTP/1.1\r\n")), "{}", heads[0]);
    assert!(!heads[0].to_lowercase().contains("if-none-match"), "no tag yet");
    for head in &heads {
        assert!(head.contains(&format!("Bearer {TOKEN}")), "{head}");
        assert!(head.to_lowercase().contains("user-agent: switchboard/"), "{head}");
    }
}

#[tokio::test]
async fn without_a_tag_the_bytes_are_compared() {
    let host = Host::start(|_, before| match before {
        0 | 1 => whole("200 OK", "", clinic()),
        _ => whole("200 OK", "", archive(&[("pizzeria.yaml", CLINIC)])),
    })
    .await;
    let mut remote = host.remote_at("/a.tar.gz", None);
    assert_eq!(folder(remote.fetch().await.unwrap()).assistants.len(), 1);
    assert_eq!(remote.fetch().await.unwrap(), Fetched::Unchanged);
    let changed = folder(remote.fetch().await.unwrap());
    assert_eq!(changed.assistants[0].path, "ASSISTANTS_URL/pizzeria.yaml");
    assert!(host.heads().iter().all(|head| !head.to_lowercase().contains("authorization")), "no token");
}

#[tokio::test]
async fn only_a_valid_archive_sets_the_tag() {
    let host = Host::start(|head, before| {
        assert!(!head.to_lowercase().contains("if-none-match"), "{head}");
        match before {
            0 => whole("200 OK", "ETag: \"bad\"\r\n", "no archive"),
            1 => whole("200 OK", "ETag: \"hostile\"\r\n", archive(&[("../x.yaml", CLINIC)])),
            _ => whole("200 OK", "ETag: \"good\"\r\n", clinic()),
        }
    })
    .await;
    let mut remote = host.remote();
    assert!(matches!(remote.fetch().await, Err(FetchError::Archive { .. })));
    assert!(matches!(remote.fetch().await, Err(FetchError::Archive { .. })));
    folder(remote.fetch().await.unwrap());
}

#[tokio::test]
async fn a_failure_keeps_the_tag() {
    let host = Host::start(|head, before| match before {
        0 => whole("200 OK", "ETag: \"v1\"\r\n", clinic()),
        1 => whole("500 Internal Server Error", "", ""),
        2 => whole("200 OK", "ETag: \"v2\"\r\n", "no archive"),
        _ => {
            assert!(head.to_lowercase().contains("if-none-match: \"v1\""), "{head}");
            whole("304 Not Modified", "", "")
        }
    })
    .await;
    let mut remote = host.remote();
    folder(remote.fetch().await.unwrap());
    assert!(remote.fetch().await.is_err());
    assert!(remote.fetch().await.is_err());
    assert_eq!(remote.fetch().await.unwrap(), Fetched::Unchanged);
}

#[tokio::test]
async fn each_status_has_its_error() {
    for (status, expected) in [
        ("401 Unauthorized", "BadToken"),
        ("403 Forbidden", "Forbidden"),
        ("404 Not Found", "Missing"),
        ("418 Teapot", "Status"),
        ("204 No Content", "Status"),
        ("304 Not Modified", "Status"),
        ("429 Too Many Requests", "TooOften"),
        ("500 Internal Server Error", "ServerError"),
    ] {
        let host = Host::start(move |_, _| whole(status, "", "")).await;
        assert_eq!(host.error().await, expected, "{status}");
    }
    let host = Host::start(|_, _| whole("401 Unauthorized", "", "")).await;
    let error = host.remote_at("/a.tar.gz", None).fetch().await.unwrap_err();
    assert_eq!(kind(&error), "NoToken");
}

#[tokio::test]
async fn a_slow_host_times_out() {
    for script in [|| Answer::Silence, || Answer::Drip] {
        let host = Host::start(move |_, _| script()).await;
        let mut remote = host.remote().with_patience(Duration::from_millis(300));
        let error = timeout(Duration::from_secs(60), remote.fetch()).await.expect("it ends").unwrap_err();
        assert_eq!(kind(&error), "AnswerTimeout");
        // A busy machine may not have read the request by then.
        assert!(host.heads().len() <= 1, "{:?}", host.heads());
    }
}

#[tokio::test]
async fn an_incomplete_answer_is_an_error() {
    let half = clinic()[..clinic().len() / 2].to_vec();
    let (length, sent) = (clinic().len(), half.clone());
    let host = Host::start(move |_, _| Answer::Half(length, sent.clone())).await;
    assert_eq!(host.error().await, "ConnectionClosed");
    let host = Host::start(move |_, _| whole("200 OK", "ETag: \"half\"\r\n", half.clone())).await;
    assert_eq!(host.error().await, "Archive");
}

#[tokio::test]
async fn a_large_answer_is_not_read() {
    let host = Host::start(|_, _| Answer::Half(33 * 1024 * 1024, Vec::new())).await;
    let error = host.remote().fetch().await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { .. }), "announced: {error}");
    // Without a length, in pieces.
    let host = Host::start(|_, _| {
        let mut body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for _ in 0..33 {
            body.extend_from_slice(b"100000\r\n");
            body.resize(body.len() + 0x10_0000, b'.');
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\n\r\n");
        Answer::Whole(String::from_utf8(body).unwrap(), Vec::new())
    })
    .await;
    let error = host.remote().fetch().await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { .. }), "in pieces: {error}");
}

#[tokio::test]
async fn the_token_does_not_follow_a_redirect() {
    let store = Host::start(|head, _| match head.to_lowercase().contains("if-none-match: \"s1\"") {
        true => whole("304 Not Modified", "", ""),
        false => whole("200 OK", "ETag: \"s1\"\r\n", clinic()),
    })
    .await;
    let there = format!("{}/archive?signed=hunter2hunter2", store.origin);
    let host = Host::start(move |head, _| match head.starts_with("GET /shop/") {
        true => to("/moved"),
        false => to(&there),
    })
    .await;
    let mut remote = host.remote();
    folder(remote.fetch().await.unwrap());
    assert_eq!(remote.fetch().await.unwrap(), Fetched::Unchanged);
    assert!(host.heads().iter().all(|head| head.contains(TOKEN)), "the same origin gets it");
    for head in store.heads() {
        assert!(!head.contains(TOKEN) && !head.to_lowercase().contains("authorization"), "{head}");
    }
    assert!(host.heads().iter().all(|head| !head.contains("s1")), "a tag belongs to its address");
}

#[tokio::test]
async fn a_redirect_back_does_not_restore_the_token() {
    let home = Arc::new(OnceLock::<String>::new());
    let back = home.clone();
    let stranger = Host::start(move |_, _| to(&format!("{}/private", back.get().unwrap()))).await;
    let there = stranger.origin.clone();
    let host =
        Host::start(move |_, before| if before == 0 { to(&there) } else { whole("200 OK", "", clinic()) })
            .await;
    home.set(host.origin.clone()).unwrap();
    folder(host.remote().fetch().await.unwrap());
    let heads = host.heads();
    assert!(heads[0].contains(TOKEN) && !heads[1].contains(TOKEN), "{heads:?}");
}

#[tokio::test]
async fn bad_redirects_are_not_followed() {
    let plain = Host::with(false, |_, _| whole("200 OK", "", clinic())).await;
    for (location, expected) in [
        (plain.origin.clone(), "Insecure"),
        ("ftp://host.example.com/a".to_owned(), "Insecure"),
        ("https://".to_owned(), "BadRedirect"),
    ] {
        let host = Host::start(move |_, _| to(&location)).await;
        assert_eq!(host.error().await, expected);
    }
    assert_eq!(plain.heads().len(), 0, "no request");

    let host = Host::start(|_, before| to(&format!("/round/{before}?{QUERY}"))).await;
    assert_eq!(host.error().await, "TooManyRedirects");
    assert_eq!(host.heads().len(), 6);
}

#[tokio::test]
async fn only_this_machine_may_be_used_without_tls() {
    let host = Host::with(false, |_, before| match before {
        0 => to("/real"),
        _ => whole("200 OK", "", clinic()),
    })
    .await;
    folder(host.remote().fetch().await.unwrap());
    for url in [
        "http://example.com/a.tar.gz",
        "ftp://localhost/a",
        "no url",
        "https://user:sesame@localhost/a.tar.gz",
    ] {
        assert_eq!(kind(&Remote::new(url, None, &trusting()).unwrap_err()), "Url", "{url}");
    }
    let error = Remote::new("https://localhost/", Some(&Secret::new("ses\name")), &trusting()).unwrap_err();
    assert_eq!(kind(&error), "Token");
}

#[tokio::test]
async fn a_host_that_is_unreachable_or_not_trusted_gets_no_token() {
    let host = Host::start(|_, _| whole("200 OK", "", clinic())).await;
    let url = format!("{}/shop/repo.tar.gz?{QUERY}", host.origin);
    let token = Secret::new(TOKEN);
    let fault = async |url: &str, tls: &Arc<ClientConfig>| {
        kind(&Remote::new(url, Some(&token), tls).unwrap().fetch().await.unwrap_err())
    };
    let mut strangers = RootCertStore::empty();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    strangers.add(other.cert.der().clone()).unwrap();
    let untrusted = fault(&url, &tls(strangers)).await;
    assert!(untrusted.starts_with("Untrusted"), "{untrusted}");
    assert_eq!(fault(&url.replace("localhost", "127.0.0.1"), &trusting()).await, "Untrusted(WrongName)");

    let plain = Host::with(false, |_, _| whole("200 OK", "", clinic())).await;
    assert_eq!(fault(&plain.origin.replace("http://", "https://"), &trusting()).await, "NotTls");
    assert_eq!((host.heads().len(), plain.heads().len()), (0, 0));

    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    assert_eq!(fault(&format!("https://localhost:{free}/a.tar.gz"), &trusting()).await, "ConnectionRefused");

    // A DNS label has at most 63 characters, so no resolver is asked.
    for url in ["https://LABEL.example.com/a.tar.gz", "http://LABEL.localhost/a.tar.gz"] {
        assert_eq!(fault(&url.replace("LABEL", &"x".repeat(70)), &trusting()).await, "DnsFailed");
    }
}

#[tokio::test]
async fn failures_double_the_interval_and_are_logged_once() {
    let host = Host::start(|_, before| match before {
        0..=4 => whole("503 Service Unavailable", "", ""),
        5 | 6 => whole("401 Unauthorized", "", ""),
        7 => whole("200 OK", "", "no archive"),
        _ => whole("200 OK", "", clinic()),
    })
    .await;
    let (mut remote, mut rounds) = (host.remote(), Rounds::default());
    let mut pauses = Vec::new();
    for _ in 0..10 {
        pauses.push(rounds.after(&remote.fetch().await).as_secs());
    }
    // The interval stays if the host answers.
    assert_eq!(pauses, [30, 60, 120, 120, 120, 30, 30, 30, 30, 30]);
    let log = logged();
    let port = host.origin.rsplit(':').next().unwrap();
    let about: Vec<&str> =
        log.lines().filter(|line| line.contains("WARN") && line.contains(&format!(":{port}/"))).collect();
    assert_eq!(about.len(), 3, "{about:?}");
    assert!(about[0].contains("503") && about[0].contains("retry_secs=30"), "{about:?}");
    assert!(about[1].contains("401") && about[1].contains("retry_secs=30"), "{about:?}");
    assert!(about[2].contains("retry_secs=30"), "{about:?}");
}

#[tokio::test]
async fn no_log_contains_the_token_or_the_query() {
    let store = Host::start(|_, _| whole("200 OK", "", clinic())).await;
    let there = format!("{}/archive?{QUERY}", store.origin);
    let host = Host::start(move |_, before| match before {
        0 => to(&there),
        1 => whole("401 Unauthorized", "", ""),
        2 => Answer::Half(100, Vec::new()),
        _ => Answer::Silence,
    })
    .await;
    let (mut remote, mut rounds) =
        (host.remote().with_patience(Duration::from_millis(500)), Rounds::default());
    for _ in 0..4 {
        rounds.after(&remote.fetch().await);
    }
    tracing::trace!("the log works");
    let log = logged();
    assert!(log.contains("the log works") && log.contains("TRACE"), "{log}");
    let debug = format!("{remote:?}");
    for secret in [TOKEN, QUERY, "sesame", "hunter2"] {
        assert!(!log.contains(secret), "{secret} is in the log");
        assert!(!debug.contains(secret), "{debug}");
    }
}

/// An archive with one assistant of this name.
fn only(name: &str) -> Vec<u8> {
    archive(&[(&format!("{name}.yaml"), b"instructions: Be kind.\n")])
}

#[tokio::test]
async fn a_push_is_applied_and_a_bad_one_rejected() {
    let host = Host::start(|_, before| match before {
        0 => whole("200 OK", "ETag: \"0\"\r\n", only("zero")),
        1 => whole("200 OK", "ETag: \"1\"\r\n", only("one")),
        2 => whole("200 OK", "ETag: \"2\"\r\n", archive(&[("two.yaml", b"instrctions: Be kind.\n")])),
        3 => whole("500 Internal Server Error", "", ""),
        4 => whole("200 OK", "ETag: \"3\"\r\n", only("three")),
        _ => whole("304 Not Modified", "ETag: \"3\"\r\n", ""),
    })
    .await;
    let remote_folder = RemoteFolder::begin(host.remote(), Rounds::every(Duration::from_millis(20))).await;
    let roster = check(remote_folder.fresh().unwrap());
    let keeper = Keeper::new(roster, BTreeMap::new(), [provider()], RecordPolicy::default());
    let (mut roster, mut standing) = (keeper.roster(), keeper.standing());
    let stop = CancellationToken::new();
    let running = tokio::spawn(remote_folder.run(keeper, stop.clone()));
    for (names, generation) in [("one", 2), ("three", 3)] {
        let seen =
            timeout(Duration::from_secs(10), roster.wait_for(|roster| roster.by_name(names).is_some()));
        assert_eq!(seen.await.unwrap().unwrap().len(), 1);
        let seen =
            timeout(Duration::from_secs(10), standing.wait_for(|now| now.generation == generation)).await;
        assert_eq!(seen.unwrap().unwrap().problems, 0);
        if names == "one" {
            let rejected = timeout(Duration::from_secs(10), standing.wait_for(|now| now.problems > 0)).await;
            assert_eq!(rejected.unwrap().unwrap().generation, 2, "the roster stays");
        }
    }
    // An unchanged archive changes no generation.
    let asked = host.heads().len();
    timeout(Duration::from_secs(10), async {
        while host.heads().len() < asked + 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(standing.borrow().generation, 3);
    let log = logged();
    assert!(log.contains("ASSISTANTS_URL/two.yaml:1:1"), "{log}");
    stop.cancel();
    timeout(Duration::from_secs(10), running).await.unwrap().unwrap();
}

#[tokio::test]
async fn problems_of_the_first_fetch_are_reported() {
    let bad = archive(&[("two.yaml", b"instrctions: Be kind.\n")]);
    let host = Host::start(move |_, before| match before {
        0 => whole("200 OK", "", bad.clone()),
        _ => whole("500 Internal Server Error", "", ""),
    })
    .await;
    let remote_folder = RemoteFolder::begin(host.remote(), Rounds::every(Duration::from_millis(20))).await;
    let keeper = Keeper::new(Roster::default(), BTreeMap::new(), [provider()], RecordPolicy::default());
    let mut standing = keeper.standing();
    let stop = CancellationToken::new();
    let running = tokio::spawn(remote_folder.run(keeper, stop.clone()));
    let rejected = timeout(Duration::from_secs(10), standing.wait_for(|now| now.problems > 0)).await;
    assert_eq!(rejected.unwrap().unwrap().generation, 1);
    stop.cancel();
    timeout(Duration::from_secs(10), running).await.unwrap().unwrap();
}

fn provider() -> Arc<Provider> {
    Arc::new(Provider::openai("wss://voice.example.com/v1/realtime", Some(Secret::new("sk-simulated"))))
}

fn check(folder: &Folder) -> Roster {
    Roster::check(folder, &BTreeMap::new(), &[provider()]).roster.unwrap()
}
