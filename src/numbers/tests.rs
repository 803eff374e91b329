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

/// Without a problem.
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
    let rows = compare(vec![owned], &roster(&[("desk", "[\"+15550100001\"]")]), Some(urls), &|_| None);
    assert_eq!(rows.len(), 1);
    rows.into_iter().next().unwrap()
}

#[test]
fn each_problem_has_a_code_and_the_change_that_fixes_it() {
    type Edit = fn(&mut Number);
    let text = |text: &str| Some(text.to_owned());
    let cases: Vec<(&str, Edit, &[&str], Change)> = vec![
        ("all is right", |_| {}, &[], Change::default()),
        (
            "no voice URL",
            |number| number.voice_url = None,
            &["number.voice_url"],
            Change { voice_url: text(VOICE), ..Change::default() },
        ),
        (
            "another voice URL",
            |number| number.voice_url = Some("https://demo.twilio.com/welcome/voice/".to_owned()),
            &["number.voice_url"],
            Change { voice_url: text(VOICE), ..Change::default() },
        ),
        (
            "a fragment changes nothing",
            |number| number.voice_url = Some(format!("{VOICE}#rt=5000&rc=2")),
            &[],
            Change::default(),
        ),
        (
            "a longer path is another address",
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
            "no status callback",
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
            "no voice capability",
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
        assert_eq!(row.problems.iter().map(Problem::code).collect::<Vec<_>>(), codes, "{what}");
        assert_eq!(row.change, change, "{what}");
    }
}

#[test]
fn without_functions_a_fallback_is_left_alone() {
    let other = Some("https://elsewhere.example.com/fallback".to_owned());
    let row = only(Number { fallback_url: other, ..right(OURS) }, &urls(false));
    assert_eq!((row.problems, row.change.is_empty()), (vec![], true));
    let row = only(Number { fallback_url: None, ..right(OURS) }, &urls(false));
    assert_eq!((row.problems, row.change.is_empty()), (vec![Problem::NoFallback], true));
}

#[test]
fn an_allowlist_in_front_is_never_removed() {
    let front = "https://switchboard-1234-dev.twil.io/allowlist-function";
    let guarded = Number { voice_url: Some(front.to_owned()), fallback_url: None, ..right(OURS) };
    let row = only(guarded.clone(), &urls(false));
    assert_eq!(row.problems, [Problem::FunctionInFront, Problem::NoFallback]);
    assert_eq!(row.to_apply(&urls(false), true).unwrap().voice_url, None);
    // If our Functions are known, another one is just another address.
    let row = only(guarded, &urls(true));
    assert_eq!(row.change.voice_url.as_deref(), Some(VOICE));
}

#[test]
fn a_number_that_points_at_a_tunnel_is_left_alone_until_it_is_taken_back() {
    let is = "https://four-random-words-here.trycloudflare.com/incoming-call";
    let rings = Number { voice_url: Some(is.to_owned()), status_callback: None, ..right(OURS) };
    let row = only(rings.clone(), &urls(false));
    assert_eq!(row.problems, [Problem::Tunnel { is: is.to_owned() }]);
    assert!(row.change.is_empty() && row.to_apply(&urls(false), false).is_err());
    assert_eq!(row.to_apply(&urls(false), true).unwrap().voice_url.as_deref(), Some(VOICE));
    // The allowlist will be in front.
    let row = only(rings.clone(), &urls(true));
    assert_eq!(row.change.voice_url.as_deref(), Some(VOICE));
    // It is the tunnel to this server.
    let ours = NumberUrls { voice: is.to_owned(), ..urls(false) };
    assert_eq!(only(rings.clone(), &ours).problems[0].code(), "number.status_callback");
    // Another tunnel replaces it.
    let next = "https://four-other-words-here.trycloudflare.com/incoming-call";
    let next = NumberUrls { voice: next.to_owned(), ..urls(false) };
    assert_eq!(only(rings, &next).problems[0].code(), "number.voice_url");
    // A query does not make a tunnel.
    let other = format!("https://other.example.com/voice?from={is}");
    let row = only(Number { voice_url: Some(other), ..right(OURS) }, &urls(false));
    assert_eq!(row.change.voice_url.as_deref(), Some(VOICE));
}

#[test]
fn what_a_tunnel_remembers_decides_whether_its_number_may_be_taken_back() {
    let is = "https://four-random-words-here.trycloudflare.com/incoming-call";
    let allowlist = "https://switchboard-1234-dev.twil.io/allowlist-function";
    let rings = Number { voice_url: Some(is.to_owned()), ..right(OURS) };
    let roster = roster(&[("desk", "[\"+15550100001\"]")]);
    for (open, before, expected, may) in [
        (true, None, Problem::OpenTunnel, false),
        (false, Some(allowlist), Problem::GuardedTunnel { is: is.to_owned() }, false),
        (false, Some(VOICE), Problem::Tunnel { is: is.to_owned() }, true),
        (false, None, Problem::Tunnel { is: is.to_owned() }, true),
    ] {
        let remembered = |_: &Number| Some(Memory { open, before: before.map(str::to_owned) });
        let rows = compare(vec![rings.clone()], &roster, Some(&urls(false)), &remembered);
        assert_eq!(rows[0].problems, [expected]);
        assert_eq!(rows[0].to_apply(&urls(false), true).is_ok(), may, "{:?}", rows[0].problems);
    }
}

#[test]
fn a_number_is_reported_by_who_answers_it() {
    let roster =
        roster(&[("desk", "[\"+15550100001\", \"+15550100003\", \"+12025550123\"]"), ("rest", "[]")]);
    let stranger = Number { voice_url: Some("https://example.com/".to_owned()), ..right("+15550100002") };
    let strays = right("+15550100004");
    let rows = compare(vec![strays, stranger, right(OURS)], &roster, Some(&urls(true)), &|_| None);
    let found: Vec<_> = rows
        .iter()
        .map(|row| {
            let codes: Vec<_> = row.problems.iter().map(Problem::code).collect();
            assert!(row.change.is_empty(), "{row:?}");
            (row.number.expose(), row.answered.assistant(), codes)
        })
        .collect();
    assert_eq!(
        found,
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
fn a_star_answers_what_no_file_lists() {
    let roster = roster(&[("desk", "[\"+15550100001\"]"), ("rest", "[\"*\"]")]);
    let rows = compare(vec![right(OURS), right("+15550100002")], &roster, None, &|_| None);
    let answered: Vec<_> = rows.into_iter().map(|row| row.answered).collect();
    assert_eq!(answered, [Answered::ByEntry("desk".to_owned()), Answered::ByStar("rest".to_owned())]);
}

#[test]
fn without_urls_addresses_are_not_compared() {
    let number = Number { voice_url: None, trunk: Some("TK1".to_owned()), ..right(OURS) };
    let rows = compare(vec![number], &roster(&[("desk", "[\"+15550100001\"]")]), None, &|_| None);
    assert_eq!(rows[0].problems, [Problem::Trunk]);
    assert!(rows[0].change.is_empty());
}

#[test]
fn no_message_shows_a_number_a_password_or_a_query() {
    let is = "https://me:hunter2@example.com/15550100009/voice?key=hunter2";
    let row = only(Number { voice_url: Some(is.to_owned()), ..right(OURS) }, &urls(true));
    let message = row.problems[0].message();
    assert!(message.contains("https://•••@example.com/"), "{message}");
    assert!(!message.contains("hunter2") && !message.contains("0100009"), "{message}");
    let whole = whole_url("https://me:hunter2@example.com/voice?key=1\u{1b}");
    assert_eq!(whole, "https://me:xxx@example.com/voice?key=1");
    assert_eq!(whole_url("not an address\u{1b}[2J"), "not an address[2J");
}

#[test]
fn private_addresses_are_unreachable() {
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
        assert!(unreachable(url).is_some(), "{url}");
    }
    for end in ["internal", "flycast", "local", "localhost", "lan", "home.arpa", "Test", "invalid."] {
        assert!(unreachable(&format!("https://phone.{end}/x")).is_some(), "{end}");
    }
    // 100.64.0.0/10 is shared by customers of one provider.
    for (second, is_shared) in [(63, false), (64, true), (127, true), (128, false)] {
        assert_eq!(unreachable(&format!("https://100.{second}.0.1")).is_some(), is_shared, "{second}");
    }
    for url in [
        "https://phone.example.com",
        "https://phone.example.com:8443/x",
        "https://203.0.113.7",
        "https://internal.example.com",
        "https://mytest.example.com",
        "https://[::ffff:203.0.113.7]",
    ] {
        assert_eq!(unreachable(url), None, "{url}");
    }
}
