//! *Health*: what the server depends on, and what `doctor` finds.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use minijinja::context;
use nix::sys::statvfs::statvfs;
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::Console;
use super::shown::{moment, value};
use super::visit::{Posted, Visit};

/// The state of the server, for the page and the API.
#[derive(Debug, Serialize)]
pub struct Health {
    /// `ready` or `draining`.
    pub status: &'static str,
    pub version: &'static str,
    pub calls: usize,
    pub assistants: usize,
    pub generation: u64,
    /// Errors of the rejected edit.
    pub problems: usize,
    pub providers: Vec<Provider>,
    pub mcp: Vec<Server>,
    /// `ok`, or why not.
    pub store: String,
    /// What is free where records and recordings are.
    pub disk_free_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
pub struct Provider {
    pub name: String,
    pub up: bool,
    pub has_credit: bool,
}

/// An MCP server that we are a client of.
#[derive(Debug, Serialize)]
pub struct Server {
    pub name: String,
    /// How many tools it lists; `None`: it is not listed.
    pub tools: Option<usize>,
    pub trouble: Option<String>,
}

pub async fn health(console: &Console) -> Health {
    let switchboard = &console.switchboard;
    let standing = *console.standing.borrow();
    let broke = switchboard.out_of_credit();
    let providers = switchboard.providers().into_iter().map(|(name, up)| {
        let has_credit = !broke.get(&name).copied().unwrap_or_default();
        Provider { name, up, has_credit }
    });
    let store = match console.store() {
        Ok(store) => store.status().map_or_else(|why| why.to_string(), |()| "ok".to_owned()),
        Err(why) => why,
    };
    Health {
        status: if switchboard.is_draining() { "draining" } else { "ready" },
        version: env!("CARGO_PKG_VERSION"),
        calls: switchboard.calls(),
        assistants: switchboard.assistants(),
        generation: standing.generation,
        problems: standing.problems,
        providers: providers.collect(),
        mcp: servers(console),
        store,
        disk_free_bytes: free(console).await,
    }
}

fn servers(console: &Console) -> Vec<Server> {
    let roster = console.roster.borrow().clone();
    let mut found: Vec<Server> = Vec::new();
    for used in roster.iter().flat_map(|assistant| assistant.servers()) {
        let tools = console.tools.names(&used.server).map(|names| names.len());
        let trouble = console.tools.why_not(&used.server);
        let server = Server { name: used.server.name.clone(), tools, trouble };
        if !found.iter().any(|other| other.name == server.name && other.tools == server.tools) {
            found.push(server);
        }
    }
    found
}

async fn free(console: &Console) -> Option<u64> {
    let folder = console.state_dir.clone()?;
    let look = move || statvfs(&folder).ok().map(|it| it.blocks_available() * it.fragment_size());
    spawn_blocking(look).await.ok().flatten()
}

/// The page.
pub async fn page(State(console): State<Arc<Console>>, visit: Visit) -> Response {
    show(&console, &visit, None, None).await
}

/// The same with what `doctor` finds now.
pub async fn examine(State(console): State<Arc<Console>>, posted: Posted) -> Response {
    let found = match (&console.doctor, console.examining.try_lock()) {
        (None, _) => Err("This server cannot run doctor. Run `switchboard doctor`.".to_owned()),
        (Some(_), Err(_)) => Err("Somebody is examining the server already. Try again soon.".to_owned()),
        (Some(doctor), Ok(_examining)) => doctor().await,
    };
    match found {
        Ok(findings) => show(&console, &posted.visit, Some(findings), None).await,
        Err(why) => show(&console, &posted.visit, None, Some(why)).await,
    }
}

async fn show(
    console: &Console,
    visit: &Visit,
    findings: Option<serde_json::Value>,
    wrong: Option<String>,
) -> Response {
    let health = health(console).await;
    let free = health.disk_free_bytes.map(|bytes| format!("{:.1} GB", bytes as f64 / 1e9));
    let findings = findings.map(value);
    let values = context! {
        health => value(&health),
        free,
        began => moment(console.began),
        can_examine => console.doctor.is_some(),
        findings, wrong,
    };
    console.pages.page(StatusCode::OK, "Health", "health", Some(visit), "health.html", values)
}
