//! The keys about the conversation: how it opens, who speaks when, how long it may take, and what is
//! said when it cannot go on.

use std::sync::Arc;
use std::time::Duration;

use super::{Check, Text};
use crate::assistant::plan::{Detection, Eagerness, First, Limits, Line, NoiseReduction, TurnTaking};
use crate::assistant::written::{Fields, spell};
use crate::phone::PhoneNumber;
use crate::problem;
use crate::provider::{Provider, TurnDetection};
use crate::yaml::Node;
use switchboard_audio::Clip;

/// Said when a call cannot go on and the file says nothing else.
pub const SORRY: &str = "Sorry, something went wrong. Please call again.";

/// What a session may take beside the call itself.
const MARGIN: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

impl<'a> Check<'a> {
    pub(super) fn greeting(
        &self,
        top: &Fields<'a>,
        texts: &mut Vec<Text<'a>>,
    ) -> (First, Option<String>, Option<Arc<Clip>>, bool) {
        let w = self.written;
        let mut greeting = (First::Assistant, None, None, true);
        let Some(node) = top.take("greeting") else { return greeting };
        let Some(map) = w.map(node, "greeting", "greeting: { say: \"Hello\" }") else { return greeting };
        if let Some(node) = map.take("first") {
            let words = [("assistant", First::Assistant), ("caller", First::Caller)];
            greeting.0 = w.one_of(node, "first", &words).unwrap_or(First::Assistant);
        }
        let say = map.take("say");
        greeting.1 = say.and_then(|node| self.template(node, "say", texts));
        if let Some(node) = map.take("play") {
            greeting.2 = self.clip(node);
            if greeting.0 == First::Caller {
                let message = "`play` has no effect where the caller speaks first";
                w.error_help(
                    node.span,
                    "greeting.play",
                    message,
                    "write `first: assistant`, or leave `play` out",
                );
            } else if say.is_none() {
                let message = "the assistant does not know what the recorded greeting says";
                w.warning(node.span, "greeting.say", message, "write its words into `say`");
            }
        } else if let (First::Caller, Some(node)) = (greeting.0, say) {
            let message = "`say` has no effect where the caller speaks first";
            w.warning(node.span, "greeting.say", message, "write `first: assistant`, or leave `say` out");
        }
        if let Some(node) = map.take("interruptible") {
            greeting.3 = w.bool(node, "interruptible").unwrap_or(true);
        }
        map.finish();
        greeting
    }

    fn clip(&self, node: &Node) -> Option<Arc<Clip>> {
        let name = self.written.text(node, "play")?;
        match self.around.greetings.get(name.trim()) {
            Some(clip) => clip.clone(),
            None => {
                let shown = node.scalar().map(|s| s.shown()).unwrap_or_default();
                let there: Vec<&str> = self.around.greetings.keys().map(String::as_str).collect();
                let help = match there.is_empty() {
                    _ if name.contains(['/', '\\']) => {
                        "write the file's name only: it is looked for in assistants/greetings/".to_owned()
                    }
                    true => "put it into assistants/greetings/, as a WAV file".to_owned(),
                    false => problem::suggestion(&name, there),
                };
                let message = format!("there is no recorded greeting `{shown}`");
                self.written.error_help(node.span, "greeting.unknown", message, help);
                None
            }
        }
    }

    pub(super) fn turn_taking(&self, top: &Fields<'a>, provider: &Provider) -> TurnTaking {
        let w = self.written;
        let abilities = &provider.abilities;
        let default = match abilities.turn_detection.first() {
            Some(TurnDetection::Semantic) => Detection::Semantic { eagerness: Eagerness::Auto },
            Some(TurnDetection::Server) | None => {
                let mut detection = server(None, None, None);
                if let Detection::Server { threshold, .. } = &mut detection {
                    *threshold = threshold.clamp(*abilities.threshold.start(), *abilities.threshold.end());
                }
                detection
            }
        };
        let mut turns = TurnTaking {
            detection: default,
            interruptions: true,
            noise_reduction: abilities.noise_reduction.then_some(NoiseReduction::NearField),
        };
        let Some(node) = top.take("turn_taking") else { return turns };
        let Some(map) = w.map(node, "turn_taking", "turn_taking: { silence: 500ms }") else { return turns };
        let kind = self.detection(&map, provider);
        let semantic = match kind {
            Some(kind) => kind == TurnDetection::Semantic,
            None => matches!(default, Detection::Semantic { .. }),
        };
        let (silence, threshold) = (map.take("silence"), map.take("threshold"));
        let (prefix, eagerness) = (map.take("prefix"), map.take("eagerness"));
        let idle = |node: Option<&Node>, name: &str, other: &str| {
            if let Some(node) = node {
                let message = format!("`{name}` has no effect here: it belongs to `detection: {other}`");
                w.warning(
                    node.span,
                    "turns.no_effect",
                    message,
                    format!("leave it out, or write `detection: {other}`"),
                );
            }
        };
        let ms = Duration::from_millis;
        if semantic {
            idle(silence, "silence", "server");
            idle(threshold, "threshold", "server");
            idle(prefix, "prefix", "server");
            let words = [
                ("low", Eagerness::Low),
                ("medium", Eagerness::Medium),
                ("high", Eagerness::High),
                ("auto", Eagerness::Auto),
            ];
            let eagerness = eagerness.and_then(|node| w.one_of(node, "eagerness", &words));
            turns.detection = Detection::Semantic { eagerness: eagerness.unwrap_or(Eagerness::Auto) };
        } else {
            idle(eagerness, "eagerness", "semantic");
            turns.detection = server(
                threshold.and_then(|node| w.number(node, "threshold", abilities.threshold.clone())).or(
                    match default {
                        Detection::Server { threshold, .. } => Some(threshold),
                        Detection::Semantic { .. } => None,
                    },
                ),
                silence.and_then(|node| w.duration(node, "silence", ms(100)..=ms(5_000))),
                prefix.and_then(|node| w.duration(node, "prefix", ms(0)..=ms(2_000))),
            );
        }
        if let Some(node) = map.take("interruptions") {
            turns.interruptions = w.bool(node, "interruptions").unwrap_or(true);
        }
        if let Some(node) = map.take("noise_reduction") {
            let words = [
                ("near_field", Some(NoiseReduction::NearField)),
                ("far_field", Some(NoiseReduction::FarField)),
                ("none", None),
            ];
            turns.noise_reduction = w.one_of(node, "noise_reduction", &words).flatten();
            if turns.noise_reduction.is_some() && !abilities.noise_reduction {
                let message =
                    format!("`noise_reduction` has no effect with `{}`: it is not sent", provider.name);
                w.warning(node.span, "turns.no_effect", message, "leave it out");
                turns.noise_reduction = None;
            }
        }
        map.finish();
        turns
    }

    /// How the provider is to hear that a turn is over, where the file says so.
    fn detection(&self, map: &Fields<'a>, provider: &Provider) -> Option<TurnDetection> {
        let node = map.take("detection")?;
        let words = TurnDetection::ALL.map(|kind| (kind.name(), kind));
        let kind = self.written.one_of(node, "detection", &words)?;
        let offered = &provider.abilities.turn_detection;
        if !offered.contains(&kind) {
            let message = format!("`{}` has no turn detection of the kind `{}`", provider.name, kind.name());
            let other = offered.first().map_or("server", |kind| kind.name());
            let help = format!("write `detection: {other}`, or leave it out");
            self.written.error_help(node.span, "turns.detection", message, help);
        }
        Some(kind)
    }

    pub(super) fn limits(&self, top: &Fields<'a>, provider: &Provider) -> Limits {
        let w = self.written;
        // The session begins while the phone rings, and the goodbye is a part of it.
        let longest = provider.abilities.session_limit.saturating_sub(MARGIN);
        let mut limits = Limits { call: longest.min(HOUR / 2), silence: Duration::from_secs(60) };
        let Some(node) = top.take("limits") else { return limits };
        let Some(map) = w.map(node, "limits", "limits: { call: 30m, silence: 60s }") else { return limits };
        if let Some(node) = map.take("call")
            && let Some(call) = w.duration(node, "call", Duration::from_secs(10)..=4 * HOUR)
        {
            limits.call = call;
            if call > longest {
                let limit = spell(provider.abilities.session_limit);
                let message =
                    format!("`{}` ends every session after {limit}, and the call with it", provider.name);
                let help = format!("write at most `{}`", spell(longest));
                w.warning(node.span, "limits.session", message, help);
            }
        }
        if let Some(node) = map.take("silence") {
            let range = Duration::from_secs(5)..=HOUR / 2;
            limits.silence = w.duration(node, "silence", range).unwrap_or(limits.silence);
        }
        map.finish();
        limits
    }

    pub(super) fn line(
        &self,
        top: &Fields<'a>,
        name: &'static str,
        default: &str,
        language: &str,
        texts: &mut Vec<Text<'a>>,
    ) -> Line {
        let line = Line { say: default.to_owned(), language: language.to_owned() };
        let Some(node) = top.take(name) else { return line };
        let example = format!("{name}: {{ say: \"…\" }}");
        let Some(map) = self.written.map(node, name, &example) else { return line };
        let line = self.spoken(&map, line, texts);
        map.finish();
        line
    }

    pub(super) fn on_failure(
        &self,
        top: &Fields<'a>,
        language: &str,
        texts: &mut Vec<Text<'a>>,
    ) -> (Line, Option<PhoneNumber>) {
        let line = Line { say: SORRY.to_owned(), language: language.to_owned() };
        let Some(node) = top.take("on_failure") else { return (line, None) };
        let example = "on_failure: { say: \"Sorry. One moment.\" }";
        let Some(map) = self.written.map(node, "on_failure", example) else { return (line, None) };
        let line = self.spoken(&map, line, texts);
        let dial = map.take("dial").and_then(|node| self.number(node, "dial"));
        map.finish();
        (line, dial)
    }

    fn spoken(&self, map: &Fields<'a>, mut line: Line, texts: &mut Vec<Text<'a>>) -> Line {
        if let Some(say) = map.take("say").and_then(|node| self.template(node, "say", texts)) {
            line.say = say;
        }
        if let Some(tag) = map.take("language").and_then(|node| self.language(node, "language")) {
            line.language = tag;
        }
        line
    }
}

fn server(threshold: Option<f64>, silence: Option<Duration>, prefix: Option<Duration>) -> Detection {
    Detection::Server {
        threshold: threshold.unwrap_or(0.5),
        silence: silence.unwrap_or(Duration::from_millis(500)),
        prefix: prefix.unwrap_or(Duration::from_millis(300)),
    }
}
