//! The metrics. Labels come from closed lists: an assistant's name, a code.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::call::{Anomaly, EndReason, Tally};

const SECONDS: [f64; 12] = [0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0];

/// Starts counting for the whole process. The handle renders `/metrics`.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let seconds = |name: &str| Matcher::Full(name.to_owned());
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(seconds("switchboard_first_word_seconds"), &SECONDS)?
        .set_buckets_for_metric(seconds("switchboard_turn_seconds"), &SECONDS)?
        .set_buckets_for_metric(seconds("switchboard_tool_seconds"), &SECONDS)?
        .install_recorder()?;
    describe();
    Ok(handle)
}

fn describe() {
    use ::metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("switchboard_calls_total", "Calls that ended, by assistant and reason");
    describe_gauge!("switchboard_calls_active", "Calls that ring or are under way");
    describe_counter!("switchboard_refusals_total", "Requests refused, by layer and why");
    describe_histogram!("switchboard_first_word_seconds", "Stream's start to the first audio sent");
    describe_histogram!("switchboard_turn_seconds", "End of the caller's turn to the answer's first audio");
    describe_histogram!("switchboard_tool_seconds", "How long a tool took, by outcome");
    describe_counter!("switchboard_interruptions_total", "Times the caller talked over the assistant");
    describe_counter!("switchboard_tokens_total", "The model's tokens, by kind");
    describe_counter!(
        "switchboard_reloads_total",
        "Edits of the assistants: applied, rejected (has errors), fixed (equal to the roster in force again)"
    );
    describe_gauge!(
        "switchboard_reload_last_success_timestamp_seconds",
        "When the roster in force was loaded"
    );
    describe_gauge!("switchboard_roster_problems", "Errors of the rejected edit");
    describe_counter!("switchboard_messages_total", "Messages for the owner: taken, delivered, given_up");
    describe_counter!("switchboard_anomalies_total", "Anomalies, by code");
}

pub fn call_ended(assistant: &str, reason: EndReason, tally: &Tally) {
    counter!("switchboard_calls_total", "assistant" => assistant.to_owned(), "reason" => reason.code())
        .increment(1);
    counter!("switchboard_interruptions_total", "assistant" => assistant.to_owned())
        .increment(u64::from(tally.interruptions));
    counter!("switchboard_tokens_total", "kind" => "in").increment(tally.tokens_in);
    counter!("switchboard_tokens_total", "kind" => "out").increment(tally.tokens_out);
}

pub fn call_entered() {
    gauge!("switchboard_calls_active").increment(1.0);
}

pub fn call_left() {
    gauge!("switchboard_calls_active").decrement(1.0);
}

/// Counts a refused request.
pub fn refused(layer: &'static str, why: &'static str) {
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

/// Counts a roster that is in force from now on.
pub fn roster_loaded() {
    counter!("switchboard_reloads_total", "outcome" => "applied").increment(1);
    gauge!("switchboard_roster_problems").set(0.0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    gauge!("switchboard_reload_last_success_timestamp_seconds").set(now.as_secs_f64());
}
