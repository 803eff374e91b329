//! What each end reason means to the assistant's owner: one table for commands, rehearsals and docs.

use std::fmt::Write as _;

/// An end reason in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    pub code: &'static str,
    /// A clause without a full stop, such as `the caller hung up`.
    pub what: &'static str,
    /// What the owner can do about it; empty if there is nothing to do.
    pub advice: &'static str,
    /// The caller did not get what an owner wants callers to get.
    pub is_wrong: bool,
}

/// Every reason with which a record can end.
pub const REASONS: &[Reason] = &[
    fine("caller.hung_up", "the caller hung up"),
    wrong(
        "caller.lost",
        "the connection to the phone was lost, or never came",
        "look up Twilio's code for this call in its console (Monitor, Logs, Errors)",
    ),
    wrong(
        "caller.refused",
        "a stream did not name the call of its ticket, so the server did not accept it",
        "somebody may be trying to get in; watch `switchboard_refusals_total`",
    ),
    fine("assistant.ended", "the assistant said goodbye and ended the call"),
    fine("assistant.transferred", "the assistant transferred the caller, and a person took the call"),
    wrong(
        "limit.silence",
        "nobody spoke for as long as `limits.silence` allows",
        "raise `limits.silence` if callers need time; if they did speak, lower `turn_taking.threshold`",
    ),
    wrong(
        "limit.duration",
        "the call reached the maximum of `limits.call`",
        "raise `limits.call`, or tell the assistant in its instructions to come to an end",
    ),
    wrong(
        "limit.cost",
        "the call cost as much as `limits.cost_per_call` allows",
        "raise `limits.cost_per_call`, or have the assistant ask for less; `switchboard calls show` has the cost by part",
    ),
    wrong(
        "model.unreachable",
        "no session began at the provider, nor at a fallback, within 20 s",
        "check the network with `switchboard doctor`; name a `fallback` provider",
    ),
    wrong(
        "model.refused",
        "the provider refused: key, quota, model, region or policy",
        "check the key with `switchboard doctor`, and the quota on the provider's billing page",
    ),
    wrong(
        "model.misconfigured",
        "the provider rejected the session, even without the optional fields",
        "the log line before `Call ended` names the field; `switchboard show NAME` shows the configuration",
    ),
    wrong(
        "model.stalled",
        "no session gave anything to hear for 20 s",
        "look at the provider's status page; name a `fallback` provider",
    ),
    wrong(
        "model.lost",
        "the connection to the model broke in mid-call, and none took its place",
        "look at the provider's status page; name a `fallback` provider",
    ),
    wrong(
        "model.failed",
        "responses failed again and again: rate limits, or errors of the provider",
        "check the rate limits of the account, and the provider's status page; name a `fallback` provider",
    ),
    wrong(
        "server.draining",
        "the server was stopped, and the call outlived `DRAIN_SECONDS`",
        "raise `DRAIN_SECONDS`, or deploy when few people call",
    ),
    fine("operator.ended", "somebody ended it on purpose"),
    wrong(
        "server.fault",
        "the server had an internal error, or was killed",
        "please report it, with the log lines of this call",
    ),
    wrong(
        "refused.busy",
        "the phone rang while `MAX_CALLS` calls were under way, or as many as `limits.calls` allows",
        "raise `limits.calls` of the assistant if it has one; otherwise raise `MAX_CALLS`, or add machines",
    ),
    wrong(
        "refused.nobody",
        "no assistant answers this number",
        "add the number to `numbers` in an assistant's file; `switchboard who NUMBER` shows who answers it",
    ),
    fine("refused.blocked", "the caller is in `block`, so the call was rejected"),
    wrong(
        "refused.limit",
        "the caller had called too often (`limits.calls_per_caller`), or the day had cost too much \
         (`limits.cost_per_day`)",
        "raise the limit if the caller was welcome; `switchboard_refusals_total` counts which limit it was",
    ),
    wrong(
        "refused.failed",
        "the call could not be prepared, so the caller got the apology of `on_failure`",
        "`switchboard check` and `switchboard show NAME` find out why; the log line of this call has the error",
    ),
];

const fn fine(code: &'static str, what: &'static str) -> Reason {
    Reason { code, what, advice: "", is_wrong: false }
}

const fn wrong(code: &'static str, what: &'static str, advice: &'static str) -> Reason {
    Reason { code, what, advice, is_wrong: true }
}

/// The reason with this code. A record of a newer version may have another one.
pub fn reason(code: &str) -> Option<&'static Reason> {
    REASONS.iter().find(|reason| reason.code == code)
}

/// Whether a text is a code, or the part of codes before the dot.
pub fn is_reason(text: &str) -> bool {
    REASONS.iter().any(|reason| {
        reason.code == text || reason.code.split_once('.').is_some_and(|(first, _)| first == text)
    })
}

/// The table of `docs/troubleshooting.md`.
pub fn reasons_markdown() -> String {
    let mut table = "| reason | what happened | what to do |\n| --- | --- | --- |\n".to_owned();
    for Reason { code, what, advice, .. } in REASONS {
        let _ = writeln!(table, "| `{code}` | {what} | {advice} |");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::EndReason;

    #[test]
    fn every_end_reason_is_in_the_table_once() {
        for reason in EndReason::ALL {
            let found = REASONS.iter().filter(|known| known.code == reason.code()).count();
            assert_eq!(found, 1, "{reason}");
        }
        for known in REASONS {
            let ours = EndReason::ALL.iter().any(|reason| reason.code() == known.code);
            assert!(ours || known.code.starts_with("refused."), "{} is no reason", known.code);
            assert_eq!(known.is_wrong, !known.advice.is_empty(), "{}", known.code);
        }
        for reason in EndReason::ALL.iter().filter(|reason| reason.is_failure()) {
            assert!(super::reason(reason.code()).unwrap().is_wrong, "{reason}");
        }
    }

    #[test]
    fn a_reason_is_a_code_or_its_first_half() {
        for (text, expected) in
            [("model.lost", true), ("model", true), ("mod", false), ("lost", false), ("", false)]
        {
            assert_eq!(is_reason(text), expected, "{text}");
        }
    }
}
