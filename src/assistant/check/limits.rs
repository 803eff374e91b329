//! Limits: of one call, and of who gets through to the assistant.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Check;
use crate::assistant::plan::{Blocked, Gate, Limits};
use crate::assistant::vocabulary::{
    CALL, CALL_SILENCE, CALLS, CALLS_PER_DAY, CALLS_PER_HOUR, COST_PER_CALL, COST_PER_DAY, MESSAGES, SMS,
    TRANSFERS, WITHHELD,
};
use crate::assistant::written::{Fields, shown};
use crate::duration::spell;
use crate::phone::PhoneNumber;
use crate::problem::Span;
use crate::problem::catalogue::Assistant;
use crate::provider::Provider;
use crate::yaml::Node;

/// The longest prefix of a number: one digit less than the longest number.
const LONGEST_PREFIX: usize = 14;

/// How much longer than the call its session lasts: it begins while the phone rings, and includes the goodbye.
const MARGIN: Duration = Duration::from_secs(60);

impl<'a> Check<'a> {
    pub(super) fn limits(&self, top: &Fields<'a>, provider: &Provider) -> (Limits, Gate) {
        let session = provider.abilities.session_limit;
        let longest = session.saturating_sub(MARGIN);
        let mut limits = Limits {
            call: longest.min(CALL.default),
            silence: CALL_SILENCE.default,
            sms: SMS.default,
            messages: MESSAGES.default,
            transfers: TRANSFERS.default,
            cost: None,
        };
        let mut gate = Gate { block: self.block(top), ..Gate::default() };
        let Some(map) = top.map("limits") else { return (limits, gate) };
        if let Some(call) = map.duration("call", &CALL) {
            limits.call = call;
            if let Some(node) = map.take("call").filter(|_| call > longest) {
                let (provider, session, most) = (provider.name.clone(), spell(session), spell(longest));
                self.written.problem(node.span, Assistant::SessionShorter { provider, session, most });
            }
        }
        limits.silence = map.duration("silence", &CALL_SILENCE).unwrap_or(limits.silence);
        limits.sms = map.count("sms", &SMS).unwrap_or(limits.sms);
        limits.messages = map.count("messages", &MESSAGES).unwrap_or(limits.messages);
        limits.transfers = map.count("transfers", &TRANSFERS).unwrap_or(limits.transfers);
        let dollars = |key, range| map.take(key).and_then(|node| self.written.number(node, key, range));
        limits.cost = dollars("cost_per_call", &COST_PER_CALL);
        gate.cost_per_day = dollars("cost_per_day", &COST_PER_DAY);
        let is_more = limits.cost.zip(gate.cost_per_day).is_some_and(|(call, day)| call > day);
        if let Some(node) = map.take("cost_per_call").filter(|_| is_more) {
            let (key, other) = ("cost_per_call", "cost_per_day");
            self.written.problem(node.span, Assistant::LimitExceeds { key, other });
        }
        gate.calls = map.count("calls", &CALLS);
        self.per_caller(&map, &mut gate);
        map.finish();
        (limits, gate)
    }

    /// How often one caller may call.
    fn per_caller(&self, limits: &Fields<'a>, gate: &mut Gate) {
        let Some(map) = limits.map("calls_per_caller") else { return };
        gate.per_hour = map.count("per_hour", &CALLS_PER_HOUR);
        gate.per_day = map.count("per_day", &CALLS_PER_DAY);
        gate.count_withheld = map.bool("withheld").unwrap_or(false);
        let is_more = gate.per_hour.zip(gate.per_day).is_some_and(|(hour, day)| hour > day);
        if let Some(node) = map.take("per_hour").filter(|_| is_more) {
            let (key, other) = ("per_hour", "per_day");
            self.written.problem(node.span, Assistant::LimitExceeds { key, other });
        }
        if let Some(node) = map.take("withheld").filter(|_| !map.has("per_hour") && !map.has("per_day")) {
            self.written.problem(node.span, Assistant::WithheldUnused);
        }
        map.finish();
    }

    /// The callers whom nobody answers.
    fn block(&self, top: &Fields<'a>) -> Vec<Blocked> {
        let mut blocked = Vec::new();
        let mut first: BTreeMap<Blocked, Span> = BTreeMap::new();
        for item in top.list("block") {
            let Some(one) = self.blocked(item) else { continue };
            match first.get(&one) {
                Some(earlier) => {
                    let what = Assistant::NumberDuplicate { value: shown(item) };
                    self.written.duplicate(item.span, *earlier, what);
                }
                None => {
                    first.insert(one.clone(), item.span);
                    blocked.push(one);
                }
            }
        }
        // Another order is no change.
        blocked.sort();
        blocked
    }

    /// A number, the beginning of numbers, or `withheld`.
    fn blocked(&self, node: &Node) -> Option<Blocked> {
        let text = self.written.text(node, "block")?;
        let text = text.trim();
        let is_prefix = |prefix: &&str| {
            let digits = prefix.strip_prefix('+').unwrap_or_default();
            (1..=LONGEST_PREFIX).contains(&digits.len())
                && !digits.starts_with('0')
                && digits.bytes().all(|b| b.is_ascii_digit())
        };
        let blocked = match text.strip_suffix('*') {
            _ if text == WITHHELD => Some(Blocked::Withheld),
            Some(prefix) => Some(prefix).filter(is_prefix).map(|prefix| Blocked::Prefix(prefix.to_owned())),
            None => PhoneNumber::parse(text).ok().map(Blocked::Number),
        };
        if blocked.is_none() {
            self.written.problem(node.span, Assistant::BlockInvalid { value: shown(node) });
        }
        blocked
    }
}
