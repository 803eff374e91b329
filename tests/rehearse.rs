//! The rehearsal as a newcomer runs it: the program itself, its lines, its files, its exit code.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A folder to work in, with the shipped assistants and nothing else.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn with_assistant(name: &str, yaml: &str) -> Self {
        let place = Self::new();
        fs::create_dir(place.path("assistants")).unwrap();
        fs::write(place.path(&format!("assistants/{name}.yaml")), yaml).unwrap();
        place
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// `switchboard rehearse …`, without anything from this process's environment.
    fn rehearse(&self, arguments: &[&str]) -> Told {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("assistants");
        let own = self.path("assistants");
        let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
        command
            .arg("rehearse")
            .args(arguments)
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("ASSISTANTS_DIR", if own.exists() { own } else { shipped })
            .stdin(Stdio::null());
        Told::from(command.output().unwrap())
    }

    fn sheet(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("call.json")).unwrap()).unwrap()
    }

    /// Left and right, as they were recorded.
    fn sound(&self) -> [Vec<i16>; 2] {
        let mut wav = hound::WavReader::open(self.path("call.wav")).unwrap();
        let spec = wav.spec();
        assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (2, 8_000, 16));
        let samples: Vec<i16> = wav.samples().map(Result::unwrap).collect();
        [0, 1].map(|channel| samples.iter().copied().skip(channel).step_by(2).collect())
    }
}

/// What the program printed, and how it ended.
struct Told {
    code: i32,
    lines: String,
    errors: String,
}

impl From<Output> for Told {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            lines: String::from_utf8(output.stdout).unwrap(),
            errors: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Told {
    #[track_caller]
    fn fine(&self) {
        assert_eq!((self.code, self.errors.as_str()), (0, ""), "{}", self.lines);
        assert!(!self.lines.contains(['\r', '\x1b']), "a file gets plain lines");
    }

    #[track_caller]
    fn says(&self, text: &str) {
        assert!(self.lines.contains(text), "`{text}` is not in:\n{}", self.lines);
    }
}

fn ms(turn: &Value, key: &str) -> u64 {
    turn[key].as_u64().unwrap_or_else(|| panic!("{key} of {turn}"))
}

/// The energy of a stretch of sound, both ends in milliseconds.
fn loudness(samples: &[i16], from: u64, to: u64) -> f64 {
    let stretch = &samples[from as usize * 8..(to as usize * 8).min(samples.len())];
    let energy: f64 = stretch.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    (energy / stretch.len().max(1) as f64).sqrt()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn a_rehearsal_is_a_whole_call_from_ring_to_goodbye() {
    let place = Place::new();
    let told = place.rehearse(&["clinic"]);
    told.fine();
    for text in [
        "+15550100100 calls +15550100001, which `clinic` answers",
        "The phone and the model are SIMULATED",
        "assistant  Hello, Example Dental, how can I help?  [first word after ",
        "caller     Hello, what are your opening hours?  [",
        "heard: “This is the simulated model.",
        "not heard: “",
        "caller     No, that is all, thank you, goodbye.  [",
        "assistant  Thank you for calling. Goodbye.  [answered in ",
        "assistant.ended: the assistant said goodbye and ended the call",
        "3 of the caller, 4 of the assistant; 1 interrupted",
    ] {
        told.says(text);
    }

    let sheet = place.sheet();
    let mut expected = [
        "version",
        "assistant",
        "to",
        "simulated",
        "seconds",
        "reason",
        "first_word_ms",
        "turns",
        "tokens",
        "notes",
    ];
    expected.sort_unstable();
    let mut found = keys(&sheet);
    found.sort_unstable();
    assert_eq!(found, expected);
    let head = ["version", "assistant", "to", "simulated", "reason"].map(|key| sheet[key].clone());
    let wanted = serde_json::json!([1, "clinic", "+15550100001", true, "assistant.ended"]);
    assert_eq!(Value::from(head.to_vec()), wanted);
    assert!(sheet["first_word_ms"].as_u64().unwrap() < 1_500, "{sheet}");
    assert!(sheet["tokens"]["in"].as_u64().unwrap() > 0 && sheet["tokens"]["out"].as_u64().unwrap() > 0);
    assert!(sheet["notes"].as_object().unwrap().values().all(|count| count.as_u64().unwrap() > 0));

    let [caller, assistant] = place.sound();
    let seconds = sheet["seconds"].as_f64().unwrap();
    assert_eq!(caller.len(), assistant.len());
    assert!((caller.len() as f64 / 8_000.0 - seconds).abs() < 0.05, "{seconds} s");
    let turns = sheet["turns"].as_array().unwrap();
    let who: Vec<&str> = turns.iter().map(|turn| turn["who"].as_str().unwrap()).collect();
    assert_eq!(who, ["assistant", "caller", "assistant", "caller", "assistant", "caller", "assistant"]);
    let mut before = 0;
    for turn in turns {
        let (start, end) = (ms(turn, "start_ms"), ms(turn, "end_ms"));
        assert!(before <= start && start < end && end as f64 <= seconds * 1_000.0, "{turn}");
        assert!(!turn["text"].as_str().unwrap().is_empty());
        before = start;
        // The recording has each voice where the sheet says it is, and on its own side.
        let own = if turn["who"] == "caller" { &caller } else { &assistant };
        assert!(loudness(own, start, end) > 300.0, "{turn}");
        assert!(loudness(own, start, start + 100) > 100.0, "{turn} begins later");
        if turn["who"] == "assistant" {
            let (sent, heard) = (ms(turn, "sent_ms"), ms(turn, "heard_ms"));
            assert!(heard <= sent, "{turn}");
            assert_eq!(turn["interrupted"].as_bool().unwrap(), heard < sent, "{turn}");
            assert_eq!(end - start, heard, "{turn}");
        } else {
            assert_eq!(keys(turn).len(), 4, "{turn}");
        }
    }
    let [greeting, answer] = [&turns[0], &turns[2]];
    assert!(greeting["latency_ms"].is_null() && answer["latency_ms"].as_u64().unwrap() >= 400, "{sheet}");
    assert!(answer["interrupted"].as_bool().unwrap());
    // What the interrupted answer sounded like ends where the sheet says that it was cut.
    let cut = ms(answer, "end_ms");
    assert!(
        loudness(&assistant, cut + 60, ms(&turns[4], "start_ms") - 60) < 50.0,
        "it went on after {cut} ms"
    );
}

#[test]
fn a_recording_is_the_callers_whole_side() {
    // The assistant's own words and numbers; nobody recorded this greeting.
    let place = Place::with_assistant(
        "tiny",
        "instructions: Be kind.\ngreeting: { first: caller }\ntranscription: false\n",
    );
    // A voice of a sort: 48 kHz, float, stereo; a second of it, then quiet.
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 48_000,
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut wav = hound::WavWriter::create(place.path("me.wav"), spec).unwrap();
    for at in 0..72_000 {
        let sample = if at < 48_000 { 0.3 * (at as f32 * 0.05).sin() } else { 0.0 };
        wav.write_sample(sample).unwrap();
        wav.write_sample(sample).unwrap();
    }
    wav.finalize().unwrap();

    let told = place.rehearse(&["--caller", "me.wav", "--from", "anonymous", "--out", "."]);
    told.fine();
    told.says("a withheld number calls +15550100000, which `tiny` answers.");
    told.says("The caller is the recording me.wav (1.5 s)");
    told.says("I heard you speak, but I do not understand words.");
    told.says("caller.hung_up: the caller hung up");
    let sheet = place.sheet();
    assert_eq!((&sheet["reason"], &sheet["assistant"]), (&"caller.hung_up".into(), &"tiny".into()));
    let spoken = &sheet["turns"][0];
    let lasted = ms(spoken, "end_ms") - ms(spoken, "start_ms");
    assert!((980..=1_040).contains(&lasted), "{spoken}");
    let [caller, _] = place.sound();
    assert!(loudness(&caller, ms(spoken, "start_ms"), ms(spoken, "end_ms")) > 3_000.0);
    // It hangs up three seconds after the answer.
    let answered = ms(&sheet["turns"][1], "end_ms") as f64 / 1_000.0;
    let quiet = sheet["seconds"].as_f64().unwrap() - answered;
    assert!((2.9..4.0).contains(&quiet), "{quiet} s after the answer");
}

#[test]
fn what_cannot_be_rehearsed_is_a_sentence() {
    let place = Place::new();
    fs::write(place.path("text.wav"), "This is no recording.").unwrap();
    let quiet = hound::WavSpec {
        channels: 1,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut wav = hound::WavWriter::create(place.path("quiet.wav"), quiet).unwrap();
    (0..8_000).for_each(|_| wav.write_sample(0_i16).unwrap());
    wav.finalize().unwrap();
    for (arguments, code, sentence) in [
        (&["clinik"][..], 1, "error: there is no assistant `clinik`: did you mean `clinic`?\n"),
        (
            &["--to", "5550100001"],
            1,
            "error: `--to 5550100001` is no phone number: a phone number starts with +",
        ),
        (
            &["personal", "--to", "+15550100001"],
            1,
            "error: +1555•••01 rings `clinic`, not `personal`: leave out the name or the number\n",
        ),
        (&["--caller", "none.wav"], 1, "error: the recording `none.wav` (--caller) cannot be read: "),
        (
            &["--caller", "text.wav"],
            1,
            "error: the recording `text.wav` (--caller) cannot be played: this is not a WAV",
        ),
        (
            &["--caller", "quiet.wav"],
            1,
            "error: the recording `quiet.wav` (--caller) cannot be played: nothing in it",
        ),
        (&["--live"], 1, "error: OPENAI_API_KEY is not set, and --live talks to the real model: "),
        (&["--out", "text.wav"], 1, "error: the folder `text.wav` (--out) cannot be made: "),
        (&["clinic", "pizzeria"], 2, "error: unexpected argument 'pizzeria'"),
    ] {
        let told = place.rehearse(arguments);
        assert_eq!((told.code, told.lines.as_str()), (code, ""), "{arguments:?}: {}", told.errors);
        assert!(told.errors.starts_with(sentence), "{arguments:?}: {}", told.errors);
        assert!(!told.errors.contains("panicked"), "{}", told.errors);
    }
    assert!(!place.path("call.wav").exists());

    let broken = Place::with_assistant("broken", "instruction: Be kind.\n");
    let told = broken.rehearse(&[]);
    assert_eq!(told.code, 1);
    assert!(told.errors.contains("broken.yaml:1"), "{}", told.errors);
}

#[test]
fn a_call_that_goes_wrong_is_an_error_and_leaves_its_files() {
    let place = Place::with_assistant("tiny", "instructions: Be kind.\n");
    fs::write(place.path(".env"), "OPENAI_API_KEY=sk-nobody\nOPENAI_REALTIME_URL=ws://127.0.0.1:9\n")
        .unwrap();
    let told = place.rehearse(&["--live", "--out", "kept/here"]);
    assert_eq!(told.code, 1);
    let wrong =
        "error: the call went wrong: it ended with model.unreachable: the model could not be reached in time";
    assert!(told.errors.contains(wrong), "{}", told.errors);
    told.says("Twilio's own voice says: ");
    let sheet: Value = serde_json::from_slice(&fs::read(place.path("kept/here/call.json")).unwrap()).unwrap();
    assert_eq!(sheet["reason"], "model.unreachable");
    assert_eq!((&sheet["simulated"], &sheet["first_word_ms"]), (&false.into(), &Value::Null));
    assert!(place.path("kept/here/call.wav").exists());
}

#[test]
fn a_deployment_by_another_name_may_reason() {
    let yaml = "numbers: [\"+15550100001\"]\ninstructions: Be kind.\nprovider: azure\nreasoning: low\n\
                call_control: { end_call: true }\ngreeting: { say: Hello there. }\n";
    let place = Place::with_assistant("clinic", yaml);
    let settings = "providers:\n  azure:\n    url: wss://my.example.com/openai/v1/realtime\n    \
                    abilities: { models: [{ name: reception, reasoning: true }] }\n";
    fs::write(place.path("switchboard.yaml"), settings).unwrap();
    let told = place.rehearse(&[]);
    told.fine();
    told.says("this stand-in for reception");
}

#[test]
fn another_provider_is_rehearsed_in_its_own_dialect() {
    let yaml = "numbers: [\"+15550100001\"]\ninstructions: Be kind.\nprovider: old\ntemperature: 0.9\n\
                call_control: { end_call: true }\ngreeting: { say: Hello there. }\n";
    let place = Place::with_assistant("clinic", yaml);
    // A key that is not set, and certificates that nobody needs.
    let settings = "providers:\n  old:\n    url: wss://voice.example.com/v1/realtime\n    key: \"${OLD_KEY}\"\n    \
                    auth: x-api-key\n    dialect: beta\n    abilities: { truncates: false, models: [old-voice] }\n";
    fs::write(place.path("switchboard.yaml"), settings).unwrap();
    let told = place.rehearse(&[]);
    told.fine();
    told.says("this stand-in for old-voice");
    told.says("assistant.ended");
    let live = place.rehearse(&["--live"]);
    assert_eq!(live.code, 1);
    assert!(live.errors.contains("the provider `old` has no key"), "{}", live.errors);
}
