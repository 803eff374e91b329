//! The rehearsal: one call through the real server, over real loopback sockets, with nobody's phone and nobody's key.
//!
//! A simulated phone rings, a simulated model answers, and recorded speech is the caller. What happens is told as it
//! happens and kept in `call.wav` and `call.json`. With `--live` the model is the real one.

mod caller;
mod choose;
mod conversation;
mod print;
mod recording;
mod server;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::assistant::Facts;
use crate::assistant::plan::{First, Nothing, Plan};
use crate::call::EndReason;
use crate::phone::Party;
use crate::problem::Problem;
use crate::provider::{Auth, Dialect, Provider};
use crate::secret::Secret;
use crate::terminal::{Failure, report};
use crate::workspace::Workspace;
use caller::Part;
use choose::Choice;
use conversation::{Conversation, millis};
pub use print::Screen;
use recording::{Files, Row, Sheet, Tokens};
use server::{Server, token};
use switchboard_simulator::caller::{CallEnd, CallRecord, Happened, Phone, PhoneEvent, PhoneOptions};
use switchboard_simulator::model::{self, ModelOptions, ModelServer, Script, Truncating};

/// How often the moving line is written anew, and late words are looked for.
const TICK: Duration = Duration::from_millis(100);
/// What a simulated call may take beyond what its caller says; a live one has the assistant's own limit.
const SLACK: Duration = Duration::from_secs(120);
/// How long a call may need to end once the caller has hung up.
const LEAVING: Duration = Duration::from_secs(10);
/// How long the server may need to tell how a call ended.
const LAST_NEWS: Duration = Duration::from_secs(3);
/// What the simulated model may say about us and mean no more than that two messages crossed.
const CROSSINGS: [&str; 2] = ["conversation_already_has_active_response", "response_cancel_not_active"];

/// What `switchboard rehearse` was asked for.
#[derive(Debug, Clone, Default)]
pub struct Rehearse {
    /// Its name.
    pub assistant: Option<String>,
    pub to: Option<String>,
    pub from: Option<String>,
    /// A WAV file that is all the caller says.
    pub caller: Option<PathBuf>,
    /// Where `call.wav` and `call.json` go.
    pub out: PathBuf,
    /// Use the real provider.
    pub live: bool,
}

/// Rehearses one call and tells it on `screen`. When `stop` comes, the caller hangs up.
///
/// # Errors
/// When there is nothing to rehearse, or the call went wrong; the files are written in the latter case, too.
pub async fn run(
    options: &Rehearse,
    workspace: Workspace,
    stop: impl Future<Output = ()>,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let (part, recording) = part(options.caller.as_deref())?;
    let choose = |providers: &[Arc<Provider>]| -> Result<(Choice, Vec<Problem>), Failure> {
        let checked = workspace.check_with(&workspace.settings.assistants_dir, providers)?;
        let (name, to, from) = (&options.assistant, &options.to, &options.from);
        let Ok(roster) = &checked.roster else {
            let told = name.as_ref().map_or_else(|| checked.problems(), |name| checked.problems_for(name));
            return Err(told.into());
        };
        let choice = choose::choose(roster, name.as_deref(), to.as_deref(), from.as_deref())?;
        let odd = checked.problems_for(choice.assistant.name());
        Ok((choice, odd))
    };
    let mut providers = workspace.settings.providers();
    let (mut choice, odd) = choose(&providers)?;
    report(&odd);
    let mut model = None;
    if options.live {
        live(choice.assistant.provider())?;
    } else {
        // The stand-in takes the place of the provider that this assistant uses, under the same name.
        let started = simulated_model(choice.assistant.provider(), recording.as_deref()).await?;
        for provider in providers.iter_mut().filter(|provider| provider.name == started.provider.name) {
            *provider = Arc::new(started.provider.clone());
        }
        model = Some(started);
        choice = choose(&providers)?.0;
    }
    let plan = plan(&choice)?;
    let files = Files::prepare(&options.out)?;

    for line in opening(&choice, &plan, &part, recording.as_deref(), options.live) {
        screen.line(&line);
    }
    let server = Server::start(workspace.settings, &choice).await?;
    let stage = Stage { plan: &plan, part, choice: &choice, screen };
    let scene = stage.play(server, stop, options.live).await?;

    let mut wrong = scene.wrong(model.as_ref().map(|model| &model.server), recording.as_deref());
    let sheet = scene.sheet(&choice, options.live);
    if let Err(error) = files.write(&scene.record, &sheet) {
        wrong.push(format!("{error:#}"));
    }
    for line in summary(&scene, &sheet, &files) {
        screen.line(&line);
    }
    if let Some(model) = model {
        model.server.stop().await;
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(anyhow!("the call went wrong: {}", wrong.join("; ")).into())
}

/// What the caller says, and the name of the recording if it is one.
fn part(file: Option<&Path>) -> anyhow::Result<(Part, Option<String>)> {
    let Some(path) = file else { return Ok((Part::demo()?, None)) };
    let shown = path.display();
    let bytes =
        std::fs::read(path).with_context(|| format!("the recording `{shown}` (--caller) cannot be read"))?;
    let part =
        Part::file(&bytes).with_context(|| format!("the recording `{shown}` (--caller) cannot be played"))?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    Ok((part, Some(name.into_owned())))
}

/// A simulated model, and how to reach it.
struct Model {
    server: ModelServer,
    provider: Provider,
}

/// A model that speaks the provider's dialect and has its abilities.
async fn simulated_model(real: &Provider, recording: Option<&str>) -> anyhow::Result<Model> {
    let key = format!("sk-rehearsal-{}", token());
    let script = match recording {
        Some(name) => Script::for_recording(&format!("(speech in {name})")),
        None => Script::rehearsal(Part::words()),
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
        // OpenAI's names are known; those of others are their owners'.
        models: if real.name == "openai" { ModelOptions::default().models } else { Vec::new() },
        own_names: real.name != "openai",
        truncating: if abilities.truncates { Truncating::Works } else { Truncating::Refused },
        interrupts: abilities.interrupts_by_itself,
        temperature: abilities.temperature.clone(),
        script,
        ..ModelOptions::default()
    };
    let server =
        ModelServer::start(options).await.context("the simulated model cannot listen on 127.0.0.1")?;
    let provider = Provider { url: server.url(), key: Some(Secret::new(key)), ..real.clone() };
    Ok(Model { server, provider })
}

/// Whether the real provider can be called.
fn live(provider: &Provider) -> anyhow::Result<()> {
    if !provider.lacks_key() {
        return Ok(());
    }
    if provider.name == "openai" {
        bail!(
            "OPENAI_API_KEY is not set, and --live talks to the real model: put OPENAI_API_KEY=sk-… into `.env` or \
             the environment, or leave out --live to rehearse with the simulated one"
        );
    }
    bail!(
        "the provider `{}` has no key, and --live talks to the real model: set the variable that its `key` in \
         switchboard.yaml names, or leave out --live to rehearse with the simulated one",
        provider.name
    );
}

/// The plan that the server will make for this call, but for the minute.
fn plan(choice: &Choice) -> anyhow::Result<Plan> {
    let facts = Facts {
        caller: Party::from_twilio(&choice.from),
        called: Party::Number(choice.to.clone()),
        call: "CA00000000000000000000000000000000".to_owned(),
        now: Timestamp::now(),
    };
    Ok(choice.assistant.plan(&facts, &Nothing)?)
}

/// A call about to be played.
struct Stage<'a> {
    plan: &'a Plan,
    part: Part,
    choice: &'a Choice,
    screen: &'a mut Screen,
}

/// A call that was played.
struct Scene {
    record: CallRecord,
    conversation: Conversation,
    /// Whether `stop` came.
    stopped: bool,
    /// The call outlived this limit.
    outlived: Option<Duration>,
    complaint: Option<String>,
}

impl Stage<'_> {
    async fn play(self, server: Server, stop: impl Future<Output = ()>, live: bool) -> anyhow::Result<Scene> {
        let Stage { plan, part, choice, screen } = self;
        let mut server = server;
        let limit = match live {
            true => plan.limits.call + LEAVING * 2,
            false => plan.limits.call.min(part.lasts() + SLACK) + LEAVING * 2,
        };
        let mut conversation = Conversation::new(
            plan.greeting.say.clone(),
            plan.transcription.is_some(),
            part.clips().cloned().collect(),
        );
        let mut phone = Phone::dial(PhoneOptions {
            from: choice.from.clone(),
            to: choice.to.expose().to_owned(),
            status_callback: true,
            ..PhoneOptions::new(&server.url, &server.token)
        });
        let control = phone.control();
        let mut part = Some(part);
        let mut acting = None;
        let (mut stopped, mut outlived) = (false, None);
        let mut deadline = Instant::now() + limit;
        let mut stop = pin!(stop);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        // Every arm is cancel-safe: channels, timers, and a future that is pinned outside.
        loop {
            tokio::select! {
                happened = phone.events().recv() => match happened {
                    None => break,
                    Some(happened) => {
                        conversation.noticed(&happened);
                        if let PhoneEvent::StreamStarted { .. } = happened.event
                            && let Some(part) = part.take()
                        {
                            let act = part.act(control.clone(), plan.greeting.first);
                            acting = Some(AbortOnDropHandle::new(tokio::spawn(act)));
                        }
                        if let Some(line) = noticed(&happened, &conversation) {
                            show(&mut conversation, screen);
                            screen.line(&line);
                        }
                    }
                },
                Some(happening) = server.news.recv() => conversation.told(happening),
                () = &mut stop, if !stopped => {
                    stopped = true;
                    acting = None;
                    control.hang_up();
                    deadline = Instant::now() + LEAVING;
                }
                () = sleep_until(deadline.into()) => {
                    if outlived.is_some() || stopped {
                        break;
                    }
                    outlived = Some(limit);
                    control.hang_up();
                    deadline = Instant::now() + LEAVING;
                }
                _ = tick.tick() => progress(&conversation, screen),
            }
            show(&mut conversation, screen);
        }
        drop(acting);
        screen.wipe();
        let record = timeout(LEAVING, phone.finished()).await;
        let record = record.context("the simulated phone did not hang up")?;
        let last_news = async {
            while conversation.ended.is_none()
                && let Some(happening) = server.news.recv().await
            {
                conversation.told(happening);
            }
        };
        let _ = timeout(LAST_NEWS, last_news).await;
        while let Ok(happening) = server.news.try_recv() {
            conversation.told(happening);
        }
        for turn in conversation.rest() {
            print::turn(&turn).iter().for_each(|line| screen.line(line));
        }
        let complaint = server.close().await;
        Ok(Scene { record, conversation, stopped, outlived, complaint })
    }
}

fn show(conversation: &mut Conversation, screen: &mut Screen) {
    for turn in conversation.ready(Instant::now()) {
        print::turn(&turn).iter().for_each(|line| screen.line(line));
    }
}

fn progress(conversation: &Conversation, screen: &mut Screen) {
    let now = conversation.ms(Instant::now());
    let what =
        match (conversation.has_begun(), conversation.caller_speaks(now), conversation.assistant_speaks()) {
            (false, ..) => "ringing",
            (_, true, true) => "both speak",
            (_, true, false) => "the caller speaks",
            (_, false, true) => "the assistant speaks",
            (_, false, false) => "quiet",
        };
    let clock = print::clock(now);
    screen.progress(&format!("{}  … {what}", &clock[..clock.len() - 2]));
}

/// What the phone noticed, where that is worth a line.
fn noticed(happened: &Happened, conversation: &Conversation) -> Option<String> {
    let ms = conversation.ms(happened.at);
    let phone = |text: &str| Some(print::row(ms, "phone", text));
    match &happened.event {
        PhoneEvent::Rang { took } => {
            Some(format!("{:8}  {:<9}  rings; the server answers in {} ms", "", "phone", millis(*took)))
        }
        PhoneEvent::StreamStarted { .. } => phone("connected: the clock starts, and sound flows both ways"),
        PhoneEvent::Said(text) => phone(&format!("Twilio's own voice says: {text}")),
        PhoneEvent::Dialled(number) => phone(&format!("Twilio dials {number}")),
        PhoneEvent::Pressed(keys) => phone(&format!("Twilio presses the keys {keys}")),
        PhoneEvent::HungUp => phone("the caller hangs up"),
        PhoneEvent::Violation(violation) => {
            phone(&format!("Twilio would complain: {} ({})", violation.what, violation.code))
        }
        PhoneEvent::FirstMedia
        | PhoneEvent::Playing
        | PhoneEvent::Quiet { .. }
        | PhoneEvent::Cleared(_)
        | PhoneEvent::MarkEchoed { .. }
        | PhoneEvent::Speaking
        | PhoneEvent::Spoke
        | PhoneEvent::StreamEnded(_) => None,
    }
}

/// What is about to happen.
fn opening(choice: &Choice, plan: &Plan, part: &Part, recording: Option<&str>, live: bool) -> Vec<String> {
    let mut lines: Vec<String> = choice.hint.iter().cloned().collect();
    let about = match choice.assistant.description() {
        "" => String::new(),
        description => format!(" ({description})"),
    };
    let caller = match Party::from_twilio(&choice.from) {
        Party::Number(number) => number.expose().to_owned(),
        Party::Withheld | Party::Other(_) => "a withheld number".to_owned(),
    };
    lines.push(format!("{caller} calls {}, which `{}` answers{about}.", choice.to.expose(), plan.assistant));
    let (model, voice) = (&plan.model, &plan.voice);
    lines.push(match live {
        true => format!("The server and the model ({model}, voice {voice}) are real; the phone is simulated."),
        false => format!(
            "The server is the real one. The phone and the model are SIMULATED: this stand-in for {model} (voice \
             {voice}) understands no words, and follows a script."
        ),
    });
    lines.push(match (recording, plan.greeting.first) {
        (None, First::Assistant) => {
            "The caller is recorded, too: a question, an interruption, a goodbye. This takes about half a minute."
                .to_owned()
        }
        (None, First::Caller) => "The caller is recorded, too, and speaks first.".to_owned(),
        (Some(name), _) => format!(
            "The caller is the recording {name} ({}); 3 seconds after it is over and all is quiet, they hang up.",
            print::seconds(millis(part.lasts()))
        ),
    });
    lines.push(String::new());
    lines
}

impl Scene {
    fn reason(&self) -> Option<EndReason> {
        self.conversation.ended.as_ref().map(|(reason, _)| *reason)
    }

    /// Everything that a call must not do, in words.
    fn wrong(&self, model: Option<&ModelServer>, recording: Option<&str>) -> Vec<String> {
        let mut wrong: Vec<String> = self.complaint.iter().cloned().collect();
        match self.reason() {
            Some(reason) if reason.is_failure() || reason == EndReason::CallerRefused => {
                wrong.push(format!("it ended with {reason}: {}", in_words(reason)));
            }
            Some(_) => {}
            None => wrong.push("the server did not say how it ended".to_owned()),
        }
        match &self.record.end {
            CallEnd::CallerHungUp | CallEnd::HungUp => {}
            CallEnd::Rejected(reason) => wrong.push(format!("the server rejected it ({reason})")),
            CallEnd::Failed(code) => {
                wrong.push(format!(
                    "Twilio would tell the caller that an application error has occurred ({code})"
                ));
            }
        }
        if let Some(limit) = self.outlived {
            wrong.push(format!("it was still going on after {}", print::span(limit)));
        }
        let complaints = self.record.violations.iter();
        wrong.extend(few(complaints.map(|v| format!("Twilio would complain of {} ({})", v.what, v.code))));
        if let Some(model) = model {
            let sessions = model.sessions();
            let errors = sessions.iter().flat_map(|session| &session.errors);
            let errors = errors.filter(|code| !CROSSINGS.contains(&code.as_str()));
            wrong.extend(few(errors.map(|code| format!("the model refused a message ({code})"))));
            if sessions.iter().any(|session| !session.audio_waited_for_update()) {
                wrong.push("the caller's sound went to the model before it was configured".to_owned());
            }
        }
        if wrong.is_empty() && !self.stopped {
            let assistant_spoke =
                self.conversation.turns().any(|turn| turn.is_assistant() && turn.end_ms > turn.start_ms);
            if !assistant_spoke {
                wrong.push("the assistant was never heard".to_owned());
            }
            if !self.conversation.turns().any(|turn| !turn.is_assistant()) {
                let what = recording.unwrap_or("the caller's clips");
                wrong.push(format!("the model heard no speech in {what}"));
            }
        }
        wrong
    }

    fn sheet(&self, choice: &Choice, live: bool) -> Sheet {
        let tally = self.conversation.ended.as_ref().map(|(_, tally)| tally);
        Sheet {
            version: 1,
            assistant: choice.assistant.name().to_owned(),
            to: choice.to.expose().to_owned(),
            simulated: !live,
            seconds: recording::stream_seconds(&self.record),
            reason: self.reason().unwrap_or(EndReason::ServerFault).code().to_owned(),
            first_word_ms: self.conversation.first_word_ms(),
            turns: self.conversation.turns().map(Row::from).collect(),
            tokens: tally.map_or_else(Tokens::default, |tally| Tokens {
                taken: tally.tokens_in,
                made: tally.tokens_out,
            }),
            notes: self.conversation.notes.iter().map(|(code, count)| ((*code).to_owned(), *count)).collect(),
        }
    }
}

/// The first three, and how many more there are.
fn few(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = all.collect();
    if all.len() > 4 {
        let more = all.split_off(3).len();
        all.push(format!("{more} more of this kind"));
    }
    all
}

/// How it was, in figures.
fn summary(scene: &Scene, sheet: &Sheet, files: &Files) -> Vec<String> {
    let row = |name: &str, value: String| format!("  {name:<13}  {value}");
    let mut lines = vec![String::new(), "Summary".to_owned()];
    lines.push(match scene.reason() {
        Some(reason) => row("end", format!("{reason}: {}", in_words(reason))),
        None => row("end", "unknown".to_owned()),
    });
    lines.push(row("length", format!("{:.1} s", sheet.seconds)));
    let assistant = scene.conversation.turns().filter(|turn| turn.is_assistant()).count();
    let caller = sheet.turns.len() - assistant;
    let tally = scene.conversation.ended.as_ref().map(|(_, tally)| tally);
    let interruptions = tally.map_or(0, |tally| tally.interruptions);
    lines.push(row(
        "turns",
        format!("{caller} of the caller, {assistant} of the assistant; {interruptions} interrupted"),
    ));
    lines.push(row(
        "first word",
        sheet.first_word_ms.map_or("none".to_owned(), |ms| format!("{ms} ms after the stream began")),
    ));
    let time = |time: Option<Duration>| time.map(millis);
    lines.push(match tally.and_then(|tally| Some((time(tally.turn_median())?, time(tally.turn_max())?))) {
        Some((median, max)) => row(
            "answers",
            format!(
                "in {median} ms (median), {max} ms at most, from the moment the model heard the caller stop"
            ),
        ),
        None => row("answers", "none".to_owned()),
    });
    let whose = if sheet.simulated { " (the simulated model's count)" } else { "" };
    lines.push(row("tokens", format!("{} in, {} out{whose}", sheet.tokens.taken, sheet.tokens.made)));
    let notes: Vec<String> = sheet.notes.iter().map(|(code, count)| format!("{code} {count}")).collect();
    let on_purpose = if sheet.simulated { " (the simulated model is odd on purpose)" } else { "" };
    lines.push(row(
        "notes",
        match notes.is_empty() {
            true => "nothing odd".to_owned(),
            false => format!("odd, and coped with: {}{on_purpose}", notes.join(", ")),
        },
    ));
    lines.push(row("sound", format!("{} (caller left, assistant right)", files.sound.display())));
    lines.push(row("data", files.sheet.display().to_string()));
    lines
}

/// What a reason means to whoever wrote the assistant.
fn in_words(reason: EndReason) -> &'static str {
    match reason {
        EndReason::CallerHungUp => "the caller hung up",
        EndReason::CallerLost => "the phone's connection was lost",
        EndReason::CallerRefused => "the call was not taken",
        EndReason::AssistantEnded => "the assistant said goodbye and ended the call",
        EndReason::AssistantTransferred => "the assistant passed the caller on",
        EndReason::LimitSilence => "nobody spoke for as long as `limits: silence` allows",
        EndReason::LimitDuration => "it took as long as `limits: call` allows",
        EndReason::ModelUnreachable => "the model could not be reached in time",
        EndReason::ModelRefused => "the model did not take us: the key, the credit or the model's name",
        EndReason::ModelMisconfigured => "the model did not accept the assistant's configuration",
        EndReason::ModelStalled => "the model stopped answering",
        EndReason::ModelLost => "the model's connection was lost",
        EndReason::ServerDraining => "the server was told to stop",
        EndReason::OperatorEnded => "the operator ended it",
        EndReason::ServerFault => "the server has a fault",
    }
}
