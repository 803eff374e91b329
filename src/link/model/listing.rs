//! Logs which tools of hosted MCP servers the provider has found.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::assistant::plan::Plan;
use crate::problem;

/// How many listings may be active at once.
const MAX_LISTINGS: usize = 64;

/// The server of each listing: a failure names only the listing.
#[derive(Debug, Default)]
pub(super) struct Listing {
    servers: BTreeMap<String, String>,
}

impl Listing {
    pub fn began(&mut self, item: &str, server: &str) {
        if self.servers.len() < MAX_LISTINGS {
            self.servers.insert(item.to_owned(), server.to_owned());
        }
    }

    pub fn listed(&mut self, plan: &Plan, server: &str, tools: &[Cow<'_, str>]) {
        self.servers.retain(|_, listed| listed != server);
        let allowed = plan.hosted.iter().find(|hosted| hosted.label == server);
        let allowed = allowed.and_then(|hosted| hosted.allowed.as_ref());
        let server = problem::shown(server);
        tracing::info!(server, "Registered tools count: {}", tools.len());
        for tool in tools {
            let allowed = allowed.is_none_or(|allowed| allowed.iter().any(|name| name == tool));
            tracing::info!(server, tool = problem::shown(tool), allowed, "Registered tool");
        }
    }

    pub fn failed(&mut self, item: &str) {
        let server = self.servers.remove(item);
        tracing::warn!(
            server = problem::shown(server.as_deref().unwrap_or("unknown")),
            "The provider cannot list the tools of an MCP server; check that its URL is public HTTPS and its token is \
             right, or set `via: runtime`"
        );
    }
}
