//! Recordings of calls, compared with what the phone said and heard; and their bucket, at a real S3 server.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use switchboard::assistant::plan::RecordPolicy;
use switchboard::call::EndReason;
use switchboard::link::{http_client, tls};
use switchboard::phone::{Party, PhoneNumber};
use switchboard::record::{Answering, Entry, Rang, RecordId, Sink, Voice, What};
use switchboard::recording::{self, Archive, Kept, Refused};
use switchboard::settings::{Settings, Sources};
use switchboard::store::{self, Options, Place, Store};
use switchboard_audio::SILENCE;
use switchboard_simulator::caller::{CallRecord, Phone, PhoneEvent, PhoneOptions};
use switchboard_simulator::model::{ModelOptions, ModelServer, Reply, Script, Speech};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::harness::{CLINIC, Harness, PATIENCE, TOKEN, finished, speech};

const LONG: &str = "This is a long answer that goes on and on about the opening hours of the clinic, about the \
                    way to it, about where to park, and about what to bring along when you come to see us.";
/// How far a sound may be from where the phone had it, in samples: 60 ms.
const ALIGNED: usize = 480;
/// A longer silence separates two sounds.
const GAP: usize = 400;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn recorded() -> String {
    format!("{CLINIC}record: {{ audio: true }}\n")
}

fn talkative() -> ModelOptions {
    ModelOptions {
        think: ms(100),
        speech: Speech::Tagged,
        script: Script { replies: Vec::new(), rest: Reply::say(LONG) },
        ..ModelOptions::default()
    }
}

/// The only recording in a state folder, once its writer is done.
fn only(state: &Path) -> PathBuf {
    let mut files = std::fs::read_dir(state.join("recordings")).unwrap();
    let path = files.next().expect("a call was recorded").unwrap().path();
    assert!(files.next().is_none());
    File::open(&path).unwrap().lock_shared().unwrap();
    path
}

/// The caller's side of a recording, and what they heard.
fn sides(file: &[u8]) -> [Vec<u8>; 2] {
    let (header, frames) = file.split_at(58);
    assert_eq!(
        (&header[..4], &header[8..16], &header[20..24]),
        (&b"RIFF"[..], &b"WAVEfmt "[..], &[7, 0, 2, 0][..])
    );
    let length = u32::from_le_bytes(header[54..].try_into().unwrap()) as usize;
    assert!(length <= frames.len(), "the header says only what is there");
    [0, 1].map(|side| frames[..length].chunks_exact(2).map(|frame| frame[side]).collect())
}

/// Where each sound begins, and its samples.
fn sounds(side: &[u8]) -> Vec<(usize, &[u8])> {
    let mut sounds = Vec::new();
    let (mut from, mut last) = (None, 0);
    for (at, _) in side.iter().enumerate().filter(|(_, sample)| **sample != SILENCE) {
        if at > last + GAP
            && let Some(from) = from.replace(at)
        {
            sounds.push((from, &side[from..=last]));
        }
        from.get_or_insert(at);
        last = at;
    }
    sounds.extend(from.map(|from| (from, &side[from..=last])));
    sounds
}

/// What the phone recorded since its first stream began.
fn since_stream<'a>(record: &CallRecord, side: &'a [u8]) -> &'a [u8] {
    let started = record.streams[0].started.unwrap() - record.started;
    &side[(started.as_micros() * 8 / 1_000) as usize..]
}

/// Both have the same sounds at the same time; each may end `early` or late by so many samples.
#[track_caller]
fn assert_same(recording: &[u8], phone: &[u8], early: usize) {
    let (recorded, real) = (sounds(recording), sounds(phone));
    let shape = |sounds: &[(usize, &[u8])]| -> Vec<(usize, usize)> {
        sounds.iter().map(|(from, samples)| (from / 8, samples.len() / 8)).collect()
    };
    assert_eq!(recorded.len(), real.len(), "{:?} {:?}", shape(&recorded), shape(&real));
    for ((at, recorded), (really, real)) in recorded.iter().zip(&real) {
        assert!(at.abs_diff(*really) <= ALIGNED, "at {} ms, not {}", at / 8, really / 8);
        let both = recorded.len().min(real.len());
        assert!(recorded[..both] == real[..both], "other samples at {} ms", at / 8);
        let longest = recorded.len().max(real.len());
        assert!(longest - both <= early, "{} ms, not {}", recorded.len() / 8, real.len() / 8);
    }
}

#[tokio::test]
async fn a_recording_has_what_was_said_and_what_was_heard() {
    let state = tempfile::tempdir().unwrap();
    let settings = [("STATE_DIR", state.path().to_str().unwrap())];
    let mut harness = Harness::with(&recorded(), &[], talkative(), &settings).await;
    let mut phone = harness.dial(harness.phone());
    assert!(phone.wait_until_quiet(ms(400)).await, "the greeting is over");
    phone.say(speech(500));
    assert!(phone.wait_until_playing_for(ms(700)).await, "the answer plays");
    phone.say(speech(500));
    phone.wait_for(|event| matches!(event, PhoneEvent::Cleared(_))).await.expect("the voice stops");
    assert!(phone.wait_until_playing_for(ms(300)).await, "the next answer plays");
    phone.hang_up();
    let record = finished(phone).await;
    record.assert_clean();
    let ended = harness.ended().await;
    harness.quit().await;

    let path = only(state.path());
    let written = ended.record.recording.as_deref().map(|path| state.path().join(path));
    assert_eq!(written, Some(path.clone()));
    let [left, right] = sides(&std::fs::read(path).unwrap());
    assert_same(&left, since_stream(&record, &record.spoken), 0);
    assert_same(&right, since_stream(&record, &record.heard), ALIGNED);
    // What the clear took back is silence, exactly by the call's ledger.
    let heard = ended.record.turns.iter().filter_map(|turn| match turn.voice {
        Voice::Assistant { heard_ms, interrupted: true, .. } => Some(heard_ms as usize),
        _ => None,
    });
    let cut = sounds(&right)[1].1.len() / 8;
    assert!(
        heard.clone().any(|heard| heard.abs_diff(cut) <= 1),
        "{cut} ms of {:?}",
        heard.collect::<Vec<_>>()
    );
    let seconds = record.streams[0].ended - record.streams[0].started.unwrap();
    assert!((right.len() / 8).abs_diff(seconds.as_millis() as usize) <= 500, "{} ms", right.len() / 8);
}

#[tokio::test]
async fn nothing_is_recorded_unless_the_file_says_so() {
    let state = tempfile::tempdir().unwrap();
    let settings = [("STATE_DIR", state.path().to_str().unwrap())];
    let mut harness = Harness::with(CLINIC, &[], talkative(), &settings).await;
    let mut phone = harness.dial(harness.phone());
    phone.wait_for(|event| matches!(event, PhoneEvent::FirstMedia)).await.unwrap();
    phone.hang_up();
    finished(phone).await.assert_clean();
    assert_eq!(harness.ended().await.record.recording, None);
    harness.quit().await;
    assert!(!state.path().join("recordings").exists());
}

#[tokio::test]
async fn a_record_names_no_recording_that_could_not_be_created() {
    let state = tempfile::tempdir().unwrap();
    // Nothing can be created below a file.
    std::fs::write(state.path().join("recordings"), "").unwrap();
    let settings = [("STATE_DIR", state.path().to_str().unwrap())];
    let mut harness = Harness::with(&recorded(), &[], talkative(), &settings).await;
    let mut phone = harness.dial(harness.phone());
    phone.wait_for(|event| matches!(event, PhoneEvent::FirstMedia)).await.unwrap();
    phone.hang_up();
    finished(phone).await.assert_clean();
    let record = harness.ended().await.record;
    assert_eq!((record.reason.as_deref(), record.recording), (Some(EndReason::CallerHungUp.code()), None));
    harness.quit().await;
}

#[tokio::test]
async fn a_killed_server_leaves_a_recording_up_to_the_last_second() {
    let model = ModelServer::start(talkative()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("assistants")).unwrap();
    std::fs::write(folder.path().join("assistants/clinic.yaml"), recorded()).unwrap();
    let (mut server, url) = program(folder.path(), &model.url()).await;
    let mut phone = Phone::dial(PhoneOptions::new(url, TOKEN));
    let started = phone.wait_for(|event| matches!(event, PhoneEvent::StreamStarted { .. })).await.unwrap();
    assert!(phone.wait_until_quiet(ms(400)).await, "the greeting is over");
    phone.say(speech(500));
    assert!(phone.wait_until_playing_for(ms(2_000)).await, "the answer plays");
    let lasted = started.at.elapsed();
    server.kill().await.unwrap();
    phone.hang_up();
    let record = finished(phone).await;
    model.stop().await;

    let [left, right] = sides(&std::fs::read(only(&folder.path().join("state"))).unwrap());
    let missing = lasted.saturating_sub(ms(left.len() as u64 / 8));
    assert!(missing <= ms(1_500), "{missing:?} are missing of {lasted:?}");
    let heard = since_stream(&record, &record.heard);
    let (first, really) = (sounds(&right)[0], sounds(heard)[0]);
    assert!(first.1 == really.1, "the greeting is there");
}

/// Runs `serve` in a folder. Returns its URL, too.
async fn program(folder: &Path, model: &str) -> (Child, String) {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port().to_string();
    let url = format!("http://127.0.0.1:{port}");
    let mut server = Command::new(env!("CARGO_BIN_EXE_switchboard"))
        .arg("serve")
        .current_dir(folder)
        .env_clear()
        .envs([
            ("OPENAI_API_KEY", "sk-simulated"),
            ("OPENAI_REALTIME_URL", model),
            ("TWILIO_AUTH_TOKEN", TOKEN),
            ("PUBLIC_URL", &url),
            ("HOST", "127.0.0.1"),
            ("PORT", &port),
            ("LOG_FORMAT", "json"),
        ])
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    said(&mut server, "\"Ready\"").await;
    (server, url)
}

#[tokio::test]
async fn a_server_removes_recordings_whose_records_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("assistants")).unwrap();
    std::fs::write(folder.path().join("assistants/clinic.yaml"), recorded()).unwrap();
    // The database must not be younger.
    let id = RecordId::new(Timestamp::now() + SignedDuration::from_mins(1), 1);
    let left = leave_long_ago(&folder.path().join("state"), &format!("{id}.wav"));
    let (_server, _) = program(folder.path(), "ws://127.0.0.1:1").await;
    let gone = async {
        while left.exists() {
            sleep(ms(20)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("it is removed");
}

/// Waits for this in the program's log.
async fn said(program: &mut Child, what: &str) -> String {
    let mut lines = BufReader::new(program.stderr.take().unwrap()).lines();
    let found = timeout(PATIENCE, async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(what) {
                return line;
            }
        }
        panic!("it ended without `{what}`")
    });
    let line = found.await.unwrap_or_else(|_| panic!("it does not say `{what}`"));
    // Nobody reads the rest, but somebody must.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    line
}

/// Moto's S3 server. Dropping it kills the process.
struct S3 {
    _child: Child,
    url: String,
}

impl S3 {
    /// On this port, 0 for any; after `free` requests, keys must be known and allowed.
    async fn start(port: u16, free: &str) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/s3/.venv/bin/moto_server");
        assert!(
            program.exists(),
            "moto is not installed: run `make tests/s3/.venv/installed`, or `make test`, which does it"
        );
        let mut child = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .env("INITIAL_NO_AUTH_ACTION_COUNT", free)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let line = said(&mut child, "Running on http://").await;
        let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
        let s3 = Self { _child: child, url };
        let created = client().put(format!("{}/calls", s3.url)).send().await.unwrap();
        assert_eq!(created.status().as_u16(), 200);
        s3
    }

    /// An object of the bucket.
    async fn get(&self, key: &str) -> Option<Vec<u8>> {
        // Moto only looks whether there is a signature.
        let signed = "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20260101/us-east-1/s3/aws4_request, \
                      SignedHeaders=host, Signature=x";
        let question = client().get(format!("{}/calls/{key}", self.url)).header("Authorization", signed);
        let answer = question.send().await.unwrap();
        match answer.status().as_u16() {
            200 => Some(answer.bytes().await.unwrap().to_vec()),
            404 => None,
            status => panic!("{status}"),
        }
    }
}

/// The settings of a bucket at this server.
fn access<'a>(url: &'a str, state: &'a Path) -> [(&'a str, &'a str); 5] {
    [
        ("STATE_DIR", state.to_str().unwrap()),
        ("RECORDINGS_URL", "s3://calls/clinic/"),
        ("AWS_ENDPOINT_URL", url),
        ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "simulated-secret"),
    ]
}

fn archive(url: &str, state: &Path) -> Archive {
    let environment: BTreeMap<String, String> =
        access(url, state).iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let settings = Settings::checked(&Sources { file: None, environment }).unwrap();
    Archive::new(settings.state_dir, settings.recordings, client())
}

fn client() -> reqwest::Client {
    recording::client(http_client(&tls::client_config(false, None).unwrap())).unwrap()
}

fn leave(state: &Path, name: &str, content: &[u8]) -> PathBuf {
    std::fs::create_dir_all(state.join("recordings")).unwrap();
    let path = state.join("recordings").join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// A recording whose record must be written by now.
fn leave_long_ago(state: &Path, name: &str) -> PathBuf {
    let path = leave(state, name, b"a call");
    let long_ago = SystemTime::now() - Duration::from_secs(60 * 60);
    File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
    path
}

#[tokio::test]
async fn only_recordings_with_a_record_get_into_the_bucket() {
    let s3 = S3::start(0, "inf").await;
    let state = tempfile::tempdir().unwrap();
    let archive = archive(&s3.url, state.path());
    let (sent, mut entries) = tokio::sync::mpsc::unbounded_channel();
    let sink: Sink = Arc::new(move |id: &RecordId, _| drop(sent.send(id.clone())));
    let place = Place::Sqlite(state.path().join("calls.db"));
    let (records, _, closer) = store::start(Options::new(place.clone()));
    let now = Timestamp::now() + SignedDuration::from_secs(1);
    let [kept, erased, fresh] = [1, 2, 3].map(|chance| RecordId::new(now, chance));
    let erased_path = leave_long_ago(state.path(), &format!("{erased}.wav"));
    let caller = Party::Number(PhoneNumber::parse("+15550100007").unwrap());
    let rang = Rang::new("CA1", &caller, &caller, Answering::nobody(RecordPolicy::default()), now);
    records.file(&kept, Entry { at_ms: 0, what: What::Rang(rang) });
    closer.close(PATIENCE).await;
    let archive = archive.with_store(Store::open(&place).await.unwrap());
    leave(state.path(), &format!("{kept}.wav"), b"a call");
    let fresh_path = leave(state.path(), &format!("{fresh}.wav"), b"a call");

    assert!(!archive.upload_all(&sink).await, "one may get a record");
    assert_eq!(entries.try_recv().unwrap(), kept);
    entries.try_recv().unwrap_err();
    assert!(!erased_path.exists() && fresh_path.exists());
    for (id, is_there) in [(kept, true), (erased, false), (fresh, false)] {
        assert_eq!(s3.get(&format!("clinic/{id}.wav")).await.is_some(), is_there, "{id}");
    }
}

#[tokio::test]
async fn a_recording_without_a_record_goes_once_it_cannot_get_one() {
    let state = tempfile::tempdir().unwrap();
    let archive = archive("http://127.0.0.1:1", state.path());
    // A database cannot tell of what is older.
    let store = Store::open(&Place::Sqlite(state.path().join("calls.db"))).await.unwrap();
    let name = |chance: u128| format!("{}.wav", RecordId::new(Timestamp::now(), chance));
    let orphan = leave_long_ago(state.path(), &name(1));
    let fresh = leave(state.path(), &name(2), b"a call");
    let live = leave_long_ago(state.path(), &name(3));
    let lock = File::open(&live).unwrap();
    lock.lock().unwrap();
    let unnamed = leave_long_ago(state.path(), &format!(".{}.new", name(4)));
    let of_nobody = leave_long_ago(state.path(), "music.wav");
    assert_eq!(archive.tidy().await.unwrap().ids.len(), 4, "nobody can be asked");
    assert!(!unnamed.exists(), "a killed process left it");

    let archive = archive.with_store(store);
    assert_eq!(archive.tidy().await.unwrap(), Kept { ids: Vec::new(), more: true });
    assert!(!orphan.exists());
    assert!(fresh.exists() && live.exists() && of_nobody.exists());
    drop(lock);
    archive.tidy().await.unwrap();
    assert!(!live.exists() && fresh.exists());
}

#[tokio::test]
async fn a_disk_that_stands_still_stops_nothing_else() {
    let state = tempfile::tempdir().unwrap();
    let archive = archive("http://127.0.0.1:1", state.path());
    let path = leave(state.path(), "01SLOW.wav", b"");
    std::fs::remove_file(&path).unwrap();
    // Whoever opens it waits until somebody opens its other end.
    assert!(Command::new("mkfifo").arg(&path).status().await.unwrap().success());
    let nowhere: Sink = Arc::new(|_: &RecordId, _| {});
    let (goes_on, went_on) = std::sync::mpsc::channel();
    let other_end = std::thread::spawn(move || {
        let went_on = went_on.recv_timeout(PATIENCE);
        let other_end = File::options().write(true).open(&path).unwrap();
        // So that it is opened no more without another end.
        std::fs::remove_file(&path).unwrap();
        drop(other_end);
        went_on
    });
    // In this order.
    let (_, ()) = tokio::join!(archive.upload_all(&nowhere), async { goes_on.send(()).unwrap() });
    assert_eq!(other_end.join().unwrap(), Ok(()));
}

#[tokio::test]
async fn recordings_move_into_the_bucket_and_can_be_removed_there() {
    let s3 = S3::start(0, "inf").await;
    let state = tempfile::tempdir().unwrap();
    // An earlier process left it. It has several parts.
    let large: Vec<u8> = (0..20 * 1024 * 1024_u32).map(|n| (n / 1_000) as u8).collect();
    let left = leave(state.path(), "01LEFT.wav", &large);
    let mut harness = Harness::with(&recorded(), &[], talkative(), &access(&s3.url, state.path())).await;
    assert_eq!(harness.uploaded().await, "s3://calls/clinic/01LEFT.wav");
    assert!(!left.exists());
    assert!(s3.get("clinic/01LEFT.wav").await.as_deref() == Some(&large[..]));

    let mut phone = harness.dial(harness.phone());
    phone.wait_for(|event| matches!(event, PhoneEvent::FirstMedia)).await.unwrap();
    phone.hang_up();
    finished(phone).await.assert_clean();
    let ended = harness.ended().await;
    let address = harness.uploaded().await;
    let id = ended.record.id;
    assert_eq!(address, format!("s3://calls/clinic/{id}.wav"));
    let object = s3.get(&format!("clinic/{id}.wav")).await.expect("it is there");
    assert_eq!(sides(&object).map(|side| side.len()), [(object.len() - 58) / 2; 2]);
    assert_eq!(std::fs::read_dir(state.path().join("recordings")).unwrap().count(), 0);
    harness.quit().await;

    let archive = archive(&s3.url, state.path());
    assert_eq!(archive.probe().await, Ok(()));
    assert!(archive.remove(&address).await.unwrap());
    assert!(s3.get(&format!("clinic/{id}.wav")).await.is_none());
    assert!(!archive.remove(&address).await.unwrap(), "it is gone");
    // A record may still have the path of the file.
    assert!(archive.remove("recordings/01LEFT.wav").await.unwrap());
    assert!(s3.get("clinic/01LEFT.wav").await.is_none());
}

#[tokio::test]
async fn a_recording_waits_for_a_bucket_that_is_away() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let state = tempfile::tempdir().unwrap();
    let path = leave(state.path(), "01WAITS.wav", b"a call");
    let live = leave(state.path(), "01LIVE.wav", b"still written");
    let lock = File::open(&live).unwrap();
    lock.lock().unwrap();
    let archive = archive(&format!("http://127.0.0.1:{port}"), state.path());
    let (sent, mut entries) = tokio::sync::mpsc::unbounded_channel();
    let sink: Sink = Arc::new(move |id: &RecordId, entry| drop(sent.send((id.clone(), entry))));
    assert!(!archive.upload_all(&sink).await);
    assert!(path.exists() && matches!(archive.probe().await, Err(Refused::Other(_))));
    let s3 = S3::start(port, "inf").await;
    assert!(archive.upload_all(&sink).await);
    let (id, entry) = entries.try_recv().unwrap();
    let address = "s3://calls/clinic/01WAITS.wav".to_owned();
    assert_eq!((id.as_str(), entry.what), ("01WAITS", What::Recording { path: address }));
    assert_eq!(s3.get("clinic/01WAITS.wav").await.as_deref(), Some(&b"a call"[..]));
    assert!(!path.exists() && live.exists(), "a call under way keeps its file");
}

#[tokio::test]
async fn a_bucket_without_rights_costs_only_the_upload() {
    // One request is free: the one that creates the bucket.
    let s3 = S3::start(0, "1").await;
    let state = tempfile::tempdir().unwrap();
    let mut harness = Harness::with(&recorded(), &[], talkative(), &access(&s3.url, state.path())).await;
    let mut phone = harness.dial(harness.phone());
    phone.wait_for(|event| matches!(event, PhoneEvent::FirstMedia)).await.unwrap();
    phone.hang_up();
    finished(phone).await.assert_clean();
    let ended = harness.ended().await;
    assert_eq!(ended.reason, EndReason::CallerHungUp);
    let archive = archive(&s3.url, state.path());
    assert_eq!(archive.probe().await, Err(Refused::Rights));
    harness.quit().await;
    let path = state.path().join(ended.record.recording.unwrap());
    let nowhere: Sink = Arc::new(|_: &RecordId, _| {});
    // The server's last attempt may still hold the file for a moment.
    let refused = async { while archive.upload_all(&nowhere).await {} };
    timeout(PATIENCE, refused).await.expect("it is not uploaded");
    assert!(path.exists(), "it stays for the next start");
}
