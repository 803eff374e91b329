//! What owners read.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use super::*;
use crate::assistant::language::{ALL, Words};
use crate::assistant::plan::Occasion;
use crate::record::{CallRecord, Ended, Entry, Form, REASONS, Rang, Recorder, Transfer, What};

const CALLER: &str = "+15550100007";

fn reader(code: &str) -> Reader {
    Reader { words: Words::of(code).unwrap(), zone: TimeZone::get("Europe/Berlin").unwrap() }
}

fn record(reason: &str, more: Vec<What>) -> CallRecord {
    let mut recorder = Recorder::new("01KB0000000000000000000000".into());
    let rang = Rang {
        call: "CA00000000000000000000000000000001".to_owned(),
        at: "2026-11-30T13:05:09.12Z".parse().unwrap(),
        assistant: Some("clinic".to_owned()),
        assistant_version: None,
        from: Some("+1••••••••07".to_owned()),
        to: Some("+15550100001".to_owned()),
        caller: None,
        numberless: false,
        test: false,
        simulated: false,
        keep_until: None,
    };
    let ended = Ended { reason: reason.to_owned(), seconds: 125.4, longest_silence_ms: 0 };
    for what in [What::Rang(rang)].into_iter().chain(more).chain([What::Ended(ended)]) {
        recorder.add(Entry { at_ms: 0, what });
    }
    recorder.record()
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(map) = value else { panic!("{value} is no object") };
    map
}

fn left(fields: Value, caller: Option<&PhoneNumber>, reader: &Reader) -> Content {
    message(Left {
        id: "msg_1",
        call: &CallSid::parse("CA00000000000000000000000000000001").unwrap(),
        assistant: "clinic",
        caller,
        called: Some(&PhoneNumber::parse("+15550100001").unwrap()),
        fields: object(fields),
        at: "2026-11-30T13:05:09Z".parse().unwrap(),
        reader,
    })
}

fn transferred(outcome: &str) -> What {
    What::Transferred(Transfer { target: "reception".to_owned(), outcome: outcome.to_owned() })
}

fn filled() -> What {
    What::Form(Form {
        outcome: "ok".to_owned(),
        summary: Some("Ann wants an appointment.".to_owned()),
        fields: Some(object(json!({ "urgent": true }))),
    })
}

fn taken(fields: Value) -> Taken {
    Taken { id: Some("msg_1".to_owned()), fields: Some(object(fields)), failed: None }
}

#[test]
fn a_message_is_readable() {
    let caller = PhoneNumber::parse(CALLER).unwrap();
    let fields = json!({ "name": "Ann Example", "reason": "Toothache", "times": ["Monday, 9:00", "Friday"] });
    let content = left(fields.clone(), Some(&caller), &reader("en"));
    assert_eq!(content.subject, "clinic: Message from +15550100007");
    insta::assert_snapshot!(content.text, @r"
    name: Ann Example
    reason: Toothache
    times:
      - Monday, 9:00
      - Friday

    Caller: +15550100007
    Called: +15550100001
    Time: Monday, 30 November 2026, 14:05
    Assistant: clinic
    ");
    insta::assert_snapshot!(content.short, @r"
    clinic: Message from +15550100007
    name: Ann Example
    reason: Toothache
    times:
      - Monday, 9:00
      - Friday
    Time: Monday, 30 November 2026, 14:05
    ");
    assert_eq!(
        (&content.event["type"], &content.event["data"]["fields"]),
        (&json!("message.taken"), &fields)
    );
    let withheld = left(json!({}), None, &reader("pl"));
    assert_eq!(withheld.subject, "clinic: Wiadomość od zastrzeżonego numeru");
}

#[test]
fn a_notification_is_readable_in_the_owners_language() {
    let record = record("model.lost", vec![transferred("sent"), transferred("no_answer"), filled()]);
    let reader = reader("de");
    let content = notification(&Told {
        record: &record,
        caller: Who::Known(CALLER),
        messages: &[taken(json!({ "name": "Ann Example" }))],
        form: Some("ok"),
        also_refused: 0,
        reader: &reader,
    });
    assert_eq!(content.subject, "clinic: Gescheiterter Anruf von +15550100007");
    insta::assert_snapshot!(content.text);
    insta::assert_snapshot!("short", content.short);
    insta::assert_snapshot!("event", serde_json::to_string_pretty(&content.event).unwrap());
}

#[test]
fn what_is_left_of_a_call_in_its_record_is_told_under_the_same_id() {
    let reader = reader("en");
    let record = record("server.fault", vec![What::Message { id: "msg_1".to_owned() }]);
    let live = notification(&Told {
        record: &record,
        caller: Who::Known(CALLER),
        messages: &[taken(json!({ "name": "Ann" }))],
        form: Some("failed"),
        also_refused: 0,
        reader: &reader,
    });
    let after = of_record(&record, &reader).unwrap();
    assert_eq!(after.event["id"], live.event["id"]);
    assert_eq!(after.event["id"], notification_id(&record.id));
    assert_eq!(live.event["data"]["failures"], json!(["server.fault", "form.failed"]));
    assert!(after.text.contains(reader.words.labels.separately), "{}", after.text);
    let nobody = CallRecord { assistant: None, ..record.clone() };
    let running = CallRecord { reason: None, ..record };
    assert!(of_record(&nobody, &reader).is_none() && of_record(&running, &reader).is_none());
}

#[test]
fn an_owner_hears_of_the_calls_that_are_wanted() {
    use Occasion::*;
    let fine = record("caller.hung_up", vec![transferred("sent")]);
    let lost = record("model.lost", Vec::new());
    let limit = record("limit.silence", Vec::new());
    let passed_on = record("assistant.ended", vec![transferred("sent"), transferred("busy")]);
    let refused = record("refused.busy", Vec::new());
    for (when, call, left_message, wanted) in [
        (Always, &fine, false, true),
        (Always, &refused, false, false),
        (Message, &fine, true, true),
        (Message, &fine, false, false),
        (Failure, &lost, false, true),
        (Failure, &fine, true, false),
        (Failure, &limit, false, false),
        (Failure, &refused, false, false),
        (TransferFailed, &passed_on, false, true),
        (TransferFailed, &fine, false, false),
        (Refused, &refused, false, true),
        (Refused, &lost, false, false),
    ] {
        assert_eq!(is_wanted(&[when], call, left_message), wanted, "{when:?} {:?}", call.reason);
    }
    assert!(is_wanted(&[Refused, Failure], &lost, false) && !is_wanted(&[], &lost, true));
}

#[test]
fn every_language_has_every_label_in_its_own_words() {
    /// Words that are the same in several of these languages.
    const SHARED: usize = 14;
    let english = format!("{:?}", Words::ENGLISH.labels);
    let labels = |printed: &str| -> Vec<(String, String)> {
        let rows = printed.split("\", ").filter_map(|row| row.split_once(": \""));
        rows.map(|(name, text)| (name.to_owned(), text.trim_end_matches("\" }").to_owned())).collect()
    };
    let english = labels(&english);
    assert!(english.len() >= 50, "{}", english.len());
    for words in &ALL {
        let own = labels(&format!("{:?}", words.labels));
        assert_eq!(own.len(), english.len());
        let all: BTreeSet<&str> = own.iter().map(|(_, text)| text.as_str()).collect();
        assert!(all.len() + 3 >= own.len(), "{}: two labels are the same", words.name);
        let same = own.iter().zip(&english).filter(|(own, english)| own == english).count();
        assert!(words == Words::ENGLISH || same < SHARED, "{}: {same} labels are English", words.name);
        for (name, text) in &own {
            assert!(
                !text.is_empty() && !text.ends_with('.') && text.trim() == text,
                "{}: {name}",
                words.name
            );
            assert_eq!(crate::invisible::find(text), None, "{}: {name}", words.name);
        }
        for reason in REASONS {
            assert!(words.labels.reason(reason.code).is_some(), "{}: {}", words.name, reason.code);
        }
    }
}

#[test]
fn an_alert_says_what_it_is_about() {
    let reader = reader("fr");
    for (code, well) in [
        ("provider_down", false),
        ("provider_down", true),
        ("quota", false),
        ("edit_rejected", false),
        ("edit_rejected", true),
        ("message_failed", false),
        ("cost_day_80", false),
        ("store_down", false),
        ("store_down", true),
        ("drain_failed", false),
    ] {
        let (about, details) = (Some("openai\r\nBcc: x@example.com"), "one\ntwo");
        let at = Timestamp::UNIX_EPOCH;
        let content = alert(&Alert { id: "alr_1", code, well, about, details, at, reader: &reader });
        let words = reader.words.labels.alert(code, well).unwrap();
        assert_eq!(content.subject, format!("Switchboard: {words}: openai Bcc: x@example.com"));
        assert!(content.text.contains("\n  one\n  two\n"), "{}", content.text);
        assert_eq!(content.event["data"]["well"], well);
    }
}

#[test]
fn a_form_has_its_own_id_and_no_outcome() {
    let reader = reader("it");
    let record = record("caller.hung_up", vec![filled()]);
    let What::Form(form_of_call) = filled() else { unreachable!() };
    let at = Timestamp::UNIX_EPOCH;
    let content =
        form(&Filled { record: &record, caller: Who::Withheld, form: &form_of_call, at, reader: &reader });
    assert_eq!(content.event["id"], "frm_01KB0000000000000000000000");
    assert_eq!(content.event["data"]["fields"], json!({ "urgent": true }));
    assert!(content.text.contains("urgent: sì"), "{}", content.text);
}

#[test]
fn words_of_a_caller_cannot_change_the_heading() {
    let hostile = "sip:a@example.com\r\nBcc: b@example.com\u{202e}\0\u{2028}{{ secret }}<b>";
    let record = record("refused.busy", vec![transferred(hostile)]);
    let reader = reader("en");
    let told = Told {
        record: &record,
        caller: Who::Known(hostile),
        messages: &[taken(json!({ "note": hostile.repeat(2_000), hostile: "x" }))],
        form: None,
        also_refused: 12,
        reader: &reader,
    };
    let content = notification(&told);
    assert_eq!(crate::invisible::find(&content.subject), None, "{}", content.subject);
    assert!(content.subject.chars().count() < 200);
    assert!(content.text.split('\n').all(|line| crate::invisible::find(line).is_none()));
    assert!(content.text.contains("{{ secret }}<b>"), "shown as it is");
    assert!(content.text.lines().all(|line| !line.starts_with("Bcc")), "{}", content.text);
    assert!(content.short.encode_utf16().count() <= 1_600);
    assert_eq!(content.event["data"]["also_refused"], 12);
}
