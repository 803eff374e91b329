//! In which keys two versions of an assistant differ: what the log tells of an edit.

use super::Assistant;
use crate::assistant::prompt::Subject;
use crate::assistant::toolbox::Toolbox;

impl Assistant {
    /// The top-level keys in which the other differs. Empty for equal ones.
    pub(in crate::assistant) fn changed_keys(&self, other: &Assistant) -> Vec<&'static str> {
        // Every field is named, so that a new one cannot be forgotten.
        let Assistant {
            subject: Subject { name: _, description, zone, callers, variables },
            claims,
            rest,
            provider,
            model,
            voice,
            speed,
            temperature,
            reasoning,
            instructions,
            fragments,
            toolbox: Toolbox { servers, functions, control },
            first,
            say,
            clip,
            interruptible,
            turn_taking,
            transcription,
            limits,
            busy,
            on_failure,
        } = self;
        let same = [
            ("description", *description == other.subject.description),
            ("numbers", *claims == other.claims && *rest == other.rest),
            ("provider", *provider == other.provider),
            ("model", *model == other.model),
            ("voice", *voice == other.voice),
            ("speed", *speed == other.speed),
            ("temperature", *temperature == other.temperature),
            ("reasoning", *reasoning == other.reasoning),
            ("timezone", *zone == other.subject.zone),
            ("callers", *callers == other.subject.callers),
            ("variables", *variables == other.subject.variables),
            ("instructions", *instructions == other.instructions),
            ("fragments", *fragments == other.fragments),
            ("mcp", *servers == other.toolbox.servers),
            ("functions", *functions == other.toolbox.functions),
            (
                "greeting",
                *first == other.first
                    && *say == other.say
                    && *clip == other.clip
                    && *interruptible == other.interruptible,
            ),
            ("turn_taking", *turn_taking == other.turn_taking),
            ("transcription", *transcription == other.transcription),
            ("call_control", *control == other.toolbox.control),
            ("limits", *limits == other.limits),
            ("busy", *busy == other.busy),
            ("on_failure", *on_failure == other.on_failure),
        ];
        same.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect()
    }
}
