//! The commands about the folder of assistants: `check`, `who`, `show`, `new` and `schema`.

use std::fs;
use std::io::Write as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::ValueEnum;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::assistant::plan::{
    Blocked, First, Gate, Job, KeptNumbers, Limits, Line, Mailbox, Notify, Plan, RecordPolicy, Target, Voice,
    Webhook, Work,
};
use crate::assistant::{self, Assistant, CallTime, Checked, Facts, Off, Roster};
use crate::call::initial_turn_control;
use crate::link::model::{LeftOut, session};
use crate::link::tls;
use crate::link::twilio_rest::Account;
use crate::phone::{Party, PhoneNumber};
use crate::problem::{self, Problem, Suggestion};
use crate::provider::Transcribing;
use crate::settings;
use crate::terminal::{Failure, notify, print, report};
use crate::tool::Tools;
use crate::workspace::Workspace;

/// How long `show` waits for MCP servers to list their tools. Programs may need to be downloaded first.
const SERVERS_PATIENCE: Duration = Duration::from_secs(60);
/// How long `show` waits before it says what it is waiting for.
const SOON: Duration = Duration::from_secs(2);
/// The caller in `show` unless `--from` is given.
const CALLER: &str = "+15550100100";

/// How `check` prints what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people, on standard error
    Text,
    /// An array of problems, on standard output
    Json,
    /// Annotations for GitHub Actions, on standard output
    Github,
}

/// `switchboard check`.
pub fn check(dir: Option<PathBuf>, format: Format) -> Result<(), Failure> {
    let (place, count, problems) = match look(dir) {
        Ok((_, place, checked)) => {
            let mut problems = checked.problems();
            problems.extend(checked.doubts());
            problem::sort(&mut problems);
            let count = checked.roster.as_ref().ok().map(|roster| (roster.len(), roster.answers()));
            (place, count, problems)
        }
        Err(problems) => (String::new(), None, problems),
    };
    match format {
        Format::Text => report(&problems),
        Format::Json => print(&problem::json(&problems))?,
        Format::Github => print(&problem::github(&problems))?,
    }
    let Some((count, answers)) = count else { return Err(Failure::Reported) };
    if format == Format::Text {
        print(&format!("Checked {} in {place}.", problem::counted(count, "assistant")))?;
        if !answers {
            print(
                "No assistant answers a number yet: add one to `numbers`, or set the variable used there.",
            )?;
        }
    }
    Ok(())
}

/// The folder's name, and what checking it gave.
pub(super) fn look(dir: Option<PathBuf>) -> Result<(Workspace, String, Checked), Vec<Problem>> {
    let workspace = Workspace::open()?;
    let dir = dir.unwrap_or_else(|| workspace.settings.assistants_dir.clone());
    let checked = workspace.check(&dir)?;
    Ok((workspace, dir.display().to_string(), checked))
}

/// The assistant of this name.
pub(super) fn find<'a>(roster: &'a Roster, name: &str, place: &str) -> anyhow::Result<&'a Arc<Assistant>> {
    roster.by_name(name).ok_or_else(|| {
        let names: Vec<&str> = roster.iter().map(|assistant| assistant.name()).collect();
        let help = Suggestion::new(name, names);
        anyhow!("there is no assistant `{}` in {place}; {help}", problem::shown(name))
    })
}

/// `switchboard who NUMBER`.
pub fn who(called: &PhoneNumber) -> Result<(), Failure> {
    let (_, place, checked) = look(None)?;
    let problems = checked.problems();
    let Ok(roster) = checked.roster else { return Err(problems.into()) };
    let Some(assistant) = roster.find(called) else {
        return Err(anyhow!(
            "no assistant answers {}: add it to `numbers` in one of the files in {place}, or add \"*\" \
             to answer every other number",
            called.expose()
        )
        .into());
    };
    let listed = assistant.numbers().contains(called);
    let why = if listed { "has this number" } else { "answers every other number (\"*\")" };
    print(&format!("{} {why}", assistant.name()))
}

/// `switchboard show ASSISTANT`, with the tools that its MCP servers have now.
pub async fn show(name: &str, from: Option<Party>, at: Option<CallTime>) -> Result<(), Failure> {
    let (workspace, place, checked) = look(None)?;
    let problems = checked.problems_for(name);
    let Ok(roster) = checked.roster else { return Err(problems.into()) };
    let assistant = find(&roster, name, &place)?;
    report(&problems);
    let now = match at {
        Some(at) => assistant.time(at, Timestamp::now()).context("--at is beyond the calendar")?,
        None => Timestamp::now(),
    };
    let called = assistant.numbers().first().map_or(CALLER, PhoneNumber::expose);
    let facts = Facts {
        caller: from.unwrap_or_else(|| Party::from_twilio(CALLER)),
        called: Party::from_twilio(called),
        call: "CA00000000000000000000000000000000".to_owned(),
        now,
    };
    let settings = &workspace.settings;
    let tls = tls::client_config(false, settings.ssl_cert_file.as_deref())?;
    let account = Account::from_settings(settings, &tls).context("TLS cannot be set up")?;
    let tools = Tools::with(&tls, account, None, None).context("TLS cannot be set up")?;
    tools.keep(assistant.servers());
    if timeout(SOON, tools.settled(SERVERS_PATIENCE)).await.is_err() {
        notify(&format!("Waiting for its MCP servers, at most {} s …", SERVERS_PATIENCE.as_secs()));
        tools.settled(SERVERS_PATIENCE).await;
    }
    let plan = assistant.plan(&facts, &tools).map_err(|error| anyhow!("{error}"))?;
    let mut off = assistant.tools_off(&facts, &tools);
    for used in assistant.servers() {
        let Some(trouble) = tools.why_not(&used.server) else { continue };
        off.iter_mut()
            .filter(|(name, _)| *name == used.server.name)
            .for_each(|(_, why)| *why = trouble.clone().into());
    }
    tools.close().await;
    let mut session = session(&plan, initial_turn_control(&plan), LeftOut::default());
    hide_logins(&mut session);
    let update = json!({"type": "session.update", "session": session});
    let text = format!(
        "{}\nThe instructions, for a call from {}:\n\n{}\n\nThe configuration that is sent to `{}`:\n\n{update:#}\n",
        about(assistant, &plan, off),
        exposed(&facts.caller),
        indented(&plan.instructions).trim_end(),
        plan.provider.name,
    );
    print(&settings::without_secrets(&text, &workspace.environment))
}

/// A party as the owner typed it, on his own screen.
fn exposed(party: &Party) -> &str {
    match party {
        Party::Number(number) => number.expose(),
        Party::Withheld => "a withheld number",
        Party::Other(address) => address,
    }
}

/// What the session configuration does not show: numbers, the provider, limits, what is said when a call fails.
fn about(assistant: &Assistant, plan: &Plan, off: Vec<(String, Off)>) -> String {
    let mut rows: Vec<(&str, String)> = Vec::new();
    let mut numbers: Vec<String> =
        assistant.numbers().iter().map(|number| number.expose().to_owned()).collect();
    if assistant.answers_the_rest() {
        numbers.push("every other number (\"*\")".to_owned());
    }
    if numbers.is_empty() {
        numbers.push("no number yet".to_owned());
    }
    let provider = &plan.provider;
    let key = if provider.key.is_some() { "with a key" } else { "without a key" };
    rows.push(("answers", numbers.join(", ")));
    rows.push(("provider", format!("{}, {}, {key}", provider.name, without_query(&provider.url))));
    rows.push(("model", format!("{}, voice {}", plan.model, plan.voice)));
    for Plan { provider, model, voice, .. } in plan.fallback.iter().map(AsRef::as_ref) {
        let key = if provider.key.is_some() { "with a key" } else { "without a key" };
        rows.push(("fallback", format!("{}, {key}, {model}, voice {voice}", provider.name)));
    }
    let greeting = match (plan.greeting.first, &plan.greeting.clip, &plan.greeting.say) {
        (First::Caller, _, _) => "the caller speaks first".to_owned(),
        (_, Some(_), say) => {
            format!("a recording: {}", say.as_deref().unwrap_or("(no transcript in `say`)"))
        }
        (_, None, Some(say)) => format!("\"{say}\""),
        (_, None, None) => "written by the model".to_owned(),
    };
    rows.push(("greeting", greeting));
    rows.push(("limits", limits(plan, assistant.gate())));
    let block: Vec<String> = assistant.gate().block.iter().map(blocked).collect();
    if !block.is_empty() {
        rows.push(("block", block.join(", ")));
    }
    rows.push(("record", kept(plan)));
    if let Some(Notify { to, when }) = &plan.notify {
        let when: Vec<&str> = when.iter().map(|occasion| occasion.word()).collect();
        rows.push(("notify", format!("{}: {}", when.join(", "), ways(to))));
    }
    if let Some(after) = &plan.after_call {
        let form: Vec<&str> = after.names().collect();
        let to = after.webhook.as_ref().map(|webhook| format!("; {}", request_to(webhook)));
        rows.push(("after call", format!("a form: {}{}", form.join(", "), to.unwrap_or_default())));
    }
    if plan.record.audio {
        let notice = plan.recording_notice.as_ref();
        let said = notice.map(|line| format!("\"{}\", before anything else", line.say));
        rows.push((
            "notice",
            said.unwrap_or_else(|| "none: callers are not told of the recording".to_owned()),
        ));
    }
    let said = |line: &Line, dial: &Option<PhoneNumber>| {
        let dial = dial.as_ref().map(|number| format!(", then dials {}", number.expose()));
        format!("\"{}\"{}", line.say, dial.unwrap_or_default())
    };
    rows.push(("busy", said(&plan.busy, &plan.busy_dial)));
    rows.push(("on failure", said(&plan.on_failure.line, &plan.on_failure.dial)));
    let sounds = plan.sounds.iter().map(|(_, sound)| match &sound.voice {
        Voice::Recorded(_) => format!("a recording: \"{}\"", sound.text),
        Voice::Captured(_) | Voice::Missing => format!("\"{}\"", sound.text),
        Voice::Untranslated => "a soft tone".to_owned(),
    });
    rows.push(("sounds", sounds.collect::<Vec<_>>().join(", ")));
    for tool in &plan.tools {
        let what = match &tool.work {
            Work::EndCall => "ends the call".to_owned(),
            Work::Transfer(targets) => {
                let person = |target: &Target| format!("`{}` ({})", target.name, target.number.expose());
                let people: Vec<String> = targets.iter().map(person).collect();
                format!("transfers the caller to {}", people.join(", "))
            }
            Work::SendDigits => "presses keys".to_owned(),
            Work::Job(job) => match &**job {
                Job::Mcp { server, tool, .. } => {
                    format!("`{}` of the MCP server `{}`", problem::whole(tool), server.name)
                }
                Job::Http(call) => format!("a request to {}", host(&call.url)),
                Job::SendSms => "sends the caller a text message".to_owned(),
                Job::TakeMessage(mailbox) => {
                    format!("takes a message: {}", ways(mailbox))
                }
            },
        };
        let asked = if tool.rule.ask_first { ", after the caller agrees" } else { "" };
        rows.push(("tool", format!("{}: {what}{asked}", tool.name)));
    }
    for hosted in &plan.hosted {
        let tools = match &hosted.allowed {
            Some(allowed) if allowed.is_empty() => "none of its tools".to_owned(),
            Some(allowed) => problem::list(&allowed.iter().map(String::as_str).collect::<Vec<_>>()),
            None => "all of its tools".to_owned(),
        };
        rows.push(("tool", format!("{}: an MCP server that the provider calls: {tools}", hosted.label)));
    }
    for (name, why) in off {
        rows.push(("tool", format!("{name}: off: {why}")));
    }
    let description = Some(assistant.description()).filter(|text| !text.is_empty());
    let mut text = format!("{}: {}\n", assistant.name(), description.unwrap_or("(no description)"));
    for (name, value) in rows {
        text.push_str(&format!("  {name:<11} {value}\n"));
    }
    text
}

/// How something reaches the owner, in words.
fn ways(mailbox: &Mailbox) -> String {
    let Mailbox { email, sms, webhook, file } = mailbox;
    let ways = [
        email.as_ref().map(|address| format!("e-mail to {address}")),
        sms.as_ref().map(|number| format!("a text message to {}", number.expose())),
        webhook.as_ref().map(request_to),
        file.as_ref().map(|name| format!("the file {name}")),
    ];
    ways.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn request_to(webhook: &Webhook) -> String {
    format!("a signed request to {}", host(&webhook.url))
}

/// The limits that are set, in words.
fn limits(plan: &Plan, gate: &Gate) -> String {
    let Limits { call, silence, cost, .. } = plan.limits;
    let Gate { calls, cost_per_day, per_hour, per_day, count_withheld, block: _ } = gate;
    let mut limits = vec![
        format!("{} a call", assistant::spell(call)),
        format!("{} of silence", assistant::spell(silence)),
    ];
    limits.extend(cost.map(|dollars| format!("${dollars} a call")));
    limits.extend(cost_per_day.map(|dollars| format!("${dollars} a day")));
    limits.extend(calls.map(|calls| format!("{} at once", problem::counted(calls as usize, "call"))));
    let of_caller = |count: &Option<u32>, time: &str| {
        count.map(|count| format!("{} from one caller in {time}", problem::counted(count as usize, "call")))
    };
    limits.extend(of_caller(per_hour, "an hour"));
    limits.extend(of_caller(per_day, "a day"));
    if *count_withheld {
        limits.push("withheld numbers count as one caller".to_owned());
    }
    limits.join(", ")
}

fn blocked(blocked: &Blocked) -> String {
    match blocked {
        Blocked::Number(number) => number.expose().to_owned(),
        Blocked::Prefix(digits) => format!("{digits}*"),
        Blocked::Withheld => "withheld numbers".to_owned(),
    }
}

/// What is kept of a call, in words.
fn kept(plan: &Plan) -> String {
    let RecordPolicy { transcript, audio, tools, keep, numbers } = plan.record;
    let is_heard =
        plan.transcription.is_some() || plan.provider.abilities.transcription == Transcribing::Automatic;
    let words = if is_heard { "the transcript" } else { "the assistant's words" };
    let parts = [(transcript, words), (audio, "the audio"), (tools, "arguments and results of tools")];
    let mut parts: Vec<&str> = parts.into_iter().filter(|(kept, _)| *kept).map(|(_, part)| part).collect();
    parts.insert(0, "times, outcomes and costs");
    let number = match numbers {
        KeptNumbers::Full => "the caller's number",
        KeptNumbers::Masked => "the last digits of the caller's number and a keyed hash",
        KeptNumbers::None => "no number of the caller",
    };
    parts.push(number);
    format!("{}, for {}", parts.join(", "), assistant::spell(keep))
}

/// Hides the credentials for hosted MCP servers.
fn hide_logins(session: &mut Value) {
    for tool in session["tools"].as_array_mut().into_iter().flatten().filter(|tool| tool["type"] == "mcp") {
        if let Some(authorization) = tool.get_mut("authorization") {
            *authorization = "•••".into();
        }
        // The query or the user name may hold a key.
        if let Some(url) = tool.get_mut("server_url")
            && let Some(text) = url.as_str()
            && text.contains(['?', '@'])
        {
            *url = format!("{}://{}/•••", text.split("://").next().unwrap_or_default(), host(text)).into();
        }
        let headers = tool.get_mut("headers").and_then(Value::as_object_mut);
        headers.into_iter().flat_map(|headers| headers.values_mut()).for_each(|value| *value = "•••".into());
    }
}

/// The host of a URL. What follows it may be a template or a secret.
fn host(url: &str) -> &str {
    let behind = url.split_once("://").map_or(url, |(_, rest)| rest);
    behind.split(['/', '?', '#']).next().unwrap_or(behind)
}

fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or(url)
}

fn indented(text: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") }).collect()
}

/// `switchboard new NAME`.
pub fn new(name: &str) -> Result<(), Failure> {
    if !assistant::is_name(name) {
        return Err(Failure::Usage(format!(
            "`{}` is not a valid name: use up to 64 of a–z, 0–9 and -, such as front-desk",
            problem::shown(name)
        )));
    }
    let settings = Workspace::open()?.settings;
    let dir = &settings.assistants_dir;
    fs::create_dir_all(dir).with_context(|| format!("the folder `{}` cannot be created", dir.display()))?;
    if dir.join(format!("{name}.yml")).exists() {
        return Err(anyhow!("`{}` already exists", dir.join(format!("{name}.yml")).display()).into());
    }
    let path = dir.join(format!("{name}.yaml"));
    let schema = schema_beside(dir)?;
    let variable = format!("{}_NUMBER", name.to_uppercase().replace('-', "_"));
    let variable =
        if variable.starts_with(|c: char| c.is_ascii_digit()) { format!("N{variable}") } else { variable };
    let text = STARTER.replace("{SCHEMA}", &schema).replace("{VARIABLE}", &variable);
    write_new(&path, &text)?;
    let serve = match &settings.public_url {
        Some(_) => "`switchboard serve` answers the phone.",
        None => "`switchboard serve --tunnel` answers the phone, at a temporary public address.",
    };
    print(&format!(
        "Created {}. Next:\n  \
         1. Describe the assistant in `instructions`.\n  \
         2. `switchboard check` finds mistakes.\n  \
         3. `switchboard rehearse {name}` plays a call with it: no phone and no key needed.\n  \
         4. Set {variable} in `.env` to your Twilio number, such as +1555…. If another variable has that number, \
         remove it there.\n  \
         5. {serve}",
        path.display()
    ))
}

/// The path of the schema from the folder: the project's own, or a copy written beside the files.
fn schema_beside(dir: &Path) -> anyhow::Result<String> {
    const SCHEMA: &str = "assistant.schema.json";
    let steps = dir.components().filter(|part| matches!(part, Component::Normal(_))).count();
    if dir.is_relative()
        && Path::new("docs").join(SCHEMA).exists()
        && !dir.components().any(|part| part == Component::ParentDir)
    {
        return Ok(format!("{}docs/{SCHEMA}", "../".repeat(steps)));
    }
    let copy = dir.join(SCHEMA);
    if !copy.exists() {
        fs::write(&copy, schema_text()).with_context(|| format!("`{}` cannot be written", copy.display()))?;
    }
    Ok(format!("./{SCHEMA}"))
}

fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = match fs::File::create_new(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("`{}` already exists: choose another name, or edit it", path.display())
        }
        Err(error) => return Err(error).with_context(|| format!("`{}` cannot be written", path.display())),
    };
    file.write_all(text.as_bytes()).with_context(|| format!("`{}` cannot be written", path.display()))
}

/// A file that passes `check`, once `{SCHEMA}` and `{VARIABLE}` are replaced.
const STARTER: &str = r##"# yaml-language-server: $schema={SCHEMA}
description: Answers the phone           # for you: the caller never hears it

# The numbers that this assistant answers. Keep the number itself out of this file: set the variable
# in .env. Without a number, no call reaches this assistant, but you can rehearse it.
numbers: ["${{VARIABLE}:-}"]

voice: marin
timezone: UTC                            # such as America/New_York: for {{ now }}

variables:                               # your own names, for the texts below
  business: { name: Example Company, hours: "Monday to Friday, nine to five" }

instructions: |
  # Who you are

  You answer the phone for {{ business.name }}. You are friendly and to the point.

  # What you know

  It is {{ now }}. The hours are {{ business.hours }}.

  # How you speak

  This is a phone call: everything you write is spoken aloud. Speak in short sentences, and ask one
  question at a time. When the caller says goodbye, say goodbye too, and then call `end_call`.

  # What you do

  If you cannot help, offer to take a message with `take_message`, and say that somebody calls back.
  {% if caller.number %}
  The caller's number is {{ caller.spoken }}. Ask whether to call back on that number.
  {% else %}
  The caller's number is withheld. Ask for a number, and read it back digit by digit.
  {% endif %}

greeting:
  say: "Hello, {{ business.name }}, how can I help?"

call_control:
  end_call: true
  take_message:
    # One line for each message, in the folder STATE_DIR (by default `state`). docs/messages.md has the
    # other ways: email, sms, webhook.
    to: { file: messages.jsonl }
    fields: [name, number, message]

# News of calls for you, once each is over. docs/messages.md says more.
# notify: { to: { email: owner@example.com }, when: [message, failure] }

# What is kept of each call: this is the default. docs/privacy.md says more.
# record: { transcript: true, audio: false, tools: false, keep: 30d, numbers: full }
"##;

/// `switchboard schema`.
pub fn schema() -> Result<(), Failure> {
    print(&schema_text())
}

fn schema_text() -> String {
    let schema: Value = assistant::schema::schema();
    format!("{schema:#}\n")
}
