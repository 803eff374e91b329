//! What was said and heard in a call, in order, so that a fresh session of the model can be brought to the same point.
//!
//! It keeps words, not sound: the caller's audio is kept only while no transcript of it has come. The model's turns are
//! cut to what the phone played of them.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::action::{Line, Turn};
use super::event::{TransferFailure, Who};
use crate::id::{ItemId, ToolCallId};
use crate::secret::Private;
use switchboard_audio::{BYTES_PER_MS, Chunk};

/// How many items a replay has at most. A tool call and its output are two.
const MAX_ITEMS: usize = 100;
/// How many bytes of text a replay has at most.
const MAX_TEXT: usize = 16 * 1024;
/// How much of one tool's output is kept: a single large one must not replace the conversation.
const MAX_OUTPUT: usize = 4 * 1024;
/// How much of the caller's audio is kept: 15 s.
const MAX_AUDIO: usize = 15_000 * BYTES_PER_MS;
/// How much audio from before somebody was found to speak belongs to the turn: 0.5 s.
const LEAD_IN: usize = 500 * BYTES_PER_MS;
/// How many characters of audio are made room for at a time: a quarter of a second.
const ROOM: usize = 250 * BYTES_PER_MS * 4 / 3;
/// How many characters tell the model where it broke off.
const LAST_WORDS: usize = 200;
/// The least audio that is a turn: 0.2 s. What is shorter is the end of a turn that was transcribed.
const LEAST_AUDIO: usize = 200 * BYTES_PER_MS;

impl From<&Line> for Turn {
    fn from(line: &Line) -> Self {
        match line {
            Line::Pressed(keys) => {
                let spaced: Vec<String> = keys.chars().map(String::from).collect();
                Self::Note(format!("The caller pressed {}.", spaced.join(" ")).into())
            }
            Line::TransferFailed { target, why } => {
                let why = match why {
                    TransferFailure::NoAnswer => "nobody answered",
                    TransferFailure::Busy => "the line was busy",
                    TransferFailure::Unreachable => "the number could not be reached",
                };
                let news =
                    format!("The call was passed on to {target}, but {why}. The caller is back with you.");
                Self::Note(news.into())
            }
            Line::HeardOnly(text) => {
                let news =
                    format!("The caller interrupted you. Of your last words they heard: {}", text.expose());
                Self::Note(news.into())
            }
            Line::ComeToAnEnd => {
                let news = "The call can go on only for a little while. Come to an end: settle what matters most in your next \
                            answers, begin nothing new, and then say goodbye.";
                Self::Note(news.to_owned().into())
            }
            Line::StreamBroke { unheard } => {
                let news = if *unheard {
                    "They did not hear the end of what you said last. Say briefly that you were cut off, and go on from \
                     where it broke off."
                } else {
                    "They heard all that you said. Go on with the conversation."
                };
                let news = format!("The caller's line was interrupted for a moment, and is back. {news}");
                Self::Note(news.into())
            }
            Line::AssistantSaid(text) => Self::Assistant(text.clone()),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    entries: VecDeque<Entry>,
    /// How many of the oldest entries are of earlier sessions, whose ids may come again.
    earlier: usize,
    /// The caller's latest audio while nobody spoke.
    lead_in: Audio,
}

#[derive(Debug)]
enum Entry {
    Caller(Caller),
    Assistant(Assistant),
    /// A [`Turn::Tool`], or what a line became.
    Turn(Turn),
}

#[derive(Debug, Default)]
struct Caller {
    /// `None` if the model has not noticed that somebody speaks.
    item: Option<ItemId>,
    text: Option<Private>,
    /// Empty once there is a text.
    audio: Audio,
    over: bool,
}

#[derive(Debug)]
struct Assistant {
    item: ItemId,
    text: Private,
    /// `text` is the whole transcript.
    complete: bool,
    /// How much audio the model has sent of it.
    bytes: u64,
    heard_ms: u64,
}

impl Conversation {
    /// Audio of the caller's. `speaks`: somebody is speaking, by the model's ear or by ours.
    pub fn caller_audio(&mut self, chunk: &Chunk, speaks: bool) {
        if !speaks {
            self.lead_in.push(chunk);
            return self.lead_in.shorten(LEAD_IN);
        }
        let lead_in = std::mem::take(&mut self.lead_in);
        let audio = &mut self.open_turn().audio;
        audio.append(lead_in);
        audio.push(chunk);
        self.bound_audio();
    }

    /// The model noticed that the caller began to speak; `item` will hold what they say.
    pub fn caller_began(&mut self, item: &ItemId) {
        let turn = self.open_turn();
        if *turn.item.get_or_insert_with(|| item.clone()) != *item {
            turn.over = true;
            self.push(Entry::Caller(Caller { item: Some(item.clone()), ..Caller::default() }));
        }
    }

    /// The caller's turn is over.
    pub fn caller_stopped(&mut self) {
        if let Some(turn) = self.callers().next_back() {
            turn.over = true;
        }
    }

    /// Audio of an item of the assistant's has come, played or not.
    pub fn assistant_audio(&mut self, item: &ItemId, bytes: u64) {
        self.assistant(item).bytes += bytes;
    }

    /// The transcript of an item of the assistant's grew.
    pub fn assistant_words(&mut self, item: &ItemId, words: &str) {
        let turn = self.assistant(item);
        if !turn.complete && turn.text.expose().len() + words.len() <= MAX_TEXT {
            turn.text.push_str(words);
            self.bound();
        }
    }

    /// What is known so far of the words of an item of the assistant's.
    pub fn words_of(&self, item: &ItemId) -> Option<&Private> {
        self.entries.iter().rev().find_map(|entry| match entry {
            Entry::Assistant(turn) if turn.item == *item => Some(&turn.text),
            _ => None,
        })
    }

    /// The phone played this much of an item. Of later figures, the last one counts.
    pub fn assistant_heard(&mut self, item: &ItemId, heard_ms: u64) {
        if let Some(turn) = self.assistants().rfind(|turn| turn.item == *item) {
            turn.heard_ms = heard_ms;
        }
    }

    /// The words of an item that were heard after this long.
    pub fn heard_until(&self, item: &ItemId, heard_ms: u64) -> &str {
        let turn = self.entries.iter().rev().find_map(|entry| match entry {
            Entry::Assistant(turn) if turn.item == *item => Some(turn),
            _ => None,
        });
        turn.map_or("", |turn| turn.heard_until(heard_ms))
    }

    /// The caller's latest audio, as μ-law.
    pub fn latest_audio(&self, span: Duration) -> Vec<u8> {
        let bytes = span.as_millis() as usize * BYTES_PER_MS;
        let turn = self.entries.iter().rev().find_map(|entry| match entry {
            Entry::Caller(turn) if !turn.over => Some(turn),
            _ => None,
        });
        let audio = turn.map_or(&self.lead_in, |turn| &turn.audio);
        let mut ulaw = audio.chunk().to_ulaw();
        ulaw.drain(..ulaw.len().saturating_sub(bytes));
        ulaw
    }

    /// The turn under way was noise.
    pub fn forget_noise(&mut self) {
        let open = self.position(|entry| matches!(entry, Entry::Caller(turn) if !turn.over));
        if let Some(at) = open {
            self.entries.remove(at);
        }
    }

    /// The words of an item that the caller heard.
    pub fn heard(&self, item: &ItemId) -> Option<Private> {
        let turn = self.entries.iter().rev().find_map(|entry| match entry {
            Entry::Assistant(turn) if turn.item == *item => Some(turn),
            _ => None,
        });
        turn.map(|turn| turn.heard().to_owned().into())
    }

    /// The end of what the assistant said last.
    pub fn last_words(&self) -> Private {
        let text = self.entries.iter().rev().find_map(|entry| match entry {
            Entry::Assistant(turn) => Some(turn.text.expose()),
            _ => None,
        });
        let text = text.unwrap_or_default();
        let from = text.char_indices().nth_back(LAST_WORDS).map_or(0, |(at, _)| at);
        text[from..].to_owned().into()
    }

    /// The whole transcript of an item.
    pub fn said(&mut self, who: Who, item: &ItemId, text: &Private) {
        match who {
            Who::Caller => self.caller_said(item, text),
            Who::Assistant => {
                let turn = self.assistant(item);
                turn.text = cut(text, MAX_TEXT);
                turn.complete = true;
            }
        }
        self.bound();
    }

    fn caller_said(&mut self, item: &ItemId, text: &Private) {
        let known = |entry: &Entry| matches!(entry, Entry::Caller(turn) if turn.item.as_ref() == Some(item));
        // The model may name a turn only by its transcript, if we ended it.
        let unnamed = |entry: &Entry| matches!(entry, Entry::Caller(Caller { item: None, .. }));
        let at = self.position(known).or_else(|| self.position(unnamed));
        let at = at.unwrap_or_else(|| {
            self.entries.push_back(Entry::Caller(Caller::default()));
            self.entries.len() - 1
        });
        let turn = Caller {
            item: Some(item.clone()),
            text: Some(cut(text, MAX_TEXT)),
            audio: Audio::default(),
            over: true,
        };
        self.entries[at] = Entry::Caller(turn);
        // The model hears: what it did not notice before this turn was nothing.
        for before in (self.earlier..=at).rev() {
            let is_nothing = match &self.entries[before] {
                Entry::Caller(turn) => turn.item.is_none() || turn.is_empty(),
                _ => false,
            };
            if is_nothing {
                self.entries.remove(before);
            }
        }
    }

    /// The model called a tool.
    pub fn tool_called(&mut self, id: &ToolCallId, name: &str, arguments: &Private) {
        let arguments = Some(arguments.clone()).filter(|arguments| arguments.expose().len() <= MAX_OUTPUT);
        self.push(Entry::Turn(Turn::Tool {
            id: id.clone(),
            name: name.to_owned(),
            arguments: arguments.unwrap_or_else(|| "{}".to_owned().into()),
            output: None,
        }));
    }

    /// The tool call got its output.
    pub fn tool_answered(&mut self, call: &ToolCallId, result: &Private) {
        let open = self.entries.iter_mut().rev().find_map(|entry| match entry {
            Entry::Turn(Turn::Tool { id, output: output @ None, .. }) if id == call => Some(output),
            _ => None,
        });
        if let Some(output) = open {
            *output = Some(cut(result, MAX_OUTPUT));
            self.bound();
        }
    }

    /// A line became part of the conversation.
    pub fn told(&mut self, line: &Line) {
        self.push(Entry::Turn(line.into()));
    }

    /// Another session takes over, in which ids may come again.
    pub fn session_changed(&mut self) {
        self.earlier = self.entries.len();
    }

    /// Everything that was said and heard, oldest first.
    pub fn replay(&self) -> Vec<Turn> {
        self.entries.iter().filter_map(Entry::turn).collect()
    }

    /// The same with all words in one [`Turn::History`], for a model that answers in writing after the other. What has no
    /// words, and what still runs, follows it.
    pub fn replay_as_history(&self) -> Vec<Turn> {
        let mut lines = vec![
            "This call has been going on for a while. This is what was said so far. Go on from there: do not greet \
             the caller again, and do not repeat what was said."
                .to_owned(),
        ];
        let mut others = Vec::new();
        for turn in self.replay() {
            lines.push(match turn {
                Turn::Caller(text) => format!("Caller: {}", text.expose()),
                Turn::Assistant(text) => format!("You: {}", text.expose()),
                Turn::Tool { output: None, .. } => {
                    others.push(turn);
                    continue;
                }
                Turn::Tool { name, arguments, output: Some(output), .. } => {
                    format!("You called {name}({}): {}", arguments.expose(), output.expose())
                }
                Turn::Note(text) | Turn::History(text) => text.expose().to_owned(),
                Turn::CallerAudio(_) => {
                    others.push(turn);
                    continue;
                }
            });
        }
        let history = Turn::History(lines.join("\n").into());
        std::iter::once(history).filter(|_| lines.len() > 1).chain(others).collect()
    }

    /// The caller's turn under way.
    fn open_turn(&mut self) -> &mut Caller {
        let last = self.entries.len().saturating_sub(1);
        let open = self.position(|entry| matches!(entry, Entry::Caller(_))).filter(|at| {
            let Entry::Caller(turn) = &self.entries[*at] else { return false };
            // What was said since then is not part of a turn that the model did not notice.
            !turn.over && (turn.item.is_some() || *at == last)
        });
        let at = open.unwrap_or_else(|| {
            self.push(Entry::Caller(Caller::default()));
            self.entries.len() - 1
        });
        let Entry::Caller(turn) = &mut self.entries[at] else { unreachable!("it was found, or made") };
        turn
    }

    /// The item of the assistant's. It begins with its first audio or words.
    fn assistant(&mut self, item: &ItemId) -> &mut Assistant {
        let known = |entry: &Entry| matches!(entry, Entry::Assistant(turn) if turn.item == *item);
        let at = self.position(known).unwrap_or_else(|| {
            let text = Private::from(String::new());
            let item = item.clone();
            self.push(Entry::Assistant(Assistant { item, text, complete: false, bytes: 0, heard_ms: 0 }));
            self.entries.len() - 1
        });
        let Entry::Assistant(turn) = &mut self.entries[at] else { unreachable!("it was found, or made") };
        turn
    }

    /// The latest entry of this session that fits.
    fn position(&self, fits: impl Fn(&Entry) -> bool) -> Option<usize> {
        Some(self.earlier + self.entries.iter().skip(self.earlier).rposition(fits)?)
    }

    fn callers(&mut self) -> impl DoubleEndedIterator<Item = &mut Caller> {
        self.entries.iter_mut().filter_map(|entry| match entry {
            Entry::Caller(turn) => Some(turn),
            Entry::Assistant(_) | Entry::Turn(_) => None,
        })
    }

    fn assistants(&mut self) -> impl DoubleEndedIterator<Item = &mut Assistant> {
        self.entries.iter_mut().filter_map(|entry| match entry {
            Entry::Assistant(turn) => Some(turn),
            Entry::Caller(_) | Entry::Turn(_) => None,
        })
    }

    // ── bounds ──

    fn push(&mut self, entry: Entry) {
        self.entries.push_back(entry);
        self.bound();
    }

    /// Drops the oldest entries beyond the limits.
    fn bound(&mut self) {
        let size = |entry: &Entry| (entry.items(), entry.text());
        let sizes = self.entries.iter().map(size);
        let (mut items, mut text) = sizes.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        while items > MAX_ITEMS || text > MAX_TEXT {
            let Some(oldest) = self.entries.pop_front() else { return };
            items -= oldest.items();
            text -= oldest.text();
            self.earlier = self.earlier.saturating_sub(1);
        }
    }

    /// Drops the caller's oldest audio beyond the limit.
    fn bound_audio(&mut self) {
        let mut all = self.callers().map(|turn| turn.audio.bytes).sum::<usize>();
        for turn in self.callers() {
            let others = all - turn.audio.bytes;
            turn.audio.shorten(MAX_AUDIO.saturating_sub(others));
            all = others + turn.audio.bytes;
        }
    }
}

impl Entry {
    fn turn(&self) -> Option<Turn> {
        match self {
            Self::Caller(Caller { text: Some(text), .. }) => Some(Turn::Caller(text.clone())),
            Self::Caller(Caller { audio, .. }) => {
                (audio.bytes >= LEAST_AUDIO).then(|| Turn::CallerAudio(audio.chunk()))
            }
            Self::Assistant(turn) => Some(turn.heard().to_owned())
                .filter(|heard| !heard.is_empty())
                .map(|heard| Turn::Assistant(heard.into())),
            Self::Turn(turn) => Some(turn.clone()),
        }
    }

    fn items(&self) -> usize {
        if matches!(self, Self::Turn(Turn::Tool { .. })) { 2 } else { 1 }
    }

    /// How many bytes of text it has.
    fn text(&self) -> usize {
        let length = |text: &Private| text.expose().len();
        match self {
            Self::Caller(turn) => turn.text.as_ref().map_or(0, length),
            Self::Assistant(turn) => length(&turn.text),
            Self::Turn(Turn::Tool { name, arguments, output, .. }) => {
                name.len() + length(arguments) + output.as_ref().map_or(0, length)
            }
            Self::Turn(Turn::Caller(text) | Turn::Assistant(text)) => length(text),
            Self::Turn(Turn::Note(text) | Turn::History(text)) => length(text),
            Self::Turn(Turn::CallerAudio(_)) => 0,
        }
    }
}

impl Caller {
    /// The transcript says that nothing was said.
    fn is_empty(&self) -> bool {
        self.text.as_ref().is_some_and(|text| text.expose().trim().is_empty())
    }
}

impl Assistant {
    /// The words that the caller heard: in proportion to the audio, and never more.
    fn heard(&self) -> &str {
        self.heard_until(self.heard_ms)
    }

    fn heard_until(&self, heard_ms: u64) -> &str {
        let sent_ms = (self.bytes / BYTES_PER_MS as u64).max(1);
        // Until it is complete, the last word may be half a word, or ahead of the audio.
        let most = if self.complete { sent_ms } else { sent_ms - 1 };
        heard_words(self.text.expose(), heard_ms.min(most), sent_ms).trim()
    }
}

/// The words of a text that were heard, if the phone played `heard_ms` of the `sent_ms` of its sound: in proportion,
/// without a word that was cut. All of the text if all of it was played.
pub fn heard_words(text: &str, heard_ms: u64, sent_ms: u64) -> &str {
    if heard_ms >= sent_ms {
        return text;
    }
    let characters = (text.chars().count() as u128 * u128::from(heard_ms) / u128::from(sent_ms)) as usize;
    let cut = text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at);
    let whole = match text[cut..].starts_with(char::is_whitespace) {
        true => cut,
        false => text[..cut].rfind(char::is_whitespace).unwrap_or(0),
    };
    text[..whole].trim()
}

/// The beginning of a text, and a sign if that is not all.
fn cut(text: &Private, most: usize) -> Private {
    const MORE: &str = " …";
    let text = text.expose();
    if text.len() <= most {
        return text.to_owned().into();
    }
    let end = (0..=most - MORE.len()).rfind(|at| text.is_char_boundary(*at)).unwrap_or_default();
    format!("{}{MORE}", &text[..end]).into()
}

/// The caller's audio as it came: base64 that nobody decodes unless it is needed.
#[derive(Default)]
struct Audio {
    text: VecDeque<u8>,
    pieces: VecDeque<Piece>,
    /// The μ-law bytes of all pieces.
    bytes: usize,
}

#[derive(Clone, Copy)]
struct Piece {
    characters: u32,
    bytes: u32,
}

impl Audio {
    fn push(&mut self, chunk: &Chunk) {
        let text = chunk.as_str().as_bytes();
        self.make_room(text.len());
        self.text.extend(text);
        let bytes = chunk.bytes() as u32;
        self.pieces.push_back(Piece { characters: text.len() as u32, bytes });
        self.bytes += bytes as usize;
    }

    fn append(&mut self, mut other: Audio) {
        self.make_room(other.text.len());
        self.text.append(&mut other.text);
        self.pieces.append(&mut other.pieces);
        self.bytes += other.bytes;
    }

    /// Makes room in small steps: doubling would take up to twice the memory.
    fn make_room(&mut self, characters: usize) {
        if self.text.capacity() - self.text.len() < characters {
            self.text.reserve_exact(characters.max(ROOM));
        }
    }

    /// Drops the oldest pieces until no more than `most` bytes are left.
    fn shorten(&mut self, most: usize) {
        while self.bytes > most
            && let Some(piece) = self.pieces.pop_front()
        {
            self.text.drain(..piece.characters as usize);
            self.bytes -= piece.bytes as usize;
        }
        if self.text.capacity() > self.text.len() + 2 * ROOM {
            self.text.shrink_to_fit();
            self.pieces.shrink_to_fit();
        }
    }

    fn chunk(&self) -> Chunk {
        let mut ulaw = Vec::with_capacity(self.bytes);
        let (first, second) = self.text.as_slices();
        let text = [first, second].concat();
        let mut rest = &text[..];
        for piece in &self.pieces {
            let (text, others) = rest.split_at(piece.characters as usize);
            let chunk = Chunk::from_base64(Bytes::copy_from_slice(text)).expect("it came from a chunk");
            chunk.decode(|bytes| ulaw.extend_from_slice(bytes));
            rest = others;
        }
        Chunk::from_ulaw(&ulaw)
    }
}

impl fmt::Debug for Audio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.bytes / BYTES_PER_MS)
    }
}

#[cfg(test)]
mod tests;
