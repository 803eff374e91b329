//! The keys about the speech model: whose it is, which one, and how it sounds and thinks.

use std::sync::Arc;

use super::Check;
use crate::assistant::language::Language;
use crate::assistant::plan::{Effort, Transcription};
use crate::assistant::vocabulary::{EFFORTS, ENGINES, NO_TRANSCRIPTION, TEMPERATURE};
use crate::assistant::written::{Fields, shown};
use crate::problem::Suggestion;
use crate::problem::catalogue::Assistant;
use crate::provider::{OPENAI_REALTIME_URL, Provider, Shutdown, Transcribing};
use crate::yaml::{MISSING, Node};

impl<'a> Check<'a> {
    pub(super) fn provider(&self, top: &Fields<'a>) -> Arc<Provider> {
        let w = self.written;
        let named = top.take("provider").and_then(|node| self.provider_named(node));
        match top.take("engine") {
            Some(node) if node.scalar().is_some_and(|scalar| scalar.text().trim() == "live") => {
                w.problem(node.span, Assistant::KeyReserved { key: "engine: live" });
            }
            _ => {
                top.word("engine", ENGINES);
            }
        }
        let default = || Arc::new(Provider::openai(OPENAI_REALTIME_URL, None));
        named.or(self.around.providers.first()).cloned().unwrap_or_else(default)
    }

    /// The provider of this name, or a problem.
    pub(super) fn provider_named(&self, node: &Node) -> Option<&'a Arc<Provider>> {
        let name = self.written.text(node, "provider")?;
        let providers = self.around.providers;
        let found = providers.iter().find(|provider| provider.name == name.trim());
        if found.is_none() {
            let suggestion = Suggestion::new(&name, providers.iter().map(|provider| provider.name.as_str()));
            self.written.problem(node.span, Assistant::ProviderUnknown { name: shown(node), suggestion });
        }
        found
    }

    pub(super) fn model(&self, map: &Fields<'a>, provider: &Provider) -> Option<String> {
        let node = map.take("model")?;
        let model = self.written.text(node, "model")?.trim().to_owned();
        self.known_model(node, &model, provider);
        Some(model)
    }

    /// Judges the name of a model.
    pub(super) fn known_model(&self, node: &Node, model: &str, provider: &Provider) {
        let w = self.written;
        match provider.model(model) {
            Some(known) => self.shutdown(node, known.shutdown.as_ref()),
            None if !model.chars().all(|c| c.is_ascii_graphic()) => {
                w.problem(node.span, Assistant::ModelInvalid { model: shown(node) });
            }
            None if !provider.abilities.models.is_empty() => {
                let names = provider.abilities.models.iter().map(|model| model.name.as_ref());
                let suggestion = Suggestion::new(model, names);
                let provider = provider.name.clone();
                w.problem(node.span, Assistant::ModelUnknown { model: shown(node), provider, suggestion });
            }
            None => {}
        }
    }

    fn shutdown(&self, node: &Node, shutdown: Option<&Shutdown>) {
        if let Some((day, next)) = shutdown {
            let (model, day, next) = (shown(node), day.to_string(), next.to_string());
            self.written.problem(node.span, Assistant::ModelShutdown { model, day, next });
        }
    }

    pub(super) fn voice(&self, map: &Fields<'a>, provider: &Provider) -> Option<String> {
        let node = map.take("voice")?;
        let voice = self.written.text(node, "voice")?.trim().to_owned();
        if !provider.has_voice(&voice) {
            let suggestion = Suggestion::new(&voice, provider.abilities.voices.iter().map(AsRef::as_ref));
            let provider = provider.name.clone();
            let what = Assistant::VoiceUnknown { voice: shown(node), provider, suggestion };
            self.written.problem(node.span, what);
        }
        Some(voice)
    }

    pub(super) fn temperature(&self, top: &Fields<'a>, provider: &Provider) -> Option<f64> {
        let node = top.take("temperature")?;
        let range = provider.abilities.temperature.as_ref();
        let number = self.written.number(node, "temperature", range.unwrap_or(&TEMPERATURE))?;
        if range.is_none() {
            let what = Assistant::TemperatureUnused { provider: provider.name.clone() };
            self.written.problem(node.span, what);
        }
        range.map(|_| number)
    }

    pub(super) fn speed(&self, top: &Fields<'a>, provider: &Provider) -> Option<f64> {
        let node = top.take("speed")?;
        let Some(range) = &provider.abilities.speed else {
            self.written.problem(node.span, Assistant::SpeedUnused { provider: provider.name.clone() });
            return None;
        };
        self.written.number(node, "speed", range)
    }

    pub(super) fn reasoning(&self, top: &Fields<'a>, provider: &Provider, model: &str) -> Option<Effort> {
        let node = top.take("reasoning")?;
        let offered = &provider.abilities.efforts;
        let is_offered = |word: &str| offered.is_empty() || offered.iter().any(|effort| effort == word);
        let words: Vec<_> = EFFORTS.iter().copied().filter(|(word, _)| is_offered(word)).collect();
        let effort = self.written.word(node, "reasoning", &words)?;
        if offered.is_empty() || !provider.reasons(model) {
            self.written.problem(node.span, Assistant::ReasoningUnused);
            return None;
        }
        Some(effort)
    }

    pub(super) fn transcription(
        &self,
        top: &Fields<'a>,
        provider: &Provider,
        language: Option<&Language>,
    ) -> Option<Transcription> {
        let mut model = provider.default_transcriber().unwrap_or_default().to_owned();
        let mut language = language.cloned();
        if let Some(node) = top.take("transcription") {
            let off = |node: &Node| {
                let scalar = node.scalar();
                scalar.is_some_and(|scalar| {
                    scalar.bool() == Some(false) || scalar.text().trim() == NO_TRANSCRIPTION
                })
            };
            if off(node) {
                return None;
            }
            let map = self.written.map(node, "transcription")?;
            let named = map.take("model");
            if let Some(node) = named {
                self.transcriber(node, provider);
                model = self.written.text(node, "model").map_or(model, |model| model.trim().to_owned());
            }
            language = self.language(&map).or(language);
            map.finish();
            if named.is_some_and(off) {
                return None;
            }
            if provider.abilities.transcription == Transcribing::Automatic {
                let what = Assistant::TranscriptionUnused { provider: provider.name.clone() };
                self.written.problem(node.span, what);
                return None;
            }
        }
        // The providers take the language without its region. Without a model there is nothing to ask for.
        let language = language.map(|language| language.code().to_owned());
        (!model.is_empty()).then_some(Transcription { model, language })
    }

    /// Warns about a transcription model that is unknown, or will be shut down.
    fn transcriber(&self, node: &Node, provider: &Provider) {
        let Transcribing::Named(known) = &provider.abilities.transcription else { return };
        let Some(name) = node.scalar().map(|scalar| scalar.text().trim()) else { return };
        if known.is_empty() || name == NO_TRANSCRIPTION || name.contains(MISSING) {
            return;
        }
        if let Some(transcriber) = known.iter().find(|transcriber| transcriber.name == name) {
            return self.shutdown(node, transcriber.shutdown.as_ref());
        }
        let suggestion = Suggestion::new(name, known.iter().map(|transcriber| transcriber.name.as_ref()));
        let (model, provider) = (shown(node), provider.name.clone());
        self.written.problem(node.span, Assistant::TranscriberUnknown { model, provider, suggestion });
    }
}
