//! The key `fallback`: who serves the assistant if its own provider fails.

use std::sync::Arc;

use super::Check;
use crate::assistant::plan::Plan;
use crate::assistant::toolbox::{Home, Toolbox};
use crate::assistant::vocabulary::MOST_FALLBACKS;
use crate::assistant::written::{Fields, shown};
use crate::problem::catalogue::Assistant;
use crate::problem::{self, Suggestion};
use crate::provider::Provider;
use crate::yaml::{Kind, Node};

/// One entry, as written.
struct Endpoint<'a> {
    provider: &'a Arc<Provider>,
    model: Option<String>,
    voice: Option<String>,
}

impl Endpoint<'_> {
    /// The model is the assistant's own if the provider may have it.
    fn model(&self, own: &Plan) -> String {
        let models = &self.provider.abilities.models;
        let has_own = models.is_empty() || self.provider.model(&own.model).is_some();
        let default = if has_own { &own.model } else { self.provider.default_model() };
        self.model.clone().unwrap_or_else(|| default.to_owned())
    }
}

impl<'a> Check<'a> {
    /// A template of a plan for each entry, made of the same file as the assistant's own.
    pub(super) fn fallback(&self, top: &Fields<'a>, own: &Plan, toolbox: &Toolbox) -> Vec<Arc<Plan>> {
        let w = self.written;
        let entries = match top.take("fallback") {
            Some(node) if matches!(node.kind, Kind::Map(_)) => vec![node],
            _ => top.list("fallback"),
        };
        if let Some(node) = entries.get(MOST_FALLBACKS) {
            w.problem(node.span, Assistant::FallbackMost { most: MOST_FALLBACKS });
        }
        let mut plans: Vec<Arc<Plan>> = Vec::new();
        for node in entries.into_iter().take(MOST_FALLBACKS) {
            let Some(endpoint) = self.endpoint(node) else { continue };
            let (name, model) = (endpoint.provider.name.clone(), endpoint.model(own));
            let is_same = |other: &Plan| other.provider.name == name && other.model == model;
            if is_same(own) {
                w.problem(node.span, Assistant::FallbackOwn { name });
            } else if plans.iter().any(|other| is_same(other)) {
                w.problem(node.span, Assistant::FallbackDuplicate { name });
            } else {
                let plan = self.plan_at(node, &endpoint, top, own);
                self.left_out(node, own, &plan, toolbox);
                plans.push(Arc::new(plan));
            }
        }
        plans
    }

    /// `PROVIDER`, `PROVIDER/MODEL`, or a map.
    fn endpoint(&self, node: &'a Node) -> Option<Endpoint<'a>> {
        if let Kind::Map(_) = &node.kind {
            let map = self.written.map(node, "fallback")?;
            if !map.has("provider") {
                self.written.problem(node.span, Assistant::FallbackEmpty);
            }
            let provider = map.take("provider").and_then(|node| self.provider_named(node));
            let named = |provider: &'a Arc<Provider>| Endpoint {
                provider,
                model: self.model(&map, provider),
                voice: self.voice(&map, provider),
            };
            let endpoint = provider.map(named);
            if endpoint.is_some() {
                map.finish();
            }
            return endpoint;
        }
        let text = self.written.text(node, "fallback")?;
        let (name, model) = match text.trim().split_once('/') {
            Some((name, model)) => (name.trim(), Some(model.trim().to_owned())),
            None => (text.trim(), None),
        };
        let providers = self.around.providers;
        let Some(provider) = providers.iter().find(|provider| provider.name == name) else {
            // A model in place of its provider.
            let of_model = providers.iter().find(|provider| provider.model(name).is_some());
            let suggestion = match of_model {
                Some(provider) => {
                    let whole = format!("{}/{name}", provider.name);
                    Suggestion::new(&whole, [whole.as_str()])
                }
                None => Suggestion::new(name, providers.iter().map(|provider| provider.name.as_str())),
            };
            self.written.problem(node.span, Assistant::ProviderUnknown { name: shown(node), suggestion });
            return None;
        };
        if let Some(model) = &model {
            self.known_model(node, model, provider);
        }
        Some(Endpoint { provider, model, voice: None })
    }

    /// The assistant's own plan with another provider. What this one cannot do is left out.
    fn plan_at(&self, node: &Node, endpoint: &Endpoint<'_>, top: &Fields<'a>, own: &Plan) -> Plan {
        let (provider, model) = (endpoint.provider.clone(), endpoint.model(own));
        let voice = endpoint.voice.clone().unwrap_or_else(|| self.same_voice(node, &provider, top, own));
        self.written.quietly(|| {
            let mut transcription = self.transcription(
                top,
                &provider,
                own.language.as_ref().filter(|_| own.languages.is_empty()),
            );
            if let Some(transcription) = &mut transcription
                && !provider.has_transcriber(&transcription.model)
            {
                transcription.model = provider.default_transcriber().unwrap_or_default().to_owned();
            }
            Plan {
                temperature: self.temperature(top, &provider),
                speed: self.speed(top, &provider),
                reasoning: self.reasoning(top, &provider, &model),
                turn_taking: self.turn_taking(top, &provider),
                after_call: own.after_call.clone().filter(|_| provider.abilities.forms),
                transcription,
                provider,
                model,
                voice,
                ..own.clone()
            }
        })
    }

    /// The assistant's own voice, if the provider may have it.
    fn same_voice(&self, node: &Node, provider: &Provider, top: &Fields<'a>, own: &Plan) -> String {
        if provider.has_voice(&own.voice) {
            return own.voice.clone();
        }
        let default = provider.default_voice().to_owned();
        let voice = top.take("voice").map_or(own.voice.clone(), shown);
        let (provider, own) = (provider.name.clone(), default.clone());
        self.written.problem(node.span, Assistant::FallbackVoice { provider, voice, own });
        default
    }

    /// Reports which keys of the file have no effect at a fallback.
    fn left_out(&self, node: &Node, own: &Plan, plan: &Plan, toolbox: &Toolbox) {
        let is_hosted = |home: &Home| matches!(home, Home::Provider(_)) && !plan.provider.hosts_mcp();
        let servers = toolbox.servers.iter().filter(|server| is_hosted(&server.home));
        let keys = [
            ("temperature", own.temperature.is_some() && plan.temperature.is_none()),
            ("speed", own.speed.is_some() && plan.speed.is_none()),
            ("reasoning", own.reasoning.is_some() && plan.reasoning.is_none()),
            ("after_call", own.after_call.is_some() && plan.after_call.is_none()),
            ("turn_taking.detection", own.turn_taking.detection.kind() != plan.turn_taking.detection.kind()),
        ];
        let keys = keys.into_iter().filter(|(_, is_lost)| *is_lost).map(|(key, _)| key.to_owned());
        let keys: Vec<String> = keys.chain(servers.map(|server| format!("mcp.{}", server.name))).collect();
        if !keys.is_empty() {
            let (provider, keys) = (plan.provider.name.clone(), problem::list(&keys));
            self.written.problem(node.span, Assistant::FallbackWithout { provider, keys });
        }
    }
}
