//! The conversation, assembled from the server's journal and the phone's events.
//!
//! All times are milliseconds since the stream began, on the phone's clock. `call.wav` uses the same clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Serialize, Serializer};

use super::caller::voiced;
use crate::call::{EndReason, Note, Tally, Who};
use crate::id::ItemId;
use crate::observe::journal::{Happening, What};
use switchboard_simulator::caller::{Happened, PhoneEvent};

/// How long a turn waits for its words before it is shown without them.
const WORDS_LATE: Duration = Duration::from_millis(2_500);
/// How long the server may need to report what was heard after the phone falls silent.
const NEWS_LATE: Duration = Duration::from_millis(150);
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

/// A turn, and whether it has been shown.
#[derive(Debug)]
struct Entry {
    turn: Turn,
    item: Option<ItemId>,
    reported: Instant,
    shown: bool,
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
    playing_since: Option<Instant>,
    quiet_since: Option<Instant>,
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
            playing_since: None,
            quiet_since: None,
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
        match (self.zero, caller, self.playing_since) {
            (None, ..) => "ringing",
            (_, true, Some(_)) => "both are speaking",
            (_, true, None) => "the caller is speaking",
            (_, false, Some(_)) => "the assistant is speaking",
            (_, false, None) => "silence",
        }
    }

    /// Takes in an event of the phone.
    pub fn phone_event(&mut self, happened: &Happened) {
        match &happened.event {
            PhoneEvent::StreamStarted { .. } => {
                self.zero.get_or_insert(happened.at);
            }
            PhoneEvent::Playing => self.playing_since = Some(happened.at),
            PhoneEvent::Quiet { .. } => {
                self.playing_since = None;
                self.quiet_since = Some(happened.at);
            }
            PhoneEvent::Speaking if !self.clips.is_empty() => {
                let clip = self.clips.remove(0);
                let start_ms = self.ms(happened.at);
                self.utterances.push(Utterance { start_ms, spans: voiced(&clip) });
            }
            _ => {}
        }
    }

    /// Takes in an entry of the server's journal.
    pub fn journal_entry(&mut self, happening: Happening) {
        let at = happening.at;
        match happening.what {
            What::Rang { .. } | What::Started => {}
            What::Ended { reason, tally } => self.ended = Some((reason, tally)),
            What::Note(Note::Anomaly(anomaly)) => *self.anomalies.entry(anomaly.code()).or_default() += 1,
            What::Note(Note::FirstWord(time)) => self.first_word = Some(millis(time)),
            What::Note(Note::Answered(time)) => self.answers.push((self.ms(at), millis(time))),
            What::Note(Note::Said { who, item, text }) => {
                let text = text.expose().trim().to_owned();
                if let Some(entry) = self.entries.iter_mut().find(|entry| entry.item.as_ref() == Some(&item))
                {
                    entry.turn.text = Some(text).filter(|text| !text.is_empty());
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
                let text = self.greeting.clone().filter(|_| spoken.item.is_none());
                let end_ms = start_ms + spoken.heard_ms;
                self.add(Turn { start_ms, end_ms, text, voice }, spoken.item, at);
            }
        }
    }

    fn assistant_turn(&mut self, start_ms: u64, sent_ms: u64, heard_ms: u64, interrupted: bool) -> Voice {
        let answer = self.answers.iter().position(|(when, _)| when.abs_diff(start_ms) <= SAME_MOMENT);
        let latency_ms = answer.map(|place| self.answers.remove(place).1);
        let is_first = !self.entries.iter().any(|entry| entry.turn.is_assistant());
        let first_word_ms = self.first_word.filter(|_| is_first);
        Voice::Assistant { sent_ms, heard_ms, interrupted, latency_ms, first_word_ms }
    }

    fn add(&mut self, mut turn: Turn, item: Option<ItemId>, reported: Instant) {
        if let Some(item) = &item {
            turn.text = self.texts.remove(item).map(|(_, text)| text).or(turn.text);
        }
        let place = self.entries.partition_point(|entry| entry.turn.start_ms <= turn.start_ms);
        self.entries.insert(place, Entry { turn, item, reported, shown: false });
    }

    /// When the caller's voice began and ended within a turn that the model detected. The model ends a turn half a
    /// second after the last word; the phone knows the exact time.
    fn spoken_between(&self, began: u64, ended: u64) -> (u64, u64) {
        let callers = self.entries.iter().filter(|entry| !entry.turn.is_assistant());
        let before = callers.map(|entry| entry.turn.end_ms).max().unwrap_or(0);
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

    /// The turns that can be shown, each once, in the order in which they began.
    pub fn ready(&mut self, now: Instant) -> Vec<Turn> {
        let (playing, quiet) = (self.playing_since, self.quiet_since);
        let zero = self.zero;
        let mut ready = Vec::new();
        for entry in self.entries.iter_mut().filter(|entry| !entry.shown) {
            let patient = now.saturating_duration_since(entry.reported) < WORDS_LATE;
            let waits_for_words = entry.turn.text.is_none() && patient && entry.turn.can_have_words();
            // An earlier turn of the assistant that is still playing comes first.
            let start = zero.map(|zero| zero + Duration::from_millis(entry.turn.start_ms));
            let inside = !entry.turn.is_assistant()
                && (playing.is_some_and(|since| start.is_some_and(|start| since < start))
                    || quiet.is_some_and(|quiet| now.saturating_duration_since(quiet) < NEWS_LATE));
            if waits_for_words || inside {
                break;
            }
            entry.shown = true;
            ready.push(entry.turn.clone());
        }
        ready
    }

    /// At the end: the turns that were not shown yet.
    pub fn rest(&mut self) -> Vec<Turn> {
        let rest = self.entries.iter_mut().filter(|entry| !entry.shown);
        rest.map(|entry| {
            entry.shown = true;
            entry.turn.clone()
        })
        .collect()
    }

    /// All turns, in the order in which they began.
    pub fn turns(&self) -> impl Iterator<Item = &Turn> {
        self.entries.iter().map(|entry| &entry.turn)
    }
}

impl Turn {
    pub fn is_assistant(&self) -> bool {
        matches!(self.voice, Voice::Assistant { .. })
    }

    fn can_have_words(&self) -> bool {
        !matches!(self.voice, Voice::Caller { transcribed: false })
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
            let spoken = Spoken { item, began, sent_ms: 1_000, heard_ms, interrupted: heard_ms < 1_000 };
            self.note(ms, Note::AssistantSpoke(spoken));
        }

        fn caller_spoke(&mut self, ms: u64, began: u64) {
            let (began, ended) = (self.at(began), self.at(ms));
            self.note(ms, Note::CallerSpoke { item: "u".into(), began, ended });
        }

        fn ready(&mut self, ms: u64) -> Vec<String> {
            let now = self.at(ms);
            let shown = |turn: Turn| format!("{}-{} {:?}", turn.start_ms, turn.end_ms, turn.text);
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
        assert_eq!(fixture.ready(2_200), ["1000-2000 Some(\"One.\")", "1200-1900 None"]);
    }
}
