use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::assistant::Folder;
use crate::provider::Provider;
use crate::yaml::SourceFile;

const VOICE: &str = "https://phone.example.com/incoming-call";
const FALLBACK: &str = "https://functions.example.com/fallback-function";
const STATUS: &str = "https://phone.example.com/call-status";

fn urls(fallback: bool) -> NumberUrls {
    NumberUrls {
        voice: VOICE.to_owned(),
        fallback: fallback.then(|| FALLBACK.to_owned()),
        status: STATUS.to_owned(),
    }
}

/// As it should be.
fn right(number: &str) -> Number {
    Number {
        sid: "PN00000000000000000000000000000001".to_owned(),
        number: PhoneNumber::parse(number).unwrap(),
        friendly_name: String::new().into(),
        voice: true,
        voice_url: Some(VOICE.to_owned()),
        voice_method: "POST".to_owned(),
        fallback_url: Some(FALLBACK.to_owned()),
        fallback_method: "POST".to_owned(),
        status_callback: Some(STATUS.to_owned()),
        status_method: "POST".to_owned(),
        application: None,
        trunk: None,
    }
}

fn roster(files: &[(&str, &str)]) -> Roster {
    let file = |(name, numbers): &(&str, &str)| {
        let text = format!("numbers: {numbers}\ninstructions: You answer the phone.\n");
        SourceFile::new(format!("assistants/{name}.yaml"), text.into_bytes())
    };
    let folder = Folder { assistants: files.iter().map(file).collect(), ..Folder::default() };
    let provider = Provider::openai("wss://api.example.com/v1/realtime".to_owned(), None);
    Roster::check(&folder, &BTreeMap::new(), &[Arc::new(provider)]).roster.unwrap()
}

const OURS: &str = "+15550100001";

fn only(owned: Number, urls: &NumberUrls) -> Row {
    let rows = compare(vec![owned], &roster(&[("desk", "[\"+15550100001\"]")]), Some(urls));
    assert_eq!(rows.len(), 1);
    rows.into_iter().next().unwrap()
}

#[test]
fn each_thing_that_is_wrong_has_a_finding_and_what_mends_it() {
    type Edit = fn(&mut Number);
    let text = |text: &str| Some(text.to_owned());
    let cases: Vec<(&str, Edit, &[&str], Change)> = vec![
        ("all is right", |_| {}, &[], Change::default()),
        (
            "it rings nothing",
            |number| number.voice_url = None,
            &["number.voice_url"],
            Change { voice_url: text(VOICE), ..Change::default() },
        ),
        (
            "it rings something else",
            |number| number.voice_url = Some("https://demo.twilio.com/welcome/voice/".to_owned()),
            &["number.voice_url"],
            Change { voice_url: text(VOICE), ..Change::default() },
        ),
        (
            "Twilio's time limits behind a # change nothing",
            |number| number.voice_url = Some(format!("{VOICE}#rt=5000&rc=2")),
            &[],
            Change::default(),
        ),
        (
            "a path more is another address",
            |number| number.voice_url = Some(format!("{VOICE}/x")),
            &["number.voice_url"],
            Change { voice_url: text(VOICE), ..Change::default() },
        ),
        ("GET works", |number| number.voice_method = "GET".to_owned(), &["number.by_get"], Change::default()),
        (
            "no fallback",
            |number| number.fallback_url = None,
            &["number.fallback"],
            Change { fallback_url: text(FALLBACK), ..Change::default() },
        ),
        (
            "nobody tells of ends",
            |number| number.status_callback = None,
            &["number.status_callback"],
            Change { status_callback: text(STATUS), ..Change::default() },
        ),
        (
            "an application",
            |number| number.application = Some("AP1".to_owned()),
            &["number.application"],
            Change { take_back: true, ..Change::default() },
        ),
        (
            "a trunk, and the wrong address behind it",
            |number| {
                number.trunk = Some("TK1".to_owned());
                number.voice_url = None;
            },
            &["number.trunk", "number.voice_url"],
            Change { voice_url: text(VOICE), take_back: true, ..Change::default() },
        ),
        (
            "it cannot be called: nothing else matters",
            |number| {
                number.voice = false;
                number.voice_url = None;
            },
            &["number.no_voice"],
            Change::default(),
        ),
    ];
    for (what, edit, codes, change) in cases {
        let mut number = right(OURS);
        edit(&mut number);
        let row = only(number, &urls(true));
        assert_eq!(row.findings.iter().map(Finding::code).collect::<Vec<_>>(), codes, "{what}");
        assert_eq!(row.change, change, "{what}");
    }
}

#[test]
fn without_functions_a_fallback_is_left_and_none_is_a_note() {
    let other = Some("https://elsewhere.example.com/fallback".to_owned());
    let row = only(Number { fallback_url: other, ..right(OURS) }, &urls(false));
    assert_eq!((row.severity(), row.change.is_empty()), (None, true));
    let row = only(Number { fallback_url: None, ..right(OURS) }, &urls(false));
    assert_eq!((row.findings, row.change.is_empty()), (vec![Finding::NoFallback], true));
}

#[test]
fn an_allowlist_in_front_is_never_taken_away() {
    let front = "https://switchboard-1234-dev.twil.io/allowlist-function";
    let guarded = Number { voice_url: Some(front.to_owned()), fallback_url: None, ..right(OURS) };
    let row = only(guarded.clone(), &urls(false));
    assert_eq!(row.findings, [Finding::FunctionInFront, Finding::NoFallback]);
    assert_eq!(row.change.voice_url, None);
    // Where it is known which Functions are ours, another one's is another address.
    let row = only(guarded, &urls(true));
    assert_eq!(row.change.voice_url.as_deref(), Some(VOICE));
}

#[test]
fn what_was_in_front_of_a_tunnel_is_not_guessed() {
    let is = "https://four-random-words-here.trycloudflare.com/incoming-call";
    let rings = Number { voice_url: Some(is.to_owned()), status_callback: None, ..right(OURS) };
    let row = only(rings.clone(), &urls(false));
    assert_eq!(row.findings, [Finding::Tunnel { is: is.to_owned() }]);
    assert_eq!((row.severity(), row.change.is_empty()), (Some(Severity::Error), true));
    // The allowlist will be in front.
    let row = only(rings.clone(), &urls(true));
    assert_eq!(row.change.voice_url.as_deref(), Some(VOICE));
    // It is the tunnel to this server.
    let ours = NumberUrls { voice: is.to_owned(), ..urls(false) };
    assert_eq!(only(rings, &ours).findings[0].code(), "number.status_callback");
    // Only what begins so is one.
    let other = format!("https://other.example.com/voice?from={is}");
    let row = only(Number { voice_url: Some(other), ..right(OURS) }, &urls(false));
    assert_eq!(row.change.voice_url.as_deref(), Some(VOICE));
}

#[test]
fn a_forgotten_tunnel_makes_way_for_a_tunnel_alone() {
    let is = "https://four-random-words-here.trycloudflare.com/incoming-call";
    let should = "https://four-other-words-here.trycloudflare.com/incoming-call";
    let next = NumberUrls { voice: should.to_owned(), ..urls(false) };
    let rings = Number { voice_url: Some(is.to_owned()), ..right(OURS) };
    for (what, owned, urls, replaced) in [
        ("by a tunnel", rings.clone(), &next, true),
        ("by a server", rings.clone(), &urls(false), false),
        ("taken", Number { application: Some("AP1".to_owned()), ..rings }, &next, true),
    ] {
        let mut row = only(owned, urls);
        assert_eq!(row.findings.last().unwrap().code(), "number.tunnel", "{what}");
        let before = row.clone();
        row.replace_tunnel(urls);
        if replaced {
            let voice = Finding::VoiceUrl { is: Some(is.to_owned()), should: should.to_owned() };
            assert_eq!(row.findings.last(), Some(&voice), "{what}");
            assert_eq!(row.findings.len(), before.findings.len(), "{what}");
            assert_eq!(row.change.voice_url.as_deref(), Some(should), "{what}");
        } else {
            assert_eq!(row, before, "{what}");
        }
    }
    // What rings no tunnel is judged once.
    let mut row = only(Number { status_callback: None, ..right(OURS) }, &next);
    let before = row.clone();
    row.replace_tunnel(&next);
    assert_eq!(row, before);
}

#[test]
fn who_answers_decides_whose_business_a_number_is() {
    let roster =
        roster(&[("desk", "[\"+15550100001\", \"+15550100003\", \"+12025550123\"]"), ("rest", "[]")]);
    let stranger = Number { voice_url: Some("https://example.com/".to_owned()), ..right("+15550100002") };
    let strays = right("+15550100004");
    let rows = compare(vec![strays, stranger, right(OURS)], &roster, Some(&urls(true)));
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            let codes: Vec<_> = row.findings.iter().map(Finding::code).collect();
            assert!(row.change.is_empty(), "{row:?}");
            (row.number.expose(), row.answered.assistant(), codes)
        })
        .collect();
    assert_eq!(
        told,
        [
            ("+12025550123", Some("desk"), vec!["number.not_owned"]),
            ("+15550100001", Some("desk"), vec![]),
            ("+15550100002", None, vec!["number.unanswered"]),
            ("+15550100003", Some("desk"), vec!["number.example"]),
            ("+15550100004", None, vec!["number.rings_nobody"]),
        ]
    );
}

#[test]
fn a_star_answers_what_no_file_has() {
    let roster = roster(&[("desk", "[\"+15550100001\"]"), ("rest", "[\"*\"]")]);
    let rows = compare(vec![right(OURS), right("+15550100002")], &roster, None);
    let answered: Vec<_> = rows.into_iter().map(|row| row.answered).collect();
    assert_eq!(answered, [Answered::ByEntry("desk".to_owned()), Answered::ByStar("rest".to_owned())]);
}

#[test]
fn without_addresses_nothing_is_said_of_them() {
    let number = Number { voice_url: None, trunk: Some("TK1".to_owned()), ..right(OURS) };
    let rows = compare(vec![number], &roster(&[("desk", "[\"+15550100001\"]")]), None);
    assert_eq!(rows[0].findings, [Finding::Trunk]);
    assert!(rows[0].change.is_empty());
}

#[test]
fn no_sentence_holds_a_number_a_password_or_a_query() {
    let is = Some("https://me:hunter2@example.com/15550100009/voice?key=hunter2".to_owned());
    let finding = Finding::VoiceUrl { is, should: VOICE.to_owned() };
    let told = finding.to_string();
    assert!(told.starts_with("it rings https://•••@example.com/"), "{told}");
    assert!(!told.contains("hunter2") && !told.contains("0100009"), "{told}");
    let whole = whole_url("https://me:hunter2@example.com/voice?key=1\u{1b}");
    assert_eq!(whole, "https://me:xxx@example.com/voice?key=1");
    assert_eq!(whole_url("not an address\u{1b}[2J"), "not an address[2J");
}

#[test]
fn an_address_that_twilio_cannot_reach_is_known() {
    for url in [
        "http://127.0.0.1:5050",
        "https://localhost",
        "https://switchboard.local/x",
        "https://10.0.0.7",
        "https://192.168.1.2:8443",
        "https://[::1]:5050",
        "https://[fd00::1]",
        "https://intranet",
        "https://[::ffff:127.0.0.1]",
        "https://[::ffff:10.0.0.7]",
        "http://phone.example.com",
        "not an address",
    ] {
        assert!(out_of_reach(url).is_some(), "{url}");
    }
    for end in ["internal", "flycast", "local", "localhost", "lan", "home.arpa", "Test", "invalid."] {
        assert!(out_of_reach(&format!("https://phone.{end}/x")).is_some(), "{end}");
    }
    // What providers share among their customers is 100.64.0.0/10.
    for (second, is_shared) in [(63, false), (64, true), (127, true), (128, false)] {
        assert_eq!(out_of_reach(&format!("https://100.{second}.0.1")).is_some(), is_shared, "{second}");
    }
    for url in [
        "https://phone.example.com",
        "https://phone.example.com:8443/x",
        "https://203.0.113.7",
        "https://internal.example.com",
        "https://mytest.example.com",
        "https://[::ffff:203.0.113.7]",
    ] {
        assert_eq!(out_of_reach(url), None, "{url}");
    }
}
