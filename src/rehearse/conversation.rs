//! The conversation: the record of the call so far, and what the phone reports.
//!
//! All times are milliseconds since the stream began. `call.wav` uses the same clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::caller::voiced;
use crate::record::{CallRecord, Entry, Recorder, Turn, Voice, What};
use switchboard_simulator::caller::{Happened, PhoneEvent};

/// How long a turn waits for its words before it is shown without them.
const WORDS_LATE: Duration = Duration::from_millis(2_500);
/// What began later than a voice waits this long for that voice's turn, once the voice has ended.
const TURN_LATE: Duration = Duration::from_secs(3);
/// The server's account of when a voice ended may differ from the phone's by this much.
const SAME_END: u64 = 300;
/// The server notices a voice this long after it began, at most.
const ONSET: u64 = 400;

/// What gets lines of its own.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Line {
    /// A turn; with the time to the first word, if it is the assistant's first.
    Turn(Turn, Option<u64>),
    /// Something that happened at the phone, as it is shown.
    Phone { ms: u64, text: String },
}

/// Whether a turn is the assistant's, when the server says that it began, and how many such there were before.
type Key = (bool, u64, usize);

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

/// See the module.
#[derive(Debug)]
pub(super) struct Conversation {
    recorder: Recorder,
    /// Whether transcripts of the caller can come.
    transcribed: bool,
    /// The caller's clips that have not started.
    clips: Vec<Bytes>,
    zero: Option<Instant>,
    /// When each turn was reported, and whether it was shown.
    reported: BTreeMap<Key, (Instant, bool)>,
    /// Lines about the phone that were not shown.
    phone_lines: Vec<(u64, String)>,
    utterances: Vec<Utterance>,
    /// The last one.
    run: Option<Run>,
    /// The server reported the end of the call, and nothing follows it.
    pub ended: bool,
}

impl Conversation {
    pub fn new(recorder: Recorder, transcribed: bool, clips: Vec<Bytes>) -> Self {
        Self {
            recorder,
            transcribed,
            clips,
            zero: None,
            reported: BTreeMap::new(),
            phone_lines: Vec::new(),
            utterances: Vec::new(),
            run: None,
            ended: false,
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
        self.phone_lines.push((self.ms(at), text));
    }

    /// Takes in an entry of the call's record.
    pub fn entry(&mut self, entry: Entry, at: Instant) {
        match &entry.what {
            What::CallerSpoke { start_ms, .. } => self.reported(false, *start_ms, at),
            What::AssistantSpoke(spoke) => self.reported(true, spoke.start_ms, at),
            // A turn is printed when it is over.
            What::CallerSpeaks { .. } | What::AssistantSpeaks(_) => return,
            _ => {}
        }
        self.recorder.add(entry);
        self.ended = self.recorder.is_over();
    }

    fn reported(&mut self, assistant: bool, start_ms: u64, at: Instant) {
        let same = (assistant, start_ms, 0)..=(assistant, start_ms, usize::MAX);
        let before = self.reported.range(same).count();
        self.reported.insert((assistant, start_ms, before), (at, false));
    }

    /// The record of the call so far. The caller's turns are as long as the voice, as the phone knows.
    pub fn record(&self) -> CallRecord {
        let mut record = self.recorder.record();
        record.turns = self.turns().into_iter().map(|(_, turn)| turn).collect();
        record
    }

    /// All turns in the order in which they began, each with its key.
    fn turns(&self) -> Vec<(Key, Turn)> {
        let (mut before, mut last) = (0, None);
        let exact = |mut turn: Turn| {
            let (assistant, start_ms) = (is_assistant(&turn), turn.start_ms);
            let nth = match last {
                Some((voice, start, nth)) if (voice, start) == (assistant, start_ms) => nth + 1,
                _ => 0,
            };
            let key = (assistant, start_ms, nth);
            last = Some(key);
            if !assistant {
                (turn.start_ms, turn.end_ms) = self.spoken_between(before, turn.start_ms, turn.end_ms);
                before = turn.end_ms;
            }
            (key, turn)
        };
        let mut turns: Vec<(Key, Turn)> = self.recorder.record().turns.into_iter().map(exact).collect();
        turns.sort_by_key(|(_, turn)| turn.start_ms);
        turns
    }

    /// When the caller's voice began and ended within a turn that the model detected, after the turn before. The model ends
    /// a turn half a second after the last word; the phone knows the exact time.
    fn spoken_between(&self, before: u64, began: u64, ended: u64) -> (u64, u64) {
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

    /// When the assistant's voice began, if its turn is still to be reported.
    fn assistant_under_way(&self, turns: &[(Key, Turn)], now: Instant) -> Option<u64> {
        let run = self.run?;
        let is_reported = |ended| last_end(turns, true) + SAME_END >= self.ms(ended);
        let is_over = run
            .ended
            .is_some_and(|ended| is_reported(ended) || now.saturating_duration_since(ended) >= TURN_LATE);
        (!is_over).then(|| self.ms(run.began))
    }

    /// When the caller's voice began, if its turn is still to be reported.
    fn caller_under_way(&self, turns: &[(Key, Turn)], now: Instant) -> Option<u64> {
        let (now, reported) = (self.ms(now), last_end(turns, false));
        let is_due = |(start, end): &(u64, u64)| {
            *start <= now && now < end + TURN_LATE.as_millis() as u64 && reported + SAME_END < *end
        };
        self.spans().find(is_due).map(|(start, _)| start)
    }

    /// The lines that can be shown, each once, in the order of what they are about.
    pub fn ready(&mut self, now: Instant) -> Vec<Line> {
        let turns = self.turns();
        let (assistant, caller) = (self.assistant_under_way(&turns, now), self.caller_under_way(&turns, now));
        self.show(turns, |line, reported, lacks_words| {
            let began_before = |other: Option<u64>| other.is_some_and(|began| began < line.start_ms());
            // The turns of one voice are reported in order.
            let is_early = match line {
                Line::Turn(turn, _) if is_assistant(turn) => began_before(caller),
                Line::Turn(..) => began_before(assistant),
                Line::Phone { .. } => began_before(assistant) || began_before(caller),
            };
            let waits_for_words = lacks_words && now.saturating_duration_since(reported) < WORDS_LATE;
            !is_early && !waits_for_words
        })
    }

    /// All lines that were not shown: the call is over.
    pub fn rest(&mut self) -> Vec<Line> {
        self.show(self.turns(), |_, _, _| true)
    }

    /// Shows lines in their order, up to the first that must wait.
    fn show(&mut self, turns: Vec<(Key, Turn)>, may: impl Fn(&Line, Instant, bool) -> bool) -> Vec<Line> {
        let mut first_word = self.recorder.record().first_word_ms;
        let mut lines: Vec<(Option<Key>, Line)> = Vec::new();
        for (key, turn) in turns {
            let first_word = first_word.take_if(|_| key.0);
            lines.push((Some(key), Line::Turn(turn, first_word)));
        }
        self.phone_lines.sort_by_key(|(ms, _)| *ms);
        for (ms, text) in &self.phone_lines {
            let place = lines.partition_point(|(_, line)| line.start_ms() <= *ms);
            lines.insert(place, (None, Line::Phone { ms: *ms, text: text.clone() }));
        }
        let mut shown = Vec::new();
        for (key, line) in lines {
            let reported = match key {
                Some(key) => self.reported.get(&key).copied(),
                None => self.zero.map(|zero| (zero, false)),
            };
            // A line about the phone may come before the stream.
            let (reported, done) = reported.unwrap_or_else(|| (Instant::now(), false));
            if done {
                continue;
            }
            if !may(&line, reported, self.lacks_words(&line)) {
                break;
            }
            match key {
                Some(key) => drop(self.reported.insert(key, (reported, true))),
                None => drop(self.phone_lines.remove(0)),
            }
            shown.push(line);
        }
        shown
    }

    /// Whether it is a turn whose words can still come.
    fn lacks_words(&self, line: &Line) -> bool {
        match line {
            Line::Turn(turn, _) => turn.text.is_none() && (is_assistant(turn) || self.transcribed),
            Line::Phone { .. } => false,
        }
    }
}

impl Line {
    fn start_ms(&self) -> u64 {
        match self {
            Self::Turn(turn, _) => turn.start_ms,
            Self::Phone { ms, .. } => *ms,
        }
    }
}

pub(super) fn is_assistant(turn: &Turn) -> bool {
    matches!(turn.voice, Voice::Assistant { .. })
}

/// When the last turn ended that was reported, of the assistant or of the caller.
fn last_end(turns: &[(Key, Turn)], assistant: bool) -> u64 {
    let of_voice = turns.iter().filter(|(key, _)| key.0 == assistant);
    of_voice.map(|(_, turn)| turn.end_ms).max().unwrap_or(0)
}

pub(super) fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{RecordId, Said, Spoke};
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
            let recorder = Recorder::new(RecordId::from("01"));
            let mut conversation = Conversation::new(recorder, transcribed, vec![Bytes::from(clip)]);
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

        fn entry(&mut self, ms: u64, what: What) {
            let at = self.at(ms);
            self.conversation.entry(Entry { at_ms: ms, what }, at);
        }

        fn said(&mut self, ms: u64, item: &str, text: &str) {
            self.entry(ms, What::Said(Said { item: item.to_owned(), text: text.to_owned() }));
        }

        fn assistant_spoke(&mut self, ms: u64, item: Option<&str>, start_ms: u64, heard_ms: u64) {
            let (item, text) = (item.map(str::to_owned), item.is_none().then(|| "Welcome.".to_owned()));
            let interrupted = heard_ms < 1_000;
            let spoke = Spoke { item, text, start_ms, sent_ms: 1_000, heard_ms, interrupted };
            self.entry(ms, What::AssistantSpoke(spoke));
        }

        fn caller_spoke(&mut self, ms: u64, start_ms: u64) {
            self.entry(ms, What::CallerSpoke { item: "u".to_owned(), start_ms, end_ms: ms });
        }

        fn ready(&mut self, ms: u64) -> Vec<String> {
            let now = self.at(ms);
            let shown = |line: Line| match line {
                Line::Turn(turn, _) => format!("{}-{} {:?}", turn.start_ms, turn.end_ms, turn.text),
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
    fn the_first_word_belongs_to_the_assistants_first_turn() {
        let mut fixture = Fixture::new(true);
        fixture.entry(20, What::FirstWord { ms: 20 });
        fixture.assistant_spoke(1_020, None, 20, 1_000);
        // Two turns that begin at once: one was never heard.
        fixture.assistant_spoke(4_000, Some("a"), 4_000, 1_000);
        fixture.assistant_spoke(4_000, Some("b"), 4_000, 0);
        let lines = fixture.conversation.rest();
        let first_words: Vec<Option<u64>> = lines
            .iter()
            .map(|line| match line {
                Line::Turn(_, first_word) => *first_word,
                Line::Phone { .. } => unreachable!(),
            })
            .collect();
        assert_eq!(first_words, [Some(20), None, None]);
        assert!(fixture.conversation.rest().is_empty(), "each is shown once");
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
