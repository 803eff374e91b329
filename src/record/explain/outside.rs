//! What went wrong around the conversation: its end, tools, reconnects, transfers, cost.

use std::collections::BTreeMap;

use super::super::print::{bare, cause_in_words, seconds};
use super::super::{CallRecord, Happened, ToolCall, anomaly, print, reason};
use super::{Evidence, Finding, sentence};
use crate::problem::counted;

/// A tool slower than this, in milliseconds, keeps the caller waiting: the assistant says so only after 1.5 s.
const SLOW_TOOL: u64 = 3_000;
/// More than this per minute, in dollars, is unusual: the large models cost from 5 to 15 cents.
const DEAR_MINUTE: f64 = 0.40;
/// Cheaper calls are not worth a word.
const CHEAP: f64 = 0.20;
/// Carriers count a begun minute as one, so a short call is not dear by its minute.
const MINUTE: f64 = 60.0;
/// Outcomes of tools that are nobody's failure: it worked, or the caller spoke.
const FINE: [&str; 2] = ["ok", "stopped"];

pub(super) fn broken_off(record: &CallRecord) -> Option<Finding> {
    record.broken_off.then(|| {
        Finding::new(
            "record.broken_off",
            format!("The server was gone {:.1} s after the ring, while the call was under way.", record.seconds),
            Vec::new(),
            "It was killed, it crashed, or its machine was stopped: see the last log lines before, and give the server \
             `DRAIN_SECONDS` to end its calls.",
        )
    })
}

/// The end of the call, if it is one that no owner wants.
pub(super) fn ended(record: &CallRecord) -> Option<Finding> {
    // A record that breaks off has no end of its own.
    let known = reason(record.reason.as_deref().filter(|_| !record.broken_off)?)?;
    known.is_wrong.then(|| {
        let what = sentence(&format!("the call ended because {}", known.what));
        Finding::new(known.code, what, Vec::new(), sentence(known.advice))
    })
}

/// The tools that failed, by name.
pub(super) fn tools(record: &CallRecord) -> Vec<Finding> {
    let mut failed: BTreeMap<&str, Vec<&ToolCall>> = BTreeMap::new();
    for tool in record.tools.iter().filter(|tool| !FINE.contains(&tool.outcome.as_str())) {
        failed.entry(&tool.name).or_default().push(tool);
    }
    let finding = |(name, calls): (&str, Vec<&ToolCall>)| {
        let all = record.tools.iter().filter(|tool| tool.name == name).count();
        let what = format!("The tool `{name}` failed in {} of {}.", calls.len(), counted(all, "call"));
        let evidence = calls
            .iter()
            .map(|call| Evidence::at(call.start_ms, format!("{} after {}", call.outcome, seconds(call.ms))));
        let advice = match calls.iter().all(|call| call.outcome == "timeout") {
            true => "Make the tool faster, or raise its `timeout`.",
            false => {
                "`switchboard doctor` tries the tools' servers, and `switchboard show NAME` lists tools that are off. The \
                 file's `record: { tools: true }` keeps arguments and results of the next calls."
            }
        };
        Finding::new("tool.failed", what, evidence.collect(), advice)
    };
    failed.into_iter().map(finding).collect()
}

pub(super) fn slow_tools(record: &CallRecord) -> Option<Finding> {
    let slow = record.tools.iter().filter(|tool| tool.ms > SLOW_TOOL && tool.outcome == "ok");
    let slow: Vec<Evidence> = slow
        .map(|tool| Evidence::at(tool.start_ms, format!("`{}` took {}", tool.name, seconds(tool.ms))))
        .collect();
    if slow.is_empty() {
        return None;
    }
    Some(Finding::new(
        "tool.slow",
        format!(
            "A tool kept the caller waiting for more than {} ({}).",
            seconds(SLOW_TOOL),
            counted(slow.len(), "time")
        ),
        slow,
        "Make the tool faster, or let it answer less. `filler_after` says when the assistant asks the caller to wait.",
    ))
}

/// The sessions that were replaced. A renewal without a silence is the ordinary way of a long call.
pub(super) fn reconnects(record: &CallRecord) -> Vec<Finding> {
    let mut worked = Vec::new();
    let mut failed = Vec::new();
    for event in &record.events {
        let Happened::Reconnected(reconnect) = &event.what else { continue };
        let (why, silence) = (cause_in_words(&reconnect.cause), seconds(reconnect.silence_ms));
        let evidence = Evidence::at(event.at_ms, format!("{why}; {silence} of silence"));
        match reconnect.worked {
            true if bare(&reconnect.cause) == "renewal" && reconnect.silence_ms == 0 => {}
            true => worked.push(evidence),
            false => failed.push(evidence),
        }
    }
    const ADVICE: &str = "Look at the provider's status page. A `fallback` provider in the file takes over when the first one fails.";
    let mut findings = Vec::new();
    if !failed.is_empty() {
        let what = format!(
            "The conversation broke, and could not go on at once ({}).",
            counted(failed.len(), "time")
        );
        findings.push(Finding::new("reconnect.failed", what, failed, ADVICE));
    }
    if !worked.is_empty() {
        let what =
            format!("The conversation was interrupted and went on ({}).", counted(worked.len(), "time"));
        findings.push(Finding::new("reconnected", what, worked, ADVICE));
    }
    findings
}

pub(super) fn transfers(record: &CallRecord) -> Option<Finding> {
    let failed = record.events.iter().filter_map(|event| match &event.what {
        Happened::Transferred(transfer) if transfer.outcome != "sent" => {
            Some(Evidence::at(event.at_ms, format!("`{}`: {}", transfer.target, transfer.outcome)))
        }
        _ => None,
    });
    let failed: Vec<Evidence> = failed.collect();
    if failed.is_empty() {
        return None;
    }
    Some(Finding::new(
        "transfer.failed",
        format!("Nobody took the call that was transferred ({}).", counted(failed.len(), "time")),
        failed,
        "If nobody answers, raise `ring_for`, or let the assistant take a message (`call_control.take_message`). With \
         `unreachable`, check the number in `transfer_to`.",
    ))
}

/// The anomalies that the caller notices, each with the times that are known.
pub(super) fn anomalies(record: &CallRecord) -> Vec<Finding> {
    let finding = |(code, count): (&String, &u64)| {
        // What a newer version counts may matter.
        let known = anomaly(code);
        if known.is_some_and(|known| known.advice.is_empty()) || is_of_a_tool(record, code) {
            return None;
        }
        let evidence = record.events.iter().filter_map(|event| match &event.what {
            Happened::Anomaly { code: other } if other == code => {
                Some(Evidence::at(event.at_ms, code.clone()))
            }
            _ => None,
        });
        let what =
            known.map_or("something odd was counted, which this version does not know", |known| known.what);
        let times = counted(usize::try_from(*count).unwrap_or(usize::MAX), "time");
        let advice = known.map_or(String::new(), |known| sentence(known.advice));
        Some(Finding::new(code, sentence(&format!("{what} ({times})")), evidence.collect(), advice))
    };
    record.anomalies.iter().filter_map(finding).collect()
}

/// Whether a tool call says the same as the anomaly.
fn is_of_a_tool(record: &CallRecord, code: &str) -> bool {
    let outcome = code.strip_prefix("tool.");
    outcome.is_some_and(|outcome| record.tools.iter().any(|tool| tool.outcome == outcome))
}

/// What nobody knows the price of.
pub(super) fn unpriced(record: &CallRecord) -> Option<Finding> {
    if record.unpriced.is_empty() {
        return None;
    }
    let models = record.unpriced.join(", ");
    Some(Finding::new(
        "cost.unknown",
        format!("The cost is unknown, because there is no price for {models}."),
        Vec::new(),
        "Write its prices under `prices` in switchboard.yaml.",
    ))
}

pub(super) fn cost(record: &CallRecord) -> Option<Finding> {
    let cost = record.cost.as_ref()?;
    let minutes = record.seconds.max(MINUTE) / 60.0;
    let per_minute = cost.total / minutes;
    if cost.total < CHEAP || per_minute < DEAR_MINUTE {
        return None;
    }
    let kinds = &record.tokens.kinds;
    let evidence = [
        print::cost(cost),
        format!(
            "{} tokens in, {} of them cached; {} out",
            record.tokens.taken,
            kinds.text_in_cached + kinds.audio_in_cached + kinds.image_in_cached,
            record.tokens.made
        ),
    ];
    let advice = match cost.reconnects * 2.0 > cost.model {
        true => {
            "Reconnects caused most of it, because a new session reads the conversation again: see above why."
        }
        false => {
            "Shorten the instructions and what tools answer, because every response reads them again; or choose a smaller \
             model."
        }
    };
    Some(Finding::new(
        "cost.high",
        format!("The call cost ${:.2}, which is ${per_minute:.2} a minute.", cost.total),
        evidence.into_iter().map(|what| Evidence { at_ms: None, what }).collect(),
        advice,
    ))
}
