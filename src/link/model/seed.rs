//! A session that continues the conversation of another one: what it is given, and what belongs to itself.

use std::collections::VecDeque;

use super::{ModelLink, ModelStep, configure};
use crate::call::{Event, Line, Truncation, Turn};
use crate::id::{ItemId, ResponseId, ToolCallId};
use crate::wire::openai::realtime;

/// How many of its own ids a session remembers.
const MAX_IDS: usize = 256;
/// The output of a call that still runs. The API takes one output for each call, so the result follows as a message.
const STILL_RUNNING: &str = "It is still running. Its result will follow as a message.";

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Seed {
    /// How many calls of other sessions the session was given.
    calls: usize,
    /// Those of them that still run, by their ids elsewhere, with the tool's name.
    running: Vec<(ToolCallId, String)>,
    /// The latest ids of its own items, responses and calls. An id of another session would be an error.
    own: VecDeque<String>,
}

impl Seed {
    /// Remembers the ids of an event.
    pub fn saw(&mut self, event: &Event) {
        match event {
            Event::ResponseStarted { response, .. } => self.own(response.as_str()),
            Event::ModelAudio { response, item, .. } => {
                self.own(response.as_str());
                self.own(item.as_str());
            }
            Event::ToolRequested { id, response, .. } => {
                self.own(response.as_str());
                self.own(id.as_str());
            }
            _ => {}
        }
    }

    fn own(&mut self, id: &str) {
        if !self.is_own(id) {
            self.own.push_back(id.to_owned());
            if self.own.len() > MAX_IDS {
                self.own.pop_front();
            }
        }
    }

    fn is_own(&self, id: &str) -> bool {
        // The latest are asked for most.
        self.own.iter().rev().any(|own| own == id)
    }
}

impl ModelLink {
    /// Gives a fresh session the conversation of another one. None of it makes the model respond.
    pub fn fill(&mut self, turns: &[Turn]) {
        self.seed.get_or_insert_default();
        for turn in turns {
            self.add(turn);
        }
    }

    /// Ends the caller's turn.
    pub fn commit(&mut self) {
        self.pending.committed();
        self.send(realtime::commit());
    }

    /// Cancels a response, if it is one of this session.
    pub fn cancel(&mut self, response: &ResponseId) {
        if self.is_ours(response.as_str()) {
            self.send(realtime::cancel(response.as_str()));
        }
    }

    /// Truncates an item, if it is one of this session.
    pub fn truncate(&mut self, cut: &Truncation) {
        if self.is_ours(cut.item.as_str()) {
            self.send(realtime::truncate(cut.item.as_str(), cut.audio_end_ms));
        }
    }

    /// Takes an item of the caller's out of the conversation, if it is one of this session.
    pub fn delete(&mut self, item: &ItemId) {
        if self.is_ours(item.as_str()) {
            self.pending.deleted(item);
            self.send(realtime::delete(item.as_str()));
        }
    }

    /// Sends the output of a tool call. If another session made the call, its result becomes a message.
    pub fn answer_tool(&mut self, id: &ToolCallId, output: &str) {
        self.pending.answered(id);
        if self.is_ours(id.as_str()) {
            return self.send(realtime::function_output(id.as_str(), output));
        }
        let running = self.seed.as_mut().and_then(|seed| {
            let at = seed.running.iter().position(|(running, _)| running == id)?;
            Some(seed.running.swap_remove(at).1)
        });
        let what = running.map_or("A tool that was called".to_owned(), |name| format!("The tool {name}"));
        self.send(realtime::user_text(&format!("{what} has finished. Its result: {output}")));
    }

    /// Adds a line to the conversation.
    pub fn tell(&mut self, line: &Line) {
        self.pending.told(line);
        self.add(&line.into());
    }

    /// Adds one part of the conversation.
    fn add(&mut self, turn: &Turn) {
        self.pending.given(turn);
        let frame = match turn {
            Turn::Caller(text) | Turn::Note(text) => realtime::user_text(text.expose()),
            Turn::CallerAudio(audio) => realtime::user_audio(audio),
            Turn::Assistant(text) => configure::assistant_text(&self.plan, text.expose()),
            Turn::History(text) => realtime::system_text(text.expose()),
            Turn::Tool { id, name, arguments, output } => {
                let seed = self.seed.get_or_insert_default();
                seed.calls += 1;
                // Providers limit the length of an id, each in its own way.
                let call = format!("past{}", seed.calls);
                if output.is_none() {
                    seed.running.push((id.clone(), name.clone()));
                }
                self.send(realtime::function_call(&call, name, arguments.expose()));
                realtime::function_output(&call, output.as_ref().map_or(STILL_RUNNING, |it| it.expose()))
            }
        };
        self.send(frame);
    }

    /// Reports these steps before all others.
    pub fn put_back(&mut self, steps: VecDeque<ModelStep>) {
        let later = std::mem::replace(&mut self.events, steps);
        self.events.extend(later);
    }

    /// Whether an id is of this session. Without another one before it, each is.
    fn is_ours(&self, id: &str) -> bool {
        self.seed.as_ref().is_none_or(|seed| seed.is_own(id))
    }
}
