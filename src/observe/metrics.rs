//! The metrics. Labels come from closed lists: an assistant's name, a code.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::metrics::{Counter, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::assistant::Roster;
use crate::call::{Anomaly, Cause, EndReason, Tally};
use crate::notice::Via;

const SECONDS: [f64; 12] = [0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0];

/// One metric, for `# HELP` and for `docs/metrics.md`.
struct Metric {
    name: &'static str,
    kind: Kind,
    labels: &'static str,
    meaning: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

const fn metric(name: &'static str, kind: Kind, labels: &'static str, meaning: &'static str) -> Metric {
    Metric { name, kind, labels, meaning }
}

/// Every metric.
const METRICS: [Metric; 21] = {
    use Kind::{Counter, Gauge, Histogram};
    [
        metric("switchboard_calls_active", Gauge, "", "Calls that ring or are in progress"),
        metric("switchboard_calls_total", Counter, "assistant, reason", "Calls that ended"),
        metric(
            "switchboard_first_word_seconds",
            Histogram,
            "",
            "Start of the stream to the first audio sent",
        ),
        metric(
            "switchboard_turn_seconds",
            Histogram,
            "",
            "End of the caller's turn to the first audio of the answer",
        ),
        metric(
            "switchboard_interruptions_total",
            Counter,
            "assistant",
            "Times that a caller talked over the assistant",
        ),
        metric("switchboard_tokens_total", Counter, "kind", "The model's tokens: in, out"),
        metric(
            "switchboard_tool_seconds",
            Histogram,
            "outcome",
            "How long a tool took: ok, timeout, stopped, or why it failed",
        ),
        metric(
            "switchboard_messages_total",
            Counter,
            "what",
            "Messages that callers left: taken; delivered, given_up (each way to the owner)",
        ),
        metric(
            "switchboard_deliveries_total",
            Counter,
            "via, outcome",
            "Attempts to deliver messages, notifications, forms and alerts by email, sms, webhook, file: delivered, failed \
             (tried again), given_up, unclear (a text message that may have been sent, and is not sent again)",
        ),
        metric(
            "switchboard_records_total",
            Counter,
            "outcome",
            "Records of calls: written, spilled (to a file, while the database was gone), dropped (for want of room, or \
             refused by the database)",
        ),
        metric(
            "switchboard_recordings_total",
            Counter,
            "outcome",
            "Recordings: complete, incomplete (the disk was slow or full), failed (no file); uploaded, not_uploaded (a try failed)",
        ),
        metric(
            "switchboard_forms_total",
            Counter,
            "outcome",
            "Forms after calls: ok, skipped (nothing was said, or the provider cannot), invalid (it did not fit twice), late, failed, lost",
        ),
        metric("switchboard_anomalies_total", Counter, "code", "Unexpected events that were handled"),
        metric("switchboard_refusals_total", Counter, "layer, why", "Requests refused"),
        metric(
            "switchboard_reloads_total",
            Counter,
            "outcome",
            "Edits: applied (the start included), rejected (has errors), fixed (the errors are gone, and nothing else changed)",
        ),
        metric("switchboard_roster_problems", Gauge, "", "Errors of the rejected edit"),
        metric(
            "switchboard_reload_last_success_timestamp_seconds",
            Gauge,
            "",
            "When the assistants in force were loaded",
        ),
        metric(
            "switchboard_provider_up",
            Gauge,
            "provider",
            "1: calls begin at this provider; 0: it failed several times in a row, and is tried until it works",
        ),
        metric(
            "switchboard_reconnects_total",
            Counter,
            "cause, outcome",
            "Sessions of a model that were to replace another in a call: ok, failed",
        ),
        metric(
            "switchboard_silence_seconds",
            Histogram,
            "",
            "The longest silence of each call while the assistant owed something",
        ),
        metric(
            "switchboard_cost_dollars_total",
            Counter,
            "assistant",
            "What calls that ended cost, by the price table: models, transcription and the carrier's estimate",
        ),
    ]
};

/// Why requests are refused: layer, why, and what that means.
const REFUSALS: [(&str, &str, &str); 28] = [
    ("signature", "signature_missing", "not from Twilio"),
    ("signature", "signature_wrong", "not from Twilio, or PUBLIC_URL or TWILIO_AUTH_TOKEN is wrong"),
    ("signature", "signature_key", "signed with a shared key that TWILIO_SHARED_KEYS lacks"),
    ("webhook", "repeated_parameter", "a parameter comes twice"),
    ("webhook", "glued_parameter", "a parameter's value is part of its name, as in `CallStatuscompleted=`"),
    ("webhook", "incomplete", "no valid CallSid or CallStatus"),
    ("admission", "busy", "MAX_CALLS calls are in progress"),
    ("admission", "blocked", "the caller is in `block`"),
    ("admission", "limit_caller", "the caller has called too often: `limits.calls_per_caller`"),
    ("admission", "limit_calls", "the assistant has as many calls as `limits.calls`"),
    ("admission", "limit_cost", "the day has cost as much as `limits.cost_per_day`"),
    ("admission", "draining", "the server is being stopped"),
    ("admission", "no_assistant", "no assistant answers the number"),
    ("admission", "replayed", "a webhook for a call that is in progress or over"),
    ("ticket", "ticket_unknown", "forged, of another token, or forgotten in a restart"),
    ("ticket", "ticket_foreign", "issued by another machine"),
    ("ticket", "ticket_used", "it opened a stream already"),
    ("ticket", "ticket_old", "older than a minute"),
    ("ticket", "ticket_unsigned", "issued by another machine, and the stream has no signature"),
    ("ticket", "draining", "issued by another machine; this one is being stopped"),
    ("ticket", "busy", "issued by another machine; this one is full"),
    ("stream", "not_an_upgrade", "a proxy in front strips the upgrade"),
    ("stream", "no_start", "no `start` within 5 s"),
    ("stream", "wrong_call", "`start` names another call"),
    ("stream", "wrong_audio", "not 8 kHz μ-law"),
    ("stream", "closed_before_start", "closed before `start`"),
    ("stream", "twilio_error", "Twilio reports that a stream failed"),
    ("metrics", "token", "`/metrics` without METRICS_TOKEN"),
];

/// The outcomes of a reload, the kinds of tokens, and what happens to a recording and to a message.
const OUTCOMES: [&str; 3] = ["applied", "rejected", "fixed"];
const TOKENS: [&str; 2] = ["in", "out"];
const RECORDINGS: [&str; 5] = ["complete", "incomplete", "failed", "uploaded", "not_uploaded"];
/// What becomes of a form after a call.
const FORMS: [&str; 6] = ["ok", "skipped", "invalid", "late", "failed", "lost"];
const MESSAGES: [&str; 3] = ["taken", "delivered", "given_up"];
const DELIVERIES: [&str; 4] = ["delivered", "failed", "given_up", "unclear"];
const RECORDS: [&str; 3] = ["written", "spilled", "dropped"];

/// Why a session is replaced: `cause`, and what that means.
const RECONNECTS: [(Cause, &str); 6] = [
    (Cause::Lost, "the connection broke, or the provider closed it"),
    (Cause::Stalled, "the provider gave no sign of life, or no sound"),
    (Cause::Deaf, "the caller spoke, and the model did not notice"),
    (Cause::Failed, "responses were refused, failed again and again, or came in writing"),
    (Cause::Renewal, "the session was going to be too old"),
    (Cause::Stream, "the phone's stream broke and came back into the same session"),
];

/// Starts counting for the whole process. The handle renders `/metrics`.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for metric in METRICS.iter().filter(|metric| metric.kind == Kind::Histogram) {
        builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), &SECONDS)?;
    }
    let handle = builder.install_recorder()?;
    describe();
    begin();
    Ok(handle)
}

/// The page for Prometheus. A counter of the library counts in whole numbers, so dollars are counted by a gauge.
pub fn rendered(handle: &PrometheusHandle) -> String {
    const AS_GAUGE: &str = "# TYPE switchboard_cost_dollars_total gauge";
    const AS_COUNTER: &str = "# TYPE switchboard_cost_dollars_total counter";
    handle.render().replace(AS_GAUGE, AS_COUNTER)
}

fn describe() {
    for Metric { name, kind, meaning, .. } in METRICS {
        match kind {
            Kind::Counter => describe_counter!(name, meaning),
            Kind::Gauge => describe_gauge!(name, meaning),
            Kind::Histogram => describe_histogram!(name, meaning),
        }
    }
}

/// Every metric exists from the start, so that a first event is an increase. Those of assistants follow with the roster.
fn begin() {
    gauge!("switchboard_calls_active").set(0.0);
    gauge!("switchboard_roster_problems").set(0.0);
    gauge!("switchboard_reload_last_success_timestamp_seconds").set(0.0);
    for anomaly in Anomaly::ALL {
        counter!("switchboard_anomalies_total", "code" => anomaly.code()).increment(0);
    }
    for (layer, why, _) in REFUSALS {
        counter!("switchboard_refusals_total", "layer" => layer, "why" => why).increment(0);
    }
    for outcome in OUTCOMES {
        counter!("switchboard_reloads_total", "outcome" => outcome).increment(0);
    }
    for kind in TOKENS {
        counter!("switchboard_tokens_total", "kind" => kind).increment(0);
    }
    for (cause, _) in RECONNECTS {
        for is_ok in [true, false] {
            reconnects(cause, is_ok).increment(0);
        }
    }
    for outcome in RECORDS {
        records(outcome, 0);
    }
    for outcome in RECORDINGS {
        recording_counter(outcome).increment(0);
    }
    for outcome in FORMS {
        form_counter(outcome).increment(0);
    }
    for what in MESSAGES {
        counter!("switchboard_messages_total", "what" => what).increment(0);
    }
    for via in Via::ALL {
        for outcome in DELIVERIES {
            deliveries(via, outcome).increment(0);
        }
    }
    // A histogram exists once it is named.
    let _ = (
        histogram!("switchboard_first_word_seconds"),
        histogram!("switchboard_turn_seconds"),
        histogram!("switchboard_silence_seconds"),
        histogram!("switchboard_tool_seconds", "outcome" => "ok"),
    );
}

/// `docs/metrics.md`.
pub fn page() -> String {
    let mut page = String::from(HEAD);
    for Metric { name, kind, labels, meaning } in METRICS {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> =
            labels.split(", ").filter(|label| !label.is_empty()).map(|label| format!("`{label}`")).collect();
        let _ = writeln!(page, "| `{name}` | {kind} | {} | {meaning} |", labels.join(", "));
    }
    page.push_str("\n## Refused requests\n\n| `layer` | `why` | meaning |\n| --- | --- | --- |\n");
    for (layer, why, meaning) in REFUSALS {
        let _ = writeln!(page, "| `{layer}` | `{why}` | {meaning} |");
    }
    page.push_str("\n## Reconnects\n\n| `cause` | meaning |\n| --- | --- |\n");
    for (cause, meaning) in RECONNECTS {
        let cause = cause.code();
        let _ = writeln!(page, "| `{cause}` | {meaning} |");
    }
    let codes = |codes: Vec<&str>| codes.iter().map(|code| format!("`{code}`")).collect::<Vec<_>>().join(" ");
    let reasons = codes(EndReason::ALL.iter().map(|reason| reason.code()).collect());
    let anomalies = codes(Anomaly::ALL.iter().map(|anomaly| anomaly.code()).collect());
    let _ = writeln!(
        page,
        "\n## Codes\n\n`reason`, which [troubleshooting.md](troubleshooting.md#by-the-reason-of-an-ended-call) explains:\n\
         {reasons}\n\n`code` of an anomaly: {anomalies}"
    );
    page
}

const HEAD: &str = "# Metrics

<!-- Made from src/observe/metrics.rs: UPDATE_DOCS=1 cargo nextest run --test schema -->

`/metrics` is for Prometheus: on a port of its own (`METRICS_PORT`), or on the main one with
`Authorization: Bearer $METRICS_TOKEN`. No label is a phone number or a call. Every counter and gauge exists from the
start, with zero; those of an assistant, from when its file is in force.

| metric | kind | labels | meaning |
| --- | --- | --- | --- |
";

pub fn call_ended(assistant: &str, reason: EndReason, tally: &Tally, cost: Option<f64>) {
    counter!("switchboard_calls_total", "assistant" => assistant.to_owned(), "reason" => reason.code())
        .increment(1);
    counter!("switchboard_interruptions_total", "assistant" => assistant.to_owned())
        .increment(u64::from(tally.interruptions));
    gauge!("switchboard_cost_dollars_total", "assistant" => assistant.to_owned())
        .increment(cost.unwrap_or_default());
    // The longest silence of the call while the assistant owed something.
    histogram!("switchboard_silence_seconds").record(tally.silence.as_secs_f64());
    counter!("switchboard_tokens_total", "kind" => "in").increment(tally.tokens_in);
    counter!("switchboard_tokens_total", "kind" => "out").increment(tally.tokens_out);
}

pub fn call_entered() {
    gauge!("switchboard_calls_active").increment(1.0);
}

pub fn call_left() {
    gauge!("switchboard_calls_active").decrement(1.0);
}

/// Counts a refused request: a pair of `REFUSALS`.
pub fn refused(layer: &'static str, why: &'static str) {
    debug_assert!(
        REFUSALS.iter().any(|(known, reason, _)| (*known, *reason) == (layer, why)),
        "{layer}, {why} is not in REFUSALS"
    );
    tracing::debug!(layer, why, "Request refused");
    counter!("switchboard_refusals_total", "layer" => layer, "why" => why).increment(1);
}

/// The time from the stream's start to the first audio.
pub fn first_word(time: Duration) {
    histogram!("switchboard_first_word_seconds").record(time.as_secs_f64());
}

/// The time from the end of the caller's turn to the answer's first audio.
pub fn turn(time: Duration) {
    histogram!("switchboard_turn_seconds").record(time.as_secs_f64());
}

/// Counts a session that was to replace another in a call, and whether it did.
pub fn reconnected(cause: Cause, is_ok: bool) {
    reconnects(cause, is_ok).increment(1);
}

fn reconnects(cause: Cause, is_ok: bool) -> Counter {
    let outcome = if is_ok { "ok" } else { "failed" };
    counter!("switchboard_reconnects_total", "cause" => cause.code(), "outcome" => outcome)
}

/// Whether calls begin at this provider.
pub fn provider_up(provider: &str, is_up: bool) {
    gauge!("switchboard_provider_up", "provider" => provider.to_owned()).set(f64::from(u8::from(is_up)));
}

/// How long a tool took. `outcome` is `ok` or why it failed.
pub fn tool(outcome: &'static str, time: Duration) {
    histogram!("switchboard_tool_seconds", "outcome" => outcome).record(time.as_secs_f64());
}

pub fn anomaly(anomaly: Anomaly) {
    counter!("switchboard_anomalies_total", "code" => anomaly.code()).increment(1);
}

/// Counts a message for the owner: `taken`, `delivered` or `given_up`.
pub fn message(what: &'static str) {
    counter!("switchboard_messages_total", "what" => what).increment(1);
}

/// Counts an attempt to deliver something to an owner: one of `DELIVERIES`.
pub fn delivery(via: Via, outcome: &'static str) {
    deliveries(via, outcome).increment(1);
}

fn deliveries(via: Via, outcome: &'static str) -> Counter {
    counter!("switchboard_deliveries_total", "via" => via.code(), "outcome" => outcome)
}

/// Counts records: `written`, `spilled` or `dropped`.
pub fn records(outcome: &'static str, count: u64) {
    counter!("switchboard_records_total", "outcome" => outcome).increment(count);
}

/// Counts what became of a recording: one of `RECORDINGS`.
pub fn recording(outcome: &'static str) {
    recording_counter(outcome).increment(1);
}

fn recording_counter(outcome: &'static str) -> Counter {
    counter!("switchboard_recordings_total", "outcome" => outcome)
}

/// Counts what became of a form: one of `FORMS`.
pub fn form(outcome: &'static str) {
    debug_assert!(FORMS.contains(&outcome), "{outcome} is not in FORMS");
    form_counter(outcome).increment(1);
}

fn form_counter(outcome: &'static str) -> Counter {
    counter!("switchboard_forms_total", "outcome" => outcome)
}

/// Counts a roster that is in force from now on.
pub fn roster_loaded(roster: &Roster) {
    counter!("switchboard_reloads_total", "outcome" => "applied").increment(1);
    gauge!("switchboard_roster_problems").set(0.0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    gauge!("switchboard_reload_last_success_timestamp_seconds").set(now.as_secs_f64());
    roster.iter().for_each(|assistant| begin_assistant(assistant.name()));
}

fn begin_assistant(name: &str) {
    gauge!("switchboard_cost_dollars_total", "assistant" => name.to_owned()).increment(0.0);
    counter!("switchboard_interruptions_total", "assistant" => name.to_owned()).increment(0);
    for reason in EndReason::ALL {
        let (name, reason) = (name.to_owned(), reason.code());
        counter!("switchboard_calls_total", "assistant" => name, "reason" => reason).increment(0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The names in the code that are metrics.
    fn named(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                named(&path, names);
                continue;
            }
            let Ok(text) = fs::read_to_string(&path) else { continue };
            for kind in ["counter!(", "gauge!(", "histogram!("] {
                let uses = text.split(kind).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"'));
                let uses = uses.filter_map(|rest| Some(rest.split_once('"')?.0));
                let is_name =
                    |name: &&str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                names.extend(uses.filter(is_name).map(str::to_owned));
            }
        }
    }

    #[test]
    fn every_metric_of_the_code_is_in_the_table() {
        let mut names = BTreeSet::new();
        named(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut names);
        let table: BTreeSet<String> = METRICS.iter().map(|metric| metric.name.to_owned()).collect();
        assert_eq!(names, table);
    }

    #[test]
    fn costs_add_up_in_dollars() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        ::metrics::with_local_recorder(&recorder, || {
            begin_assistant("clinic");
            for cost in [Some(0.25), None, Some(0.5)] {
                call_ended("clinic", EndReason::CallerHungUp, &Tally::default(), cost);
            }
        });
        let page = rendered(&handle);
        assert!(page.contains("switchboard_cost_dollars_total{assistant=\"clinic\"} 0.75\n"), "{page}");
        assert!(page.contains("# TYPE switchboard_cost_dollars_total counter\n"), "{page}");
    }

    #[test]
    fn every_metric_exists_with_zero_from_the_start() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        ::metrics::with_local_recorder(&recorder, || {
            describe();
            begin();
            begin_assistant("clinic");
            provider_up("openai", true);
        });
        let page = handle.render();
        for metric in METRICS {
            assert!(page.contains(&format!("# HELP {} ", metric.name)), "{} is not in {page}", metric.name);
        }
        for series in [
            "switchboard_calls_active 0",
            "switchboard_calls_total{assistant=\"clinic\",reason=\"model.lost\"} 0",
            "switchboard_interruptions_total{assistant=\"clinic\"} 0",
            "switchboard_cost_dollars_total{assistant=\"clinic\"} 0",
            "switchboard_refusals_total{layer=\"admission\",why=\"replayed\"} 0",
            "switchboard_refusals_total{layer=\"admission\",why=\"limit_cost\"} 0",
            "switchboard_anomalies_total{code=\"model.error\"} 0",
            "switchboard_reloads_total{outcome=\"rejected\"} 0",
            "switchboard_tokens_total{kind=\"out\"} 0",
            "switchboard_messages_total{what=\"given_up\"} 0",
            "switchboard_deliveries_total{via=\"sms\",outcome=\"unclear\"} 0",
            "switchboard_recordings_total{outcome=\"failed\"} 0",
            "switchboard_forms_total{outcome=\"invalid\"} 0",
            "switchboard_first_word_seconds_count 0",
            "switchboard_silence_seconds_count 0",
            "switchboard_reconnects_total{cause=\"deaf\",outcome=\"failed\"} 0",
            "switchboard_provider_up{provider=\"openai\"} 1",
        ] {
            assert!(page.lines().any(|line| line == series), "`{series}` is not in {page}");
        }
    }
}
