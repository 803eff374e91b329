//! What is unfinished in a session's conversation, and whether the caller has said anything in it.

use std::collections::VecDeque;

use crate::call::{Event, Line, Turn, Who};
use crate::id::{ItemId, ResponseId, ToolCallId};

/// How many tool calls are remembered.
const MAX_CALLS: usize = 64;
/// How many turns are waited for. A transcript that did not come for longer does not come.
const MAX_TURNS: usize = 3;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// The caller's turn under way.
    speaking: Option<ItemId>,
    /// The caller's last turns whose transcripts have not come.
    turns: VecDeque<ItemId>,
    /// Turns whose transcripts did not come.
    unwritten: u32,
    /// The caller said words or pressed keys.
    words: bool,
    /// The conversation's response under way.
    response: Option<ResponseId>,
    /// The latest tool calls, and whether each has its output.
    calls: VecDeque<(ToolCallId, bool)>,
}

impl Pending {
    pub fn saw(&mut self, event: &Event) {
        match event {
            Event::SpeechStarted(item) => self.speaking = Some(item.clone()),
            Event::SpeechStopped => {
                if let Some(item) = self.speaking.take() {
                    self.turn(item);
                }
            }
            Event::Transcript { who: Who::Caller, item, text } => {
                self.words |= !text.expose().trim().is_empty();
                self.unwritten = self.unwritten.saturating_sub(1);
                self.turns.retain(|turn| turn != item);
            }
            Event::ResponseStarted { response, .. } => self.response = Some(response.clone()),
            Event::ResponseEnded { response, .. } => {
                self.response.take_if(|running| running == response);
            }
            // It is reported twice: by itself, and at the end of its response.
            Event::ToolRequested { id, .. } if !self.calls.iter().any(|(known, _)| known == id) => {
                self.calls.push_back((id.clone(), false));
                if self.calls.len() > MAX_CALLS {
                    self.calls.pop_front();
                }
            }
            _ => {}
        }
    }

    fn turn(&mut self, item: ItemId) {
        self.unwritten += 1;
        self.turns.push_back(item);
        if self.turns.len() > MAX_TURNS {
            self.turns.pop_front();
        }
    }

    /// We end the caller's turn. If the model has not noticed that there is one, our ear has.
    pub fn committed(&mut self) {
        match self.speaking.take() {
            Some(item) => self.turn(item),
            None => self.unwritten += 1,
        }
    }

    /// An item of the caller's was noise.
    pub fn deleted(&mut self, item: &ItemId) {
        self.speaking.take_if(|speaking| speaking == item);
        if self.turns.iter().any(|turn| turn == item) {
            self.turns.retain(|turn| turn != item);
            self.unwritten = self.unwritten.saturating_sub(1);
        }
    }

    /// The conversation gets a line.
    pub fn told(&mut self, line: &Line) {
        self.words |= matches!(line, Line::Pressed(_));
    }

    /// The conversation gets a part of an earlier session.
    pub fn given(&mut self, turn: &Turn) {
        self.words |= matches!(turn, Turn::Caller(_) | Turn::CallerAudio(_) | Turn::History(_));
    }

    pub fn answered(&mut self, call: &ToolCallId) {
        self.calls.iter_mut().filter(|(id, _)| id == call).for_each(|(_, answered)| *answered = true);
    }

    /// No transcript is waited for any more.
    pub fn give_up_transcripts(&mut self) {
        self.turns.clear();
    }

    pub fn is_speaking(&self) -> bool {
        self.speaking.is_some()
    }

    pub fn awaits_transcript(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Whether the caller said something, as far as it is known: a turn without a transcript counts.
    pub fn has_words(&self) -> bool {
        self.words || self.unwritten > 0 || self.speaking.is_some()
    }

    pub fn response(&self) -> Option<&ResponseId> {
        self.response.as_ref()
    }

    /// The tool calls without an output.
    pub fn open_calls(&self) -> impl Iterator<Item = &ToolCallId> {
        self.calls.iter().filter(|(_, answered)| !answered).map(|(id, _)| id)
    }
}
