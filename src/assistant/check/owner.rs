//! What the owner hears of calls: `notify` and `after_call`.

use std::collections::BTreeMap;

use serde_json::json;

use super::Check;
use crate::assistant::plan::{AfterCall, Notify, Occasion};
use crate::assistant::toolbox::Control;
use crate::assistant::vocabulary::{FORM_SUMMARY, OCCASIONS};
use crate::assistant::written::{Fields, shown};
use crate::problem::catalogue::Tool;
use crate::provider::Provider;
use crate::yaml::Node;

/// What the model writes into the summary.
const SUMMARY: &str = "Two or three sentences about the call for somebody who was not there: what the caller wanted, what was \
                       agreed, and what is still to do. Only what was said.";

impl<'a> Check<'a> {
    /// `None` also if every way is empty.
    pub(super) fn notify(&self, top: &Fields<'a>, control: &Control) -> Option<Notify> {
        let w = self.written;
        let node = top.take("notify")?;
        let map = w.map(node, "notify")?;
        if !map.has("to") {
            w.problem(node.span, Tool::NotifyWithoutTo);
        }
        let to = map.take("to").and_then(|node| self.mailbox(node));
        let when = self.occasions(&map, control);
        map.finish();
        Some(Notify { to: to.filter(|to| !to.is_empty())?, when })
    }

    /// When the owner gets a notification, each occasion once.
    fn occasions(&self, map: &Fields<'a>, control: &Control) -> Vec<Occasion> {
        let w = self.written;
        let Some(node) = map.take("when") else { return vec![Occasion::Always] };
        let items = map.list("when");
        if items.is_empty() {
            w.problem(node.span, Tool::NotifyNever);
        }
        let mut first: BTreeMap<Occasion, &Node> = BTreeMap::new();
        for item in items {
            let Some(occasion) = w.word(item, "when", OCCASIONS) else { continue };
            match first.get(&occasion) {
                Some(earlier) => {
                    w.duplicate(item.span, earlier.span, Tool::OccasionDuplicate { word: shown(item) });
                }
                None => {
                    first.insert(occasion, item);
                }
            }
        }
        let has_always = first.contains_key(&Occasion::Always);
        for (occasion, item) in &first {
            let word = shown(item);
            let what = match occasion {
                Occasion::Message if control.take_message.is_none() => {
                    Tool::OccasionNever { word, key: "call_control.take_message" }
                }
                Occasion::TransferFailed if control.targets.is_empty() => {
                    Tool::OccasionNever { word, key: "call_control.transfer_to" }
                }
                Occasion::Message | Occasion::Failure | Occasion::TransferFailed if has_always => {
                    Tool::OccasionCovered { word }
                }
                _ => continue,
            };
            w.problem(item.span, what);
        }
        first.into_keys().collect()
    }

    /// The form after the call; `None` also if it is empty, or if the provider cannot fill it in.
    pub(super) fn after_call(&self, top: &Fields<'a>, provider: &Provider) -> Option<AfterCall> {
        let w = self.written;
        let node = top.take("after_call")?;
        let map = w.map(node, "after_call")?;
        let summary = map.bool("summary").unwrap_or(false);
        let written = map.take("fields");
        let webhook = map.take("webhook").and_then(|node| self.webhook(node));
        map.finish();
        let (fields, is_sound) = self.fields(written);
        let mut fields = fields.unwrap_or_default();
        if let Some(node) = written.filter(|_| summary && fields.contains_key(FORM_SUMMARY)) {
            w.problem(node.span, Tool::FormSummaryTwice);
        }
        if fields.is_empty() && !summary {
            w.problem(node.span, Tool::FormEmpty);
            return None;
        }
        if !provider.abilities.forms {
            w.problem(node.span, Tool::FormUnused { provider: provider.name.clone() });
            return None;
        }
        if summary {
            fields.insert(FORM_SUMMARY.to_owned(), json!({ "type": "string", "description": SUMMARY }));
        }
        // A caller need not have spoken of everything.
        let required: Vec<String> = summary.then(|| FORM_SUMMARY.to_owned()).into_iter().collect();
        let form = is_sound.then(|| self.form(written.unwrap_or(node), fields, &required)).flatten()?;
        Some(AfterCall { form, summary, webhook })
    }
}
