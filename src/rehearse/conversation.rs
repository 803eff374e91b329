//! The conversation, assembled from the server's journal and the phone's events.
//!
//! All times are milliseconds since the stream began, on the phone's clock. `call.wav` uses the same clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Serialize, Serializer};

use super::caller::voiced;
use crate::call::{EndReason, Note, Recording, Tally, Who};
use crate::id::ItemId;
use crate::observe::journal::{Happening, What};
use switchboard_simulator::caller::{Happened, PhoneEvent};

/// How long a turn waits for its words before it is shown without them.
const WORDS_LATE: Duration = Duration::from_millis(2_500);
/// What began later than a voice waits this long for that voice's turn, once the voice has ended.
const TURN_LATE: Duration = Duration::from_secs(3);
/// The server's account of when a voice ended may differ from the phone's by this much.
const SAME_END: u64 = 300;
/// The server notices a voice this long after it began, at most.
const ONSET: u64 = 400;
/// An answer and its first item begin within this time of each other.
const SAME_MOMENT: u64 = 150;

/// A completed turn.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Turn {
    pub start_ms: u64,
    pub end_ms: u64,
    /// `None` while the words are unknown.
    #[serde(serialize_with = "or_empty")]
    pub text: Option<String>,
    #[serde(flatten)]
    pub voice: Voice,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "who", rename_all = "lowercase")]
pub(super) enum Voice {
    Caller {
        /// Whether a transcript can come.
        #[serde(skip)]
        transcribed: bool,
    },
    Assistant {
        sent_ms: u64,
        heard_ms: u64,
        interrupted: bool,
        latency_ms: Option<u64>,
        /// Only for the first turn of the call.
        #[serde(skip)]
        first_word_ms: Option<u64>,
    },
}

/// What gets lines of its own.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Line {
    Turn(Turn),
    /// Something that happened at the phone, as it is shown.
    Phone {
        ms: u64,
        text: String,
    },
}

/// A line, and whether it has been shown.
#[derive(Debug)]
struct Entry {
    line: Line,
    item: Option<ItemId>,
    reported: Instant,
    shown: bool,
}

/// A stretch in which the phone plays without a pause.
#[derive(Debug, Clone, Copy)]
struct Run {
    began: Instant,
    ended: Option<Instant>,
}

/// A clip that the caller has started.
#[derive(Debug)]
struct Utterance {
    start_ms: u64,
    spans: Vec<(usize, usize)>,
}

/// The turns of a call so far.
#[derive(Debug)]
pub(super) struct Conversation {
    /// The text of a recorded greeting.
    greeting: Option<String>,
    transcribed: bool,
    /// The caller's clips that have not started.
    clips: Vec<Bytes>,
    zero: Option<Instant>,
    entries: Vec<Entry>,
    /// Words of turns that have not ended.
    texts: BTreeMap<ItemId, (Who, String)>,
    utterances: Vec<Utterance>,
    /// Answers not yet assigned to a turn: when each began and how long it took.
    answers: Vec<(u64, u64)>,
    /// The time from the start of the stream to the first sound.
    pub first_word: Option<u64>,
    /// The last one.
    run: Option<Run>,
    /// How often each anomaly occurred, by code.
    pub anomalies: BTreeMap<&'static str, u64>,
    pub ended: Option<(EndReason, Tally)>,
}

impl Conversation {
    pub fn new(greeting: Option<String>, transcribed: bool, clips: Vec<Bytes>) -> Self {
        Self {
            greeting,
            transcribed,
            clips,
            zero: None,
            entries: Vec::new(),
            texts: BTreeMap::new(),
            utterances: Vec::new(),
            answers: Vec::new(),
            first_word: None,
            run: None,
            anomalies: BTreeMap::new(),
            ended: None,
        }
    }

    /// Milliseconds since the stream began; 0 before.
    pub fn ms(&self, at: Instant) -> u64 {
        self.zero.map_or(0, |zero| at.saturating_duration_since(zero).as_millis() as u64)
    }

    /// What is going on, for the progress line.
    pub fn status(&self, now: u64) -> &'static str {
        let end = |last: &Utterance| Some(last.start_ms + last.spans.last()?.1 as u64);
        let caller = self.utterances.last().and_then(end).is_some_and(|end| now < end);
        let assistant = self.run.is_some_and(|run| run.ended.is_none());
        match (self.zero, caller, assistant) {
            (None, ..) => "ringing",
            (_, true, true) => "both are speaking",
            (_, true, false) => "the caller is speaking",
            (_, false, true) => "the assistant is speaking",
            (_, false, false) => "silence",
        }
    }

    /// Takes in an event of the phone.
    pub fn phone_event(&mut self, happened: &Happened) {
        match &happened.event {
            PhoneEvent::StreamStarted { .. } => {
                self.zero.get_or_insert(happened.at);
            }
            PhoneEvent::Playing => self.run = Some(Run { began: happened.at, ended: None }),
            PhoneEvent::Quiet { .. } => {
                if let Some(run) = &mut self.run {
                    run.ended = Some(happened.at);
                }
            }
            PhoneEvent::Speaking if !self.clips.is_empty() => {
                let clip = self.clips.remove(0);
                let start_ms = self.ms(happened.at);
                self.utterances.push(Utterance { start_ms, spans: voiced(&clip) });
            }
            _ => {}
        }
    }

    /// Adds a line about the phone.
    pub fn phone_line(&mut self, at: Instant, text: String) {
        self.insert(Line::Phone { ms: self.ms(at), text }, None, at);
    }

    /// Takes in an entry of the server's journal.
    pub fn journal_entry(&mut self, happening: Happening) {
        let at = happening.at;
        match happening.what {
            What::Rang { .. } | What::Started => {}
            What::Ended { reason, tally } => self.ended = Some((reason, tally)),
            What::Note(Note::Anomaly(anomaly)) => *self.anomalies.entry(anomaly.code()).or_default() += 1,
            What::Note(
                Note::Reconnected { .. }
                | Note::Pressed(_)
                | Note::ToolEnded { .. }
                | Note::Transferred { .. }
                | Note::Used { .. }
                | Note::Transcribed { .. },
            ) => {}
            What::Note(Note::FirstWord(time)) => self.first_word = Some(millis(time)),
            What::Note(Note::Answered(time)) => self.answers.push((self.ms(at), millis(time))),
            What::Note(Note::Said { who, item, text }) => {
                let text = text.expose().trim().to_owned();
                let entry = self.entries.iter_mut().find(|entry| entry.item.as_ref() == Some(&item));
                if let Some(Entry { line: Line::Turn(turn), .. }) = entry {
                    turn.text = Some(text).filter(|text| !text.is_empty());
                } else if !text.is_empty() {
                    self.texts.insert(item, (who, text));
                }
            }
            What::Note(Note::CallerSpoke { item, began, ended }) => {
                let (start_ms, end_ms) = self.spoken_between(self.ms(began), self.ms(ended));
                let voice = Voice::Caller { transcribed: self.transcribed };
                self.add(Turn { start_ms, end_ms, text: None, voice }, Some(item), at);
            }
            What::Note(Note::AssistantSpoke(spoken)) => {
                let start_ms = self.ms(spoken.began);
                let voice =
                    self.assistant_turn(start_ms, spoken.sent_ms, spoken.heard_ms, spoken.interrupted);
                let text = self.greeting.clone().filter(|_| spoken.recording == Some(Recording::Greeting));
                let end_ms = start_ms + spoken.heard_ms;
                self.add(Turn { start_ms, end_ms, text, voice }, spoken.item, at);
            }
        }
    }

    fn assistant_turn(&mut self, start_ms: u64, sent_ms: u64, heard_ms: u64, interrupted: bool) -> Voice {
        let answer = self.answers.iter().position(|(when, _)| when.abs_diff(start_ms) <= SAME_MOMENT);
        let latency_ms = answer.map(|place| self.answers.remove(place).1);
        let is_first = !self.turns().any(Turn::is_assistant);
        let first_word_ms = self.first_word.filter(|_| is_first);
        Voice::Assistant { sent_ms, heard_ms, interrupted, latency_ms, first_word_ms }
    }

    fn add(&mut self, mut turn: Turn, item: Option<ItemId>, reported: Instant) {
        if let Some(item) = &item {
            turn.text = self.texts.remove(item).map(|(_, text)| text).or(turn.text);
        }
        self.insert(Line::Turn(turn), item, reported);
    }

    fn insert(&mut self, line: Line, item: Option<ItemId>, reported: Instant) {
        let place = self.entries.partition_point(|entry| entry.line.start_ms() <= line.start_ms());
        self.entries.insert(place, Entry { line, item, reported, shown: false });
    }

    /// When the caller's voice began and ended within a turn that the model detected. The model ends a turn half a
    /// second after the last word; the phone knows the exact time.
    fn spoken_between(&self, began: u64, ended: u64) -> (u64, u64) {
        let before = self.last_end(false);
        let from = began.saturating_sub(ONSET).max(before);
        let within: Vec<(u64, u64)> =
            self.spans().filter(|(start, end)| *start < ended && *end > from).collect();
        match (within.first(), within.last()) {
            (Some((start, _)), Some((_, end))) => ((*start).max(from), (*end).min(ended)),
            _ => (began, ended),
        }
    }

    /// The spans of the caller's voice in all clips that have started.
    fn spans(&self) -> impl Iterator<Item = (u64, u64)> {
        self.utterances.iter().flat_map(|utterance| {
            let at = |ms: usize| utterance.start_ms + ms as u64;
            utterance.spans.iter().map(move |(start, end)| (at(*start), at(*end)))
        })
    }

    /// When the last turn ended that was reported, of the assistant or of the caller.
    fn last_end(&self, assistant: bool) -> u64 {
        self.turns()
            .filter(|turn| turn.is_assistant() == assistant)
            .map(|turn| turn.end_ms)
            .max()
            .unwrap_or(0)
    }

    /// When the assistant's voice began, if its turn is still to be reported.
    fn assistant_under_way(&self, now: Instant) -> Option<u64> {
        let run = self.run?;
        let is_reported = |ended| self.last_end(true) + SAME_END >= self.ms(ended);
        let is_over = run
            .ended
            .is_some_and(|ended| is_reported(ended) || now.saturating_duration_since(ended) >= TURN_LATE);
        (!is_over).then(|| self.ms(run.began))
    }

    /// When the caller's voice began, if its turn is still to be reported.
    fn caller_under_way(&self, now: Instant) -> Option<u64> {
        let (now, reported) = (self.ms(now), self.last_end(false));
        let is_due = |(start, end): &(u64, u64)| {
            *start <= now && now < end + millis(TURN_LATE) && reported + SAME_END < *end
        };
        self.spans().find(is_due).map(|(start, _)| start)
    }

    /// The lines that can be shown, each once, in the order of what they are about.
    pub fn ready(&mut self, now: Instant) -> Vec<Line> {
        let (assistant, caller) = (self.assistant_under_way(now), self.caller_under_way(now));
        let mut ready = Vec::new();
        for entry in self.entries.iter_mut().filter(|entry| !entry.shown) {
            let began_before = |other: Option<u64>| other.is_some_and(|began| began < entry.line.start_ms());
            // The turns of one voice are reported in order.
            let is_early = match &entry.line {
                Line::Turn(turn) if turn.is_assistant() => began_before(caller),
                Line::Turn(_) => began_before(assistant),
                Line::Phone { .. } => began_before(assistant) || began_before(caller),
            };
            let waits_for_words = matches!(&entry.line, Line::Turn(turn) if turn.lacks_words())
                && now.saturating_duration_since(entry.reported) < WORDS_LATE;
            if is_early || waits_for_words {
                break;
            }
            entry.shown = true;
            ready.push(entry.line.clone());
        }
        ready
    }

    /// At the end: the lines that were not shown yet.
    pub fn rest(&mut self) -> Vec<Line> {
        let rest = self.entries.iter_mut().filter(|entry| !entry.shown);
        rest.map(|entry| {
            entry.shown = true;
            entry.line.clone()
        })
        .collect()
    }

    /// All turns, in the order in which they began.
    pub fn turns(&self) -> impl Iterator<Item = &Turn> {
        self.entries.iter().filter_map(|entry| match &entry.line {
            Line::Turn(turn) => Some(turn),
            Line::Phone { .. } => None,
        })
    }
}

impl Line {
    fn start_ms(&self) -> u64 {
        match self {
            Self::Turn(turn) => turn.start_ms,
            Self::Phone { ms, .. } => *ms,
        }
    }
}

impl Turn {
    pub fn is_assistant(&self) -> bool {
        matches!(self.voice, Voice::Assistant { .. })
    }

    /// Whether its words can still come.
    fn lacks_words(&self) -> bool {
        self.text.is_none() && !matches!(self.voice, Voice::Caller { transcribed: false })
    }
}

fn or_empty<S: Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text.as_deref().unwrap_or_default())
}

pub(super) fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Spoken;
    use crate::id::CallSid;
    use switchboard_audio::{SILENCE, encode};

    struct Fixture {
        zero: Instant,
        conversation: Conversation,
    }

    impl Fixture {
        fn new(transcribed: bool) -> Self {
            // 100 ms of quiet, 300 ms of voice, 100 ms of quiet.
            let mut clip = vec![SILENCE; 800];
            clip.extend((0..2_400).map(|at| encode(if at % 8 < 4 { 4_000 } else { -4_000 })));
            clip.extend(vec![SILENCE; 800]);
            let zero = Instant::now();
            let mut conversation =
                Conversation::new(Some("Welcome.".to_owned()), transcribed, vec![Bytes::from(clip)]);
            let event = PhoneEvent::StreamStarted { stream_sid: "MZ1".to_owned() };
            conversation.phone_event(&Happened { at: zero, event });
            Self { zero, conversation }
        }

        fn at(&self, ms: u64) -> Instant {
            self.zero + Duration::from_millis(ms)
        }

        fn phone_event(&mut self, ms: u64, event: PhoneEvent) {
            self.conversation.phone_event(&Happened { at: self.at(ms), event });
        }

        fn note(&mut self, ms: u64, note: Note) {
            let (call, at) = (CallSid::parse("CA00000000000000000000000000000001").unwrap(), self.at(ms));
            self.conversation.journal_entry(Happening { call, at, what: What::Note(note) });
        }

        fn said(&mut self, ms: u64, item: &str, text: &str) {
            let who = Who::Assistant;
            self.note(ms, Note::Said { who, item: item.into(), text: text.to_owned().into() });
        }

        fn assistant_spoke(&mut self, ms: u64, item: Option<&str>, began: u64, heard_ms: u64) {
            let began = self.at(began);
            let item = item.map(ItemId::from);
            let recording = item.is_none().then_some(Recording::Greeting);
            let spoken =
                Spoken { item, recording, began, sent_ms: 1_000, heard_ms, interrupted: heard_ms < 1_000 };
            self.note(ms, Note::AssistantSpoke(spoken));
        }

        fn caller_spoke(&mut self, ms: u64, began: u64) {
            let (began, ended) = (self.at(began), self.at(ms));
            self.note(ms, Note::CallerSpoke { item: "u".into(), began, ended });
        }

        fn ready(&mut self, ms: u64) -> Vec<String> {
            let now = self.at(ms);
            let shown = |line: Line| match line {
                Line::Turn(turn) => format!("{}-{} {:?}", turn.start_ms, turn.end_ms, turn.text),
                Line::Phone { text, .. } => text,
            };
            self.conversation.ready(now).into_iter().map(shown).collect()
        }
    }

    #[test]
    fn the_callers_turn_lasts_as_long_as_the_voice() {
        let mut fixture = Fixture::new(true);
        fixture.phone_event(2_000, PhoneEvent::Speaking);
        fixture.caller_spoke(2_900, 2_160);
        assert_eq!(fixture.ready(2_950), [""; 0], "its words are not known yet");
        fixture.said(3_000, "u", " Hello. ");
        assert_eq!(fixture.ready(3_000), ["2100-2400 Some(\"Hello.\")"]);
        assert_eq!(fixture.ready(9_000), [""; 0], "it is shown only once");
    }

    #[test]
    fn a_turn_without_words_is_shown_after_a_delay() {
        let mut fixture = Fixture::new(true);
        fixture.caller_spoke(2_900, 2_160);
        assert_eq!(fixture.ready(4_000), [""; 0]);
        assert_eq!(fixture.ready(5_500), ["2160-2900 None"]);
        let mut fixture = Fixture::new(false);
        fixture.caller_spoke(2_900, 2_160);
        assert_eq!(fixture.ready(2_900).len(), 1);
    }

    #[test]
    fn latency_and_first_word_belong_to_their_turns() {
        let mut fixture = Fixture::new(true);
        fixture.note(20, Note::FirstWord(Duration::from_millis(20)));
        fixture.assistant_spoke(1_020, None, 20, 1_000);
        fixture.note(4_000, Note::Answered(Duration::from_millis(512)));
        fixture.said(4_100, "a", "One.");
        fixture.said(4_100, "b", "Two.");
        fixture.assistant_spoke(5_000, Some("a"), 4_000, 1_000);
        fixture.assistant_spoke(5_500, Some("b"), 5_000, 500);
        let facts: Vec<_> = fixture
            .conversation
            .turns()
            .map(|turn| match turn.voice {
                Voice::Assistant { latency_ms, first_word_ms, interrupted, .. } => {
                    (turn.text.as_deref().unwrap(), first_word_ms, latency_ms, interrupted)
                }
                Voice::Caller { .. } => unreachable!(),
            })
            .collect();
        assert_eq!(
            facts,
            [
                ("Welcome.", Some(20), None, false),
                ("One.", None, Some(512), false),
                ("Two.", None, None, true)
            ]
        );
    }

    #[test]
    fn a_turn_within_another_comes_after_it() {
        let mut fixture = Fixture::new(false);
        fixture.phone_event(1_000, PhoneEvent::Playing);
        fixture.caller_spoke(1_900, 1_200);
        assert_eq!(fixture.ready(1_950), [""; 0], "the assistant began earlier and is still speaking");
        fixture.phone_event(2_000, PhoneEvent::Quiet { played: Duration::from_secs(1) });
        assert_eq!(fixture.ready(2_001), [""; 0], "and its turn is about to be reported");
        fixture.said(2_002, "a", "One.");
        fixture.assistant_spoke(2_003, Some("a"), 1_000, 1_000);
        assert_eq!(fixture.ready(2_004), ["1000-2000 Some(\"One.\")", "1200-1900 None"]);
    }

    #[test]
    fn a_line_about_the_phone_waits_for_the_voices_that_began_before_it() {
        let line = |fixture: &mut Fixture, ms| {
            let at = fixture.at(ms);
            fixture.conversation.phone_line(at, "the caller hangs up".to_owned());
        };
        let mut fixture = Fixture::new(false);
        fixture.phone_event(1_000, PhoneEvent::Playing);
        line(&mut fixture, 1_500);
        assert_eq!(fixture.ready(9_000), [""; 0], "the assistant is still speaking");
        fixture.phone_event(2_000, PhoneEvent::Quiet { played: Duration::from_secs(1) });
        fixture.said(2_500, "a", "One.");
        fixture.assistant_spoke(2_500, Some("a"), 1_000, 1_000);
        assert_eq!(fixture.ready(2_501), ["1000-2000 Some(\"One.\")", "the caller hangs up"]);

        let mut fixture = Fixture::new(false);
        fixture.phone_event(2_000, PhoneEvent::Speaking);
        line(&mut fixture, 2_600);
        assert_eq!(fixture.ready(2_700), [""; 0], "the caller's turn is still to be reported");
        fixture.caller_spoke(2_900, 2_160);
        assert_eq!(fixture.ready(2_900), ["2100-2400 None", "the caller hangs up"]);
    }

    #[test]
    fn an_answer_waits_for_the_turn_that_it_answers() {
        let mut fixture = Fixture::new(false);
        fixture.phone_event(2_000, PhoneEvent::Speaking);
        fixture.phone_event(3_000, PhoneEvent::Playing);
        fixture.said(3_100, "a", "One.");
        fixture.assistant_spoke(3_500, Some("a"), 3_000, 500);
        assert_eq!(fixture.ready(3_600), [""; 0]);
        fixture.caller_spoke(3_700, 2_160);
        assert_eq!(fixture.ready(3_700), ["2100-2400 None", "3000-3500 Some(\"One.\")"]);
    }

    #[test]
    fn a_voice_that_nobody_reports_does_not_hold_the_lines_for_ever() {
        let mut fixture = Fixture::new(false);
        fixture.phone_event(2_000, PhoneEvent::Speaking);
        let at = fixture.at(2_600);
        fixture.conversation.phone_line(at, "the caller hangs up".to_owned());
        assert_eq!(fixture.ready(5_390), [""; 0]);
        assert_eq!(fixture.ready(5_410), ["the caller hangs up"]);
    }
}
