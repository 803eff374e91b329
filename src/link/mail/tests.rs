//! E-mail through a real server, and through some that misbehave.

use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::*;
use crate::link::network::Distrust;

#[path = "../../../tests/smtp/server.rs"]
mod server;

use server::MailServer;

const FROM: &str = "Example Dental <phone@example.com>";

fn mailer(url: &str, bundle: Option<&Path>) -> Mailer {
    Mailer::new(&Secret::new(url), Some(FROM), bundle).unwrap()
}

fn mail<'a>(subject: &'a str, text: &'a str) -> Mail<'a> {
    let at = UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    Mail { id: "msg_1", to: "owner@example.com", subject, text, at }
}

/// The headers, unfolded, and what the text is once it is decoded.
fn parts(message: &Value) -> (Vec<(String, String)>, String) {
    let content = message["content"].as_str().unwrap();
    let (head, body) = content.split_once("\r\n\r\n").unwrap();
    let unfolded = head.replace("\r\n ", " ");
    let headers = unfolded.split("\r\n").map(|line| line.split_once(": ").unwrap_or((line, "")));
    let headers: Vec<_> = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let encoding = headers.iter().find(|(name, _)| name == "Content-Transfer-Encoding").unwrap();
    let text = match encoding.1.as_str() {
        "7bit" => body.to_owned(),
        "quoted-printable" => decoded(body),
        other => panic!("{other}"),
    };
    (headers, text)
}

fn decoded(quoted: &str) -> String {
    let joined = quoted.replace("=\r\n", "");
    let mut bytes = Vec::new();
    let mut rest = joined.as_bytes();
    while let [first, more @ ..] = rest {
        if *first == b'=' {
            bytes.push(u8::from_str_radix(std::str::from_utf8(&more[..2]).unwrap(), 16).unwrap());
            rest = &more[2..];
        } else {
            bytes.push(*first);
            rest = more;
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn header(message: &Value, name: &str) -> String {
    let (headers, _) = parts(message);
    let mut values = headers.into_iter().filter(|(header, _)| header == name).map(|(_, value)| value);
    let value = values.next().unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(values.next(), None, "{name} comes once");
    value
}

#[tokio::test]
async fn a_message_arrives_and_is_the_same_in_every_attempt() {
    let mut server = MailServer::start(&["--answers", "451,250"]).await;
    let mailer = mailer(&format!("smtp://localhost:{}", server.port), None);
    mailer.probe().await.unwrap();
    let mail = mail("Clinic: message from +15550100007", "Name: Zoë\n\nWish: Tuesday\n");
    assert_eq!(mailer.send(mail).await, Err(NotMailed::Status(451)));
    let first = server.next().await;
    mailer.send(mail).await.unwrap();
    let second = server.next().await;
    assert_eq!(first, second);
    assert_eq!(second["from"], "phone@example.com");
    assert_eq!(second["to"], serde_json::json!(["owner@example.com"]));
    assert_eq!(second["hello"], "example.com");
    for (name, value) in [
        ("From", "\"Example Dental\" <phone@example.com>"),
        ("To", "owner@example.com"),
        ("Subject", "Clinic: message from +15550100007"),
        ("Message-ID", "<msg_1@example.com>"),
        ("Date", "Mon, 21 Sep 2026 14:13:20 +0000"),
        ("Auto-Submitted", "auto-generated"),
        ("Content-Type", "text/plain; charset=utf-8"),
        ("MIME-Version", "1.0"),
    ] {
        assert_eq!(
            header(&second, name).replace("\"Example Dental\"", "Example Dental"),
            value.replace('"', "")
        );
    }
    assert_eq!(parts(&second).1.trim_end(), "Name: Zoë\r\n\r\nWish: Tuesday");
    assert!(server.is_idle().await, "a probe sends nothing");
}

#[tokio::test]
async fn the_words_of_a_caller_stay_words() {
    let mut server = MailServer::start(&[]).await;
    let mailer = mailer(&format!("smtp://127.0.0.1:{}", server.port), None);
    let long = "x".repeat(5_000);
    let subjects = [
        "Message from Eve\r\nBcc: other@example.com\r\n\r\nHello",
        "Eve\nTo: other@example.com",
        "=?utf-8?q?=0D=0ABcc:_other=40mail.test?=",
        "Zoë Müller\r.\r日本語",
        long.as_str(),
        "",
    ];
    for subject in subjects {
        mailer.send(mail(subject, "text")).await.unwrap();
        let message = server.next().await;
        assert_eq!(message["to"], serde_json::json!(["owner@example.com"]));
        assert_eq!(header(&message, "To"), "owner@example.com");
        let (headers, text) = parts(&message);
        assert_eq!(text.trim_end(), "text", "{subject}");
        assert!(headers.iter().all(|(name, _)| name != "Bcc" && !name.contains('x')), "{headers:?}");
        if subject.starts_with("=?") {
            assert!(!header(&message, "Subject").contains("=?utf-8"));
        }
    }
    let text = "before\r\n.\r\nMAIL FROM:<eve@example.com>\n.\r.\n..\nQUIT\r\nBcc: x\u{0}\u{1b}[2J 日本語";
    mailer.send(mail("Hello", text)).await.unwrap();
    let message = server.next().await;
    let lines = "before\r\n.\r\nMAIL FROM:<eve@example.com>\r\n. .\r\n..\r\nQUIT\r\nBcc: x  [2J 日本語";
    assert_eq!(parts(&message).1.trim_end(), lines);
    mailer.send(mail("Hello", &long)).await.unwrap();
    let message = server.next().await;
    assert_eq!(parts(&message).1.trim_end(), long);
    let content = message["content"].as_str().unwrap();
    assert!(content.split("\r\n").all(|line| line.len() <= 998));
    assert!(server.is_idle().await, "there were no other messages");
}

/// A certificate for `localhost`, made by an authority of its own: the certificate, the key, and the authority.
fn certificate(folder: &Path) -> [PathBuf; 3] {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &issuer).unwrap();
    let files = [
        ("certificate.pem", certificate.pem()),
        ("key.pem", key.serialize_pem()),
        ("authority.pem", authority_certificate.pem()),
    ];
    files.map(|(name, text)| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    })
}

#[tokio::test]
async fn nothing_is_said_before_the_connection_is_encrypted() {
    let dir = tempfile::tempdir().unwrap();
    let [cert, key, authority] = certificate(dir.path());
    let [cert, key] = [&cert, &key].map(|path| path.to_str().unwrap());
    let tls = ["--certificate", cert, "--key", key, "--login", "me@example.com:p@ss w"];
    let mut from_the_start = MailServer::start(&[&["--tls"], &tls[..]].concat()).await;
    let mut starttls = MailServer::start(&[&["--starttls"], &tls[..]].concat()).await;
    let mut plain = MailServer::start(&["--login", "me@example.com:p@ss w"]).await;
    let login = "me%40example.com:p%40ss%20w@localhost";
    let smtps = format!("smtps://{login}:{}", from_the_start.port);
    let smtp = |port: u16| format!("smtp://{login}:{port}");
    let demanding = |url: &str, bundle: Option<&Path>| {
        let mut mailer = mailer(url, bundle);
        // What a name elsewhere would have.
        mailer.security = Security::StartTls;
        mailer
    };

    let mailer_tls = mailer(&smtps, Some(&authority));
    assert_eq!(mailer_tls.security, Security::Tls);
    mailer_tls.probe().await.unwrap();
    mailer_tls.send(mail("Hello", "text")).await.unwrap();
    demanding(&smtp(starttls.port), Some(&authority)).send(mail("Hello", "text")).await.unwrap();
    for server in [&mut from_the_start, &mut starttls] {
        let message = server.next().await;
        assert_eq!((&message["tls"], &message["login"]), (&true.into(), &true.into()));
    }
    // A server that offers none, as somebody in between would make it look.
    let none = demanding(&smtp(plain.port), Some(&authority)).send(mail("Hello", "text")).await;
    assert_eq!(none, Err(NotMailed::NoStartTls));
    let unknown = Err(NotMailed::Network(Fault::Untrusted(Distrust::UnknownIssuer)));
    let other = tempfile::tempdir().unwrap();
    let [.., strange] = certificate(other.path());
    assert_eq!(mailer(&smtps, Some(&strange)).send(mail("Hello", "text")).await, unknown);
    assert_eq!(mailer(&smtps, Some(&strange)).probe().await, unknown);
    assert_eq!(demanding(&smtp(starttls.port), Some(&strange)).send(mail("Hello", "text")).await, unknown);
    let by_address = smtps.replace("localhost", "127.0.0.1");
    let wrong_name = mailer(&by_address, Some(&authority)).send(mail("Hello", "text")).await;
    assert_eq!(wrong_name, Err(NotMailed::Network(Fault::Untrusted(Distrust::WrongName))));
    let not_tls = format!("smtps://localhost:{}", plain.port);
    let not_tls = mailer(&not_tls, Some(&authority)).send(mail("Hello", "text")).await;
    assert_eq!(not_tls, Err(NotMailed::Network(Fault::NotTls)));
    // On this machine, nothing has to be encrypted.
    mailer(&smtp(plain.port), None).send(mail("Hello", "text")).await.unwrap();
    assert_eq!(plain.next().await["tls"], false);
    let wrong = smtp(plain.port).replace("p%40ss", "wrong");
    let wrong = mailer(&wrong, None);
    assert_eq!(wrong.send(mail("Hello", "text")).await, Err(NotMailed::Login(535)));
    assert_eq!(wrong.probe().await, Err(NotMailed::Login(535)));
    let nobody = mailer(&format!("smtp://localhost:{}", plain.port), None);
    assert_eq!(nobody.send(mail("Hello", "text")).await, Err(NotMailed::Status(530)));
    for server in [&mut from_the_start, &mut starttls, &mut plain] {
        assert!(server.is_idle().await);
    }
}

#[tokio::test]
async fn a_server_that_misbehaves_has_a_code() {
    let mut refuses = MailServer::start(&["--to", "550"]).await;
    let url = |port: u16| format!("smtp://localhost:{port}");
    let refused = mailer(&url(refuses.port), None).send(mail("Hello", "text")).await;
    assert_eq!((refused, refused.unwrap_err().code().as_str()), (Err(NotMailed::Status(550)), "smtp.550"));
    assert!(refuses.is_idle().await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let closes = tokio::spawn(async move { drop(listener.accept().await.unwrap()) });
    assert_eq!(mailer(&url(port), None).send(mail("Hello", "text")).await, Err(NotMailed::NotSmtp));
    closes.await.unwrap();
    let closed = mailer(&url(port), None).send(mail("Hello", "text")).await;
    assert_eq!(closed, Err(NotMailed::Network(Fault::ConnectionRefused)));
    let unknown = mailer("smtps://mail.invalid", None).send(mail("Hello", "text")).await;
    assert!(
        matches!(unknown, Err(NotMailed::Network(Fault::DnsFailed | Fault::AnswerTimeout))),
        "{unknown:?}"
    );
    for address in
        ["owner", "a@b@c", "owner@example.com\r\nRCPT TO:<other@example.com>", "<owner@example.com>", ""]
    {
        let mail = Mail { to: address, ..mail("Hello", "text") };
        assert_eq!(mailer(&url(port), None).send(mail).await, Err(NotMailed::BadAddress), "{address}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mailer = mailer(&format!("smtp://{}", listener.local_addr().unwrap()), None);
    let began = Instant::now();
    // Time goes on only once nothing else happens.
    let (sent, _held) = tokio::join!(mailer.send(mail("Hello", "text")), listener.accept());
    assert_eq!(sent, Err(NotMailed::Network(Fault::AnswerTimeout)));
    assert!(began.elapsed() <= LOGIN + Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn a_url_says_where_and_how() {
    let read = |url: &str, from: Option<&str>| Mailer::new(&Secret::new(url), from, None);
    for (url, host, port, security) in [
        ("smtps://me@example.com:x@mail.example.com", "", 0, Security::Tls),
        ("smtps://me%40example.com:x@mail.example.com", "mail.example.com", 465, Security::Tls),
        ("SMTP://me%40example.com:x@mail.example.com/", "mail.example.com", 587, Security::StartTls),
        ("smtp://me%40example.com:x@192.0.2.1:25", "192.0.2.1", 25, Security::StartTls),
        ("smtp://me%40example.com:x@[2001:db8::1]", "[2001:db8::1]", 587, Security::StartTls),
        ("smtp://me%40example.com:x@LOCALHOST:1025", "LOCALHOST", 1025, Security::Plain),
        ("smtp://me%40example.com:x@127.0.0.2", "127.0.0.2", 587, Security::Plain),
        ("smtp://me%40example.com:x@[::1]", "[::1]", 587, Security::Plain),
        ("smtp://me%40example.com:x@localhost.example.com", "localhost.example.com", 587, Security::StartTls),
    ] {
        if host.is_empty() {
            assert!(read(url, None).is_ok(), "an @ too many is forgiven");
            continue;
        }
        let mailer = read(url, None).unwrap();
        assert_eq!((mailer.host.to_string().as_str(), mailer.port, mailer.security), (host, port, security));
        assert_eq!(mailer.from.email.to_string(), "me@example.com");
    }
    for (url, from, expected) in [
        ("https://mail.example.com", None, BadMailer::Scheme),
        ("mail.example.com:465", None, BadMailer::Scheme),
        ("smtps://", None, BadMailer::NoHost),
        ("smtps://me:x@", None, BadMailer::NoHost),
        ("smtps://me:pa/ss@mail.example.com", None, BadMailer::Syntax(url::ParseError::InvalidPort)),
        ("smtps://me%40example.com:x@mail.example.com/x", None, BadMailer::Rest),
        (
            "smtps://me%40example.com:pa?ss@mail.example.com",
            None,
            BadMailer::Syntax(url::ParseError::InvalidPort),
        ),
        ("smtps://me%40example.com@mail.example.com", None, BadMailer::NoPassword),
        ("smtps://apikey:x@mail.example.com", None, BadMailer::NoFrom),
        ("smtps://mail.example.com", None, BadMailer::NoFrom),
        ("smtps://mail.example.com", Some("nobody"), BadMailer::From),
        ("smtps://mail.example.com", Some("a@example.com, b@example.com"), BadMailer::From),
        ("smtps://mail.example.com", Some("a@example.com\r\nBcc: b@example.com"), BadMailer::From),
    ] {
        assert_eq!(read(url, from).err(), Some(expected), "{url} {from:?}");
    }
    let error = format!("{:?}", read("smtps://me:hunter2@mail.example.com/x", None).err().unwrap());
    assert!(!error.contains("hunter2"), "{error}");
}
