//! Valid and invalid folders of assistants, and the problems that are reported.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use switchboard::assistant::language::Language;
use switchboard::assistant::plan::{KeptNumbers, Nothing, Plan, RecordPolicy, SoundKey, Work};
use switchboard::assistant::{Checked, Facts, Folder, Roster, SourceFile};
use switchboard::phone::{Party, PhoneNumber};
use switchboard::problem::{self, Problem};
use switchboard::provider::{OPENAI_REALTIME_URL, Provider};
use switchboard::reload::read::read_folder;
use switchboard::settings::{Settings, Sources};

/// Values that no message may contain.
const SECRETS: [&str; 4] = ["hunter2value", "aHVudGVyMnZhbHVl", "15550100001", "15550177777"];

fn environment() -> BTreeMap<String, String> {
    let pairs = [
        ("SECRET_TEXT", "hunter2value {{ nowhere }}"),
        ("SECRET_VOICE", "hunter2value"),
        ("SECRET_NUMBER", "hunter2value"),
        ("SECRET_SPEED", "1550177777"),
        ("PLACEHOLDER_NUMBER", "+1555…"),
        ("GOOD_NUMBER", "+15550177777"),
        ("SAME_NUMBER", "+15550177777"),
        ("MESSAGES_SECRET", "whsec_aHVudGVyMnZhbHVlaHVudGVyMnZhbHVl"),
        ("SHORT_SECRET", "whsec_aHVudGVyMnZhbHVl"),
        ("QUOTED_TOKEN", "\"hunter2value\""),
        ("SCHEME_TOKEN", "bearer hunter2value"),
        ("EMPTY", ""),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// The providers that the cases use in addition to `openai`.
const PROVIDERS: &str = r#"
providers:
  xai:
    url: wss://xai.example.com/v1/realtime
    dialect: xai
    abilities:
      models: [{ name: grok-voice-latest, reasoning: true }]
      voices: [eve, ara]
      open_voices: true
  house:
    url: wss://voice.example.com/v1/realtime
    abilities: { models: [house-voice], voices: [anna, bert], temperature: [0, 1.5], reasoning: [], session: 20m }
"#;

fn check(folder: &Folder) -> Checked {
    let file = Some(SourceFile::new("switchboard.yaml", PROVIDERS));
    let settings = Settings::checked(&Sources { file, ..Sources::default() }).unwrap();
    Roster::check(folder, &environment(), &settings.providers())
}

/// Every case of a folder: a single file, or a folder that is read as the real one.
fn cases(kind: &str) -> Vec<(String, Folder)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/assistants").join(kind);
    let mut paths: Vec<PathBuf> = fs::read_dir(&root).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    let mut cases = Vec::new();
    for path in paths.iter().filter(|path| path.extension().is_none_or(|e| e != "snap")) {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut folder = match path.is_dir() {
            true => read_folder(path).unwrap(),
            false => Folder {
                assistants: vec![SourceFile::new(
                    path.file_name().unwrap().to_str().unwrap(),
                    fs::read(path).unwrap(),
                )],
                ..Folder::default()
            },
        };
        let Folder { assistants, fragments, greetings, sounds, .. } = &mut folder;
        for file in assistants.iter_mut().chain(fragments).chain(greetings).chain(sounds) {
            file.path = file.path.replace(&format!("{}/", path.display()), "");
        }
        cases.push((name, folder));
    }
    cases
}

fn facts(caller: &str) -> Facts {
    Facts {
        caller: Party::from_twilio(caller),
        called: Party::from_twilio("+15550100001"),
        call: "CA00000000000000000000000000000001".to_owned(),
        now: "2026-03-03T14:05:00Z".parse().unwrap(),
    }
}

/// Each case has a snapshot of places and codes. One snapshot has the sentences of all.
#[test]
fn every_invalid_file_is_explained() {
    let cases = cases("invalid");
    assert!(cases.len() >= 50, "only {} cases", cases.len());
    let mut sentences = String::new();
    let code = |problem: &Problem| {
        let place = problem.place.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{place}: {} {}\n", problem.severity().name(), problem.code())
    };
    insta::with_settings!({ snapshot_path => "assistants/invalid", prepend_module_to_snapshot => false, omit_expression => true }, {
        for (name, folder) in cases {
            let checked = check(&folder);
            let problems = checked.problems();
            assert!(!problems.is_empty(), "{name} has no problem");
            let plain = problem::plain(&problems);
            let everything = format!("{plain}{}{problems:?}{checked:?}", problem::pretty(&problems));
            for secret in SECRETS {
                assert!(!everything.contains(secret), "{name} shows {secret}:\n{everything}");
            }
            sentences.push_str(&format!("{name}\n\n{plain}\n"));
            insta::assert_snapshot!(name, problems.iter().map(code).collect::<String>());
        }
    });
    insta::assert_snapshot!(sentences);
}

/// The text in a fragment's file cannot be used: that alone is reported, and not that the fragment does not exist.
#[test]
fn a_fragment_that_cannot_be_used_is_one_problem() {
    type Make = fn(&Path);
    let makes: [(&str, Make); 5] = [
        ("file.large", |at| fs::write(at, vec![b'a'; 300 * 1024]).unwrap()),
        ("file.encoding", |at| fs::write(at, b"caf\xE9").unwrap()),
        ("file.encoding", |at| fs::write(at, b"\xFF\xFEa\0").unwrap()),
        ("file.unreadable", |at| fs::create_dir(at).unwrap()),
        ("file.unreadable", |at| drop(std::os::unix::net::UnixListener::bind(at).unwrap())),
    ];
    for (code, make) in makes {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("a.yaml"), "instructions: Hi.\nfragments: [f]\n").unwrap();
        fs::create_dir(temp.path().join("fragments")).unwrap();
        make(&temp.path().join("fragments/f.md"));
        let checked = check(&read_folder(temp.path()).unwrap());
        let problems = checked.problems();
        let found: Vec<_> = problems.iter().map(|problem| (problem.code(), problem.path())).collect();
        let path = temp.path().join("fragments/f.md").display().to_string();
        assert_eq!(found, [(code, path.as_str())]);
        assert_eq!(checked.problems_for("a").len(), 1, "it is a problem of the assistant, too");
    }
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("a.yaml")).unwrap();
    let problems = check(&read_folder(temp.path()).unwrap()).problems();
    assert_eq!(problems.iter().map(Problem::code).collect::<Vec<_>>(), ["file.unreadable"]);
}

#[test]
fn every_valid_file_passes_without_a_problem() {
    let cases = cases("valid");
    assert!(cases.len() >= 8, "only {} cases", cases.len());
    for (name, folder) in cases {
        let checked = check(&folder);
        assert_eq!(problem::plain(&checked.problems()), "", "{name}");
        let roster = checked.roster.unwrap();
        for assistant in roster.iter() {
            for caller in ["+15550109999", "anonymous", "client:bob", "+441632960000"] {
                assistant.plan(&facts(caller), &Nothing).unwrap();
            }
        }
    }
}

#[test]
fn the_shipped_folder_passes_and_greets() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("assistants");
    let provider = Arc::new(Provider::openai(OPENAI_REALTIME_URL, None));
    let checked = Roster::check(&read_folder(&dir).unwrap(), &BTreeMap::new(), &[provider]);
    assert_eq!(problem::plain(&checked.problems()), "");
    let roster = checked.roster.unwrap();
    let say = |name: &str| {
        let plan = roster.by_name(name).unwrap().plan(&facts("+15550109999"), &Nothing).unwrap();
        assert!(plan.tools.iter().any(|tool| tool.work == Work::EndCall), "{name}");
        assert!(plan.instructions.contains("end_call"), "{name}");
        plan.greeting.say.unwrap()
    };
    assert_eq!(roster.len(), 3);
    assert_eq!(say("personal"), "Hello, how can I help you today?");
    assert_eq!(say("clinic"), "Hello, Example Dental, how can I help?");
    assert_eq!(say("pizzeria"), "Thank you for calling Example Pizzeria. What would you like to order?");
    let find = |number: &str| roster.find(&PhoneNumber::parse(number).unwrap()).unwrap().name().to_owned();
    assert_eq!(find("+15550100001"), "clinic");
    assert_eq!(find("+15550100002"), "pizzeria");
    assert_eq!(find("+15550109999"), "personal");
    assert_eq!(roster.find_party(&Party::from_twilio("sip:a@b")).unwrap().name(), "personal");
    assert!(!format!("{roster:?}").contains("15550100001"));
}

#[test]
fn the_variables_of_the_python_assistant_are_read() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("assistants");
    let provider = Arc::new(Provider::openai(OPENAI_REALTIME_URL, None));
    let environment = [
        ("ASSISTANT_INSTRUCTIONS", "You are a pirate.\nSay {% arr"),
        ("VOICE", "cedar"),
        ("PERSONAL_NUMBER", "+15550100009"),
        ("TEMPERATURE", "0.8"),
    ];
    let environment = environment.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let checked = Roster::check(&read_folder(&dir).unwrap(), &environment, &[provider]);
    let codes: Vec<_> = checked.warnings.iter().map(|problem| problem.code()).collect();
    assert_eq!(codes, ["temperature.no_effect"]);
    let roster = checked.roster.unwrap();
    assert!(roster.find(&PhoneNumber::parse("+15550109999").unwrap()).is_none());
    let plan = roster.by_name("personal").unwrap().plan(&facts("anonymous"), &Nothing).unwrap();
    assert!(plan.instructions.contains("You are a pirate.\nSay {% arr"));
    assert_eq!((plan.voice.as_str(), plan.temperature), ("cedar", None));
}

#[test]
fn a_plan_contains_what_the_file_says() {
    let folder = cases("valid").into_iter().find(|(name, _)| name == "everything").unwrap().1;
    let roster = check(&folder).roster.unwrap();
    let plan = roster.by_name("everything").unwrap().plan(&facts("+15550109999"), &Nothing).unwrap();
    // The debug output of a plan has only names: its texts may contain the caller's number.
    assert!(!format!("{plan:?}").contains("5550109999"));
    let lines = [
        plan.greeting.say.as_deref().unwrap_or_default(),
        &plan.busy.say,
        plan.busy.language,
        &plan.on_failure.line.say,
        plan.on_failure.line.language,
        plan.on_failure.dial.as_ref().map_or("", PhoneNumber::expose),
    ];
    let rest = (
        (&plan.model, &plan.voice, plan.speed, plan.temperature, plan.reasoning),
        (plan.greeting.first, &plan.greeting.clip, plan.greeting.interruptible),
        (&plan.turn_taking, &plan.transcription, plan.tools.len(), plan.limits),
    );
    insta::assert_snapshot!(format!("{}\n---\n{}\n---\n{rest:#?}", plan.instructions, lines.join("\n")));
}

/// What a plan's lines say, and whether each is recorded.
fn sounds(folder: &Folder, assistant: &str) -> [(String, bool); 2] {
    let roster = check(folder).roster.unwrap();
    let plan = roster.by_name(assistant).unwrap().plan(&facts("anonymous"), &Nothing).unwrap();
    [&plan.sounds.moment, &plan.sounds.cut_off].map(|sound| (sound.text.clone(), sound.clip().is_some()))
}

#[test]
fn prepared_lines_have_the_texts_of_the_file_or_of_the_language() {
    for (file, moment, cut_off, missing) in [
        ("", "One moment, please.", "Sorry, we were cut off for a moment.", 2),
        ("language: de-AT\n", "Einen Moment bitte.", "Entschuldigung, wir waren kurz unterbrochen.", 2),
        ("sounds: { cut_off: ' Again! ' }\n", "One moment, please.", "Again!", 2),
        // The model would say the English text.
        ("language: cs\n", "One moment, please.", "Sorry, we were cut off for a moment.", 0),
        (
            "language: cs\nsounds: { moment: 'Moment, prosím.' }\n",
            "Moment, prosím.",
            "Sorry, we were cut off for a moment.",
            1,
        ),
    ] {
        let text = format!("instructions: Hi.\nbusy: {{ say: x }}\non_failure: {{ say: x }}\n{file}");
        let assistants = vec![SourceFile::new("a.yaml", text)];
        let folder = Folder { assistants, ..Folder::default() };
        assert_eq!(sounds(&folder, "a"), [(moment.to_owned(), false), (cut_off.to_owned(), false)], "{file}");
        let roster = check(&folder).roster.unwrap();
        let plan = roster.by_name("a").unwrap().plan(&facts("anonymous"), &Nothing).unwrap();
        assert_eq!(plan.missing_sounds().count(), missing, "{file}");
    }
}

#[test]
fn a_prepared_line_has_another_key_if_anything_differs_that_is_heard() {
    let folder = cases("valid").into_iter().find(|(name, _)| name == "minimal").unwrap().1;
    let roster = check(&folder).roster.unwrap();
    let plan = roster.by_name("minimal").unwrap().plan(&facts("anonymous"), &Nothing).unwrap();
    let text = "One moment, please.";
    let mut keys = vec![plan.sound_key(text), plan.sound_key("Just a second.")];
    let changes: [fn(&mut Plan); 6] = [
        |plan| plan.voice = "other".to_owned(),
        |plan| plan.model = "other".to_owned(),
        |plan| plan.speed = Some(1.1),
        |plan| plan.language = Language::read("de").ok(),
        |plan| Arc::make_mut(&mut plan.provider).name = "other".to_owned(),
        |plan| Arc::make_mut(&mut plan.provider).url.push('/'),
    ];
    for change in changes {
        let mut other = plan.clone();
        change(&mut other);
        keys.push(other.sound_key(text));
    }
    let count = keys.len();
    assert!(keys.iter().all(|key| SoundKey::read(key.as_str()).as_ref() == Some(key)));
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), count);
    let other = Plan { instructions: String::new(), tools: Vec::new(), ..plan.clone() };
    assert_eq!(other.sound_key(text), plan.sound_key(text));
}

#[test]
fn a_recorded_line_is_for_one_assistant_or_for_all() {
    let folder = cases("valid").into_iter().find(|(name, _)| name == "folder").unwrap().1;
    let recorded = |assistant: &str| sounds(&folder, assistant).map(|(_, recorded)| recorded);
    assert_eq!((recorded("one"), recorded("two")), ([true, true], [true, false]));
}

/// What follows from a provider's abilities differs from endpoint to endpoint; everything else is the same.
#[test]
fn a_plan_contains_a_plan_for_each_fallback() {
    let text = "instructions: Be kind.\nspeed: 1.1\ngreeting: { say: \"Hello {{ caller.name }}\" }\n\
                turn_taking: { detection: semantic, noise_reduction: far_field }\nlanguage: de\n\
                transcription: { model: gpt-transcribe }\ncallers: { '+15550109999': Anna }\n\
                mcp: { crm: { url: 'https://crm.example.com/', via: provider, instructions: Use the CRM. } }\n\
                fallback: [{ provider: xai, voice: ara }, openai/gpt-realtime-2.1-mini, house]\n";
    let folder = Folder { assistants: vec![SourceFile::new("a.yaml", text)], ..Folder::default() };
    let roster = check(&folder).roster.unwrap();
    let plan = roster.by_name("a").unwrap().plan(&facts("+15550109999"), &Nothing).unwrap();
    let plan = Arc::new(plan);
    assert_eq!(plan.endpoints(), 4);
    let endpoints: Vec<_> = (0..plan.endpoints())
        .map(|endpoint| {
            let plan = plan.at(endpoint);
            assert_eq!(plan.greeting.say.as_deref(), Some("Hello Anna"));
            assert_eq!(plan.fallback.is_empty(), endpoint > 0);
            let hosts = (plan.hosted.len(), plan.instructions.contains("CRM"));
            let transcriber = plan.transcription.as_ref().map(|transcription| transcription.model.as_str());
            let turns =
                (plan.turn_taking.detection.kind().name(), plan.turn_taking.noise_reduction.is_some());
            ((&*plan.provider.name, &*plan.model, &*plan.voice), (plan.speed, transcriber), turns, hosts)
        })
        .collect();
    let transcriber = Some("gpt-transcribe");
    assert_eq!(
        endpoints,
        [
            (
                ("openai", "gpt-realtime-2.1", "marin"),
                (Some(1.1), transcriber),
                ("semantic", true),
                (1, true)
            ),
            (("xai", "grok-voice-latest", "ara"), (Some(1.1), None), ("server", false), (0, false)),
            (
                ("openai", "gpt-realtime-2.1-mini", "marin"),
                (Some(1.1), transcriber),
                ("semantic", true),
                (1, true)
            ),
            (("house", "house-voice", "anna"), (Some(1.1), transcriber), ("semantic", true), (0, false)),
        ]
    );
    assert_eq!(plan.at(9).model, plan.model, "there is no such endpoint");
}

#[test]
fn rosters_are_equal_if_their_files_mean_the_same() {
    let roster = |text: &str| {
        let assistants = vec![SourceFile::new("a.yaml", text)];
        check(&Folder { assistants, ..Folder::default() }).roster.unwrap()
    };
    let one = roster("instructions: Be kind.\nnumbers: ['+15550100001']\n");
    assert_eq!(one, roster("# The same\nnumbers: [+15550100001]\ninstructions: 'Be kind.'\n"));
    assert_ne!(one, roster("instructions: Be kind!\nnumbers: ['+15550100001']\n"));
    assert_ne!(one, roster("instructions: Be kind.\nnumbers: ['+15550100002']\n"));
    assert!(one.find(&PhoneNumber::parse("+15550100002").unwrap()).is_none());
    assert!(one.find_party(&Party::Withheld).is_none());
}

#[test]
fn a_key_is_found_wherever_it_stands_and_never_shown() {
    // Assembled here, so that this file contains none.
    let key = format!("sk-proj-{}", "Ab1_".repeat(12));
    let token = "0123456789abcdef".repeat(2);
    let text = format!(
        "instructions: |\n  Be kind.\n  Your key is {key}.\n\
         greeting: {{ say: \"{token}\" }}\n\
         variables: {{ x: [\"{key}\"] }}\n\
         # {key}\n\
         mcp: {{ a: {{ url: \"https://a.example.com\", token: {key} }} }}\n\
         busy: {{ say: \"Call ${{INSERTED}}.\" }}\n\
         voice: {key}\n\
         fragments: [x]\n"
    );
    let folder = Folder {
        assistants: vec![SourceFile::new("a.yaml", text)],
        fragments: vec![SourceFile::new("x.md", format!("One.\n\nTwo: {token}\n"))],
        ..Folder::default()
    };
    let provider = Arc::new(Provider::openai(OPENAI_REALTIME_URL, None));
    let environment = BTreeMap::from([("INSERTED".to_owned(), key.clone())]);
    let problems = Roster::check(&folder, &environment, &[provider]).problems();
    let found = problems.iter().filter(|problem| problem.code().starts_with("secret."));
    let found = found.map(|problem| (problem.path(), problem.span().unwrap().line, problem.code()));
    let (file, literal) = ("a.yaml", "secret.literal");
    assert_eq!(
        found.collect::<Vec<_>>(),
        [
            (file, 3, literal),
            (file, 4, literal),
            (file, 5, literal),
            (file, 6, literal),
            (file, 7, literal),
            (file, 8, "secret.text"),
            (file, 9, literal),
            ("x.md", 3, literal)
        ]
    );
    let shown =
        format!("{}{}{}", problem::plain(&problems), problem::pretty(&problems), problem::json(&problems));
    assert!(!shown.contains(&key[8..]) && !shown.contains(&token[4..]), "{shown}");
}

#[test]
fn a_file_overrides_what_is_kept_key_by_key() {
    let file = Some(SourceFile::new("switchboard.yaml", "record: { audio: true, keep: 7d, numbers: none }"));
    let record = Settings::checked(&Sources { file, ..Sources::default() }).unwrap().record;
    let plan = |text: &str| {
        let folder = Folder { assistants: vec![SourceFile::new("a.yaml", text)], ..Folder::default() };
        let provider = Arc::new(Provider::openai(OPENAI_REALTIME_URL, None));
        let checked = Roster::check_by(&folder, &environment(), &[provider], record, &|files, check| {
            files.iter().map(check).collect()
        });
        let codes: Vec<_> = checked.warnings.iter().map(|warning| warning.code()).collect();
        let roster = checked.roster.unwrap();
        (roster.by_name("a").unwrap().plan(&facts("+15550109999"), &Nothing).unwrap(), codes)
    };
    let (kept, warned) = plan("instructions: Hi.\n");
    assert!(kept.record == record && kept.recording_notice.is_none());
    assert_eq!(warned, ["record.notice"]);
    let text = "instructions: Hi.\nlanguage: de\nrecord: { keep: 90d, numbers: full }\n\
                recording_notice: \"{{ assistant.name }} records.\"\n";
    let (kept, warned) = plan(text);
    let ninety = Duration::from_secs(90 * 24 * 3600);
    assert_eq!(kept.record, RecordPolicy { keep: ninety, numbers: KeptNumbers::Full, ..record });
    let notice = kept.recording_notice.unwrap();
    assert_eq!((notice.say.as_str(), notice.language), ("a records.", "de-DE"));
    assert!(warned.is_empty(), "{warned:?}");
    let own = "instructions: Hi.\nrecording_notice: { say: Nous enregistrons., language: fr-CA }\n";
    assert_eq!(plan(own).0.recording_notice.unwrap().language, "fr-CA");
    // Nothing is said of a recording that is not made.
    let (kept, warned) = plan("instructions: Hi.\nrecord: { audio: false }\nrecording_notice: We record.\n");
    assert!(kept.recording_notice.is_none());
    assert_eq!(warned, ["record.notice"]);
}

#[test]
fn an_empty_folder_is_a_problem() {
    let problems = check(&Folder::default()).problems();
    assert_eq!(problems.iter().map(|problem| problem.code()).collect::<Vec<_>>(), ["folder.empty"]);
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    const KEYS: [&str; 16] = [
        "numbers",
        "voice",
        "model",
        "instructions",
        "greeting",
        "turn_taking",
        "limits",
        "busy",
        "variables",
        "callers",
        "fragments",
        "mcp",
        "functions",
        "call_control",
        "timezone",
        "transcription",
    ];

    proptest! {
        #[test]
        fn no_bytes_make_the_check_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            check(&Folder { assistants: vec![SourceFile::new("a.yaml", bytes)], ..Folder::default() });
        }

        #[test]
        fn no_shape_makes_the_check_panic(
            entries in proptest::collection::vec((proptest::sample::select(&KEYS[..]), "([a-z0-9{}%$ :,*&!\"'|>\\[\\]-]|\n  ){0,30}"), 0..6)
        ) {
            let text: String = entries.iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
            let checked = check(&Folder { assistants: vec![SourceFile::new("a.yaml", text)], ..Folder::default() });
            problem::pretty(&checked.problems());
        }

        #[test]
        fn no_template_makes_the_check_panic(text in "(\\{\\{|\\}\\}|\\{%|%\\}|[a-z. ]|for x in|if |endif|endfor|caller|\n|[(|)'0-9~é]){0,40}") {
            let yaml = format!("instructions: |\n  {}\n", text.replace('\n', "\n  "));
            let checked = check(&Folder { assistants: vec![SourceFile::new("a.yaml", yaml)], ..Folder::default() });
            problem::pretty(&checked.problems());
        }
    }

    /// Checks a file and shows its problems, within a second.
    fn in_time(what: &str, file: impl Into<Vec<u8>>) -> Checked {
        let folder = Folder { assistants: vec![SourceFile::new("a.yaml", file)], ..Folder::default() };
        let start = worked();
        let checked = check(&folder);
        let problems = checked.problems();
        problem::plain(&problems);
        problem::pretty(&problems);
        let took = worked() - start;
        assert!(took < SECOND, "{what} takes {took:?}");
        checked
    }

    /// The processor time of this thread, so that other work on this machine does not count.
    #[cfg(target_os = "linux")]
    fn worked() -> Duration {
        use nix::sys::resource::{UsageWho, getrusage};
        use nix::sys::time::TimeValLike as _;
        let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
        let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        Duration::from_micros(micros as u64)
    }

    #[cfg(not(target_os = "linux"))]
    fn worked() -> Duration {
        use std::{sync::LazyLock, time::Instant};
        static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
        BEGAN.elapsed()
    }

    /// A second in a release build. A debug build takes ten times as long. Quadratic work on a file takes minutes.
    const SECOND: Duration = Duration::from_secs(if cfg!(debug_assertions) { 15 } else { 1 });
    /// The largest file.
    const FULL: usize = 256 * 1024;

    fn filled(start: &str, piece: &str, end: &str) -> String {
        let times = (FULL - start.len() - end.len()) / piece.len();
        format!("{start}{}{end}", piece.repeat(times))
    }

    #[test]
    fn no_large_file_takes_more_than_a_second() {
        let numbered = |line: &dyn Fn(usize) -> String| {
            let mut text = "instructions: Be kind.\n".to_owned();
            (0..)
                .map(line)
                .take_while(|line| {
                    text.len() + line.len() < FULL && {
                        text.push_str(line);
                        true
                    }
                })
                .count();
            text
        };
        let words = "instructions: |\n  ";
        let cases = [
            ("unknown keys", numbered(&|at| format!("key{at}: 1\n"))),
            ("unknown keys in a map", filled("limits: { ", "a: 1, ", "}\n")),
            ("one key again and again", filled("", "voice: marin\n", "")),
            (
                "variables",
                numbered(&|at| match at {
                    0 => "variables:\n".to_owned(),
                    _ => format!("  v{at}: {at}\n"),
                }),
            ),
            (
                "texts that lose their end",
                numbered(&|at| match at {
                    0 => "variables:\n".to_owned(),
                    _ => format!("  v{at}: x #y\n"),
                }),
            ),
            ("keys", filled("instructions: |\n  ", &format!("sk-{} ", "a1".repeat(20)), "\n")),
            ("wrong numbers", filled("numbers: [", "5, ", "1]\n")),
            (
                "numbers",
                (0..2_000).fold("numbers:\n".to_owned(), |text, at| text + &format!("- +1555{at:07}\n")),
            ),
            (
                "callers",
                numbered(&|at| match at {
                    0 => "callers:\n".to_owned(),
                    _ => format!("  +1555{at:07}: Anna\n"),
                }),
            ),
            ("fragments", filled("fragments: [", "nobody, ", "x]\n")),
            ("nested lists", filled("a: ", "[", "")),
            ("nested maps", filled("a: ", "{ a: ", "")),
            ("dashes", filled("", "- ", "")),
            ("anchors", numbered(&|at| format!("a{at}: &a{at} x\n"))),
            ("aliases", filled("a: &a [x]\nb: [", "*a, ", "*a]\n")),
            (
                "aliases of aliases",
                (0..60)
                    .map(|at| format!("a{}: &a{} [{}]\n", at + 1, at + 1, format!("*a{at},").repeat(9)))
                    .fold("a0: &a0 [x]\n".to_owned(), |text, line| text + &line),
            ),
            (
                "merge keys",
                numbered(&|at| match at {
                    0 => "a: &a { b: 1 }\n".to_owned(),
                    _ => format!("a{at}: {{ <<: *a }}\n"),
                }),
            ),
            ("quotes", filled("say: ", "\"", "")),
            ("one long line", filled("instructions: ", "x", "\n")),
            ("one long line of errors", filled("limits: { ", "é: 1, ", "}\n")),
            ("empty lines", filled("instructions: x\n", "\n", "zebra: 1\n")),
            ("comments", filled("instructions: x\n", "# x\n", "zebra: 1\n")),
            ("spaces", filled("instructions: x\n", " ", "zebra: 1\n")),
            ("open substitutions", filled("instructions: \"", "${", "\"\n")),
            ("missing variables", filled("instructions: \"", "${A} ", "\"\n")),
            ("defaults in defaults", filled("instructions: \"", "${A:-", "\"\n")),
            ("dollars", filled("instructions: \"", "$", "{A}\"\n")),
            ("a long text", filled(words, "Be kind. ", "\n")),
            ("names", filled(words, "{{ caller.name }}", "\n")),
            ("unknown names", filled(words, "{{ nobody }}\n  ", "\n")),
            (
                "many unknown names",
                numbered(&|at| match at {
                    0 => "greeting:\n say: |\n".to_owned(),
                    _ => format!("  {{{{ n{at} }}}}\n"),
                }),
            ),
            ("branches", filled(words, "{% if caller %}", "\n")),
            ("loops", filled(words, "{% for a in range(9) %}", "\n")),
            ("brackets", filled(words, "{{ [", "\n")),
            ("brackets in one", filled("instructions: \"{{ ", "(", "\"\n")),
            ("not not", filled("instructions: \"{{ ", "not ", "\"\n")),
            ("a long loop", filled(words, "{% for a in range(10000) %}{{ a }}{% endfor %}", "\n")),
            ("a large power", format!("{words}{{{{ 'x' * 999999999 }}}} {{{{ 9 ** 99999 }}}}\n")),
            (
                "a large range",
                format!("{words}{{{{ range(99999999) }}}} {{{{ range(99999) | list | sort | join }}}}\n"),
            ),
            (
                "growing texts",
                format!(
                    "{words}{{% set x = 'xxxxxxxxxx' %}}{}{{{{ x | length }}}}\n",
                    "{% set x = x ~ x %}".repeat(30)
                ),
            ),
            (
                "replacing texts",
                format!(
                    "{words}{{% set x = 'aaaaaaaaaa' %}}{}\n",
                    "{% set x = x | replace('a', 'aaaaaaaaaa') %}".repeat(9)
                ),
            ),
            (
                "macros",
                format!(
                    "{words}{{% macro m(n) %}}{{{{ m(n) }}}}{{{{ m(n) }}}}{{% endmacro %}}{{{{ m(1) }}}}\n"
                ),
            ),
            (
                "branches of one choice",
                filled(&format!("{words}{{% if a %}}"), "{% elif a %}", "{% endif %}\n"),
            ),
            ("parts of a name", filled("instructions: \"{{ caller", ".x", " }}\"\n")),
            ("filters", filled("instructions: \"{{ caller", "|upper", " }}\"\n")),
            ("a long sum", filled("instructions: \"{{ 1", "+1", " }}\"\n")),
            ("a long text of parts", filled("instructions: \"{{ 1", "~1", " }}\"\n")),
            ("a long condition", filled("instructions: \"{{ 1", " and 1", " }}\"\n")),
            ("choices in choices", filled("instructions: \"{{ 1", " if 1 else 1", " }}\"\n")),
            ("minus signs", filled("instructions: \"{{ ", "-", "1 }}\"\n")),
            ("places of places", filled("instructions: \"{{ caller", "[0]", " }}\"\n")),
            ("powers of powers", filled("instructions: \"{{ 1", "**1", " }}\"\n")),
            ("texts set in texts", filled(words, "{% set x %}", "\n")),
            ("control characters", filled("instructions: ", "\u{1b}", "\n")),
            ("tokens", filled("description: \"", "token:", "\"\n")),
            ("addresses", filled("description: \"", "x://a@", "\"\n")),
            ("secrets in one line", {
                let secrets = format!("{{ token: x{} }}, ", " ".repeat(30));
                format!("a: [{}x]\n", secrets.repeat(6_000))
            }),
            ("secrets from variables", filled("a: \"", "token=${A:-}", "\"\n")),
            ("secrets that may come from variables", filled("a: \"\\\\", "token=${A:-}", "\"\n")),
            ("secrets in an address", {
                let url = format!("https://example.com/?{}", "token=${A:-}".repeat(20_000));
                format!("instructions: x\nmcp: {{ a: {{ url: \"{url}\" }} }}\n")
            }),
            ("keys on lines", filled("", "token: x\n", "")),
            ("items in one line", filled("fragments: [", "'nobody at é', ", "x]\n")),
            (
                "items behind spaces",
                filled(&format!("fragments:\n {}[", " ".repeat(FULL / 2)), "x, ", "x]\n"),
            ),
            ("numbers in one line", {
                let numbers: Vec<String> = (0..9_000).map(|at| format!("+1555{at:07}")).collect();
                format!("numbers: [{}]\n", numbers.join(", "))
            }),
            ("callers in one line", {
                let callers: Vec<String> = (0..9_000).map(|at| format!("+1555{at:07}: A")).collect();
                format!("callers: {{ {} }}\n", callers.join(", "))
            }),
            (
                "servers",
                numbered(&|at| match at {
                    0 => "mcp:\n".to_owned(),
                    _ => format!(
                        "  s{at}: {{ url: '', instructions: '{{% for a in range(9000) %}}{{% endfor %}}' }}\n"
                    ),
                }),
            ),
            (
                "functions",
                numbered(&|at| match at {
                    0 => "functions:\n".to_owned(),
                    _ => format!(
                        "  f{at}: {{ description: x, http: {{ url: 'https://example.com/{{{{ call.id }}}}' }} }}\n"
                    ),
                }),
            ),
            (
                "a body of many templates",
                filled(
                    "instructions: x\nfunctions: { f: { description: x, http: { url: 'https://example.com', body: [",
                    "'{% for a in range(900) %}{% endfor %}', ",
                    "x] } } }\n",
                ),
            ),
            (
                "arguments",
                filled(
                    "instructions: x\nfunctions: { f: { description: x, parameters: { type: object, properties: { ",
                    "aé: { type: string }, ",
                    "b: {} } }, http: { url: 'https://example.com/{{ arguments.b }}' } } }\n",
                ),
            ),
            ("carriage returns", filled("instructions: x", "\r", "\n")),
            ("too large", "x".repeat(FULL + 1)),
        ];
        for (what, text) in cases {
            in_time(what, text);
        }
    }

    #[test]
    fn a_file_over_the_limit_is_too_large() {
        let problems = in_time("large", "# x\n".repeat(FULL / 4 + 1)).problems();
        assert_eq!(problems.iter().map(|problem| problem.code()).collect::<Vec<_>>(), ["file.large"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_input_takes_more_than_a_second(
            pieces in proptest::collection::vec((
                "([a-z]: |- |\\[|\\{|\\]|\\}|, |&a |\\*a|\n|\n  |\"|'|\\||\\$\\{A:-|\\{\\{|\\}\\}|\\{%|%\\}|#|é|x|for a in range\\(9\\)|instructions: ){1,12}",
                prop_oneof![4 => 1..4_usize, 1 => 1..8000_usize],
            ), 1..8)
        ) {
            let mut text: String = pieces.iter().map(|(piece, times)| piece.repeat(*times)).collect();
            let most = text.char_indices().map(|(at, _)| at).find(|at| *at >= FULL - 4).unwrap_or(text.len());
            text.truncate(most);
            in_time("this", text);
        }
    }
}
