//! The log line and metrics at the end of a call.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::call::{Anomaly, EndReason, Tally};
use crate::id::CallSid;
use crate::observe::metrics;
use crate::provider::{Class, Failure};

/// A call that is over.
#[derive(Debug)]
pub struct CallEnded<'a> {
    pub call: &'a CallSid,
    pub assistant: &'a str,
    /// It counts in no metric.
    pub test: bool,
    pub reason: EndReason,
    /// Since the ring.
    pub lasted: Duration,
    pub tally: &'a Tally,
    pub anomalies: &'a BTreeMap<Anomaly, u64>,
    /// In dollars; `None` if it is not known.
    pub cost: Option<f64>,
}

impl CallEnded<'_> {
    pub fn emit(&self) {
        let ms = |time: Option<Duration>| time.map(|time| time.as_millis() as u64);
        let anomalies: Vec<String> =
            self.anomalies.iter().map(|(anomaly, count)| format!("{}={count}", anomaly.code())).collect();
        let failure = self.tally.failure.as_ref();
        tracing::info!(
            call = %self.call,
            assistant = self.assistant,
            test = self.test.then_some(true),
            reason = %self.reason,
            class = failure.and_then(Failure::class).map(Class::code),
            code = failure.and_then(|failure| failure.code.as_deref()),
            status = failure.and_then(|failure| failure.status),
            close = failure.and_then(|failure| failure.close),
            close_reason = failure.and_then(|failure| failure.reason.as_deref()),
            seconds = self.lasted.as_millis() as f64 / 1000.0,
            turns = self.tally.turns,
            interruptions = self.tally.interruptions,
            first_word_ms = ms(self.tally.first_word),
            turn_ms_p50 = ms(self.tally.turn_median()),
            turn_ms_max = ms(self.tally.turn_max()),
            silence_ms_max = self.tally.silence.as_millis() as u64,
            tokens_in = self.tally.tokens_in,
            tokens_out = self.tally.tokens_out,
            cost = self.cost,
            anomalies = (!anomalies.is_empty()).then(|| anomalies.join(" ")),
            "Call ended"
        );
        if !self.test {
            metrics::call_ended(self.assistant, self.reason, self.tally, self.cost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_names_what_the_model_failed_with() {
        let failure = Failure::of_close(Some(3000), "invalid_request_error.invalid_api_key");
        let failed = Failure::of_error(Some("server_error"), None, None);
        let call = CallSid::parse("CA00000000000000000000000000000001").unwrap();
        let log = tempfile::NamedTempFile::new().unwrap();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(log.reopen().unwrap()).finish();
        tracing::subscriber::with_default(subscriber, || {
            for failure in [Some(failure), Some(failed), None] {
                let mut tally = Tally::default();
                tally.failure = failure;
                CallEnded {
                    call: &call,
                    test: false,
                    assistant: "clinic",
                    reason: EndReason::ModelRefused,
                    lasted: Duration::ZERO,
                    tally: &tally,
                    anomalies: &BTreeMap::new(),
                    cost: None,
                }
                .emit();
            }
        });
        let text = std::fs::read_to_string(log.path()).unwrap();
        let fields = ["class=", "code=", "close=", "close_reason="];
        let found: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split(' ').filter(|word| fields.iter().any(|it| word.starts_with(it))).collect())
            .collect();
        let closed =
            ["class=\"failover\"", "close=3000", "close_reason=\"invalid_request_error.invalid_api_key\""];
        let failed = ["class=\"transient\"", "code=\"server_error\""];
        assert_eq!(found, [&closed[..], &failed[..], &[]], "{text}");
    }
}
