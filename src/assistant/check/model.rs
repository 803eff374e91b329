//! The keys about the speech model: whose it is, which, and how it sounds and thinks.

use std::sync::Arc;

use super::Check;
use crate::assistant::plan::{Effort, Transcription};
use crate::assistant::written::Fields;
use crate::problem;
use crate::provider::{OPENAI_REALTIME_URL, Provider, Transcribing};
use crate::yaml::{MISSING, Node};

const EFFORTS: [(&str, Effort); 6] = [
    ("none", Effort::None),
    ("minimal", Effort::Minimal),
    ("low", Effort::Low),
    ("medium", Effort::Medium),
    ("high", Effort::High),
    ("xhigh", Effort::Xhigh),
];

impl<'a> Check<'a> {
    pub(super) fn provider(&self, top: &Fields<'a>) -> Arc<Provider> {
        let w = self.written;
        let default = || {
            let first = self.around.providers.first().cloned();
            first.unwrap_or_else(|| Arc::new(Provider::openai(OPENAI_REALTIME_URL, None)))
        };
        let named = top.take("provider").and_then(|node| {
            let name = w.text(node, "provider")?;
            let found = self.around.providers.iter().find(|p| p.name == name.trim());
            if found.is_none() {
                let shown = node.scalar().map(|s| s.shown()).unwrap_or_default();
                let names = self.around.providers.iter().map(|p| p.name.as_str());
                let help = problem::suggestion(&name, names);
                w.error_help(node.span, "provider.unknown", format!("there is no provider `{shown}`"), help);
            }
            found.cloned()
        });
        if let Some(node) = top.take("engine")
            && let Some(text) = w.text(node, "engine")
        {
            match text.trim() {
                "live" => w.error_help(
                    node.span,
                    "not_yet",
                    "the engine `live` is not available in this version",
                    "leave `engine` out, or write `engine: realtime`",
                ),
                _ => {
                    w.one_of(node, "engine", &[("realtime", ())]);
                }
            }
        }
        named.unwrap_or_else(default)
    }

    pub(super) fn model(&self, top: &Fields<'a>, provider: &Provider) -> String {
        let w = self.written;
        let Some(node) = top.take("model") else { return provider.default_model().to_owned() };
        let Some(model) = w.text(node, "model") else { return provider.default_model().to_owned() };
        let model = model.trim().to_owned();
        let shown = node.scalar().map(|s| s.shown()).unwrap_or_default();
        match provider.model(&model) {
            Some(known) => {
                if let Some((day, next)) = &known.shutdown {
                    w.warning(
                        node.span,
                        "model.shutdown",
                        format!("`{shown}` is announced to be shut down on {day}"),
                        format!("use `{next}`"),
                    );
                }
            }
            None if !model.chars().all(|c| c.is_ascii_graphic()) => {
                w.error(node.span, "model.invalid", format!("`{shown}` cannot be the name of a model"))
            }
            None if !provider.abilities.models.is_empty() => {
                let names = provider.abilities.models.iter().map(|model| model.name.as_ref());
                w.warning(
                    node.span,
                    "model.unknown",
                    format!("`{shown}` is no model of `{}` that is known here", provider.name),
                    problem::suggestion(&model, names),
                );
            }
            None => {}
        }
        model
    }

    pub(super) fn voice(&self, top: &Fields<'a>, provider: &Provider) -> String {
        let w = self.written;
        let Some(node) = top.take("voice") else { return provider.default_voice().to_owned() };
        let Some(voice) = w.text(node, "voice") else { return provider.default_voice().to_owned() };
        let voice = voice.trim().to_owned();
        if !provider.has_voice(&voice) {
            let shown = node.scalar().map(|s| s.shown()).unwrap_or_default();
            let known: Vec<&str> = provider.abilities.voices.iter().map(AsRef::as_ref).collect();
            let near = problem::nearest(&voice, known.iter().copied());
            let help = match near.as_slice() {
                [] => format!("voices are {}", problem::list(&known)),
                near => format!("did you mean {}?", problem::list(near).replace(" and ", " or ")),
            };
            let message = match node.scalar().is_some_and(|s| s.expanded()) {
                true => format!("the value of `{shown}` is no voice of `{}`", provider.name),
                false => format!("there is no voice `{shown}` at `{}`", provider.name),
            };
            w.error_help(node.span, "voice.unknown", message, help);
        }
        voice
    }

    pub(super) fn temperature(&self, top: &Fields<'a>, provider: &Provider) -> Option<f64> {
        let node = top.take("temperature")?;
        match &provider.abilities.temperature {
            Some(range) => self.written.number(node, "temperature", range.clone()),
            None => {
                self.written.number(node, "temperature", 0.0..=2.0)?;
                self.written.warning(
                    node.span,
                    "temperature.no_effect",
                    format!("`temperature` has no effect with `{}`: it is not sent", provider.name),
                    "leave it out",
                );
                None
            }
        }
    }

    pub(super) fn speed(&self, top: &Fields<'a>, provider: &Provider) -> Option<f64> {
        let node = top.take("speed")?;
        match &provider.abilities.speed {
            Some(range) => self.written.number(node, "speed", range.clone()),
            None => {
                let message = format!("`speed` has no effect with `{}`: it is not sent", provider.name);
                self.written.warning(node.span, "speed.no_effect", message, "leave it out");
                None
            }
        }
    }

    pub(super) fn reasoning(&self, top: &Fields<'a>, provider: &Provider, model: &str) -> Option<Effort> {
        let node = top.take("reasoning")?;
        let efforts = &provider.abilities.efforts;
        let words: Vec<(&str, Effort)> = EFFORTS
            .into_iter()
            .filter(|(word, _)| efforts.is_empty() || efforts.iter().any(|effort| effort == word))
            .collect();
        let effort = self.written.one_of(node, "reasoning", &words)?;
        if efforts.is_empty() || !provider.reasons(model) {
            let reasons = provider.abilities.models.iter().find(|model| model.reasoning);
            self.written.warning(
                node.span,
                "reasoning.no_effect",
                "`reasoning` has no effect with this model: it is not sent",
                match reasons.filter(|_| !efforts.is_empty()) {
                    Some(model) => format!("leave it out, or use `{}`", model.name),
                    None => "leave it out".to_owned(),
                },
            );
            return None;
        }
        Some(effort)
    }

    pub(super) fn transcription(
        &self,
        top: &Fields<'a>,
        provider: &Provider,
        language: Option<&str>,
    ) -> Option<Transcription> {
        let w = self.written;
        // A recogniser takes the language without the region.
        let short = |tag: &str| tag.split('-').next().unwrap_or(tag).to_owned();
        let known = provider.default_transcriber();
        let mut transcription =
            Transcription { model: known.unwrap_or_default().to_owned(), language: language.map(short) };
        // Without a name there is nothing to ask for.
        let named = |transcription: Transcription| (!transcription.model.is_empty()).then_some(transcription);
        let Some(node) = top.take("transcription") else { return named(transcription) };
        if let Some(scalar) = node.scalar()
            && (scalar.bool() == Some(false) || scalar.text() == "none")
        {
            return None;
        }
        let Some(map) = w.map(node, "transcription", "transcription: { model: gpt-transcribe }, or `none`")
        else {
            return named(transcription);
        };
        if let Some(node) = map.take("model") {
            self.transcriber(node, provider);
            match w.text(node, "model") {
                Some(model) if model.trim() == "none" => {
                    map.finish();
                    return None;
                }
                Some(model) => transcription.model = model.trim().to_owned(),
                None => {}
            }
        }
        if let Some(node) = map.take("language") {
            transcription.language = self.language(node, "language").as_deref().map(short);
        }
        map.finish();
        match &provider.abilities.transcription {
            Transcribing::Named(_) => named(transcription),
            Transcribing::Automatic => {
                let message = format!(
                    "`transcription` has no effect with `{}`, which writes down what is said in its own way",
                    provider.name
                );
                w.warning(node.span, "transcription.no_effect", message, "leave it out");
                None
            }
        }
    }

    /// What is odd about the name of a transcription model.
    fn transcriber(&self, node: &Node, provider: &Provider) {
        let Transcribing::Named(known) = &provider.abilities.transcription else { return };
        // A name that is no text is a problem of its own.
        let Some(scalar) = node.scalar() else { return };
        let (name, shown) = (scalar.text().trim(), scalar.shown());
        if known.is_empty() || name == "none" || name.contains(MISSING) {
            return;
        }
        match known.iter().find(|transcriber| transcriber.name == name) {
            Some(transcriber) => {
                if let Some((day, next)) = &transcriber.shutdown {
                    let message = format!("`{shown}` is announced to be shut down on {day}");
                    self.written.warning(node.span, "model.shutdown", message, format!("use `{next}`"));
                }
            }
            None => {
                let names = known.iter().map(|transcriber| transcriber.name.as_ref());
                self.written.warning(
                    node.span,
                    "transcription.unknown",
                    format!("`{shown}` is no transcription model of `{}` that is known here", provider.name),
                    problem::suggestion(name, names),
                );
            }
        }
    }
}
