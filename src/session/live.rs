//! A call as it is now, for whoever watches: its record so far, and what it is doing.
//!
//! The session adds each entry of the record as it files it: a few times a second at most, and never for a frame of
//! sound. Whoever watches copies what it needs, as often as it wants.

use std::sync::Arc;

use crate::provider::prices::Prices;
use crate::record::{CallRecord, Entry, RecordId, Recorder, What};

/// What a call is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Ringing,
    Talking,
    /// A tool runs.
    Tool,
    /// The phone was sent to a person, or presses keys.
    Away,
    /// The phone's stream or the model's session is being replaced.
    Reconnecting,
    Over,
}

impl State {
    /// Stable: a class and a word of the console.
    pub fn code(self) -> &'static str {
        match self {
            Self::Ringing => "ringing",
            Self::Talking => "talking",
            Self::Tool => "tool",
            Self::Away => "transfer",
            Self::Reconnecting => "reconnecting",
            Self::Over => "over",
        }
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    Caller,
    Assistant,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Glance {
    pub id: RecordId,
    pub state: State,
    pub speaks: Option<Speaker>,
    recorder: Recorder,
}

impl Glance {
    pub(super) fn new(id: RecordId, prices: Arc<Prices>) -> Self {
        let recorder = Recorder::new(id.clone()).priced(prices);
        Self { id, state: State::Ringing, speaks: None, recorder }
    }

    /// The record so far, with the last `most` turns, tool calls and events.
    pub fn latest(&self, most: usize) -> CallRecord {
        self.recorder.latest(most)
    }

    /// Takes in an entry.
    pub(super) fn add(&mut self, entry: Entry) {
        match &entry.what {
            What::Started { .. } => self.state = State::Talking,
            What::CallerSpeaks { .. } => self.speaks = Some(Speaker::Caller),
            What::AssistantSpeaks(_) => self.speaks = Some(Speaker::Assistant),
            What::CallerSpoke { .. } => self.quiet(Speaker::Caller),
            What::AssistantSpoke(_) => self.quiet(Speaker::Assistant),
            What::Tool(_) => self.state = State::Talking,
            What::Ended(_) => {
                self.state = State::Over;
                self.speaks = None;
            }
            _ => {}
        }
        // Whoever is heard is connected.
        if self.speaks.is_some() && self.state == State::Reconnecting {
            self.state = State::Talking;
        }
        self.recorder.add(entry);
    }

    fn quiet(&mut self, who: Speaker) {
        self.speaks.take_if(|speaker| *speaker == who);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(live: &mut Glance, what: What) -> (State, Option<Speaker>) {
        live.add(Entry { at_ms: 0, what });
        (live.state, live.speaks)
    }

    #[test]
    fn what_a_call_is_doing_follows_its_entries() {
        let mut live = Glance::new(RecordId::from("01J00000000000000000000000"), Arc::default());
        assert_eq!((live.state, live.speaks), (State::Ringing, None));
        assert_eq!(add(&mut live, What::Started { ring_ms: 1 }), (State::Talking, None));
        let speaks = |end_ms| What::CallerSpeaks { item: "u".to_owned(), start_ms: 100, end_ms };
        assert_eq!(add(&mut live, speaks(900)), (State::Talking, Some(Speaker::Caller)));
        let spoke = What::CallerSpoke { item: "u".to_owned(), start_ms: 100, end_ms: 1_200 };
        assert_eq!(add(&mut live, spoke), (State::Talking, None));
        live.state = State::Reconnecting;
        assert_eq!(add(&mut live, speaks(2_000)), (State::Talking, Some(Speaker::Caller)));
        assert_eq!(live.latest(10).turns.len(), 2);
        assert_eq!(live.latest(1).turns.len(), 1);
    }
}
