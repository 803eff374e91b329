//! The keys in which two versions of an assistant differ: the log names them after an edit.

use std::sync::Arc;

use super::Assistant;
use crate::assistant::plan::Plan;
use crate::assistant::prompt::Subject;
use crate::assistant::toolbox::Toolbox;

impl Assistant {
    /// The top-level keys in which the other differs. Empty for equal ones.
    pub(in crate::assistant) fn changed_keys(&self, other: &Assistant) -> Vec<&'static str> {
        // Every field is named, so that a new one cannot be forgotten.
        let Assistant {
            subject: Subject { name: _, description, zone, words: _, callers, variables },
            claims,
            rest,
            instructions,
            fragments,
            toolbox: Toolbox { servers, functions, control },
            gate,
            plan,
        } = self;
        let Plan {
            assistant: _,
            version: _,
            test: _,
            language,
            languages,
            vocabulary,
            // Of the language and the time zone.
            reader: _,
            provider,
            model,
            voice,
            speed,
            temperature,
            reasoning,
            instructions: _,
            greeting,
            turn_taking,
            dtmf,
            transcription,
            tools: _,
            hosted: _,
            limits,
            busy,
            busy_dial,
            on_failure,
            sounds,
            hold,
            record,
            recording_notice,
            notify,
            after_call,
            fallback,
        } = plan;
        let same = [
            ("description", *description == other.subject.description),
            ("numbers", *claims == other.claims && *rest == other.rest),
            ("provider", *provider == other.plan.provider),
            ("model", *model == other.plan.model),
            ("voice", *voice == other.plan.voice),
            ("speed", *speed == other.plan.speed),
            ("temperature", *temperature == other.plan.temperature),
            ("reasoning", *reasoning == other.plan.reasoning),
            ("language", *language == other.plan.language),
            ("languages", *languages == other.plan.languages),
            ("vocabulary", *vocabulary == other.plan.vocabulary),
            ("timezone", *zone == other.subject.zone),
            ("callers", *callers == other.subject.callers),
            ("variables", *variables == other.subject.variables),
            ("instructions", *instructions == other.instructions),
            ("fragments", *fragments == other.fragments),
            ("record", *record == other.plan.record),
            ("recording_notice", *recording_notice == other.plan.recording_notice),
            ("notify", *notify == other.plan.notify),
            ("after_call", *after_call == other.plan.after_call),
            ("mcp", *servers == other.toolbox.servers),
            ("functions", *functions == other.toolbox.functions),
            ("greeting", *greeting == other.plan.greeting),
            ("turn_taking", *turn_taking == other.plan.turn_taking),
            ("dtmf", *dtmf == other.plan.dtmf),
            ("transcription", *transcription == other.plan.transcription),
            ("call_control", *control == other.toolbox.control),
            ("limits", *limits == other.plan.limits && gate.same_limits(&other.gate)),
            ("block", gate.block == other.gate.block),
            ("busy", *busy == other.plan.busy && *busy_dial == other.plan.busy_dial),
            ("on_failure", *on_failure == other.plan.on_failure),
            ("sounds", *sounds == other.plan.sounds),
            ("hold", *hold == other.plan.hold),
            ("fallback", same_endpoints(fallback, &other.plan.fallback)),
        ];
        same.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect()
    }
}

/// Whether the fallbacks are the same providers, models and voices. The rest follows from the other keys.
fn same_endpoints(some: &[Arc<Plan>], others: &[Arc<Plan>]) -> bool {
    let endpoint = |plan: &Arc<Plan>| (plan.provider.clone(), plan.model.clone(), plan.voice.clone());
    some.iter().map(endpoint).eq(others.iter().map(endpoint))
}
