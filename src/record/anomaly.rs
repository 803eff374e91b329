//! What each anomaly means to the assistant's owner.

/// An anomaly in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    pub code: &'static str,
    /// A clause without a full stop.
    pub what: &'static str,
    /// What to do about it; empty if the caller notices nothing of it.
    pub advice: &'static str,
}

/// A bug in between, or of ours.
const REPORT: &str = "please report it, with the log lines of this call";
const STATUS: &str = "look at the provider's status page; name a `fallback` provider";
const CPU: &str = "the machine or its network was too slow: give it more CPU, or lower `MAX_CALLS`";

pub const ANOMALIES: &[Meaning] = &[
    heard("caller.bad_frame", "the phone's stream sent something unreadable", REPORT),
    heard("caller.binary_frame", "the phone's stream sent something unreadable", REPORT),
    silent("caller.unknown_event", "Twilio sent an event that this version does not know"),
    silent("caller.wrong_stream", "Twilio sent a message of another stream"),
    heard("caller.bad_audio", "the caller's audio was not what was agreed", REPORT),
    silent("caller.unknown_mark", "Twilio confirmed audio that was not sent"),
    heard("caller.stalled", "the phone's connection took no audio for a while", CPU),
    heard("caller.audio_dropped", "some of the caller's words were lost before a model could take them", CPU),
    silent("model.bad_event", "the model sent an event that is not valid"),
    silent("model.unknown_event", "the model sent an event that this version does not know"),
    heard("model.bad_audio", "the model sent audio that is not valid", REPORT),
    heard(
        "model.audio_dropped",
        "the model sent more audio than a call keeps, so the end of it was not heard",
        "ask for shorter answers in the instructions",
    ),
    silent("model.error", "the model rejected a message"),
    silent("model.late_audio", "the model sent audio of an answer that was taken back"),
    heard("model.failed_response", "a response failed or broke off, and was asked for again", STATUS),
    heard(
        "model.slow",
        "an answer took so long that the caller was asked to wait",
        "choose a region near the model, or a faster model; `reasoning: low` if the model reasons",
    ),
    heard(
        "model.unknown_tool",
        "the model called a tool that does not exist",
        "name the tools in the instructions exactly as `switchboard show NAME` lists them",
    ),
    heard(
        "model.bad_arguments",
        "the model called a tool with arguments that do not fit",
        "describe the tool's parameters more clearly in its schema",
    ),
    heard(
        "model.wrote_call",
        "the model spoke what looks like a tool call instead of making one",
        "do not write calls as code in the instructions; say in words when to use a tool",
    ),
    heard("tool.timeout", "a tool took longer than it may", "make the tool faster, or raise its `timeout`"),
    heard(
        "tool.limit",
        "the model called a tool more often than one call allows",
        "raise the limit, or say in the instructions when the tool is to be used",
    ),
    silent("tool.late", "a tool finished after it was stopped"),
    heard(
        "model.plainer_configuration",
        "the model rejected optional settings, and the call went on without them",
        "the log line of this call names the field; take it out of the file, or choose a model that has it",
    ),
    silent("model.retried", "a session was opened at the second attempt"),
    heard(
        "model.request_delayed",
        "too many responses were asked for in a short time, so one had to wait",
        "if it happens often, look for a tool or a noise that makes the assistant answer again and again",
    ),
    heard(
        "server.stood_still",
        "the server did not run for a while",
        "do not suspend the machine; give it more CPU",
    ),
];

const fn heard(code: &'static str, what: &'static str, advice: &'static str) -> Meaning {
    Meaning { code, what, advice }
}

const fn silent(code: &'static str, what: &'static str) -> Meaning {
    Meaning { code, what, advice: "" }
}

/// The anomaly with this code. A record of a newer version may have another one.
pub fn anomaly(code: &str) -> Option<&'static Meaning> {
    ANOMALIES.iter().find(|known| known.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Anomaly;

    #[test]
    fn every_anomaly_is_in_the_table_once() {
        for anomaly in Anomaly::ALL {
            let found = ANOMALIES.iter().filter(|known| known.code == anomaly.code()).count();
            assert_eq!(found, 1, "{}", anomaly.code());
        }
        assert_eq!(ANOMALIES.len(), Anomaly::ALL.len());
    }
}
