//! What an MCP server lists: read page by page, and tool by tool.

use std::sync::Arc;

use rmcp::model::{
    ClientRequest, CustomResult, ErrorCode, ListToolsRequest, PaginatedRequestParams, ServerResult,
};
use rmcp::service::Peer;
use rmcp::{RoleClient, ServiceError};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::task::yield_now;

use crate::assistant::plan::Listed;
use crate::problem;

const MOST_PAGES: usize = 50;
const MOST_TOOLS: usize = 500;

/// What a server offers.
pub struct Listing {
    pub tools: Vec<Listed>,
    /// The names of tools that are not described as they should be.
    pub spoilt: Vec<String>,
    /// Nothing of it was left out for its length.
    pub whole: bool,
}

/// All tools of a server, each name once; and the names of those that cannot be read.
pub async fn list(peer: &Peer<RoleClient>, server: &str) -> Result<Listing, ServiceError> {
    let mut tools: Vec<Listed> = Vec::new();
    let mut spoilt = Vec::new();
    let mut params = None;
    for _ in 0..MOST_PAGES {
        let (offered, cursor) = match page(peer, params, &mut spoilt).await {
            // It has resources or prompts, and no tools.
            Err(ServiceError::McpError(error)) if error.code == ErrorCode::METHOD_NOT_FOUND => {
                return Ok(Listing { tools, spoilt, whole: true });
            }
            page => page?,
        };
        for tool in offered {
            if tools.iter().any(|known| known.name == tool.name) {
                tracing::info!(server, tool = problem::shown(&tool.name), "A tool is listed twice");
                continue;
            }
            if tools.len() == MOST_TOOLS {
                return Ok(Listing { tools, spoilt, whole: false });
            }
            let description = tool.description.or(tool.title).unwrap_or_default();
            tools.push(Listed::new(tool.name, description, &tool.schema));
            // A long list of large schemas must not hold a thread for long: calls run on it.
            yield_now().await;
        }
        // An empty text is a cursor like any other.
        let Some(cursor) = cursor else { return Ok(Listing { tools, spoilt, whole: true }) };
        params = Some(PaginatedRequestParams::default().with_cursor(Some(cursor)));
    }
    Ok(Listing { tools, spoilt, whole: false })
}

/// What of a tool is of use here. Whatever else a server says of it may be wrong.
#[derive(Deserialize)]
struct Offered {
    name: String,
    title: Option<String>,
    description: Option<String>,
    #[serde(rename = "inputSchema")]
    schema: Map<String, Value>,
}

/// A page of the list, read tool by tool: one that is not as it should be takes no other away.
async fn page(
    peer: &Peer<RoleClient>,
    params: Option<PaginatedRequestParams>,
    spoilt: &mut Vec<String>,
) -> Result<(Vec<Offered>, Option<String>), ServiceError> {
    let request = ListToolsRequest { method: Default::default(), params, extensions: Default::default() };
    let result = match peer.send_request(ClientRequest::ListToolsRequest(request)).await? {
        ServerResult::ListToolsResult(page) => {
            let offered = page.tools.into_iter().map(|tool| Offered {
                name: tool.name.into_owned(),
                title: tool.title,
                description: tool.description.map(String::from),
                schema: Arc::unwrap_or_clone(tool.input_schema),
            });
            return Ok((offered.collect(), page.next_cursor));
        }
        ServerResult::CustomResult(CustomResult(result)) => result,
        _ => return Err(ServiceError::UnexpectedResponse),
    };
    let raw = result.get("tools").and_then(Value::as_array).ok_or(ServiceError::UnexpectedResponse)?;
    let mut offered = Vec::new();
    for tool in raw {
        match Offered::deserialize(tool) {
            Ok(tool) => offered.push(tool),
            Err(_) => {
                let name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
                spoilt.push(name.to_owned());
            }
        }
    }
    Ok((offered, result.get("nextCursor").and_then(Value::as_str).map(str::to_owned)))
}
