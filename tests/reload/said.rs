//! What is said of an edit, good and bad, and what is not.

use std::fs;
use std::time::{Duration, Instant};

use switchboard::reload::Pace;

use crate::house::{House, PANICS, SAVE, assistant, write};

const HELD_BACK: &str = "switchboard_reloads_total{outcome=\"held_back\"}";
const APPLIED: &str = "switchboard_reloads_total{outcome=\"applied\"}";
const MENDED: &str = "switchboard_reloads_total{outcome=\"mended\"}";
const PROBLEMS: &str = "switchboard_roster_problems";

#[tokio::test]
async fn a_watcher_that_breaks_down_says_so_once_and_watches_again() {
    let pace = Pace { poll: Duration::from_millis(100), ..Pace::default() };
    let mut house = House::with(pace, |root| {
        write(&root.join("assistants/a.yaml"), assistant("one"));
        root.join("assistants")
    })
    .await;
    for number in 1..=2 {
        fs::write(house.dir.join(format!("{PANICS}{number}.yaml")), assistant("trouble")).unwrap();
        house.line(&format!("{PANICS}{number}")).await;
        let words = format!("edit {number}");
        fs::write(house.dir.join("a.yaml"), assistant(&words)).unwrap();
        house.says("a", &words, Instant::now(), SAVE).await;
    }
    assert_eq!((house.count("ERROR"), house.count("broke down")), (1, 1), "{:#?}", house.lines());
    house.quit().await;
}

#[tokio::test]
async fn a_bad_edit_changes_nothing_and_is_said_once() {
    let mut house = House::open().await;
    assert_eq!(house.metric(APPLIED), 1.0);
    let bad = "instructions: Hi {{ nowhere }}.\nvoise: cedar\n";
    fs::write(house.dir.join("a.yaml"), bad).unwrap();
    write(&house.dir.join("b.yaml"), assistant("b"));
    house.problems(2).await;
    assert_eq!(house.standing.borrow().generation, 2);
    assert!(house.text("a").contains("one") && house.roster.borrow().len() == 1, "nothing of it is in force");
    house.line("The edit is held back").await;
    let lines = house.lines();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(
        lines[0].contains("a.yaml:1:21: error: there is no name `nowhere`; did you mean `now`?"),
        "{lines:#?}"
    );
    assert!(
        lines[1].contains("a.yaml:2:1: error: there is no key `voise`; did you mean `voice`?"),
        "{lines:#?}"
    );
    assert!(lines[2].starts_with("WARN") && lines[2].contains("errors=2"), "{lines:#?}");
    assert_eq!((house.metric(HELD_BACK), house.metric(PROBLEMS)), (1.0, 2.0));

    // The same again is not said again.
    fs::write(house.dir.join("a.yaml"), bad).unwrap();
    house.nothing_happens().await;
    assert_eq!(house.metric(HELD_BACK), 1.0);

    // Another file breaks: only that is said.
    write(&house.dir.join("c.yaml"), "instructions: Hi.\nspeed: fast\n");
    house.problems(3).await;
    house.line("errors=3").await;
    let lines = house.lines().split_off(3);
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].contains("c.yaml:2:8"), "{lines:#?}");
    assert_eq!((house.metric(HELD_BACK), house.metric(PROBLEMS)), (2.0, 3.0));

    // One of two is mended: the rest is not said again, but counted.
    fs::remove_file(house.dir.join("c.yaml")).unwrap();
    house.problems(2).await;
    house.line("errors=2").await;
    assert_eq!(house.count("Problem in the folder"), 3, "{:#?}", house.lines());

    // All is mended, and that is said too.
    fs::write(house.dir.join("a.yaml"), assistant("two")).unwrap();
    house.says("a", "two", Instant::now(), SAVE).await;
    house.generation(3).await;
    assert_eq!(house.standing.borrow().problems, 0);
    house.line("The folder of assistants is mended").await;
    assert!(
        house.line("reloaded").await.contains("added b; changed a (instructions)"),
        "{:#?}",
        house.lines()
    );
    assert_eq!((house.metric(APPLIED), house.metric(PROBLEMS)), (2.0, 0.0));
    assert!(house.metric("switchboard_reload_last_success_timestamp_seconds") > 1.7e9);
    house.quit().await;
}

#[tokio::test]
async fn a_bad_edit_that_is_taken_back_is_mended_without_a_reload() {
    let mut house = House::open().await;
    fs::write(house.dir.join("a.yaml"), "instructions: [\n").unwrap();
    house.problems(1).await;
    fs::write(house.dir.join("a.yaml"), assistant("one")).unwrap();
    house.problems(0).await;
    house.line("is mended").await;
    assert_eq!(house.count("reloaded"), 0);
    assert_eq!(house.standing.borrow().generation, 2);
    assert_eq!((house.metric(MENDED), house.metric(APPLIED), house.metric(PROBLEMS)), (1.0, 1.0, 0.0));
    house.quit().await;
}

#[tokio::test]
async fn an_equal_file_is_no_reload() {
    let mut house = House::open().await;
    let before = house.roster.borrow().clone();
    fs::write(house.dir.join("a.yaml"), assistant("one")).unwrap();
    fs::write(house.dir.join("notes.txt"), "no file of ours").unwrap();
    house.nothing_happens().await;
    fs::write(house.dir.join("a.yaml"), format!("# A comment\n\n{}", assistant("one"))).unwrap();
    write(&house.dir.join("fragments/unused.md"), "Nobody says this.");
    house.nothing_happens().await;
    assert!(std::sync::Arc::ptr_eq(&before, &house.roster.borrow()), "the very same roster is in force");
    assert_eq!((house.lines().len(), house.metric(APPLIED)), (0, 1.0), "{:#?}", house.lines());
    house.quit().await;
}

#[tokio::test]
async fn what_changed_is_said_by_name_and_never_by_value() {
    let mut house = House::with(Pace::default(), |root| {
        let dir = root.join("assistants");
        let rules = "fragments: [rules]\n";
        let greets = "greeting: { play: hello.wav, say: Hello. }\n";
        write(&dir.join("fragments/rules.md"), "Rules of one.");
        write(&dir.join("greetings/hello.wav"), wav(100));
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
                Some(text) => write(&house.dir.join(file), text),
                None => fs::remove_file(house.dir.join(file)).unwrap(),
            }
        }
        generation += 1;
        house.generation(generation).await;
        let line = house.line(&format!("generation={generation}")).await;
        assert!(line.starts_with("INFO Assistants reloaded"), "{line}");
        assert!(line.contains(&format!("changes={what}")), "`{what}` is not in {line}");
    };
    let text = |text: &str| Some(text.as_bytes().to_vec());
    edit("changed clinic (fragments), desk (fragments)", &[("fragments/rules.md", text("Rules of two."))])
        .await;
    edit("changed shop (greeting)", &[("greetings/hello.wav", Some(wav(200)))]).await;
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
    house.quit().await;
}

#[tokio::test]
async fn a_new_warning_is_said_once() {
    let mut house = House::open().await;
    fs::write(house.dir.join("a.yaml"), assistant("one") + "temperature: 0.8\n").unwrap();
    let line = house.line("Oddity").await;
    assert!(line.contains("temperature") && line.contains("a.yaml:2"), "{line}");
    fs::write(house.dir.join("a.yaml"), assistant("two") + "temperature: 0.8\n").unwrap();
    house.says("a", "two", Instant::now(), SAVE).await;
    assert_eq!(house.count("Oddity"), 1, "{:#?}", house.lines());
    house.quit().await;
}

#[tokio::test]
async fn a_change_of_settings_is_said_by_name() {
    let mut house = House::with(Pace::default(), |root| {
        write(&root.join("assistants/a.yaml"), assistant("one"));
        write(&root.join("switchboard.yaml"), "port: 5051\n");
        root.join("assistants")
    })
    .await;
    let file = house.root().join("switchboard.yaml");
    fs::write(&file, "port: 5052\nmax_calls: 7\ntwilio_auth_token: \"${SECRET}\"\n").unwrap();
    let line = house.line("restart to apply").await;
    assert!(line.contains("settings=twilio_auth_token, port, max_calls"), "{line}");
    // Said once, also when the assistants change.
    fs::write(house.dir.join("a.yaml"), assistant("two")).unwrap();
    house.says("a", "two", Instant::now(), SAVE).await;
    house.nothing_happens().await;
    assert_eq!(house.count("restart to apply"), 1, "{:#?}", house.lines());
    fs::write(&file, "prot: 5052\n").unwrap();
    let line = house.line("a restart would fail").await;
    assert!(line.contains("there is no setting `prot`; did you mean `port`?"), "{line}");
    fs::write(&file, "port: 5051 # as before\n").unwrap();
    house.line("in force again").await;
    assert_eq!(house.standing.borrow().problems, 0, "they are no problems of the assistants");
    house.quit().await;
}

/// A second's part of a tone, at eight kilohertz.
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
