//! Hosted MCP: listing a server's tools, calls that run in parallel with responses, approvals (reference §4.6, §6.2, §6.3).
//!
//! Nothing here asks for the response that follows; the client must.

use std::time::Duration;

use serde_json::{Value, json};

use super::hosting::{Place, Running, Stage, call_item};
use super::log::{ApprovalLog, HostedLog};
use super::options::{HostedTool, Listing};
use super::script::HostedCall;
use super::state::{Due, Session};

impl Session {
    /// Starts listing every hosted server that is new or differs from the `known` tools.
    pub fn list_hosted(&mut self, known: &Value) {
        let known = known.as_array().cloned().unwrap_or_default();
        let tools = self.config.session()["tools"].as_array().cloned().unwrap_or_default();
        for tool in tools.iter().filter(|tool| tool["type"] == "mcp" && !known.contains(tool)) {
            let label = tool["server_label"].as_str().unwrap_or_default().to_owned();
            let id = self.new_id("mcpl_");
            let item = json!({"id": id, "type": "mcp_list_tools", "server_label": label, "tools": []});
            self.add_item(&item, 0);
            self.emit(json!({"type": "mcp_list_tools.in_progress", "item_id": id}));
            self.hosting.listed.remove(&label);
            self.hosting.listing.insert(label.clone(), id);
            match self.listing_of(&label) {
                Listing::Late(delay) => self.later(delay, Due::Listed(label)),
                Listing::Works | Listing::Fails => self.listed(&label),
            }
        }
    }

    /// The listing of a server ends.
    pub fn listed(&mut self, label: &str) {
        let Some(id) = self.hosting.listing.remove(label) else { return };
        if self.listing_of(label) == Listing::Fails {
            self.emit(json!({"type": "mcp_list_tools.failed", "item_id": id}));
            return;
        }
        let tools = self.config.session()["tools"].as_array().cloned().unwrap_or_default();
        let Some(tool) = tools.iter().find(|tool| tool["type"] == "mcp" && tool["server_label"] == label)
        else {
            return; // It was removed in the meantime.
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
        self.complete_item(&item);
        self.hosting.listed.insert(label.to_owned(), listed);
    }

    /// Whether the session has the hosted server and has listed the tool.
    pub fn has_hosted(&self, tools: &Value, call: &HostedCall) -> bool {
        server_of(tools, call).is_some() && self.listed_tool(call).is_some()
    }

    /// Whether the client has to approve a call. It has to if no rule covers the tool.
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

    /// Sends the arguments of a call and starts it. `is_output`: it is an output item of the response.
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
            ended: None,
        };
        self.note(|log| log.hosted.push(entry));
        let item = item.to_owned();
        self.hosting.running.push(Running { item, call, approval, place, is_output, is_due: false });
    }

    /// Records an approval request, which is in the conversation as this item.
    pub fn request_approval(&mut self, id: &str, call: &HostedCall, place: Place) {
        let entry = ApprovalLog {
            id: id.to_owned(),
            server: call.server.clone(),
            tool: call.tool.clone(),
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
            let shown = call_item(&item, &call, Some(id), Stage::Requested);
            self.add_item(&shown, 0);
            let takes = call.takes;
            self.run_hosted(&item, call, Some(id.to_owned()), place, false);
            self.hosted_due(&item, takes);
        }
    }

    /// A response is over: the calls that it left running may end.
    pub fn let_hosted_end(&mut self, response: &str) {
        let left = self.hosting.running.iter().filter(|call| !call.is_due && call.place.response == response);
        let left: Vec<(String, Duration)> =
            left.map(|running| (running.item.clone(), running.call.takes)).collect();
        for (item, takes) in left {
            self.hosted_due(&item, takes);
        }
    }

    /// Schedules the end of a call.
    pub fn hosted_due(&mut self, item: &str, takes: Duration) {
        if let Some(running) = self.hosting.running.iter_mut().find(|running| running.item == item) {
            running.is_due = true;
            self.later(takes, Due::HostedEnds(item.to_owned()));
        }
    }

    pub fn end_hosted(&mut self, item: &str) {
        let Some(at) = self.hosting.running.iter().position(|running| running.item == item) else { return };
        let Running { call, approval, place, is_output, .. } = self.hosting.running.remove(at);
        let shown = call_item(item, &call, approval.as_deref(), Stage::Ended);
        let how = if call.result.is_ok() { "completed" } else { "failed" };
        self.emit(json!({"type": format!("response.mcp_call.{how}"), "item_id": item,
            "output_index": place.index}));
        self.complete_item(&shown);
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

    /// Continues the response that waited for this hosted call.
    fn hosted_part_ended(&mut self, item: &str, shown: &Value) {
        let waiting = self.responses.iter_mut().find(|response| {
            response.parts.get(response.current).is_some_and(|part| part.item == item && part.opened)
        });
        let Some(response) = waiting else { return };
        response.output.push(shown.clone());
        response.current += 1;
        let step = Due::Step(response.id.clone());
        self.later(Duration::ZERO, step);
    }

    /// An item is complete: it is stored and reported.
    fn complete_item(&mut self, item: &Value) {
        if let Some(stored) = self.conversation.find_mut(item["id"].as_str().unwrap_or_default()) {
            stored.value = item.clone();
        }
        self.item_done(item);
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
