//! The folder of ASSISTANTS_URL: it alone decides which assistant answers which number.

use std::io::{BufRead as _, BufReader, Write as _};

use switchboard_simulator::twilio::{ACCOUNT, RestServer, number};

use crate::proxy::{Habit, Proxy};
use crate::{Place, WHISPER, twilio};

const WRONG: &str = "instrctions: Hi.\n";
const THIRD: &str = "numbers: [\"+15550100003\"]\ninstructions: Hi.\n";

/// A place whose local folder is outdated: its number may belong to another assistant by now.
fn place(twilio: &RestServer, remote_folder: &str) -> Place {
    let place = Place::new().with(&[
        ("TWILIO_ACCOUNT_SID", ACCOUNT),
        ("TWILIO_API_URL", twilio.url()),
        ("PUBLIC_URL", "https://phone.example.com"),
        ("ASSISTANTS_URL", remote_folder),
    ]);
    std::fs::remove_dir_all(place.folder.path().join("assistants")).unwrap();
    place.file("assistants/old.yaml", "numbers: [\"+15550100004\"]\ninstructions: Hi.\n");
    place
}

/// Answers every request with an archive of one assistant of this text.
fn archive_host(text: &str) -> String {
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
async fn no_number_is_judged_by_a_folder_that_is_not_in_force() {
    let down = Proxy::start(Habit::Says("503 Service Unavailable", "", "")).await;
    for (what, url, code) in [
        ("not fetched", format!("{}/archive.tar.gz?key={WHISPER}", down.url), "folder.fetch"),
        ("a folder with errors", archive_host(WRONG), "folder.check"),
        ("not encrypted", "http://git.example.com/a.tar.gz".to_owned(), "setting.value"),
        ("not a URL", "htps://git.example.com/a.tar.gz".to_owned(), "setting.value"),
    ] {
        let twilio = twilio(vec![number(4, "+15550100004")]).await;
        let report = place(&twilio, &url).doctor(&["--fix"]).await;
        report.assert_has(what, code, "error");
        report.assert_bad(what, "number.", &[("number.list", "warning")]);
        assert!(twilio.changes().is_empty(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_folder_that_is_only_the_fallback_causes_no_error() {
    let twilio = twilio(vec![number(3, "+15550100003")]).await;
    let place = place(&twilio, &archive_host(THIRD));
    for fallback in ["wrong", "missing"] {
        match fallback {
            "wrong" => place.file("assistants/old.yaml", WRONG),
            _ => std::fs::remove_dir_all(place.folder.path().join("assistants")).unwrap(),
        }
        let report = place.doctor(&[]).await;
        report.assert_bad(fallback, "folder.", &[("folder.fallback", "warning")]);
        report.assert_fine(fallback, &["folder.check", "folder.fetch"]);
        report.assert_has(fallback, "number.voice_url", "error");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_env_that_the_remote_folder_does_not_use_is_reported() {
    let url = archive_host("numbers: [\"${CLINIC_NUMBER}\"]\ninstructions: Hi.\n");
    let place = Place::new().with(&[("ASSISTANTS_URL", &url)]);
    place.file("assistants/desk.yaml", "numbers: [\"${DESK_NUMBER:-}\"]\ninstructions: Hi.\n");
    place.file(".env", "CLINIC_NUMBER=+15550100002\nDESK_NUMBER=+15550100001\n");
    place.doctor(&[]).await.assert_bad("not in it", "env.", &[("env.unread", "warning")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_listed_and_set_by_the_folder_in_force() {
    let twilio = twilio(vec![number(3, "+15550100003"), number(4, "+15550100004")]).await;
    let place = place(&twilio, &archive_host(THIRD));
    let before = twilio.number("+15550100004");
    for local in ["an old folder", "no folder"] {
        let report = place.run(&["numbers", "list"]).await;
        assert_eq!((report.exit, report.err.as_str()), (0, ""), "{local}: {}", report.out);
        let rows = report.out.lines().filter(|line| line.starts_with('+'));
        let answered: Vec<_> = rows.filter_map(|row| row.split_whitespace().nth(2)).collect();
        assert_eq!(answered, ["clinic", "nobody"], "{local}: {}", report.out);
        std::fs::remove_dir_all(place.folder.path().join("assistants")).ok();
    }
    let report = place.run(&["numbers", "sync", "--apply"]).await;
    assert_eq!((report.exit, report.err.as_str()), (0, ""), "{}", report.out);
    assert_eq!(twilio.number("+15550100003")["voice_url"], "https://phone.example.com/incoming-call");
    assert_eq!(twilio.number("+15550100004"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_folder_in_force_no_number_is_listed_or_set() {
    let down = Proxy::start(Habit::Says("503 Service Unavailable", "", "")).await;
    for (what, url) in [("not fetched", down.url.clone()), ("a folder with errors", archive_host(WRONG))] {
        let twilio = twilio(vec![number(4, "+15550100004")]).await;
        let place = place(&twilio, &url);
        for arguments in [&["numbers", "list"][..], &["numbers", "sync", "--apply"]] {
            let report = place.run(arguments).await;
            assert_eq!((report.exit, report.out.as_str()), (1, ""), "{what}: {}", report.err);
            assert!(report.err.contains("ASSISTANTS_URL"), "{what}: {}", report.err);
        }
        assert!(twilio.requests().is_empty(), "{what}");
    }
}
