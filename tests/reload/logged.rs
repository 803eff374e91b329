//! What is logged and counted for an edit, good and bad.

use std::fs;
use std::time::{Duration, Instant};

use switchboard::reload::Pace;

use crate::server::{PANICS, SAVE, Switchboard, assistant, write};

const REJECTED: &str = "switchboard_reloads_total{outcome=\"rejected\"}";
const APPLIED: &str = "switchboard_reloads_total{outcome=\"applied\"}";
const FIXED: &str = "switchboard_reloads_total{outcome=\"fixed\"}";
const PROBLEMS: &str = "switchboard_roster_problems";

#[tokio::test]
async fn a_panic_of_the_watcher_is_logged_once_and_it_watches_again() {
    let pace = Pace { poll: Duration::from_millis(100), ..Pace::default() };
    let mut switchboard = Switchboard::with(pace, |root| {
        write(&root.join("assistants/a.yaml"), assistant("one"));
        root.join("assistants")
    })
    .await;
    for number in 1..=2 {
        fs::write(switchboard.dir.join(format!("{PANICS}{number}.yaml")), assistant("trouble")).unwrap();
        switchboard.line(&format!("{PANICS}{number}")).await;
        let words = format!("edit {number}");
        fs::write(switchboard.dir.join("a.yaml"), assistant(&words)).unwrap();
        switchboard.says("a", &words, Instant::now(), SAVE).await;
    }
    assert_eq!(switchboard.count("ERROR"), 1, "{:#?}", switchboard.lines());
    switchboard.quit().await;
}

#[tokio::test]
async fn a_bad_edit_changes_nothing_and_is_logged_once() {
    let mut switchboard = Switchboard::open().await;
    assert_eq!(switchboard.metric(APPLIED), 1.0);
    let bad = "instructions: Hi {{ nowhere }}.\nvoise: cedar\n";
    fs::write(switchboard.dir.join("a.yaml"), bad).unwrap();
    write(&switchboard.dir.join("b.yaml"), assistant("b"));
    switchboard.problems(2).await;
    assert_eq!(switchboard.standing.borrow().generation, 2);
    assert!(
        switchboard.text("a").contains("one") && switchboard.roster.borrow().len() == 1,
        "no part is in force"
    );
    switchboard.line("errors=2").await;
    let lines = switchboard.lines();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(lines[0].contains("a.yaml:1:21: error") && lines[0].contains("nowhere"), "{lines:#?}");
    assert!(lines[1].contains("a.yaml:2:1: error") && lines[1].contains("voise"), "{lines:#?}");
    assert!(lines.iter().all(|line| line.starts_with("ERROR")), "{lines:#?}");
    assert_eq!((switchboard.metric(REJECTED), switchboard.metric(PROBLEMS)), (1.0, 2.0));

    // The same edit is not logged again.
    fs::write(switchboard.dir.join("a.yaml"), bad).unwrap();
    switchboard.nothing_happens().await;
    assert_eq!(switchboard.metric(REJECTED), 1.0);

    // Another file breaks: only that is logged.
    write(&switchboard.dir.join("c.yaml"), "instructions: Hi.\nspeed: fast\n");
    switchboard.problems(3).await;
    switchboard.line("errors=3").await;
    let lines = switchboard.lines().split_off(3);
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].contains("c.yaml:2:8"), "{lines:#?}");
    assert_eq!((switchboard.metric(REJECTED), switchboard.metric(PROBLEMS)), (2.0, 3.0));

    // One of two is fixed: the rest is not logged again, but counted.
    fs::remove_file(switchboard.dir.join("c.yaml")).unwrap();
    switchboard.problems(2).await;
    switchboard.line("errors=2").await;
    assert_eq!(switchboard.count(" error: "), 3, "{:#?}", switchboard.lines());

    // All is fixed, and that is logged too.
    fs::write(switchboard.dir.join("a.yaml"), assistant("two")).unwrap();
    switchboard.says("a", "two", Instant::now(), SAVE).await;
    switchboard.generation(3).await;
    assert_eq!(switchboard.standing.borrow().problems, 0);
    switchboard.line("passes again").await;
    assert!(
        switchboard.line("reloaded").await.contains("added b; changed a (instructions)"),
        "{:#?}",
        switchboard.lines()
    );
    assert_eq!((switchboard.metric(APPLIED), switchboard.metric(PROBLEMS)), (2.0, 0.0));
    assert!(switchboard.metric("switchboard_reload_last_success_timestamp_seconds") > 1.7e9);
    switchboard.quit().await;
}

#[tokio::test]
async fn a_bad_edit_that_is_taken_back_is_not_a_reload() {
    let mut switchboard = Switchboard::open().await;
    fs::write(switchboard.dir.join("a.yaml"), "instructions: [\n").unwrap();
    switchboard.problems(1).await;
    fs::write(switchboard.dir.join("a.yaml"), assistant("one")).unwrap();
    switchboard.problems(0).await;
    switchboard.line("passes again").await;
    assert_eq!(switchboard.count("reloaded"), 0);
    assert_eq!(switchboard.standing.borrow().generation, 2);
    assert_eq!(
        (switchboard.metric(FIXED), switchboard.metric(APPLIED), switchboard.metric(PROBLEMS)),
        (1.0, 1.0, 0.0)
    );
    switchboard.quit().await;
}

#[tokio::test]
async fn an_equal_file_is_not_a_reload() {
    let mut switchboard = Switchboard::open().await;
    let before = switchboard.roster.borrow().clone();
    fs::write(switchboard.dir.join("a.yaml"), assistant("one")).unwrap();
    fs::write(switchboard.dir.join("notes.txt"), "no file of ours").unwrap();
    switchboard.nothing_happens().await;
    fs::write(switchboard.dir.join("a.yaml"), format!("# A comment\n\n{}", assistant("one"))).unwrap();
    write(&switchboard.dir.join("fragments/unused.md"), "Nobody says this.");
    switchboard.nothing_happens().await;
    assert!(std::sync::Arc::ptr_eq(&before, &switchboard.roster.borrow()), "the same roster is in force");
    assert_eq!(
        (switchboard.lines().len(), switchboard.metric(APPLIED)),
        (0, 1.0),
        "{:#?}",
        switchboard.lines()
    );
    switchboard.quit().await;
}

#[tokio::test]
async fn changes_are_logged_by_name_and_never_by_value() {
    let mut switchboard = Switchboard::with(Pace::default(), |root| {
        let dir = root.join("assistants");
        let rules = "fragments: [rules]\n";
        let greets = "greeting: { play: hello.wav, say: Hello. }\n";
        write(&dir.join("fragments/rules.md"), "Rules of one.");
        write(&dir.join("greetings/hello.wav"), wav(100));
        write(&dir.join("sounds/clinic-moment.wav"), wav(100));
        write(&dir.join("clinic.yaml"), assistant("one") + rules);
        write(&dir.join("desk.yaml"), assistant("one") + rules);
        write(&dir.join("shop.yaml"), assistant("one") + greets);
        write(&dir.join("plain.yaml"), assistant("one"));
        dir
    })
    .await;
    let mut generation = 2;
    let mut edit = async |what: &str, edits: &[(&str, Option<Vec<u8>>)]| {
        for (file, text) in edits {
            match text {
                Some(text) => write(&switchboard.dir.join(file), text),
                None => fs::remove_file(switchboard.dir.join(file)).unwrap(),
            }
        }
        generation += 1;
        switchboard.generation(generation).await;
        let line = switchboard.line(&format!("generation={generation}")).await;
        assert!(line.starts_with("INFO"), "{line}");
        assert!(line.contains(&format!("changes={what}")), "`{what}` is not in {line}");
    };
    let text = |text: &str| Some(text.as_bytes().to_vec());
    edit("changed clinic (fragments), desk (fragments)", &[("fragments/rules.md", text("Rules of two."))])
        .await;
    edit("changed shop (greeting)", &[("greetings/hello.wav", Some(wav(200)))]).await;
    edit("changed clinic (sounds)", &[("sounds/clinic-moment.wav", Some(wav(200)))]).await;
    let more = "model: gpt-realtime-2.1-mini\nvoice: cedar\nnumbers: [\"+15550100007\"]\n\
                variables: { x: \"${SECRET}\" }\nlimits: { call: 7m }\n";
    edit(
        "added new; removed desk; changed plain (numbers, model, voice, variables, instructions, limits)",
        &[
            ("new.yaml", text(&assistant("hunter2value"))),
            ("desk.yaml", None),
            ("plain.yaml", text(&(assistant("two") + more))),
        ],
    )
    .await;
    switchboard.quit().await;
}

#[tokio::test]
async fn a_new_warning_is_logged_once() {
    let mut switchboard = Switchboard::open().await;
    fs::write(switchboard.dir.join("a.yaml"), assistant("one") + "temperature: 0.8\n").unwrap();
    let line = switchboard.line("a.yaml:2").await;
    assert!(line.starts_with("WARN") && line.contains("temperature"), "{line}");
    fs::write(switchboard.dir.join("a.yaml"), assistant("two") + "temperature: 0.8\n").unwrap();
    switchboard.says("a", "two", Instant::now(), SAVE).await;
    assert_eq!(switchboard.count("WARN"), 1, "{:#?}", switchboard.lines());
    switchboard.quit().await;
}

#[tokio::test]
async fn changed_settings_are_logged_by_name() {
    let mut switchboard = Switchboard::with(Pace::default(), |root| {
        write(&root.join("assistants/a.yaml"), assistant("one"));
        write(&root.join("switchboard.yaml"), "port: 5051\n");
        root.join("assistants")
    })
    .await;
    let file = switchboard.root().join("switchboard.yaml");
    fs::write(&file, "port: 5052\nmax_calls: 7\ntwilio_auth_token: \"${SECRET}\"\n").unwrap();
    switchboard.line("settings=twilio_auth_token, port, max_calls").await;
    // It is logged once, even if the assistants change.
    fs::write(switchboard.dir.join("a.yaml"), assistant("two")).unwrap();
    switchboard.says("a", "two", Instant::now(), SAVE).await;
    switchboard.nothing_happens().await;
    assert_eq!(switchboard.count("settings="), 1, "{:#?}", switchboard.lines());
    fs::write(&file, "prot: 5052\n").unwrap();
    switchboard.line("`prot`").await;
    fs::write(&file, "port: 5051 # as before\n").unwrap();
    switchboard.line("INFO The settings file").await;
    assert_eq!(switchboard.standing.borrow().problems, 0, "they are no problems of the assistants");
    switchboard.quit().await;
}

/// One second of a tone at 8 kHz.
fn wav(samples: u32) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
    for at in 0..8_000 {
        writer.write_sample(if at % samples < samples / 2 { 9_000_i16 } else { -9_000 }).unwrap();
    }
    writer.finalize().unwrap();
    bytes.into_inner()
}
