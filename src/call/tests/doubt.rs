//! Interruptions in two stages: what is played on, what is cut, and what the model hears of it.
#![expect(clippy::disallowed_methods, reason = "the first instant of a test must come from somewhere")]

use std::collections::VecDeque;

use super::*;
use crate::assistant::plan::Transcription;

/// A phone some milliseconds away. It plays in real time, and remembers every sample.
struct Line {
    call: Call,
    start: Instant,
    now: u64,
    latency: u64,
    /// How much later each message arrives, in turn: up to so many milliseconds.
    jitter: u64,
    messages: u32,
    /// On their way to the phone.
    to_phone: VecDeque<(u64, Action)>,
    /// On their way to the call.
    to_call: VecDeque<(u64, Event)>,
    buffer: VecDeque<Audio>,
    heard: Vec<u8>,
    cleared_at: Vec<u64>,
    /// When sound came out of the phone.
    sounded: Vec<u64>,
    out: Vec<Action>,
    others: Vec<Action>,
    caller: Caller,
}

enum Audio {
    Byte(u8),
    Mark(Mark),
}

/// What the caller's microphone hears, and when.
type Caller = fn(at: u64) -> Sound;

#[derive(Clone, Copy, PartialEq)]
enum Sound {
    Quiet,
    Voice,
    Burst,
}

/// 20 ms of a sound.
fn sound(kind: Sound, at: u64) -> Chunk {
    let sample = |n: u64| match kind {
        Sound::Quiet => 0.0,
        // Pulses of 125 Hz, which rise and fall three times a second.
        Sound::Voice => {
            let phase = (n % 64) as f32 / 64.0;
            let syllable = ((n % 2_667) as f32 / 2_667.0 * std::f32::consts::PI).sin();
            (7_000.0 * (1.0 - phase).powi(3) - 1_750.0) * syllable
        }
        Sound::Burst => {
            let mut random = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            random = (random ^ (random >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            7_000.0 * ((random >> 40) as f32 / 8_388_608.0 - 1.0)
        }
    };
    let ulaw: Vec<u8> = (at * 8..at * 8 + 160).map(|n| switchboard_audio::encode(sample(n) as i16)).collect();
    Chunk::from_ulaw(&ulaw)
}

/// The assistant's audio: no two places of it are alike.
fn words(from: usize, bytes: usize) -> Vec<u8> {
    let byte = |n: usize| (n as u32).wrapping_mul(2_654_435_761).rotate_left(9) as u8 & 0x7E;
    (from..from + bytes).map(byte).collect()
}

fn confirming() -> Plan {
    let mut plan = plan();
    plan.turn_taking.interruptions = Interruptions::Confirmed;
    plan.transcription = Some(Transcription { model: "gpt-4o-transcribe".to_owned(), language: None });
    plan
}

impl Line {
    /// A connected phone this far away, each way.
    fn new(plan: Plan, latency: u64, jitter: u64, caller: Caller) -> Self {
        let start = Instant::now();
        let mut line = Self {
            call: Call::new(Arc::new(plan)),
            start,
            now: 0,
            latency,
            jitter,
            messages: 0,
            to_phone: VecDeque::new(),
            to_call: VecDeque::new(),
            buffer: VecDeque::new(),
            heard: Vec::new(),
            cleared_at: Vec::new(),
            sounded: Vec::new(),
            out: Vec::new(),
            others: Vec::new(),
            caller,
        };
        line.on(Event::ModelReady { endpoint: 0 });
        line.on(Event::StreamStarted);
        line.until(3_000);
        line
    }

    fn on(&mut self, event: Event) {
        let now = self.start + ms(self.now);
        self.call.handle(event, now, &mut self.out);
        self.perform();
    }

    /// The model says this much, faster than it plays.
    fn says(&mut self, response: &str, item: &str, words: &[u8]) {
        let id = ResponseId::from(response);
        self.on(Event::ResponseStarted { response: id.clone(), origin: Origin::Unknown });
        self.goes_on(response, item, words);
        self.on(Event::ResponseEnded { response: id, outcome: Outcome::Completed });
    }

    fn goes_on(&mut self, response: &str, item: &str, words: &[u8]) {
        for part in words.chunks(3_200) {
            let chunk = Chunk::from_ulaw(part);
            self.on(Event::ModelAudio { response: response.into(), item: item.into(), chunk });
        }
    }

    fn transcript(&mut self, item: &str, text: &str) {
        let text = text.to_owned().into();
        self.on(Event::Transcript { who: Who::Caller, item: item.into(), text });
    }

    fn delay(&mut self) -> u64 {
        self.messages = self.messages.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.latency + if self.jitter == 0 { 0 } else { u64::from(self.messages >> 16) % (self.jitter + 1) }
    }

    fn perform(&mut self) {
        while !self.out.is_empty() {
            for action in std::mem::take(&mut self.out) {
                match &action {
                    Action::PlayToCaller { piece, .. } => {
                        let now = self.start + ms(self.now);
                        self.call.handle(Event::AudioLeft(*piece), now, &mut self.out);
                        self.send(action);
                    }
                    Action::MarkForCaller(_) | Action::ClearCaller => self.send(action),
                    _ => self.others.push(action),
                }
            }
        }
    }

    /// Messages stay in order.
    fn send(&mut self, action: Action) {
        let due = self.now + self.delay();
        let due = self.to_phone.back().map_or(due, |(last, _)| due.max(*last));
        self.to_phone.push_back((due, action));
    }

    fn echo(&mut self, mark: Mark) {
        let due = self.now + self.delay();
        let due = self.to_call.back().map_or(due, |(last, _)| due.max(*last));
        self.to_call.push_back((due, Event::MarkPlayed(mark)));
    }

    /// Time passes, a millisecond at a time.
    fn until(&mut self, until: u64) {
        while self.now < until {
            while self.to_phone.front().is_some_and(|(due, _)| *due <= self.now) {
                match self.to_phone.pop_front().unwrap().1 {
                    Action::PlayToCaller { chunk, .. } => {
                        self.buffer.extend(chunk.to_ulaw().into_iter().map(Audio::Byte));
                    }
                    Action::MarkForCaller(mark) => self.buffer.push_back(Audio::Mark(mark)),
                    _ => {
                        self.cleared_at.push(self.now);
                        for audio in std::mem::take(&mut self.buffer) {
                            if let Audio::Mark(mark) = audio {
                                self.echo(mark);
                            }
                        }
                    }
                }
            }
            for _ in 0..8 {
                self.echo_marks();
                if let Some(Audio::Byte(byte)) = self.buffer.pop_front() {
                    self.heard.push(byte);
                    self.sounded.push(self.now);
                }
            }
            self.now += 1;
            self.echo_marks();
            while self.to_call.front().is_some_and(|(due, _)| *due <= self.now) {
                let event = self.to_call.pop_front().unwrap().1;
                self.on(event);
            }
            if self.now.is_multiple_of(20) {
                let chunk = sound((self.caller)(self.now), self.now);
                self.on(Event::CallerAudio(chunk));
            }
            let now = self.start + ms(self.now);
            if self.call.deadline().is_some_and(|(due, _)| due <= now) {
                self.call.handle_timeout(now, &mut self.out);
                self.perform();
            }
        }
    }

    /// Marks whose audio was played.
    fn echo_marks(&mut self) {
        while let Some(Audio::Mark(mark)) = self.buffer.front() {
            let mark = *mark;
            self.buffer.pop_front();
            self.echo(mark);
        }
    }

    fn count(&self, which: impl Fn(&Action) -> bool) -> usize {
        self.others.iter().filter(|action| which(action)).count()
    }

    fn is_deleted(&self, item: &str) -> bool {
        self.others.contains(&Action::DeleteItem(item.into()))
    }

    fn truncated(&self) -> Option<u64> {
        self.others.iter().find_map(|action| match action {
            Action::TruncateItem(cut) => Some(cut.audio_end_ms),
            _ => None,
        })
    }

    /// When sound came back after the last silence in it, and how many milliseconds of it there were.
    fn gap(&self) -> Option<(u64, u64)> {
        self.sounded.windows(2).map(|pair| (pair[0], pair[1])).find(|(before, after)| after - before > 5)
    }
}

fn knocks(at: u64) -> Sound {
    if (5_000..5_200).contains(&at) { Sound::Burst } else { Sound::Quiet }
}

fn mumbles(at: u64) -> Sound {
    if (5_000..5_350).contains(&at) { Sound::Voice } else { Sound::Quiet }
}

fn speaks_up(at: u64) -> Sound {
    if (5_000..6_500).contains(&at) { Sound::Voice } else { Sound::Quiet }
}

/// Six seconds of an answer from 3 s on; the model notices something after 5.1 s.
fn talked_over(latency: u64, jitter: u64, caller: Caller) -> Line {
    let mut line = Line::new(confirming(), latency, jitter, caller);
    line.says("r1", "a", &words(0, 48_000));
    line.until(5_100);
    line.on(Event::SpeechStarted("u".into()));
    line
}

#[test]
fn after_noise_playback_goes_on_to_the_sample() {
    for (latency, jitter, most) in [(0, 0, 0), (40, 0, 0), (150, 0, 0), (40, 20, 20), (150, 30, 30)] {
        let mut line = talked_over(latency, jitter, knocks);
        line.until(5_700);
        line.on(Event::SpeechStopped);
        line.until(16_000);
        let all = words(0, 48_000);
        let (before, after) = line.gap().expect("the phone was silent for a while");
        assert!(after - before >= 200, "it stopped at once");
        assert!(after <= 5_200 + 500 + 2 * latency + jitter, "{latency} ms: sound again at {after}");
        let cut = line.sounded.iter().filter(|at| **at <= before).count();
        assert!(line.heard[..cut] == all[..cut]);
        let rest = &line.heard[cut..];
        let skipped = (0..all.len()).find(|at| all[*at..] == *rest).expect("the rest is played to its end");
        let wrong = skipped.abs_diff(cut) / 8;
        assert!(wrong as u64 <= most, "{latency}±{jitter} ms: wrong by {wrong} ms");
        assert!(line.is_deleted("u"), "{:?}", line.others);
        assert_eq!(line.count(|it| matches!(it, Action::AskForResponse | Action::CancelResponse(_))), 0);
        assert_eq!(line.truncated(), None);
    }
}

#[test]
fn speech_is_confirmed_while_it_lasts() {
    for latency in [0, 40, 150] {
        let mut line = talked_over(latency, 0, speaks_up);
        line.until(5_100 + latency + 5);
        let heard = line.heard.len() as u64 / 8;
        line.until(5_900);
        assert_eq!(line.truncated(), Some(heard), "{latency} ms");
        line.until(7_000);
        assert_eq!(line.heard.len() as u64 / 8, heard, "nothing is played on");
        line.on(Event::SpeechStopped);
        assert_eq!(line.count(|it| *it == Action::AskForResponse), 1);
        assert!(!line.is_deleted("u"));
    }
}

#[test]
fn what_comes_meanwhile_follows_what_was_not_heard() {
    let mut line = Line::new(confirming(), 40, 0, knocks);
    line.on(Event::ResponseStarted { response: "r1".into(), origin: Origin::Unknown });
    line.goes_on("r1", "a", &words(0, 24_000));
    line.until(5_100);
    line.on(Event::SpeechStarted("u".into()));
    line.goes_on("r1", "a", &words(24_000, 8_000));
    line.goes_on("r1", "b", &words(32_000, 8_000));
    line.on(Event::ResponseEnded { response: "r1".into(), outcome: Outcome::Completed });
    line.until(5_700);
    line.on(Event::SpeechStopped);
    line.until(14_000);
    assert!(line.heard == words(0, 40_000));
}

#[test]
fn a_short_word_is_judged_by_its_transcript() {
    for (said, stops) in [("Mhm.", false), ("", false), ("Okay.", false), ("Stop!", true), ("Nein.", true)] {
        let mut line = talked_over(40, 0, mumbles);
        line.until(5_850);
        line.on(Event::SpeechStopped);
        assert_eq!(line.truncated(), None, "{said}: it is not known yet");
        line.until(6_000);
        line.transcript("u", said);
        line.until(16_000);
        assert_eq!(line.truncated().is_some(), stops, "{said}");
        assert_eq!(line.is_deleted("u"), !stops, "{said}");
        let answers = line.count(|it| *it == Action::AskForResponse);
        // What is due is asked for again if it does not come.
        assert_eq!(answers > 0, stops, "{said}");
        if !stops {
            assert!(line.heard == words(0, 48_000), "{said}");
        }
    }
}

#[test]
fn a_short_word_without_a_transcript_counts() {
    let mut line = talked_over(40, 0, mumbles);
    line.until(5_850);
    line.on(Event::SpeechStopped);
    line.until(7_000);
    assert!(line.truncated().is_some());
    // So does one that nobody writes down, as soon as our ear has judged it.
    let mut plan = confirming();
    plan.transcription = None;
    let mut line = Line::new(plan, 40, 0, mumbles);
    line.says("r1", "a", &words(0, 48_000));
    line.until(5_100);
    line.on(Event::SpeechStarted("u".into()));
    line.until(5_800);
    assert!(line.truncated().is_some());
}

#[test]
fn yes_to_a_question_is_an_answer() {
    for (question, stops) in
        [("Is that all right? Then I will book it for you now", true), ("All right. Then I will book", false)]
    {
        let mut line = Line::new(confirming(), 40, 0, mumbles);
        line.says("r1", "a", &words(0, 48_000));
        let text = question.to_owned().into();
        line.on(Event::Transcript { who: Who::Assistant, item: "a".into(), text });
        line.until(5_100);
        line.on(Event::SpeechStarted("u".into()));
        line.until(5_850);
        line.on(Event::SpeechStopped);
        line.transcript("u", "Yes.");
        assert_eq!(line.truncated().is_some(), stops, "{question}");
    }
}

#[test]
fn yes_at_the_end_is_an_answer() {
    let mut line = Line::new(confirming(), 40, 0, mumbles);
    line.says("r1", "a", &words(0, 20_000)); // 2.5 s, of which 0.4 are left.
    line.until(5_100);
    line.on(Event::SpeechStarted("u".into()));
    line.until(5_850);
    line.on(Event::SpeechStopped);
    line.transcript("u", "Okay.");
    assert!(line.truncated().is_some());
}

#[test]
fn noise_that_only_the_model_hears_stops_it_for_a_moment() {
    let mut line = talked_over(40, 0, |_| Sound::Quiet);
    line.until(5_700);
    line.on(Event::SpeechStopped);
    line.until(16_000);
    assert!(line.heard == words(0, 48_000));
    assert!(line.is_deleted("u"));
}

#[test]
fn a_soft_voice_is_heard_by_its_transcript() {
    let mut line = talked_over(40, 0, |_| Sound::Quiet);
    line.until(7_100);
    line.on(Event::SpeechStopped); // Two seconds of something.
    assert!(!line.is_deleted("u"));
    line.transcript("u", "Excuse me, one question.");
    assert!(line.truncated().is_some());
    assert!(line.count(|it| *it == Action::AskForResponse) == 1, "{:?}", line.others);
}

#[test]
fn speech_after_noise_in_the_same_turn_stops_it_again() {
    let mut line = talked_over(40, 0, |at| match at {
        5_000..5_200 => Sound::Burst,
        5_800..7_500 => Sound::Voice,
        _ => Sound::Quiet,
    });
    line.until(7_500);
    assert!(line.truncated().is_some());
    line.on(Event::SpeechStopped);
    assert_eq!(line.count(|it| *it == Action::AskForResponse), 1);
}

#[test]
fn a_goodbye_and_a_lost_session_go_on_after_noise() {
    let mut line = talked_over(40, 0, knocks);
    line.on(Event::ModelLost(Loss::Closed.into()));
    line.until(9_000);
    assert!(line.heard[..40_000] == words(0, 40_000), "what the phone had plays on");
}

#[test]
fn what_is_kept_has_a_limit() {
    let mut line = Line::new(confirming(), 0, 0, knocks);
    line.says("r1", "a", &words(0, 121_000 * 8));
    line.until(5_100);
    line.on(Event::SpeechStarted("u".into()));
    assert!(line.truncated().is_some(), "not all of it was kept, so it counts as speech");
}
