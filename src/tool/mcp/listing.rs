//! The tools of an MCP server, read page by page and tool by tool.

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

const MAX_PAGES: usize = 50;
const MAX_TOOLS: usize = 500;

/// The tools of a server.
pub struct Listing {
    pub tools: Vec<Listed>,
    /// The names of tools with a malformed description.
    pub malformed: Vec<String>,
    /// A tool that is listed more than once; its first description counts.
    pub twice: Option<String>,
    /// All tools are in the list: it was not too long.
    pub complete: bool,
}

/// Lists all tools of a server, each name once.
pub async fn list(peer: &Peer<RoleClient>) -> Result<Listing, ServiceError> {
    let mut listing = Listing { tools: Vec::new(), malformed: Vec::new(), twice: None, complete: false };
    let mut cursors: Vec<String> = Vec::new();
    for _ in 0..MAX_PAGES {
        let params =
            cursors.last().map(|cursor| PaginatedRequestParams::default().with_cursor(Some(cursor.clone())));
        let (offered, cursor) = match page(peer, params, &mut listing.malformed).await {
            // The server has resources or prompts, but no tools.
            Err(ServiceError::McpError(error)) if error.code == ErrorCode::METHOD_NOT_FOUND => {
                return Ok(Listing { complete: true, ..listing });
            }
            page => page?,
        };
        for tool in offered {
            if listing.tools.iter().any(|known| known.name == tool.name) {
                listing.twice.get_or_insert(tool.name);
                continue;
            }
            if listing.tools.len() == MAX_TOOLS {
                return Ok(listing);
            }
            let description = tool.description.or(tool.title).unwrap_or_default();
            listing.tools.push(Listed::new(tool.name, description, &tool.schema));
            // A long list of large schemas must not block a thread: calls run on it.
            yield_now().await;
        }
        // An empty cursor is valid. One that comes again leads in a circle.
        match cursor {
            None => return Ok(Listing { complete: true, ..listing }),
            Some(cursor) if cursors.contains(&cursor) => return Ok(listing),
            Some(cursor) => cursors.push(cursor),
        }
    }
    Ok(listing)
}

/// The fields of a tool that we use. The others may be malformed.
#[derive(Deserialize)]
struct Offered {
    name: String,
    title: Option<String>,
    description: Option<String>,
    #[serde(rename = "inputSchema")]
    schema: Map<String, Value>,
}

/// Reads a page tool by tool: a malformed tool does not affect the others.
async fn page(
    peer: &Peer<RoleClient>,
    params: Option<PaginatedRequestParams>,
    malformed: &mut Vec<String>,
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
                malformed.push(name.to_owned());
            }
        }
    }
    Ok((offered, result.get("nextCursor").and_then(Value::as_str).map(str::to_owned)))
}
