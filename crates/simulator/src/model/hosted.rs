//! Hosted MCP: the listing of a server's tools, the calls that run beside the responses, the approvals
//! (reference §4.6, §6.2, §6.3).
//!
//! Nothing here asks for the response that follows: the client must.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::log::{ApprovalLog, HostedLog};
use super::options::{HostedTool, Listing};
use super::script::HostedCall;
use super::session::{Due, Session};

/// What a session knows of its hosted servers.
#[derive(Default)]
pub(super) struct HostingState {
    /// The tools that may be called, by label.
    listed: BTreeMap<String, Vec<HostedTool>>,
    /// The `mcp_list_tools` items under way, by label.
    listing: BTreeMap<String, String>,
    pub running: Vec<Running>,
    /// The calls that wait for an approval, by the id of the request, with the place of the request.
    waiting: BTreeMap<String, (HostedCall, Place)>,
    /// Approved calls, each with its request, for the next response.
    pub approved: Vec<(String, HostedCall)>,
}

/// A call at work.
pub(super) struct Running {
    item: String,
    call: HostedCall,
    approval: Option<String>,
    place: Place,
    /// Its `response.output_item.done` is still owed.
    is_output: bool,
    /// Its end is a matter of time.
    is_due: bool,
}

/// Which output of which response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub response: String,
    pub index: usize,
}

/// How far a call is when its item is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Asked,
    Running,
    Ended,
}

/// An `mcp_call` item: no `call_id`, no `status`.
pub(super) fn call_item(id: &str, call: &HostedCall, approval: Option<&str>, shown: Shown) -> Value {
    let arguments = if shown == Shown::Asked { "" } else { &call.arguments };
    let (output, error) = match &call.result {
        Ok(output) if shown == Shown::Ended => (json!(output), Value::Null),
        Err(error) if shown == Shown::Ended => (Value::Null, error.shown()),
        _ => (Value::Null, Value::Null),
    };
    json!({"id": id, "type": "mcp_call", "server_label": call.server, "name": call.tool, "arguments": arguments,
        "approval_request_id": approval, "output": output, "error": error})
}

/// An `mcp_approval_request` item.
pub(super) fn request_item(id: &str, call: &HostedCall) -> Value {
    json!({"id": id, "type": "mcp_approval_request", "server_label": call.server, "name": call.tool,
        "arguments": call.arguments})
}

impl Session {
    /// Begins to list every hosted server that is not among the `known` tools as it is.
    pub fn list_hosted(&mut self, known: &Value) {
        let known = known.as_array().cloned().unwrap_or_default();
        let tools = self.config.session()["tools"].as_array().cloned().unwrap_or_default();
        for tool in tools.iter().filter(|tool| tool["type"] == "mcp" && !known.contains(tool)) {
            let label = tool["server_label"].as_str().unwrap_or_default().to_owned();
            let id = self.new_id("mcpl_");
            let item = json!({"id": id, "type": "mcp_list_tools", "server_label": label, "tools": []});
            let previous = self.conversation.push(item.clone(), None, 0);
            self.emit(json!({"type": "conversation.item.added", "previous_item_id": previous, "item": item}));
            self.emit(json!({"type": "mcp_list_tools.in_progress", "item_id": id}));
            self.hosting.listed.remove(&label);
            self.hosting.listing.insert(label.clone(), id);
            match self.listing_of(&label) {
                Listing::Late(delay) => self.later(delay, Due::Listed(label)),
                Listing::Works | Listing::Fails => self.listed(&label),
            }
        }
    }

    /// The listing of a server is over.
    pub fn listed(&mut self, label: &str) {
        let Some(id) = self.hosting.listing.remove(label) else { return };
        if self.listing_of(label) == Listing::Fails {
            self.emit(json!({"type": "mcp_list_tools.failed", "item_id": id}));
            return;
        }
        let tools = self.config.session()["tools"].as_array().cloned().unwrap_or_default();
        let Some(tool) = tools.iter().find(|tool| tool["type"] == "mcp" && tool["server_label"] == label)
        else {
            return; // It was taken out meanwhile.
        };
        let allowed = &tool["allowed_tools"];
        let names = allowed.as_array().or_else(|| allowed["tool_names"].as_array());
        let names: Option<Vec<String>> =
            names.map(|names| names.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        let offered = match self.options().hosting.servers.iter().find(|server| server.label == label) {
            Some(server) => server.tools.clone(),
            None => names
                .iter()
                .flatten()
                .map(|name| HostedTool { name: name.clone(), read_only: false })
                .collect(),
        };
        let read_only = allowed["read_only"].as_bool();
        let is_allowed = |tool: &HostedTool| {
            names.as_ref().is_none_or(|names| names.contains(&tool.name))
                && read_only.is_none_or(|wanted| tool.read_only == wanted)
        };
        let listed: Vec<HostedTool> = offered.into_iter().filter(is_allowed).collect();
        let shown: Vec<Value> = listed
            .iter()
            .map(|tool| {
                json!({"name": tool.name, "description": "A tool of a simulated server.",
                    "input_schema": {"type": "object"}, "annotations": {"readOnlyHint": tool.read_only}})
            })
            .collect();
        self.emit(json!({"type": "mcp_list_tools.completed", "item_id": id}));
        let item = json!({"id": id, "type": "mcp_list_tools", "server_label": label, "tools": shown});
        self.item_done(&id, &item);
        self.hosting.listed.insert(label.to_owned(), listed);
    }

    /// Whether the session has the tool of a hosted server, and knows of it.
    pub fn has_hosted(&self, tools: &Value, call: &HostedCall) -> bool {
        server_of(tools, call).is_some() && self.listed_tool(call).is_some()
    }

    /// Whether the client has to approve a call. Where nothing is said of a tool, it has.
    pub fn needs_approval(&self, tools: &Value, call: &HostedCall) -> bool {
        let Some(server) = server_of(tools, call) else { return true };
        let rule = &server["require_approval"];
        if let Some(word) = rule.as_str() {
            return word != "never";
        }
        let read_only = self.listed_tool(call).is_some_and(|tool| tool.read_only);
        let covers = |filter: &Value| {
            filter.is_object()
                && filter["tool_names"].as_array().is_none_or(|names| names.contains(&json!(call.tool)))
                && filter["read_only"].as_bool().is_none_or(|wanted| wanted == read_only)
        };
        covers(&rule["always"]) || !covers(&rule["never"])
    }

    /// The arguments of a call go out, and it begins. `is_output`: as an output item of the response.
    pub fn run_hosted(
        &mut self,
        item: &str,
        call: HostedCall,
        approval: Option<String>,
        place: Place,
        is_output: bool,
    ) {
        let Place { response, index } = &place;
        let mut middle = call.arguments.len() / 2;
        while !call.arguments.is_char_boundary(middle) {
            middle += 1;
        }
        for delta in [&call.arguments[..middle], &call.arguments[middle..]] {
            self.emit(json!({"type": "response.mcp_call_arguments.delta", "response_id": response,
                "item_id": item, "output_index": index, "delta": delta}));
        }
        self.emit(json!({"type": "response.mcp_call_arguments.done", "response_id": response,
            "item_id": item, "output_index": index, "arguments": call.arguments}));
        self.emit(json!({"type": "response.mcp_call.in_progress", "item_id": item, "output_index": index}));
        let entry = HostedLog {
            item: item.to_owned(),
            server: call.server.clone(),
            tool: call.tool.clone(),
            approval: approval.clone(),
            began: self.now,
            ended: None,
        };
        self.note(|log| log.hosted.push(entry));
        let item = item.to_owned();
        self.hosting.running.push(Running { item, call, approval, place, is_output, is_due: false });
    }

    /// An approval request has been put into the conversation as this item.
    pub fn request_approval(&mut self, id: &str, call: &HostedCall, place: Place) {
        let entry = ApprovalLog {
            id: id.to_owned(),
            server: call.server.clone(),
            tool: call.tool.clone(),
            asked: self.now,
            approved: None,
        };
        self.note(|log| log.approvals.push(entry));
        self.hosting.waiting.insert(id.to_owned(), (call.clone(), place));
    }

    /// The client has answered an approval request.
    pub fn take_approval(&mut self, id: &str, approved: bool, reason: Option<&str>) {
        let Some((call, place)) = self.hosting.waiting.remove(id) else { return };
        self.note(|log| {
            if let Some(entry) = log.approvals.iter_mut().find(|entry| entry.id == id) {
                entry.approved = Some(approved);
            }
        });
        if !approved {
            self.results.push(reason.unwrap_or("denied").to_owned());
        } else if self.options().hosting.approved_in_response {
            self.hosting.approved.push((id.to_owned(), call));
        } else {
            let item = self.new_id("mcp_");
            let shown = call_item(&item, &call, Some(id), Shown::Asked);
            let previous = self.conversation.push(shown.clone(), None, 0);
            self.emit(
                json!({"type": "conversation.item.added", "previous_item_id": previous, "item": shown}),
            );
            let takes = call.takes;
            self.run_hosted(&item, call, Some(id.to_owned()), place, false);
            self.hosted_due(&item, takes);
        }
    }

    /// A response is over: the calls that it left at work may end.
    pub fn let_hosted_end(&mut self, response: &str) {
        let left = self.hosting.running.iter().filter(|call| !call.is_due && call.place.response == response);
        let left: Vec<(String, Duration)> =
            left.map(|running| (running.item.clone(), running.call.takes)).collect();
        for (item, takes) in left {
            self.hosted_due(&item, takes);
        }
    }

    /// A call is to end after `takes`.
    pub fn hosted_due(&mut self, item: &str, takes: Duration) {
        if let Some(running) = self.hosting.running.iter_mut().find(|running| running.item == item) {
            running.is_due = true;
            self.later(takes, Due::HostedEnds(item.to_owned()));
        }
    }

    /// A call has ended.
    pub fn end_hosted(&mut self, item: &str) {
        let Some(at) = self.hosting.running.iter().position(|running| running.item == item) else { return };
        let Running { call, approval, place, is_output, .. } = self.hosting.running.remove(at);
        let shown = call_item(item, &call, approval.as_deref(), Shown::Ended);
        let how = if call.result.is_ok() { "completed" } else { "failed" };
        self.emit(json!({"type": format!("response.mcp_call.{how}"), "item_id": item,
            "output_index": place.index}));
        self.item_done(item, &shown);
        if is_output {
            self.emit(json!({"type": "response.output_item.done", "response_id": place.response,
                "output_index": place.index, "item": shown}));
        }
        self.results.push(match &call.result {
            Ok(output) => output.clone(),
            Err(error) => error.shown().to_string(),
        });
        let now = self.now;
        self.note(|log| {
            if let Some(entry) = log.hosted.iter_mut().find(|entry| entry.item == item) {
                entry.ended = Some(now);
            }
        });
        self.hosted_part_ended(item, &shown);
    }

    /// An item is whole: kept, and told.
    fn item_done(&mut self, id: &str, item: &Value) {
        if let Some(stored) = self.conversation.find_mut(id) {
            stored.value = item.clone();
        }
        let previous = self.conversation.before(id);
        self.emit(json!({"type": "conversation.item.done", "previous_item_id": previous, "item": item}));
    }

    fn listing_of(&self, label: &str) -> Listing {
        let server = self.options().hosting.servers.iter().find(|server| server.label == label);
        server.map_or(Listing::Works, |server| server.listing)
    }

    fn listed_tool(&self, call: &HostedCall) -> Option<&HostedTool> {
        self.hosting.listed.get(&call.server)?.iter().find(|tool| tool.name == call.tool)
    }
}

fn server_of<'a>(tools: &'a Value, call: &HostedCall) -> Option<&'a Value> {
    let is_it = |tool: &&Value| tool["type"] == "mcp" && tool["server_label"] == call.server;
    tools.as_array()?.iter().find(is_it)
}
