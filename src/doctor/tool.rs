//! The tools of the assistants: which MCP servers answer, what each has, and which tools of a file are off, and why.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;

use super::report::Finding;
use crate::assistant::plan::{Hosted, Reach, Server, ServerUse, Supply as _};
use crate::assistant::{Facts, Roster};
use crate::phone::Party;
use crate::problem;
use crate::secret::Secret;
use crate::settings::is_secret;
use crate::tool::Tools;

/// How long servers may take to be listed. A program may have to be downloaded first.
const LIMIT: Duration = Duration::from_secs(65);
/// A caller that is nobody.
const CALLER: &str = "+15550100100";

/// A server that some assistants name.
struct Named {
    server: Arc<Server>,
    /// Where the model's host asks it: the tools that it may use.
    hosted: Option<Option<Vec<String>>>,
}

/// Lists all servers, and tells what each assistant has of them.
pub async fn check(roster: &Roster, tools: &Tools) -> Vec<Finding> {
    let named = named(roster);
    if named.is_empty() && roster.iter().all(|assistant| assistant.tools_off(&facts(), tools).is_empty()) {
        return Vec::new();
    }
    tools.keep(named.iter().map(|named| named.server.clone()).map(used));
    tools.settled(LIMIT).await;
    let mut findings: Vec<Finding> = join_all(named.iter().map(|named| async { of_server(named, tools) }))
        .await
        .into_iter()
        .flatten()
        .collect();
    for assistant in roster.iter() {
        for (name, why) in assistant.tools_off(&facts(), tools) {
            let told =
                named.iter().any(|named| named.server.name == name && tools.listed(&named.server).is_none());
            if told && !why.ends_with("is empty") {
                continue;
            }
            findings.push(of_off(assistant.name(), &name, &why));
        }
    }
    findings
}

fn facts() -> Facts {
    Facts {
        caller: Party::from_twilio(CALLER),
        called: Party::from_twilio(CALLER),
        call: "CA00000000000000000000000000000000".to_owned(),
        now: Timestamp::now(),
    }
}

/// Every server once, whoever is its client.
fn named(roster: &Roster) -> Vec<Named> {
    let mut named: Vec<Named> = Vec::new();
    for assistant in roster.iter() {
        let ours = assistant.servers().map(|used| Named { server: used.server, hosted: None });
        let plan = assistant.plan(&facts(), &crate::assistant::plan::Nothing).ok();
        let hosted = plan
            .into_iter()
            .flat_map(|plan| plan.hosted)
            .map(|hosted| Named { hosted: Some(hosted.allowed.clone()), server: Arc::new(as_ours(hosted)) });
        for one in ours.chain(hosted) {
            let known = named
                .iter()
                .any(|known| known.server.reach == one.server.reach && known.hosted == one.hosted);
            if !known {
                named.push(one);
            }
        }
    }
    named
}

/// What their servers are sent that nobody may see.
pub fn secrets(roster: &Roster) -> Vec<Secret> {
    let of_server = |named: Named| match &named.server.reach {
        Reach::Url { headers, .. } => headers.iter().map(|(_, secret)| secret.clone()).collect::<Vec<_>>(),
        Reach::Command { env, secrets, .. } => env
            .iter()
            .filter(|(name, _)| is_secret(name))
            .map(|(_, secret)| secret)
            .chain(secrets)
            .cloned()
            .collect(),
    };
    named(roster).into_iter().flat_map(of_server).collect()
}

/// A server that is only looked at.
fn used(server: Arc<Server>) -> ServerUse {
    ServerUse { assistant: String::new(), server, allow: None, named: Vec::new() }
}

/// A server that the model's host asks, as if we did.
fn as_ours(hosted: Hosted) -> Server {
    let mut headers = hosted.headers;
    if let Some(token) = hosted.authorization {
        headers.push(("authorization".to_owned(), Secret::new(format!("Bearer {}", token.expose()))));
    }
    Server { name: hosted.label, reach: Reach::Url { url: hosted.url, headers } }
}

fn of_server(named: &Named, tools: &Tools) -> Vec<Finding> {
    let Named { server, hosted } = named;
    let name = format!("the MCP server `{}`", problem::shown(&server.name));
    let whose = if hosted.is_some() { ", which the model's host asks," } else { "" };
    let Some(listed) = tools.listed(server) else {
        let taken = tools.is_taken(server);
        let why =
            tools.trouble(server).unwrap_or_else(|| format!("it was not listed in {} s", LIMIT.as_secs()));
        let finding = match taken {
            true => Finding::warning("tool.wrapped", format!("{name}{whose} cannot be listed: {why}")),
            false => Finding::error("tool.server", format!("{name}{whose} cannot be listed: {why}")),
        };
        return vec![
            finding
                .causes(match taken {
                    true => "where it is not the running server that listens there, its tools are off; a second \
                             machine never gets them",
                    false => "its tools are off: calls go on without them",
                })
                .fix(match (&server.reach, taken) {
                    (_, true) => WRAPPED,
                    (Reach::Url { .. }, _) => "try it by itself: `npx @modelcontextprotocol/inspector --cli URL --method tools/list`",
                    (Reach::Command { .. }, _) => "run its `command` in a terminal: it should start, and wait for input",
                }),
        ];
    };
    let mut findings = Vec::new();
    let count = match listed.len() {
        1 => "1 tool".to_owned(),
        count => format!("{count} tools"),
    };
    findings.push(Finding::ok("tool.server", format!("{name}{whose} has {count}")));
    if tools.is_wrapped(server) {
        let finding = match hosted {
            Some(_) => Finding::error(
                "tool.wrapped",
                format!(
                    "{name} was made by `fly mcp launch`, and the model's host cannot talk to such a server"
                ),
            )
            .causes("the listing fails in every call, and its tools are off"),
            None => Finding::warning(
                "tool.wrapped",
                format!("{name} was made by `fly mcp launch`: it lets one listener in at a time"),
            )
            .causes("with two machines, or during a deploy, one of them is without its tools (409)"),
        };
        findings.push(finding.fix(WRAPPED));
    }
    for tool in
        hosted.iter().flatten().flatten().filter(|tool| listed.iter().all(|there| there.name != **tool))
    {
        let names = listed.iter().map(|there| there.name.as_str());
        let message = format!("{name} has no tool `{}`, which `allow` names", problem::shown(tool));
        findings.push(
            Finding::warning("tool.off", message)
                .causes("the model never sees it")
                .fix(problem::suggestion(tool, names)),
        );
    }
    findings
}

/// What to do about a server with one place.
const WRAPPED: &str = "run the program as a child here (`command:` in place of `url:`), or deploy it as a true \
                       streamable HTTP server";

fn of_off(assistant: &str, name: &str, why: &str) -> Finding {
    let message = format!("`{}` of `{assistant}` is off: {why}", problem::shown(name));
    // The owner left it empty: that is how a tool is switched off.
    if why.ends_with("is empty") {
        return Finding::ok("tool.off", message);
    }
    Finding::warning("tool.off", message)
        .causes("the model does not have it in calls")
        .fix(format!("look at its entry in the file; `switchboard show {assistant}` lists what is there"))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, StatusCode, header};
    use axum::response::{IntoResponse as _, Response};
    use serde_json::{Value, json};

    use super::*;
    use crate::assistant::plan::AskFirst;
    use crate::link::tls;

    /// A server of the legacy era with one tool, that wants a token.
    fn answer(headers: &HeaderMap, body: &str) -> Response {
        let asked: Value = serde_json::from_str(body).unwrap_or_default();
        if headers.get(header::AUTHORIZATION).is_none_or(|token| token != "Bearer hush-hush") {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let result = match asked["method"].as_str() {
            Some("initialize") => json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                                         "serverInfo": {"name": "stub", "version": "1"}}),
            Some("tools/list") => json!({"tools": [{"name": "search", "inputSchema": {"type": "object"}}]}),
            Some(rpc) if rpc.starts_with("notifications/") => return StatusCode::ACCEPTED.into_response(),
            _ => return StatusCode::BAD_REQUEST.into_response(),
        };
        let body = json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}).to_string();
        ([(header::CONTENT_TYPE, "application/json")], body).into_response()
    }

    /// The folder's check lets the model's host ask public addresses alone, so this is asked here.
    #[tokio::test]
    async fn a_server_that_the_models_host_asks_is_listed_as_well() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let router = axum::Router::new()
            .fallback(|headers: HeaderMap, body: String| async move { answer(&headers, &body) });
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        let hosted = Hosted {
            label: "web".to_owned(),
            url,
            authorization: Some(Secret::new("hush-hush")),
            headers: Vec::new(),
            allowed: Some(vec!["search".to_owned(), "serch".to_owned()]),
            ask_first: AskFirst::Never,
        };
        let named = Named { hosted: Some(hosted.allowed.clone()), server: Arc::new(as_ours(hosted)) };
        let tools = Tools::new(&tls::client_config(false, None).unwrap()).unwrap();
        tools.keep([used(named.server.clone())]);
        tools.settled(Duration::from_secs(20)).await;
        let found = of_server(&named, &tools);
        let found: Vec<_> = found.iter().map(|f| (f.check, f.severity.name(), f.message.as_str())).collect();
        assert_eq!(
            found,
            [
                ("tool.server", "ok", "the MCP server `web`, which the model's host asks, has 1 tool"),
                ("tool.off", "warning", "the MCP server `web` has no tool `serch`, which `allow` names"),
            ]
        );
        tools.close().await;
        serving.abort();
    }
}
