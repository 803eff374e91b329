//! Hosted MCP as data: what a session knows about its servers, and the items that show a call.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::options::HostedTool;
use super::script::HostedCall;

/// What a session knows about its hosted servers.
#[derive(Default)]
pub(super) struct HostingState {
    /// The tools that may be called, by label.
    pub listed: BTreeMap<String, Vec<HostedTool>>,
    /// The ids of the `mcp_list_tools` items in progress, by label.
    pub listing: BTreeMap<String, String>,
    pub running: Vec<Running>,
    /// The calls that wait for approval, by the id of the request, with its place.
    pub waiting: BTreeMap<String, (HostedCall, Place)>,
    /// Approved calls for the next response, each with the id of its request.
    pub approved: Vec<(String, HostedCall)>,
}

/// A call in progress.
pub(super) struct Running {
    pub item: String,
    pub call: HostedCall,
    pub approval: Option<String>,
    pub place: Place,
    /// It is an output item, so its `response.output_item.done` must follow.
    pub is_output: bool,
    /// Its end is scheduled.
    pub is_due: bool,
}

/// Which output of which response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub response: String,
    pub index: usize,
}

/// How far a call has come when its item is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Requested,
    Running,
    Ended,
}

/// An `mcp_call` item: no `call_id`, no `status`.
pub(super) fn call_item(id: &str, call: &HostedCall, approval: Option<&str>, stage: Stage) -> Value {
    let arguments = if stage == Stage::Requested { "" } else { &call.arguments };
    let (output, error) = match &call.result {
        Ok(output) if stage == Stage::Ended => (json!(output), Value::Null),
        Err(error) if stage == Stage::Ended => (Value::Null, error.shown()),
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
