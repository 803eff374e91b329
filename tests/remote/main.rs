//! the remote folder, fetched from servers on this machine that answer well, badly, slowly and with malice.

mod host;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use host::{Answer, Host, tls, to, trusting, whole};
use rustls::RootCertStore;
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

/// Everything that any test of this process logs, at every level, from every crate.
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
async fn a_folder_is_fetched_and_then_asked_for_by_its_tag() {
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
    assert!(!heads[0].to_lowercase().contains("if-none-match"), "nothing is known yet");
    for head in &heads {
        assert!(head.contains(&format!("Bearer {TOKEN}")), "{head}");
        assert!(head.to_lowercase().contains("user-agent: switchboard/"), "{head}");
    }
}

#[tokio::test]
async fn without_a_tag_the_bytes_tell() {
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
    assert!(host.heads().iter().all(|head| !head.to_lowercase().contains("authorization")), "there is none");
}

#[tokio::test]
async fn a_tag_counts_only_with_a_whole_good_archive() {
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
async fn a_failure_forgets_nothing() {
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
async fn a_refusal_says_what_to_do() {
    let at = "ASSISTANTS_URL (`HOST/shop/repo.tar.gz`)";
    for (status, expected) in [
        (
            "401 Unauthorized",
            "{at} does not accept ASSISTANTS_TOKEN (401); it may have lapsed: make a new one",
        ),
        (
            "403 Forbidden",
            "{at} may not be read (403); set ASSISTANTS_TOKEN to a token that may read the repository",
        ),
        (
            "404 Not Found",
            "there is nothing at {at} (404); check owner, repository and branch, and where the repository is \
             private, that ASSISTANTS_TOKEN may read it",
        ),
        ("418 Teapot", "{at} answers 418, which is no archive; check ASSISTANTS_URL"),
        ("204 No Content", "{at} answers 204, which is no archive; check ASSISTANTS_URL"),
        ("304 Not Modified", "{at} answers 304, which is no archive; check ASSISTANTS_URL"),
        (
            "429 Too Many Requests",
            "{at} is asked too often (429); a host allows more to those who send ASSISTANTS_TOKEN",
        ),
        (
            "500 Internal Server Error",
            "{at} has a fault of its own (500); nothing is to be done here but to wait",
        ),
    ] {
        let host = Host::start(move |_, _| whole(status, "", "")).await;
        let error = host.remote().fetch().await.unwrap_err();
        assert_eq!(host.plain(&error), expected.replace("{at}", at));
    }
    let host = Host::start(|_, _| whole("401 Unauthorized", "", "")).await;
    let error = host.remote_at("/a.tar.gz", None).fetch().await.unwrap_err();
    assert_eq!(
        host.plain(&error),
        "ASSISTANTS_URL (`HOST/a.tar.gz`) wants a token (401); set ASSISTANTS_TOKEN to one that may read it"
    );
}

#[tokio::test]
async fn a_host_that_is_slow_is_left() {
    for script in [|| Answer::Silence, || Answer::Drip] {
        let host = Host::start(move |_, _| script()).await;
        let mut remote = host.remote().with_patience(Duration::from_millis(300));
        let started = Instant::now();
        let error = remote.fetch().await.unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(4), "it was not left in time");
        assert_eq!(host.plain(&error), "ASSISTANTS_URL (`HOST/shop/repo.tar.gz`) took longer than 0.3 s");
        assert_eq!(host.heads().len(), 1);
    }
}

#[tokio::test]
async fn half_an_answer_is_none() {
    let half = clinic()[..clinic().len() / 2].to_vec();
    let (promised, kept) = (clinic().len(), half.clone());
    let host = Host::start(move |_, _| Answer::Half(promised, kept.clone())).await;
    assert_eq!(
        host.plain(&host.remote().fetch().await.unwrap_err()),
        "ASSISTANTS_URL (`HOST/shop/repo.tar.gz`) broke off in the middle of its answer"
    );
    let host = Host::start(move |_, _| whole("200 OK", "ETag: \"half\"\r\n", half.clone())).await;
    assert_eq!(
        host.plain(&host.remote().fetch().await.unwrap_err()),
        "ASSISTANTS_URL (`HOST/shop/repo.tar.gz`): the archive is cut off"
    );
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_read() {
    let host = Host::start(|_, _| Answer::Half(33 * 1024 * 1024, Vec::new())).await;
    let error = host.remote().fetch().await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { .. }), "as announced: {error}");
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
    assert!(matches!(error, FetchError::TooLarge { .. }), "as it came: {error}");
}

#[tokio::test]
async fn a_redirect_is_followed_and_the_token_stays_at_home() {
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
    assert!(host.heads().iter().all(|head| head.contains(TOKEN)), "the same origin gets it again");
    for head in store.heads() {
        assert!(!head.contains(TOKEN) && !head.to_lowercase().contains("authorization"), "{head}");
    }
    assert!(host.heads().iter().all(|head| !head.contains("s1")), "a tag is for the address that gave it");
}

#[tokio::test]
async fn a_stranger_who_leads_back_does_not_borrow_the_token() {
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
async fn redirects_that_lead_nowhere_good_are_not_followed() {
    let plain = Host::with(false, |_, _| whole("200 OK", "", clinic())).await;
    let at = "ASSISTANTS_URL (`HOST/shop/repo.tar.gz`)";
    let real = "set ASSISTANTS_URL to where the archive really is";
    for (location, expected) in [
        (
            plain.origin.clone(),
            format!(
                "{at} leads to an address that is not https, where anybody could change the folder; {real}"
            ),
        ),
        (
            "ftp://host.example.com/a".to_owned(),
            format!(
                "{at} leads to an address that is not https, where anybody could change the folder; {real}"
            ),
        ),
        ("https://".to_owned(), format!("{at} leads to an address that cannot be understood; {real}")),
    ] {
        let host = Host::start(move |_, _| to(&location)).await;
        assert_eq!(host.plain(&host.remote().fetch().await.unwrap_err()), expected);
    }
    assert_eq!(plain.heads().len(), 0, "nobody was asked");

    let host = Host::start(|_, before| to(&format!("/round/{before}?{QUERY}"))).await;
    assert_eq!(
        host.plain(&host.remote().fetch().await.unwrap_err()),
        format!("`HOST`, where ASSISTANTS_URL leads, is the last of more than 5 redirects; {real}")
    );
    assert_eq!(host.heads().len(), 6);
}

#[tokio::test]
async fn this_machine_may_be_asked_without_tls() {
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
        let error = Remote::new(url, None, &trusting()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ASSISTANTS_URL must start with https:// (http:// only on this machine) and hold no user name"
        );
    }
    let error = Remote::new("https://localhost/", Some(&Secret::new("ses\name")), &trusting()).unwrap_err();
    assert_eq!(
        format!("{error} {error:?}"),
        "ASSISTANTS_TOKEN holds a character that no token may have; copy it again Token"
    );
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_or_trusted_hears_no_token() {
    let host = Host::start(|_, _| whole("200 OK", "", clinic())).await;
    let url = format!("{}/shop/repo.tar.gz?{QUERY}", host.origin);
    let token = Secret::new(TOKEN);
    let mut strangers = RootCertStore::empty();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    strangers.add(other.cert.der().clone()).unwrap();
    let mut remote = Remote::new(&url, Some(&token), &tls(strangers)).unwrap();
    let said = host.plain(&remote.fetch().await.unwrap_err());
    assert!(said.starts_with("ASSISTANTS_URL (`HOST/shop/repo.tar.gz`) is not trusted: "), "{said}");
    assert!(said.ends_with("SSL_CERT_FILE"), "{said}");

    let numbered = url.replace("localhost", "127.0.0.1");
    let mut remote = Remote::new(&numbered, Some(&token), &trusting()).unwrap();
    let said = remote.fetch().await.unwrap_err().to_string();
    assert!(
        said.ends_with("its certificate is for another name; check the host in ASSISTANTS_URL"),
        "{said}"
    );

    let plain = Host::with(false, |_, _| whole("200 OK", "", clinic())).await;
    let spoken = plain.origin.replace("http://", "https://");
    let said =
        Remote::new(&spoken, Some(&token), &trusting()).unwrap().fetch().await.unwrap_err().to_string();
    assert!(said.ends_with("TLS with it fails; check that the port speaks https"), "{said}");
    assert_eq!((host.heads().len(), plain.heads().len()), (0, 0));

    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let closed = format!("https://localhost:{free}/a.tar.gz");
    let said =
        Remote::new(&closed, Some(&token), &trusting()).unwrap().fetch().await.unwrap_err().to_string();
    assert!(said.contains("cannot be reached (connection refused); check host and port"), "{said}");

    // A label of more than 63 letters is no name: the resolver says so without asking anybody.
    for nameless in ["https://LABEL.example.com/a.tar.gz", "http://LABEL.localhost/a.tar.gz"] {
        let nameless = nameless.replace("LABEL", &"x".repeat(70));
        let mut remote = Remote::new(&nameless, Some(&token), &trusting()).unwrap();
        let said = remote.fetch().await.unwrap_err().to_string();
        assert!(said.starts_with("nobody knows the name in ASSISTANTS_URL (`xxx"), "{said}");
    }
}

#[tokio::test]
async fn a_hostile_archive_is_refused_with_its_kind() {
    let links = || {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, "repo/passwd.yaml", "/etc/passwd").unwrap();
        archive.into_inner().unwrap().finish().unwrap()
    };
    let bomb = || {
        let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
        let zeros = vec![0; 1024 * 1024];
        let mut header = tar::Header::new_ustar();
        header.set_path("repo/a.yaml").unwrap();
        header.set_size(63 * 1024 * 1024);
        header.set_cksum();
        for _ in 0..2 {
            bomb.write_all(header.as_bytes()).unwrap();
            (0..63).for_each(|_| bomb.write_all(&zeros).unwrap());
        }
        bomb.finish().unwrap()
    };
    let table: [(Vec<u8>, &str); 5] = [
        (archive(&[("../x.yaml", CLINIC)]), "the archive is refused whole: `../x.yaml` is a path with `..`"),
        (
            archive(&[("/etc/x.yaml", CLINIC)]),
            "the archive is refused whole: `/etc/x.yaml` is an absolute path",
        ),
        (links(), "`ASSISTANTS_URL/passwd.yaml` is a link, which is not followed in an archive"),
        (bomb(), "the archive is more than 64 MB unpacked"),
        (b"<html>".to_vec(), "the answer is not a .tar.gz"),
    ];
    for (body, expected) in table {
        let host = Host::start(move |_, _| whole("200 OK", "ETag: \"v1\"\r\n", body.clone())).await;
        let said = host.plain(&host.remote().fetch().await.unwrap_err());
        let expected = format!("ASSISTANTS_URL (`HOST/shop/repo.tar.gz`): {expected}");
        assert!(said.starts_with(&expected), "{said}");
    }
}

#[tokio::test]
async fn the_rounds_slow_down_and_say_a_failure_once() {
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
    // A host that answers is asked as often as ever.
    assert_eq!(pauses, [30, 60, 120, 120, 120, 30, 30, 30, 30, 30]);
    let log = logged();
    let port = host.origin.rsplit(':').next().unwrap();
    let about: Vec<&str> =
        log.lines().filter(|line| line.contains("WARN") && line.contains(&format!(":{port}/"))).collect();
    assert_eq!(about.len(), 3, "{about:?}");
    assert!(about[0].contains("(503)") && about[0].contains("retry_secs=30"), "{about:?}");
    assert!(about[1].contains("(401)") && about[1].contains("retry_secs=30"), "{about:?}");
    assert!(about[2].contains("not a .tar.gz") && about[2].contains("retry_secs=30"), "{about:?}");
    assert_eq!(log.matches("The remote folder can be fetched again").count(), 1);
}

#[tokio::test]
async fn no_log_at_any_level_holds_the_token_or_the_query() {
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
    tracing::trace!("the log is watched");
    let log = logged();
    assert!(log.contains("the log is watched") && log.contains("TRACE"), "{log}");
    let debug = format!("{remote:?}");
    for secret in [TOKEN, QUERY, "sesame", "hunter2"] {
        assert!(!log.contains(secret), "{secret} is in the log");
        assert!(!debug.contains(secret), "{debug}");
    }
}

/// An archive with one assistant, called so.
fn only(name: &str) -> Vec<u8> {
    archive(&[(&format!("{name}.yaml"), b"instructions: Be kind.\n")])
}

#[tokio::test]
async fn a_push_reaches_the_keeper_and_a_bad_one_is_held_back() {
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
    let keeper = Keeper::new(roster, BTreeMap::new(), [provider()]);
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
            let held = timeout(Duration::from_secs(10), standing.wait_for(|now| now.problems > 0)).await;
            assert_eq!(held.unwrap().unwrap().generation, 2, "what runs stays");
        }
    }
    // Nothing new is nothing: the sixth and seventh fetch change no generation.
    let asked = host.heads().len();
    timeout(Duration::from_secs(10), async {
        while host.heads().len() < asked + 2 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert_eq!(standing.borrow().generation, 3);
    let log = logged();
    assert!(log.contains("added one; removed zero"), "{log}");
    assert!(log.contains("ASSISTANTS_URL/two.yaml:1:1: error: there is no key `instrctions`"), "{log}");
    stop.cancel();
    timeout(Duration::from_secs(10), running).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_first_fetch_with_problems_is_held_against_what_runs_instead() {
    let bad = archive(&[("two.yaml", b"instrctions: Be kind.\n")]);
    let host = Host::start(move |_, before| match before {
        0 => whole("200 OK", "", bad.clone()),
        _ => whole("500 Internal Server Error", "", ""),
    })
    .await;
    let remote_folder = RemoteFolder::begin(host.remote(), Rounds::every(Duration::from_millis(20))).await;
    let keeper = Keeper::new(Roster::default(), BTreeMap::new(), [provider()]);
    let mut standing = keeper.standing();
    let stop = CancellationToken::new();
    let running = tokio::spawn(remote_folder.run(keeper, stop.clone()));
    let held = timeout(Duration::from_secs(10), standing.wait_for(|now| now.problems > 0)).await;
    assert_eq!(held.unwrap().unwrap().generation, 1);
    stop.cancel();
    timeout(Duration::from_secs(10), running).await.unwrap().unwrap();
}

fn provider() -> Arc<Provider> {
    Arc::new(Provider::openai("wss://voice.example.com/v1/realtime", Some(Secret::new("sk-simulated"))))
}

fn check(folder: &Folder) -> Roster {
    Roster::check(folder, &BTreeMap::new(), &[provider()]).roster.unwrap()
}
