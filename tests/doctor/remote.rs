//! The folder of ASSISTANTS_URL: it says who answers which number, and no other folder does.

use switchboard_simulator::twilio::{ACCOUNT, RestServer, number};

use crate::proxy::{Habit, Proxy};
use crate::surroundings::archive_host;
use crate::{Place, twilio};

/// A place whose folder here is an old one: it has a number that may be somebody else's by now.
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

#[tokio::test(flavor = "multi_thread")]
async fn no_number_is_judged_by_a_folder_that_is_not_in_force() {
    let down = Proxy::start(Habit::Says("503 Service Unavailable", "", "")).await;
    for (what, url, check) in [
        ("nothing fetched", down.url.clone(), "folder.fetch"),
        ("a folder with errors", archive_host("instrctions: Hi.\n"), "folder.check"),
    ] {
        let twilio = twilio(vec![number(4, "+15550100004")]).await;
        let told = place(&twilio, &url).doctor(&["--fix"]).await;
        assert!(told.all(check).iter().any(|finding| finding["severity"] == "error"), "{what}: {}", told.out);
        let words = ["the numbers are not compared: ASSISTANTS_URL says who answers them", "", "mend"];
        told.says(what, "number.list", "warning", words);
        told.silent(what, &["number.voice_url", "number.no_fallback", "number.ok"]);
        let words = ["are looked at as `assistants` has them", "what it fetched last", "ASSISTANTS_URL"];
        told.says(what, "folder.fetch", "warning", words);
        assert!(twilio.changes().is_empty(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_the_folder_that_is_wrong_lets_no_other_folder_decide() {
    let twilio = twilio(vec![number(4, "+15550100004")]).await;
    for url in ["http://git.example.com/a.tar.gz", "htps://git.example.com/a.tar.gz"] {
        let told = place(&twilio, url).doctor(&["--fix"]).await;
        let words = ["the numbers are not compared: ASSISTANTS_URL says who answers them", "", "mend"];
        told.says(url, "number.list", "warning", words);
        told.silent(url, &["number.voice_url", "number.no_fallback", "number.ok"]);
    }
    let gone = place(&twilio, "htps://git.example.com/a.tar.gz");
    std::fs::remove_dir_all(gone.folder.path().join("assistants")).unwrap();
    gone.doctor(&[]).await.says(
        "no folder here",
        "folder.check",
        "warning",
        ["", "down at a start", "folder here too"],
    );
    let place = place(&twilio, "").without("ASSISTANTS_URL");
    place
        .file("switchboard.yaml", "rust_log: \"info\nassistants_url: \"https://git.example.com/a.tar.gz\"\n");
    let told = place.doctor(&["--fix"]).await;
    told.silent("an open quote", &["number.voice_url", "number.no_fallback", "number.ok"]);
    assert!(twilio.changes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_only_stands_in_is_no_error() {
    let twilio = twilio(vec![number(3, "+15550100003")]).await;
    let place = place(&twilio, &archive_host("numbers: [\"+15550100003\"]\ninstructions: Hi.\n"));
    place.file("assistants/old.yaml", "instrctions: Hi.\n");
    let told = place.doctor(&[]).await;
    let words = ["assistants has ", "while the host of ASSISTANTS_URL is down at a start", "check"];
    told.says("the folder here", "folder.check", "warning", words);
    assert!(told.all("folder.check").iter().all(|finding| finding["severity"] != "error"), "{}", told.out);
    let words = ["which `clinic` answers: it rings", "", "--fix"];
    told.says("by the one that is in force", "number.voice_url", "error", words);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_listed_and_set_by_the_folder_that_is_in_force() {
    let twilio = twilio(vec![number(3, "+15550100003"), number(4, "+15550100004")]).await;
    let place = place(&twilio, &archive_host("numbers: [\"+15550100003\"]\ninstructions: Hi.\n"));
    let before = twilio.number("+15550100004");
    for old in ["an old folder", "no folder"] {
        let told = place.run(&["numbers", "list"]).await;
        assert_eq!((told.code, told.err.as_str()), (0, ""), "{old}: {}", told.out);
        let rows = told.out.lines().filter(|line| line.starts_with('+'));
        let answered: Vec<_> = rows.filter_map(|row| row.split_whitespace().nth(2)).collect();
        assert_eq!(answered, ["clinic", "nobody"], "{old}: {}", told.out);
        let told = place.run(&["numbers", "sync"]).await;
        assert!(
            told.out.contains("+15550100003 (clinic):") && !told.out.contains("00004"),
            "{old}: {}",
            told.out
        );
        std::fs::remove_dir_all(place.folder.path().join("assistants")).ok();
    }
    let told = place.run(&["numbers", "sync", "--apply"]).await;
    assert_eq!((told.code, told.err.as_str()), (0, ""), "{}", told.out);
    assert_eq!(twilio.number("+15550100003")["voice_url"], "https://phone.example.com/incoming-call");
    assert_eq!(twilio.number("+15550100004"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_folder_in_force_no_number_is_listed_or_set() {
    let down = Proxy::start(Habit::Says("503 Service Unavailable", "", "")).await;
    for (what, url, words) in [
        ("nothing fetched", down.url.clone(), ["was not fetched: ASSISTANTS_URL (`", "of its own (503)"]),
        (
            "a folder with errors",
            archive_host("instrctions: Hi.\n"),
            ["ASSISTANTS_URL/assistants/clinic.yaml:1:1: error: ", "`instrctions`"],
        ),
    ] {
        let twilio = twilio(vec![number(4, "+15550100004")]).await;
        let place = place(&twilio, &url);
        for arguments in [&["numbers", "list"][..], &["numbers", "sync", "--apply"]] {
            let told = place.run(arguments).await;
            assert_eq!((told.code, told.out.as_str()), (1, ""), "{what}: {}", told.err);
            assert!(words.iter().all(|word| told.err.contains(word)), "{what}: {}", told.err);
            assert!(!told.err.contains("tried again"), "{what}: {}", told.err);
        }
        assert!(twilio.requests().is_empty(), "{what}");
    }
}
