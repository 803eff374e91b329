//! The rehearsal: one call through the real server over loopback, without a phone and without a key.
//!
//! A simulated phone calls with recorded speech, and a simulated model answers. The conversation is printed as it
//! happens and saved in `call.wav` and `call.json`. With `--live` the model is the real one.

mod caller;
mod choose;
mod conversation;
mod message;
mod news;
mod recording;
mod screen;
mod server;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::assistant::plan::{First, Nothing, Plan, TAKE_MESSAGE};
use crate::assistant::{CallTime, Facts};
use crate::call::EndReason;
use crate::phone::{Party, PhoneNumber};
use crate::problem::Problem;
use crate::provider::prices::Prices;
use crate::provider::{Auth, Dialect, OPENAI_REALTIME_URL, Provider};
use crate::record::print::{self, Manner, summary_row};
use crate::record::{CallRecord, RecordId, Recorder};
use crate::secret::Secret;
use crate::terminal::{Failure, report};
use crate::workspace::Workspace;
use caller::CallerSpeech;
use choose::Choice;
use conversation::{Conversation, Line, is_assistant, millis};
use message::Message;
use news::News;
use recording::Files;
pub use screen::Screen;
use server::Server;
pub use server::token;
use switchboard_simulator::caller::{
    CallEnd, CallRecord as PhoneRecord, Happened, Phone, PhoneEvent, PhoneOptions,
};
use switchboard_simulator::model::{self, ModelOptions, ModelServer, Script, Truncating};

/// How often the progress line is updated and late words are checked.
const TICK: Duration = Duration::from_millis(100);
/// How much longer than the caller's speech a simulated call may last. A live call has the assistant's limit.
const SLACK: Duration = Duration::from_secs(120);
/// How long the simulated model takes to begin an answer.
const THINKS: Duration = Duration::from_millis(500);
/// How long a call may take to end after the caller hangs up.
const HANG_UP: Duration = Duration::from_secs(10);
/// How long the server may take to report how a call ended, with the form after it.
const LAST_ENTRIES: Duration = Duration::from_secs(25);
/// The folder of what the rehearsed assistant takes for its owner, in that of the other files.
const STATE: &str = "rehearsal";
/// Errors of the simulated model that only mean that two messages crossed.
const HARMLESS: [&str; 2] = ["conversation_already_has_active_response", "response_cancel_not_active"];
/// The most errors of one kind that are shown.
const MAX_SHOWN: usize = 3;

/// The arguments of `switchboard rehearse`.
#[derive(Debug, Clone, Default)]
pub struct Rehearse {
    /// The assistant's name.
    pub assistant: Option<String>,
    pub to: Option<PhoneNumber>,
    pub from: Option<Party>,
    /// When the call rings; `None`: when it does.
    pub at: Option<CallTime>,
    /// A WAV file with everything the caller says.
    pub caller: Option<PathBuf>,
    /// The folder for `call.wav` and `call.json`.
    pub out: PathBuf,
    /// Use the real provider.
    pub live: bool,
}

/// Rehearses one call and prints it on `screen`. When `stop` completes, the caller hangs up.
///
/// # Errors
/// When the call cannot start, or when it went wrong. The files are written even if it went wrong.
pub async fn run(
    options: &Rehearse,
    workspace: Workspace,
    stop: impl Future<Output = ()>,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let recording = options.caller.as_deref().map(recorded).transpose()?;
    let choose = |providers: &[Arc<Provider>]| -> Result<(Choice, Vec<Problem>), Failure> {
        let checked = workspace.check_with(&workspace.settings.assistants_dir, providers)?;
        let (name, to, from) = (&options.assistant, &options.to, &options.from);
        let Ok(roster) = &checked.roster else {
            let problems =
                name.as_ref().map_or_else(|| checked.problems(), |name| checked.problems_for(name));
            return Err(problems.into());
        };
        let choice = choose::choose(roster, name.as_deref(), to.as_ref(), from.as_ref())?;
        let warnings = checked.problems_for(choice.assistant.name());
        Ok((choice, warnings))
    };
    let mut providers = workspace.settings.providers();
    let (mut choice, warnings) = choose(&providers)?;
    report(&warnings);
    // A real model may not understand that the caller leaves a message.
    let message = match recording.is_none() && !options.live {
        true => message::of(&plan(&choice, None)?, &choice.from),
        false => None,
    };
    let (speech, recording) = match recording {
        Some((speech, name)) => (speech, Some(name)),
        None => (CallerSpeech::demo(message.as_ref().map(|message| message.wav))?, None),
    };
    let mut model = None;
    if options.live {
        live(choice.assistant.provider())?;
    } else {
        // The simulated model replaces this assistant's provider, under the same name.
        let started =
            simulated_model(choice.assistant.provider(), recording.as_deref(), message.as_ref()).await?;
        for provider in providers.iter_mut().filter(|provider| provider.name == started.provider.name) {
            *provider = Arc::new(started.provider.clone());
        }
        model = Some(started);
        choice = choose(&providers)?.0;
    }
    let now = options.at.map(|at| choice.assistant.time(at, Timestamp::now()));
    let now = now.map(|now| now.context("--at is beyond the calendar")).transpose()?;
    let plan = plan(&choice, now)?;
    let files = Files::prepare(&options.out)?;

    for line in opening(&choice, &plan, &speech, recording.as_deref(), options.live) {
        screen.line(&line);
    }
    let prices = Arc::new(workspace.settings.prices.clone());
    let state = news::has_any(&plan).then(|| options.out.join(STATE));
    let server = Server::start(workspace.settings, &choice, now, state.clone(), options.live).await?;
    let rehearsal = Rehearsal { plan: &plan, prices, speech, choice: &choice, state: state.clone(), screen };
    let outcome = rehearsal.run(server, stop, options.live).await?;

    let mut wrong = outcome.wrong(model.as_ref().map(|model| &model.server), recording.as_deref());
    if let Err(error) = files.write(&outcome.phone, &outcome.record) {
        wrong.push(format!("{error:#}"));
    }
    for line in summary(&outcome, &files) {
        screen.line(&line);
    }
    for line in outcome.news.iter().flat_map(|news| news.after_call(state.as_deref())) {
        screen.line(&line);
    }
    if let Some(model) = model {
        model.server.stop().await;
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(anyhow!("the rehearsal failed: {}", wrong.join("; ")).into())
}

/// What the caller of a recording says, and the recording's name.
fn recorded(path: &Path) -> anyhow::Result<(CallerSpeech, String)> {
    let shown = path.display();
    let bytes =
        std::fs::read(path).with_context(|| format!("the recording `{shown}` (--caller) cannot be read"))?;
    let speech = CallerSpeech::file(&bytes)
        .with_context(|| format!("the recording `{shown}` (--caller) cannot be played"))?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    Ok((speech, name.into_owned()))
}

/// A simulated model and the provider that leads to it.
struct Model {
    server: ModelServer,
    provider: Provider,
}

/// A model of OpenAI's that answers whatever it hears.
pub struct SimulatedModel(Model);

impl SimulatedModel {
    /// In place of OPENAI_REALTIME_URL.
    pub fn url(&self) -> String {
        self.0.server.url()
    }

    /// In place of OPENAI_API_KEY.
    pub fn key(&self) -> &str {
        self.0.provider.key.as_ref().map(Secret::expose).unwrap_or_default()
    }
}

/// Starts one, for `serve --simulate`.
///
/// # Errors
/// If it cannot listen.
pub async fn any_model() -> anyhow::Result<SimulatedModel> {
    let openai = Provider::openai(OPENAI_REALTIME_URL.to_owned(), None);
    Ok(SimulatedModel(simulated_model(&openai, Some("the microphone"), None).await?))
}

/// Starts a model that speaks the provider's dialect and has its abilities.
async fn simulated_model(
    real: &Provider,
    recording: Option<&str>,
    message: Option<&Message>,
) -> anyhow::Result<Model> {
    let key = format!("sk-rehearsal-{}", token());
    let script = match recording {
        Some(name) => Script::for_recording(&format!("(speech in {name})")),
        None => {
            let arguments = |message: &Message| Value::from(message.arguments.clone()).to_string();
            let message = message.map(|message| (message.words, TAKE_MESSAGE, arguments(message)));
            Script::rehearsal(CallerSpeech::words(), message)
        }
    };
    let abilities = &real.abilities;
    let options = ModelOptions {
        dialect: match real.dialect {
            Dialect::Ga => model::Dialect::Ga,
            Dialect::Beta => model::Dialect::Beta,
            Dialect::Xai => model::Dialect::Xai,
        },
        key: key.clone(),
        auth_header: match &real.auth {
            Auth::Bearer => None,
            Auth::Header(name) => Some(name.clone()),
        },
        // OpenAI's model names are known; other providers have their own.
        models: if real.name == "openai" { ModelOptions::default().models } else { Vec::new() },
        own_names: real.name != "openai",
        truncating: if abilities.truncates { Truncating::Works } else { Truncating::Refused },
        interrupts: abilities.interrupts_by_itself,
        temperature: abilities.temperature.clone(),
        think: THINKS,
        script,
        ..ModelOptions::default()
    };
    let server =
        ModelServer::start(options).await.context("the simulated model cannot listen on 127.0.0.1")?;
    let provider = Provider { url: server.url(), key: Some(Secret::new(key)), ..real.clone() };
    Ok(Model { server, provider })
}

/// Checks that the real provider can be called.
fn live(provider: &Provider) -> anyhow::Result<()> {
    if !provider.lacks_key() {
        return Ok(());
    }
    let variable = match &*provider.name {
        "openai" => "OPENAI_API_KEY",
        _ => "the variable that its `key` names in switchboard.yaml",
    };
    bail!(
        "the provider `{}` has no key, and --live calls the real model. Set {variable}, or leave out --live to use the \
         simulated model",
        provider.name
    );
}

/// The plan that the server will make for this call, except for the exact time unless it is given.
fn plan(choice: &Choice, now: Option<Timestamp>) -> anyhow::Result<Plan> {
    let facts = Facts {
        caller: Party::from_twilio(&choice.from),
        called: Party::Number(choice.to.clone()),
        call: "CA00000000000000000000000000000000".to_owned(),
        now: now.unwrap_or_else(Timestamp::now),
    };
    Ok(choice.assistant.plan(&facts, &Nothing)?)
}

/// A call that is about to start.
struct Rehearsal<'a> {
    plan: &'a Plan,
    prices: Arc<Prices>,
    speech: CallerSpeech,
    choice: &'a Choice,
    /// Where messages that go to a file are.
    state: Option<PathBuf>,
    screen: &'a mut Screen,
}

/// A call that has ended.
struct Outcome {
    phone: PhoneRecord,
    record: CallRecord,
    /// What the owner is told of the call.
    news: Vec<News>,
    /// The operator stopped the rehearsal.
    stopped: bool,
    /// The limit that the call exceeded.
    exceeded: Option<Duration>,
    server_error: Option<String>,
}

impl Rehearsal<'_> {
    async fn run(
        self,
        mut server: Server,
        stop: impl Future<Output = ()>,
        live: bool,
    ) -> anyhow::Result<Outcome> {
        let Rehearsal { plan, prices, speech, choice, state, screen } = self;
        let limit = match live {
            true => plan.limits.call + HANG_UP * 2,
            false => plan.limits.call.min(speech.duration() + SLACK) + HANG_UP * 2,
        };
        let id = RecordId::new(Timestamp::now(), rand::random());
        let recorder = Recorder::new(id).priced(prices);
        let clips = speech.clips().cloned().collect();
        let mut conversation = Conversation::new(recorder, plan.transcription.is_some(), clips);
        let mut phone = Phone::dial(PhoneOptions {
            from: choice.from.clone(),
            to: choice.to.expose().to_owned(),
            status_callback: true,
            ..PhoneOptions::new(&server.url, &server.token)
        });
        let control = phone.control();
        let mut speech = Some(speech);
        let mut speaking = None;
        let (mut stopped, mut exceeded) = (false, None);
        let mut deadline = Instant::now() + limit;
        let mut stop = pin!(stop);
        let mut news = Vec::new();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        // Every arm is cancel-safe: channels, timers, and a future that is pinned outside.
        loop {
            tokio::select! {
                happened = phone.events().recv() => match happened {
                    None => break,
                    Some(happened) => {
                        conversation.phone_event(&happened);
                        if let PhoneEvent::StreamStarted { .. } = happened.event
                            && let Some(speech) = speech.take()
                        {
                            let speak = speech.speak(control.clone(), plan.greeting.first);
                            speaking = Some(AbortOnDropHandle::new(tokio::spawn(speak)));
                        }
                        if let Some(line) = phone_line(&happened, &conversation) {
                            conversation.phone_line(happened.at, line);
                        }
                    }
                },
                Some((entry, at)) = server.entries.recv() => conversation.entry(entry, at),
                Some((letter, at)) = server.letters.recv() => {
                    news.extend(in_conversation(letter, at, &mut conversation, state.as_deref()));
                }
                () = &mut stop, if !stopped => {
                    stopped = true;
                    speaking = None;
                    control.hang_up();
                    deadline = Instant::now() + HANG_UP;
                }
                () = sleep_until(deadline.into()) => {
                    if exceeded.is_some() || stopped {
                        break;
                    }
                    exceeded = Some(limit);
                    control.hang_up();
                    deadline = Instant::now() + HANG_UP;
                }
                _ = tick.tick() => progress(&conversation, screen),
            }
            show(conversation.ready(Instant::now()), plan, live, screen);
        }
        drop(speaking);
        screen.wipe();
        let phone = timeout(HANG_UP, phone.finished()).await;
        let phone = phone.context("the simulated phone did not hang up")?;
        let last_entries = async {
            while !conversation.ended
                && let Some((entry, at)) = server.entries.recv().await
            {
                conversation.entry(entry, at);
            }
        };
        let _ = timeout(LAST_ENTRIES, last_entries).await;
        while let Ok((entry, at)) = server.entries.try_recv() {
            conversation.entry(entry, at);
        }
        while let Ok((letter, at)) = server.letters.try_recv() {
            news.extend(in_conversation(letter, at, &mut conversation, state.as_deref()));
        }
        show(conversation.rest(), plan, live, screen);
        let (server_error, late) = server.close().await;
        news.extend(late);
        Ok(Outcome { phone, record: conversation.record(), news, stopped, exceeded, server_error })
    }
}

fn show(lines: Vec<Line>, plan: &Plan, live: bool, screen: &mut Screen) {
    // How fast a simulated model answers is its script, so only a live call shows it.
    let no_words = match plan.transcription {
        Some(_) => "(words unknown)",
        None => "(the assistant's file turns transcription off)",
    };
    let manner = Manner { no_words, latencies: live };
    for line in lines {
        match line {
            Line::Turn(turn, first_word) => {
                print::turn(&turn, first_word, manner).iter().for_each(|line| screen.line(line));
            }
            Line::Phone { text, .. } => screen.line(&text),
        }
    }
}

/// Adds a message to the conversation. Returns what follows the call.
fn in_conversation(
    news: News,
    at: Instant,
    conversation: &mut Conversation,
    state: Option<&Path>,
) -> Option<News> {
    if !news.is_of_call() {
        return Some(news);
    }
    let lines = news.in_call(conversation.ms(at), state);
    conversation.phone_line(at, lines);
    None
}

fn progress(conversation: &Conversation, screen: &mut Screen) {
    let now = conversation.ms(Instant::now());
    let what = conversation.status(now);
    let clock = print::clock(now);
    screen.progress(&format!("{}  … {what}", &clock[..clock.len() - 2]));
}

/// The line for an event of the phone, if it gets one.
fn phone_line(happened: &Happened, conversation: &Conversation) -> Option<String> {
    let ms = conversation.ms(happened.at);
    let phone = |text: &str| Some(print::row(ms, "phone", text));
    match &happened.event {
        PhoneEvent::Rang { took } => {
            Some(format!("{:8}  {:<9}  ringing; the server answered after {} ms", "", "phone", millis(*took)))
        }
        PhoneEvent::StreamStarted { .. } => phone("connected; the clock starts"),
        PhoneEvent::Said(text) => phone(&format!("Twilio's own voice says: {text}")),
        PhoneEvent::Dialled(number) => phone(&format!("Twilio dials {number}")),
        PhoneEvent::Pressed(keys) => phone(&format!("Twilio presses the keys {keys}")),
        PhoneEvent::HungUp => phone("the caller hangs up"),
        PhoneEvent::Violation(violation) => {
            phone(&format!("Twilio would report error {}: {}", violation.code, violation.what))
        }
        _ => None,
    }
}

/// What is about to happen.
fn opening(
    choice: &Choice,
    plan: &Plan,
    speech: &CallerSpeech,
    recording: Option<&str>,
    live: bool,
) -> Vec<String> {
    let about = match choice.assistant.description() {
        "" => String::new(),
        description => format!(": {description}"),
    };
    let mut lines = vec![format!("Rehearsing the assistant `{}`{about}", plan.assistant)];
    lines.extend(choice.hint.clone());
    let from = match Party::from_twilio(&choice.from) {
        Party::Number(number) => number.expose().to_owned(),
        Party::Withheld | Party::Other(_) => "a withheld number".to_owned(),
    };
    let (model, voice) = (&plan.model, &plan.voice);
    let model = match live {
        true => format!("REAL: {model}, voice {voice}"),
        false => {
            format!(
                "SIMULATED: follows an English script instead of understanding words; stands in for {model}, voice {voice}"
            )
        }
    };
    let caller = match (recording, plan.greeting.first) {
        (None, first) => {
            let begins = match first {
                First::Assistant => "asks a question",
                First::Caller => "speaks first",
            };
            // All but the question, the interruption and the goodbye.
            let leaves = if speech.clips().count() > 3 { ", leaves a message" } else { "" };
            format!(
                "recorded, in English: {begins}, interrupts the answer{leaves}, says goodbye (about 30 seconds)"
            )
        }
        (Some(name), _) => format!(
            "the recording {name} ({}); hangs up after it, when the call has been quiet for 3 seconds",
            print::seconds(millis(speech.duration()))
        ),
    };
    lines.extend([
        String::new(),
        summary_row("call", &format!("from {from} to {}", choice.to.expose())),
        summary_row("phone", "simulated"),
        summary_row("server", "real"),
        summary_row("model", &model),
        summary_row("caller", &caller),
        String::new(),
    ]);
    lines
}

impl Outcome {
    fn reason(&self) -> Option<EndReason> {
        let code = self.record.reason.as_deref()?;
        EndReason::ALL.iter().copied().find(|reason| reason.code() == code)
    }

    /// Everything that went wrong, in words.
    fn wrong(&self, model: Option<&ModelServer>, recording: Option<&str>) -> Vec<String> {
        let mut wrong: Vec<String> = self.server_error.iter().cloned().collect();
        match self.reason() {
            Some(reason) if reason.is_failure() || reason == EndReason::CallerRefused => {
                wrong.push(format!("it ended with {}", print::end(&self.record)));
            }
            Some(_) => {}
            None => wrong.push("the server did not report how it ended".to_owned()),
        }
        match &self.phone.end {
            CallEnd::CallerHungUp | CallEnd::HungUp => {}
            CallEnd::Rejected(reason) => wrong.push(format!("the server rejected the call ({reason})")),
            CallEnd::Failed(code) => {
                wrong.push(format!("Twilio would end the call with an application error ({code})"));
            }
        }
        if let Some(limit) = self.exceeded {
            wrong.push(format!("it was still running after {} seconds", limit.as_secs()));
        }
        let violations = self.phone.violations.iter().take(MAX_SHOWN);
        wrong.extend(violations.map(|v| format!("Twilio would report error {}: {}", v.code, v.what)));
        if let Some(model) = model {
            let sessions = model.sessions();
            let errors = sessions.iter().flat_map(|session| &session.errors);
            let errors = errors.filter(|code| !HARMLESS.contains(&code.as_str())).take(MAX_SHOWN);
            wrong.extend(errors.map(|code| format!("the model rejected a message ({code})")));
            if sessions.iter().any(|session| !session.audio_waited_for_update()) {
                wrong.push("the server sent audio to the model before the model was configured".to_owned());
            }
        }
        if wrong.is_empty() && !self.stopped {
            let turns = &self.record.turns;
            if !turns.iter().any(|turn| is_assistant(turn) && turn.end_ms > turn.start_ms) {
                wrong.push("the assistant was never heard".to_owned());
            }
            if turns.iter().all(is_assistant) {
                let what = recording.unwrap_or("the built-in clips");
                wrong.push(format!("the model detected no speech in {what}"));
            }
        }
        wrong
    }
}

/// The call in figures.
fn summary(outcome: &Outcome, files: &Files) -> Vec<String> {
    let record = &outcome.record;
    let end = match record.reason {
        Some(_) => print::end(record),
        None => "unknown".to_owned(),
    };
    let assistant = record.turns.iter().filter(|turn| is_assistant(turn)).count();
    let caller = record.turns.len() - assistant;
    let interruptions = record.interruptions;
    // What the script decides is no measurement.
    let scripted = match record.simulated {
        true => format!("; the simulated model always takes {} of them", millis(THINKS)),
        false => String::new(),
    };
    let first_word = match record.first_word_ms {
        // A recorded greeting does not wait for the model.
        Some(ms) if ms < millis(THINKS) => format!("{ms} ms after the call was connected"),
        Some(ms) => format!("{ms} ms after the call was connected{scripted}"),
        None => "none".to_owned(),
    };
    let answers = match print::latencies(record)[..] {
        [] => "none".to_owned(),
        [ref sorted @ .., max] => format!(
            "after {} ms (median) and {max} ms (slowest), from the end of the caller's turn{scripted}",
            sorted.get(sorted.len() / 2).unwrap_or(&max),
        ),
    };
    let counted = if record.simulated { " (estimated by the simulated model)" } else { "" };
    let anomalies: Vec<String> =
        record.anomalies.iter().map(|(code, count)| format!("{code} {count}")).collect();
    let on_purpose =
        if record.simulated { " (all handled; the simulated model causes some on purpose)" } else { "" };
    let anomalies = match anomalies.is_empty() {
        true => "none".to_owned(),
        false => format!("{}{on_purpose}", anomalies.join(", ")),
    };
    vec![
        String::new(),
        "Summary".to_owned(),
        summary_row("end", &end),
        summary_row("length", &format!("{:.1} s", recording::stream_seconds(&outcome.phone))),
        summary_row(
            "turns",
            &format!("{caller} by the caller, {assistant} by the assistant ({interruptions} interrupted)"),
        ),
        summary_row("first word", &first_word),
        summary_row("answers", &answers),
        summary_row("tokens", &format!("{} in, {} out{counted}", record.tokens.taken, record.tokens.made)),
        summary_row("anomalies", &anomalies),
        summary_row("recording", &format!("{} (left: caller, right: assistant)", shown(&files.sound))),
        summary_row("data", &shown(&files.sheet)),
    ]
}

/// A path without a leading `./`.
fn shown(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}
