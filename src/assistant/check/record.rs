//! What is kept of a call, and what callers are told about it.

use super::spoken::Tongue;
use super::{Assistant as Checked, Check};
use crate::assistant::plan::{AfterCall, Line, Notify, Reader, RecordPolicy, Transcription};
use crate::assistant::vocabulary::{KEEP, KEPT_NUMBERS};
use crate::assistant::written::{Fields, Written, shown};
use crate::problem::{self, Problem, catalogue::Assistant};
use crate::provider::{Provider, Transcribing};
use crate::yaml::{Kind, Node};

impl Checked {
    /// How its owner reads.
    pub fn reader(&self) -> &Reader {
        &self.plan.reader
    }

    /// What its owner wants to hear of calls.
    pub fn notify(&self) -> Option<&Notify> {
        self.plan.notify.as_ref()
    }

    /// The form that the model fills after its calls.
    pub fn after_call(&self) -> Option<&AfterCall> {
        self.plan.after_call.as_ref()
    }
}

/// Reads `record` of `switchboard.yaml`: what is kept of the calls of every assistant whose file says nothing else.
/// What is wrong there is left at its default.
pub fn record_defaults(source: &problem::Source, node: &Node) -> (RecordPolicy, Vec<Problem>) {
    let written = Written::new(source.clone(), Vec::new());
    let mut policy = RecordPolicy::default();
    if !node.is_null()
        && let Some(map) = map(&written, node)
    {
        policy = read(&map, policy);
        map.finish();
    }
    (policy, written.into_problems())
}

/// The keys of a `record`.
fn map<'a>(written: &'a Written, node: &'a Node) -> Option<Fields<'a>> {
    if let Some(flag) = node.scalar().and_then(|scalar| scalar.bool()) {
        let instead = if flag { "transcript: true, audio: true" } else { "transcript: false, audio: false" };
        written.problem(node.span, Assistant::RecordFlag { value: shown(node), instead });
        return None;
    }
    written.map(node, "record")
}

/// What a map leaves out is as in `defaults`.
fn read(map: &Fields<'_>, defaults: RecordPolicy) -> RecordPolicy {
    RecordPolicy {
        transcript: map.bool("transcript").unwrap_or(defaults.transcript),
        audio: map.bool("audio").unwrap_or(defaults.audio),
        tools: map.bool("tools").unwrap_or(defaults.tools),
        keep: map.duration("keep", &KEEP).unwrap_or(defaults.keep),
        numbers: map.word("numbers", KEPT_NUMBERS).unwrap_or(defaults.numbers),
    }
}

impl<'a> Check<'a> {
    /// What is kept, and what Twilio's voice says about it first.
    pub(super) fn record(
        &self,
        top: &Fields<'a>,
        provider: &Provider,
        transcription: Option<&Transcription>,
        tongue: &mut Tongue<'a>,
    ) -> (RecordPolicy, Option<Line>) {
        let w = self.written;
        let mut policy = self.around.record;
        let map = top.take("record").and_then(|node| map(w, node));
        if let Some(map) = &map {
            policy = read(map, policy);
            let is_silent =
                transcription.is_none() && provider.abilities.transcription != Transcribing::Automatic;
            if let Some(node) = map.take("transcript").filter(|_| policy.transcript && is_silent) {
                w.problem(node.span, Assistant::TranscriptUnused);
            }
        }
        let notice = self.notice(top, tongue);
        match (policy.audio, &notice, top.take("recording_notice")) {
            (true, None, None) => match map.as_ref().and_then(|map| map.take("audio")) {
                Some(node) => w.problem(node.span, Assistant::RecordWithoutNotice),
                None => w.note(Problem::file(w.source.path(), Assistant::RecordWithoutNotice)),
            },
            (true, None, Some(node)) => w.problem(node.span, Assistant::RecordWithoutNotice),
            (false, Some(_), Some(node)) => w.problem(node.span, Assistant::NoticeUnused),
            _ => {}
        }
        if let Some(map) = map {
            map.finish();
        }
        (policy, notice.filter(|_| policy.audio))
    }

    /// A text, or a map with a text and the locale in which it is said. Empty: none.
    fn notice(&self, top: &Fields<'a>, tongue: &mut Tongue<'a>) -> Option<Line> {
        const KEY: &str = "recording_notice";
        let node = top.take(KEY)?;
        let (say, own) = if !matches!(node.kind, Kind::Map(_)) {
            (self.sentence(node, KEY), None)
        } else {
            let map = self.written.map(node, KEY)?;
            let read = (self.said(&map), self.own_locale(&map));
            map.finish();
            read
        };
        say.map(|say| self.spoken(Some(say), own, KEY, |words| words.recorded, tongue))
    }
}
