//! *Assistants*: who answers which number, what each can do and says, and the last edit of the folder.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use minijinja::{Value, context};
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::Console;
use super::shown::{Moment, moment, value};
use super::visit::{Posted, Visit};
use crate::assistant::plan::{Job, Plan, Work};
use crate::assistant::{Assistant, CallTime, Facts};
use crate::phone::{Party, PhoneNumber};
use crate::problem::{self, Problem};
use crate::settings;

/// The caller, unless another is chosen.
pub const CALLER: &str = "+15550100100";

/// An assistant in the list, and in the API.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub name: String,
    pub description: String,
    pub numbers: Vec<String>,
    /// It answers every number that is not listed.
    pub answers_the_rest: bool,
    pub version: String,
    pub provider: String,
    pub model: String,
    pub voice: String,
    pub tools: Vec<String>,
    pub tools_off: Vec<(String, String)>,
}

/// What the folder's assistants are now.
pub fn summaries(console: &Console) -> Vec<Summary> {
    let roster = console.roster.borrow().clone();
    roster.iter().map(|assistant| summary(console, assistant, &Facts::nobody(Timestamp::now()))).collect()
}

fn summary(console: &Console, assistant: &Assistant, facts: &Facts) -> Summary {
    let plan = assistant.plan(facts, &*console.tools).ok();
    let of = |what: fn(&Plan) -> String| plan.as_ref().map(what).unwrap_or_default();
    let mut off: Vec<(String, String)> = assistant
        .tools_off(facts, &*console.tools)
        .into_iter()
        .map(|(name, why)| (name, why.to_string()))
        .collect();
    for used in assistant.servers() {
        let Some(trouble) = console.tools.why_not(&used.server) else { continue };
        off.iter_mut()
            .filter(|(name, _)| *name == used.server.name)
            .for_each(|(_, why)| why.clone_from(&trouble));
    }
    Summary {
        name: assistant.name().to_owned(),
        description: assistant.description().to_owned(),
        numbers: assistant.numbers().iter().map(|number| number.expose().to_owned()).collect(),
        answers_the_rest: assistant.answers_the_rest(),
        version: assistant.version().to_owned(),
        provider: assistant.provider().name.clone(),
        model: of(|plan| plan.model.clone()),
        voice: of(|plan| plan.voice.clone()),
        tools: plan.iter().flat_map(|plan| plan.tools.iter().map(|tool| tool.name.clone())).collect(),
        tools_off: off,
    }
}

/// The list.
pub async fn page(State(console): State<Arc<Console>>, visit: Visit) -> Response {
    let assistants = summaries(&console);
    let changed =
        changed(&console, assistants.iter().map(|assistant| assistant.name.clone()).collect()).await;
    let rows: Vec<Value> = assistants
        .into_iter()
        .zip(changed)
        .map(|(assistant, changed)| context! { changed, ..value(&assistant) })
        .collect();
    let values = context! { rows, edit => edit_part(&console) };
    console.pages.page(StatusCode::OK, "Assistants", "assistants", Some(&visit), "assistants.html", values)
}

/// When the file of each was changed, as far as it is on this disk.
async fn changed(console: &Console, names: Vec<String>) -> Vec<Option<Moment>> {
    let count = names.len();
    let Some(folder) = console.folder.clone() else { return vec![None; count] };
    let look = move || {
        let changed = |name: &String| {
            let file = folder.join(format!("{name}.yaml"));
            let at = std::fs::metadata(file).ok()?.modified().ok()?;
            Some(moment(Timestamp::try_from(at).ok()?))
        };
        names.iter().map(changed).collect()
    };
    spawn_blocking(look).await.unwrap_or_else(|_| vec![None; count])
}

/// One assistant, for a caller with a number, now.
pub async fn one(State(console): State<Arc<Console>>, Path(name): Path<String>, visit: Visit) -> Response {
    show(&console, &visit, &name, "known", CALLER, "")
}

/// The same for another caller and another time.
pub async fn one_as(
    State(console): State<Arc<Console>>,
    Path(name): Path<String>,
    posted: Posted,
) -> Response {
    let (caller, number, at) = (posted.field("caller"), posted.field("number"), posted.field("at"));
    show(&console, &posted.visit, &name, caller, number, at)
}

fn show(console: &Console, visit: &Visit, name: &str, caller: &str, number: &str, at: &str) -> Response {
    let Some(assistant) = console.roster.borrow().by_name(name).cloned() else {
        let text = "No assistant of the folder in force has this name.";
        return console.pages.message(StatusCode::NOT_FOUND, "No such assistant", text, visit);
    };
    let given = Some(number).filter(|number| !number.is_empty()).unwrap_or(CALLER);
    let facts = facts(&assistant, caller, given, at);
    let (facts, mut wrong) = match facts {
        Ok(facts) => (facts, None),
        Err(why) => (Facts::nobody(Timestamp::now()), Some(why)),
    };
    let plan = assistant.plan(&facts, &*console.tools);
    let prompt = match &plan {
        Ok(plan) => settings::without_secrets(&plan.instructions, &console.environment),
        Err(error) => {
            wrong.get_or_insert(error.to_string());
            String::new()
        }
    };
    let tools: Vec<Value> = plan.iter().flat_map(|plan| plan.tools.iter().map(tool)).collect();
    let hosted: Vec<String> =
        plan.iter().flat_map(|plan| plan.hosted.iter().map(|hosted| hosted.label.clone())).collect();
    let greeting = plan.as_ref().ok().and_then(|plan| plan.greeting.say.clone());
    let fallback: Vec<String> = plan
        .iter()
        .flat_map(|plan| plan.fallback.iter().map(|plan| format!("{}, {}", plan.provider.name, plan.model)))
        .collect();
    let values = context! {
        assistant => value(summary(console, &assistant, &facts)),
        prompt, wrong, tools, hosted, greeting, fallback, caller, at,
        number => given,
        zone => assistant.zone().iana_name().unwrap_or("UTC"),
    };
    console.pages.page(StatusCode::OK, assistant.name(), "assistants", Some(visit), "assistant.html", values)
}

/// A call by such a caller at such a time.
///
/// # Errors
/// What is wrong with it, as a sentence.
fn facts(assistant: &Assistant, caller: &str, number: &str, at: &str) -> Result<Facts, String> {
    let now = Timestamp::now();
    let caller = match caller {
        "withheld" => Party::Withheld,
        _ => Party::Number(PhoneNumber::parse(number).map_err(|why| format!("The number: {why}."))?),
    };
    let now = match at {
        "" => now,
        at => {
            let at: CallTime = at.parse().map_err(|why| format!("The time: {why}."))?;
            assistant.time(at, now).ok_or("The time is beyond the calendar.")?
        }
    };
    let called = assistant.numbers().first().cloned().map_or(Party::Withheld, Party::Number);
    Ok(Facts { caller, called, now, ..Facts::nobody(now) })
}

fn tool(tool: &crate::assistant::plan::Tool) -> Value {
    let does = match &tool.work {
        Work::EndCall => "ends the call".to_owned(),
        Work::Transfer(targets) => {
            let people: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
            format!("transfers the caller to {}", people.join(", "))
        }
        Work::SendDigits => "presses keys".to_owned(),
        Work::Job(job) => match &**job {
            Job::Mcp { server, tool, .. } => format!("{tool} of the MCP server {}", server.name),
            Job::Http(_) => "an HTTP request".to_owned(),
            Job::SendSms => "sends the caller a text message".to_owned(),
            Job::TakeMessage(_) => "takes a message for the owner".to_owned(),
        },
    };
    context! { name => tool.name.as_str(), does, asks => tool.rule.ask_first }
}

/// What was edited last, and what is wrong with it.
pub fn edit_part(console: &Console) -> Value {
    let edits = console.edits.borrow().clone();
    let standing = *console.standing.borrow();
    let values = context! {
        generation => standing.generation,
        problems => edits.rejected.iter().map(shown).collect::<Vec<_>>(),
        warnings => edits.warnings.iter().map(shown).collect::<Vec<_>>(),
        rejected_at => edits.rejected_at.map(moment),
        applied_at => edits.applied.as_ref().map(|(at, _)| moment(*at)),
        changes => edits.applied.as_ref().map(|(_, changes)| changes.to_string()),
    };
    console.pages.part_or_error("_edit.html", values)
}

fn shown(problem: &Problem) -> Value {
    let at = problem.span().map(|span| (span.line, span.column));
    context! {
        file => problem.path(),
        line => at.map(|(line, _)| line),
        column => at.map(|(_, column)| column),
        is_error => problem.is_error(),
        severity => problem.severity().name(),
        code => problem.code(),
        message => problem.message(),
        fix => problem.fix(),
        excerpt => problem::excerpt(problem),
    }
}
