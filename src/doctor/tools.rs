//! The tools of the assistants: which MCP servers answer, and which tools of a file are off.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Findings;
use crate::assistant::plan::{Hosted, Nothing, Reach, Server, ServerUse};
use crate::assistant::{Facts, Off, Roster};
use crate::problem::catalogue::Mcp as Found;
use crate::problem::{self, Problem, Subject, Suggestion, counted};
use crate::secret::Secret;
use crate::settings::is_secret;
use crate::tool::{Tools, Trouble};

/// How long servers may take to list their tools. A program may have to be downloaded first.
const LIMIT: Duration = Duration::from_secs(65);

/// A server that some assistants use.
struct Used {
    server: Arc<Server>,
    /// `Some` if the provider's host calls it: the tools that it may use; `None` in it: all.
    hosted: Option<Option<Vec<String>>>,
}

/// Lists the tools of all servers, and reports what each assistant has of them.
pub async fn probe(roster: &Roster, tools: &Tools) -> Findings {
    let used = servers(roster);
    let alone = |used: &Used| ServerUse {
        assistant: String::new(),
        server: used.server.clone(),
        allow: None,
        named: Vec::new(),
    };
    tools.keep(used.iter().map(alone));
    tools.settled(LIMIT).await;
    let mut problems: Vec<Problem> = used.iter().flat_map(|used| of_server(used, tools)).collect();
    for assistant in roster.iter() {
        for (name, why) in assistant.tools_off(&Facts::nobody(Timestamp::now()), tools) {
            // A server that cannot be listed is reported already.
            let reported = used.iter().any(|used| used.server.name == name && !tools.is_listed(&used.server));
            let (assistant, tool) = (assistant.name().to_owned(), problem::whole(&name));
            let (on_purpose, why) = (matches!(why, Off::Empty(_)), why.to_string());
            match (on_purpose, reported) {
                (true, _) => problems.push(Problem::new(Found::SwitchedOff { assistant, tool, why })),
                (false, false) => problems.push(Problem::new(Found::Off { assistant, tool, why })),
                (false, true) => {}
            }
        }
    }
    tools.close().await;
    problems.into()
}

/// Every server once, whoever calls it.
fn servers(roster: &Roster) -> Vec<Used> {
    let mut found: Vec<Used> = Vec::new();
    for assistant in roster.iter() {
        let ours = assistant.servers().map(|used| Used { server: used.server, hosted: None });
        let hosted = assistant
            .plan(&Facts::nobody(Timestamp::now()), &Nothing)
            .map(|plan| plan.hosted)
            .unwrap_or_default();
        let hosted = hosted
            .into_iter()
            .map(|hosted| Used { hosted: Some(hosted.allowed.clone()), server: Arc::new(as_ours(hosted)) });
        for one in ours.chain(hosted) {
            let same = |known: &Used| known.server.reach == one.server.reach && known.hosted == one.hosted;
            if !found.iter().any(same) {
                found.push(one);
            }
        }
    }
    found
}

/// The secrets that are sent to the servers.
pub fn secrets(roster: &Roster) -> Vec<Secret> {
    let of_server = |used: Used| match &used.server.reach {
        Reach::Url { headers, .. } => headers.iter().map(|(_, secret)| secret.clone()).collect::<Vec<_>>(),
        Reach::Command { env, secrets, .. } => {
            let named = env.iter().filter(|(name, _)| is_secret(name)).map(|(_, secret)| secret);
            named.chain(secrets).cloned().collect()
        }
    };
    servers(roster).into_iter().flat_map(of_server).collect()
}

/// A server that the provider's host calls, as if we called it.
fn as_ours(hosted: Hosted) -> Server {
    let mut headers = hosted.headers;
    if let Some(token) = hosted.authorization {
        headers.push(("authorization".to_owned(), Secret::new(format!("Bearer {}", token.expose()))));
    }
    Server { name: hosted.label, reach: Reach::Url { url: hosted.url, headers } }
}

fn of_server(used: &Used, tools: &Tools) -> Vec<Problem> {
    let Used { server, hosted } = used;
    let name = problem::shown(&server.name);
    let Some(listed) = tools.names(server) else {
        let what = match (tools.trouble(server), tools.why_not(server)) {
            (Some(Trouble::Taken), _) => Found::Taken { server: name },
            (_, Some(why)) => Found::NotListed { server: name, why },
            (_, None) => {
                Found::NotListed { server: name, why: format!("no answer in {} s", LIMIT.as_secs()) }
            }
        };
        return vec![of(server, what)];
    };
    let mut found = vec![Found::Listed { server: name.clone(), tools: counted(listed.len(), "tool") }];
    if tools.is_wrapped(server) {
        found.push(match hosted {
            Some(_) => Found::WrappedHosted { server: name.clone() },
            None => Found::Wrapped { server: name.clone() },
        });
    }
    for tool in hosted.iter().flatten().flatten().filter(|tool| !listed.contains(tool)) {
        let help = Suggestion::new(tool, listed.iter().map(String::as_str)).to_string();
        found.push(Found::Missing { server: name.clone(), tool: problem::whole(tool), help });
    }
    found.into_iter().map(|what| of(server, what)).collect()
}

fn of(server: &Server, what: Found) -> Problem {
    Problem::new(what).with_subject(Subject::Server(server.name.clone()))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, StatusCode, header};
    use axum::response::{IntoResponse as _, Response};
    use serde_json::{Value, json};

    use super::*;
    use crate::assistant::plan::AskFirst;
    use crate::link::tls;

    /// A server of the legacy era with one tool, which wants a token.
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

    /// A roster lets the provider's host call public addresses only, so this is not tested through the program.
    #[tokio::test]
    async fn a_server_that_the_providers_host_calls_is_listed_too() {
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
        let used = Used { hosted: Some(hosted.allowed.clone()), server: Arc::new(as_ours(hosted)) };
        let tools = Tools::new(&tls::client_config(false, None).unwrap()).unwrap();
        let server = used.server.clone();
        tools.keep([ServerUse { assistant: String::new(), server, allow: None, named: Vec::new() }]);
        tools.settled(Duration::from_secs(20)).await;
        let found: Vec<_> = of_server(&used, &tools).iter().map(|problem| problem.what().clone()).collect();
        let missing = Found::Missing {
            server: "web".to_owned(),
            tool: "serch".to_owned(),
            help: "did you mean `search`?".to_owned(),
        };
        assert_eq!(
            found,
            [Found::Listed { server: "web".to_owned(), tools: "1 tool".to_owned() }.into(), missing.into()]
        );
        tools.close().await;
        serving.abort();
    }
}
