//! The mail server, and files that ask for what this server cannot do.

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use crate::{CLINIC, Place};

/// A mail server that answers each command with this code, after the hello of both sides.
async fn mail_server(code: u16) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (reader, mut writer) = socket.into_split();
            let mut lines = BufReader::new(reader).lines();
            let _ = writer.write_all(b"220 hello\r\n").await;
            while let Ok(Some(line)) = lines.next_line().await {
                assert!(!line.starts_with("DATA") && !line.starts_with("RCPT"), "no mail is sent");
                let code = if line.starts_with("EHLO") { 250 } else { code };
                if writer.write_all(format!("{code} there\r\n").as_bytes()).await.is_err() {
                    break;
                }
            }
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mail_server_is_tried() {
    let (good, bad) = (mail_server(250).await, mail_server(550).await);
    for (url, from, code, severity) in [
        (good.as_str(), "phone@example.com", "mail.ok", "ok"),
        (&bad, "phone@example.com", "mail.failed", "warning"),
        ("smtp://127.0.0.1:9", "phone@example.com", "mail.failed", "warning"),
        ("smtps://me:hush-hush@127.0.0.1:9", "phone@example.com", "mail.failed", "warning"),
        ("https://me:hush-hush@127.0.0.1:9", "phone@example.com", "setting.value", "error"),
        ("smtp://me@127.0.0.1", "phone@example.com", "setting.value", "error"),
        ("smtp://127.0.0.1", "", "setting.value", "error"),
        ("smtp://127.0.0.1", "nobody", "setting.value", "error"),
    ] {
        let place = Place::new().with(&[("SMTP_URL", url), ("SMTP_FROM", from)]);
        let report = place.doctor(&[]).await;
        report.assert_has(url, code, severity);
        assert_eq!(report.found("mail.").len(), usize::from(code.starts_with("mail.")), "{}", report.out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ways_that_this_server_cannot_go_are_reported() {
    let place = Place::new().without("TWILIO_AUTH_TOKEN").with(&[("STATE_DIR", "/proc/state")]);
    let all = "alerts: { to: { email: owner@example.com, sms: \"+15550100099\", file: alerts.jsonl } }\n";
    place.file("switchboard.yaml", all);
    let expected = ["no_mail_server", "no_account", "no_folder"];
    let expected: Vec<_> = expected.iter().map(|code| (format!("delivery.{code}"), "warning")).collect();
    let found = |report: &crate::Report| {
        let rows = report.found("delivery.").into_iter();
        rows.map(|(code, severity)| (code.to_owned(), if severity == "warning" { "warning" } else { "" }))
            .collect::<Vec<_>>()
    };
    assert_eq!(found(&place.doctor(&[]).await), expected);
    // Nobody could send the text.
    place.file("assistants/clinic.yaml", &CLINIC.replace("\"+15550100001\"", ""));
    assert!(found(&place.doctor(&[]).await).iter().any(|(code, _)| code == "delivery.no_sender"));
}
