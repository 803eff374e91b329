//! The rehearsal as a newcomer runs it: the program, its output, its files, its exit code.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use switchboard::record::CallRecord;
use tempfile::TempDir;

/// A working folder. Without assistants of its own, it uses the shipped ones.
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

    /// Runs `switchboard rehearse …` with an empty environment.
    fn rehearse(&self, arguments: &[&str]) -> Run {
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
        Run::from(command.output().unwrap())
    }

    fn sheet(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("call.json")).unwrap()).unwrap()
    }

    /// The left and the right channel of the recording.
    fn sound(&self) -> [Vec<i16>; 2] {
        let mut wav = hound::WavReader::open(self.path("call.wav")).unwrap();
        let spec = wav.spec();
        assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (2, 8_000, 16));
        let samples: Vec<i16> = wav.samples().map(Result::unwrap).collect();
        [0, 1].map(|channel| samples.iter().copied().skip(channel).step_by(2).collect())
    }
}

/// What the program printed and how it ended.
struct Run {
    code: i32,
    output: String,
    errors: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            output: String::from_utf8(output.stdout).unwrap(),
            errors: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Run {
    #[track_caller]
    fn assert_success(&self) {
        assert_eq!((self.code, self.errors.as_str()), (0, ""), "{}", self.output);
        assert!(!self.output.contains(['\r', '\x1b']), "only a terminal gets control characters");
        // Such as `0:04.059`, which sorts as text within ten minutes.
        let is_clock = |word: &&str| word.len() == 8 && word.as_bytes()[1] == b':';
        let clocks = self.output.lines().filter_map(|line| line.split(' ').next()).filter(is_clock);
        assert!(clocks.is_sorted(), "{}", self.output);
    }

    #[track_caller]
    fn prints(&self, text: &str) {
        assert!(self.output.contains(text), "`{text}` is not in:\n{}", self.output);
    }
}

fn ms(turn: &Value, key: &str) -> u64 {
    turn[key].as_u64().unwrap_or_else(|| panic!("{key} of {turn}"))
}

/// The energy between two times in milliseconds.
fn loudness(samples: &[i16], from: u64, to: u64) -> f64 {
    let stretch = &samples[from as usize * 8..(to as usize * 8).min(samples.len())];
    let energy: f64 = stretch.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    (energy / stretch.len().max(1) as f64).sqrt()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn the_recording_notice_is_heard_first() {
    let text = "instructions: Be brief.\ngreeting: { say: \"Hello there.\" }\nrecord: { audio: true }\n\
                recording_notice: This call is recorded.\n";
    let run = Place::with_assistant("loud", text).rehearse(&["loud"]);
    run.assert_success();
    let place = |part: &str| run.output.find(part).unwrap_or_else(|| panic!("no {part:?} in {}", run.output));
    assert!(place("This call is recorded.") < place("the clock starts"), "{}", run.output);
    assert!(place("the clock starts") < place("Hello there."), "{}", run.output);
}

#[test]
fn a_rehearsal_is_a_whole_call_from_ring_to_goodbye() {
    let place = Place::new();
    let run = place.rehearse(&["clinic"]);
    run.assert_success();
    for text in [
        "`clinic`",
        "from +15550100100 to +15550100001",
        "SIMULATED",
        "assistant  Hello, Example Dental, how can I help?  [",
        "caller     Hello, what can you do for me?  [",
        "heard:     “This is the simulated model.",
        "not heard: “",
        "caller     No, that is all, thank you, goodbye.  [",
        "assistant  Thank you for calling. Goodbye.  [",
        "assistant.ended",
        "taken for rehearsal/messages.jsonl",
        "4 by the caller, 5 by the assistant (1 interrupted)",
    ] {
        run.prints(text);
    }

    let sheet = place.sheet();
    // It is the record of a call, as of every other call.
    let record: CallRecord = serde_json::from_value(sheet.clone()).unwrap();
    assert_eq!(serde_json::to_value(&record).unwrap(), sheet);
    assert!(record.call.starts_with("CA"));
    let file = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("assistants/clinic.yaml")).unwrap();
    let hash: String = Sha256::digest(file).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(record.assistant_version, Some(format!("sha256:{hash}")));
    let head =
        ["version", "assistant", "to", "test", "simulated", "reason", "cost"].map(|key| sheet[key].clone());
    let wanted = serde_json::json!([2, "clinic", "+15550100001", true, true, "assistant.ended", null]);
    assert_eq!(Value::from(head.to_vec()), wanted);
    assert!(sheet["first_word_ms"].as_u64().unwrap() < 1_500, "{sheet}");
    assert!(sheet["tokens"]["in"].as_u64().unwrap() > 0 && sheet["tokens"]["out"].as_u64().unwrap() > 0);
    assert!(sheet["anomalies"].as_object().unwrap().values().all(|count| count.as_u64().unwrap() > 0));

    // The message that the assistant speaks of is on the disk, once, with the fields of its file.
    let messages = fs::read_to_string(place.path("rehearsal/messages.jsonl")).unwrap();
    let message: Value = serde_json::from_str(&messages).unwrap();
    assert_eq!(message["id"], sheet["message"]);
    let fields = &message["data"]["fields"];
    assert_eq!(keys(fields), ["name", "callback_number", "reason", "wished_times"]);
    assert_eq!(fields["name"], "Anna Example");
    let outcomes: Vec<_> =
        record.tools.iter().map(|tool| (tool.name.as_str(), tool.outcome.as_str())).collect();
    assert_eq!(outcomes[0], ("take_message", "ok"), "{outcomes:?}");

    let [caller, assistant] = place.sound();
    let seconds = sheet["seconds"].as_f64().unwrap();
    assert_eq!(caller.len(), assistant.len());
    // The record begins with the ring.
    let silent = seconds - caller.len() as f64 / 8_000.0;
    assert!((-0.05..1.5).contains(&silent), "{seconds} s");
    let turns = sheet["turns"].as_array().unwrap();
    let who: Vec<&str> = turns.iter().map(|turn| turn["who"].as_str().unwrap()).collect();
    assert_eq!(who[..who.len() - 1], ["assistant", "caller"].repeat(4));
    assert_eq!(who.last(), Some(&"assistant"));
    let mut before = 0;
    for turn in turns {
        let (start, end) = (ms(turn, "start_ms"), ms(turn, "end_ms"));
        assert!(before <= start && start < end && end as f64 <= seconds * 1_000.0, "{turn}");
        assert!(!turn["text"].as_str().unwrap().is_empty());
        before = start;
        // The recording has each voice at the times in the sheet, in its own channel.
        let own = if turn["who"] == "caller" { &caller } else { &assistant };
        assert!(loudness(own, start, end) > 300.0, "{turn}");
        assert!(loudness(own, start, start + 100) > 100.0, "the voice of {turn} begins late");
        if turn["who"] == "assistant" {
            let (sent, heard) = (ms(turn, "sent_ms"), ms(turn, "heard_ms"));
            assert!(heard <= sent, "{turn}");
            assert_eq!(turn["interrupted"].as_bool().unwrap(), heard < sent, "{turn}");
            assert_eq!(end - start, heard, "{turn}");
            let heard_text = turn["heard_text"].as_str().unwrap();
            assert!(turn["text"].as_str().unwrap().starts_with(heard_text), "{turn}");
            assert_eq!(turn["text"] == heard_text, heard == sent, "{turn}");
        } else {
            assert_eq!(keys(turn).len(), 4, "{turn}");
        }
    }
    let [greeting, answer] = [&turns[0], &turns[2]];
    assert!(greeting["latency_ms"].is_null() && answer["latency_ms"].as_u64().unwrap() >= 400, "{sheet}");
    assert!(answer["interrupted"].as_bool().unwrap());
    // The interrupted answer is cut in the recording at the time in the sheet.
    let cut = ms(answer, "end_ms");
    assert!(
        loudness(&assistant, cut + 60, ms(&turns[4], "start_ms") - 60) < 50.0,
        "the answer continued after {cut} ms"
    );
}

#[test]
fn the_caller_can_be_a_recording() {
    let place = Place::with_assistant(
        "tiny",
        "instructions: Be kind.\ngreeting: { first: caller }\ntranscription: false\n",
    );
    // 48 kHz, float, stereo: one second of tone, then silence.
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

    let run = place.rehearse(&["--caller", "me.wav", "--from", "anonymous", "--out", "."]);
    run.assert_success();
    run.prints("`tiny`");
    run.prints("+15550100000");
    run.prints("me.wav (1.5 s)");
    run.prints("I heard you speak, but I do not understand words.");
    run.prints("caller.hung_up");
    let sheet = place.sheet();
    assert_eq!((&sheet["reason"], &sheet["assistant"]), (&"caller.hung_up".into(), &"tiny".into()));
    let spoken = &sheet["turns"][0];
    let lasted = ms(spoken, "end_ms") - ms(spoken, "start_ms");
    assert!((980..=1_040).contains(&lasted), "{spoken}");
    let [caller, _] = place.sound();
    assert!(loudness(&caller, ms(spoken, "start_ms"), ms(spoken, "end_ms")) > 3_000.0);
    // The caller hangs up three seconds after the answer.
    let answered = ms(&sheet["turns"][1], "end_ms") as f64 / 1_000.0;
    let quiet = sheet["seconds"].as_f64().unwrap() - answered;
    assert!((2.9..4.0).contains(&quiet), "{quiet} s after the answer");
}

#[test]
fn a_rehearsal_that_cannot_start_is_an_error() {
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
    for (arguments, code, subject) in [
        (&["clinik"][..], 1, "`clinic`"),
        (&["--to", "5550100001"], 2, "--to"),
        (&["personal", "--to", "+15550100001"], 1, "+15550100001"),
        (&["--caller", "none.wav"], 1, "`none.wav` (--caller)"),
        (&["--caller", "text.wav"], 1, "`text.wav` (--caller)"),
        (&["--caller", "quiet.wav"], 1, "`quiet.wav` (--caller)"),
        (&["--live"], 1, "OPENAI_API_KEY"),
        (&["--out", "text.wav"], 1, "`text.wav` (--out)"),
        (&["clinic", "pizzeria"], 2, "'pizzeria'"),
    ] {
        let run = place.rehearse(arguments);
        assert_eq!((run.code, run.output.as_str()), (code, ""), "{arguments:?}: {}", run.errors);
        assert!(run.errors.starts_with("error: "), "{arguments:?}: {}", run.errors);
        assert!(run.errors.contains(subject), "{arguments:?}: {}", run.errors);
        assert!(!run.errors.contains("panicked"), "{}", run.errors);
    }
    assert!(!place.path("call.wav").exists());

    let broken = Place::with_assistant("broken", "instruction: Be kind.\n");
    let run = broken.rehearse(&[]);
    assert_eq!(run.code, 1);
    assert!(run.errors.contains("broken.yaml:1"), "{}", run.errors);
}

#[test]
fn a_failed_call_is_an_error_and_still_writes_its_files() {
    let place = Place::with_assistant("tiny", "instructions: Be kind.\n");
    fs::write(place.path(".env"), "OPENAI_API_KEY=sk-nobody\nOPENAI_REALTIME_URL=ws://127.0.0.1:9\n")
        .unwrap();
    let run = place.rehearse(&["--live", "--out", "kept/here"]);
    assert_eq!(run.code, 1);
    assert!(run.errors.contains("model.unreachable"), "{}", run.errors);
    let sheet: Value = serde_json::from_slice(&fs::read(place.path("kept/here/call.json")).unwrap()).unwrap();
    assert_eq!(sheet["reason"], "model.unreachable");
    assert_eq!((&sheet["test"], &sheet["assistant"]), (&true.into(), &"tiny".into()));
    assert_eq!((&sheet["simulated"], &sheet["first_word_ms"]), (&false.into(), &Value::Null));
    assert!(place.path("kept/here/call.wav").exists());
}

#[test]
fn a_deployment_with_its_own_name_may_reason() {
    let yaml = "numbers: [\"+15550100001\"]\ninstructions: Be kind.\nprovider: azure\nreasoning: low\n\
                call_control: { end_call: true }\ngreeting: { say: Hello there. }\n";
    let place = Place::with_assistant("clinic", yaml);
    let settings = "providers:\n  azure:\n    url: wss://my.example.com/openai/v1/realtime\n    \
                    abilities: { models: [{ name: reception, reasoning: true }] }\n";
    fs::write(place.path("switchboard.yaml"), settings).unwrap();
    let run = place.rehearse(&[]);
    run.assert_success();
    run.prints("stands in for reception");
}

#[test]
fn another_provider_is_rehearsed_in_its_own_dialect() {
    let yaml = "numbers: [\"+15550100001\"]\ninstructions: Be kind.\nprovider: old\ntemperature: 0.9\n\
                call_control: { end_call: true }\ngreeting: { say: Hello there. }\n";
    let place = Place::with_assistant("clinic", yaml);
    // The key is not set. A rehearsal needs neither the key nor the certificates.
    let settings = "providers:\n  old:\n    url: wss://voice.example.com/v1/realtime\n    key: \"${OLD_KEY}\"\n    \
                    auth: x-api-key\n    dialect: beta\n    abilities: { truncates: false, models: [old-voice] }\n";
    fs::write(place.path("switchboard.yaml"), settings).unwrap();
    let run = place.rehearse(&[]);
    run.assert_success();
    run.prints("stands in for old-voice");
    run.prints("assistant.ended");
    let live = place.rehearse(&["--live"]);
    assert_eq!(live.code, 1);
    assert!(live.errors.contains("`old`"), "{}", live.errors);
}
