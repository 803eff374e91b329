//! One call with something that goes wrong in it, and what the caller heard of that.
//!
//! The call is the same in each row: the greeting; a question; a question that needs a function; a control question;
//! a goodbye. The caller waits for each answer, up to a limit, and then goes on.

use std::time::{Duration, Instant};

use anyhow::bail;
use switchboard_simulator::caller::voice::{music, speech};
use switchboard_simulator::caller::{Control, Phone, PhoneOptions};
use switchboard_simulator::model::{Aim, ModelOptions, ModelServer, Reply, ResponseLog, Speech, Trouble};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant as Clock, sleep, timeout};

use super::judge::{Asked, Outcome, SESSIONS};
use super::process::{Process, TOKEN};
use super::row::{Does, Row, Scene};

/// How long the caller waits for an answer before going on. The last step of the ladder comes at 20 s.
pub const PATIENCE: Duration = Duration::from_secs(26);
/// The longest call.
const LONGEST: Duration = Duration::from_secs(240);
/// Silence that tells the caller that the assistant has finished.
const FINISHED: Duration = Duration::from_millis(500);

const GREETING: &str = "Hello, this is the example line. What can I do for you?";
const FIRST: &str = "Pelican, that is noted. It takes four seconds to say so here.";
const FOUND: &str = "The order has been shipped and arrives on Monday.";
pub const CONTROL: &str = "Yes, I know: your word is pelican, as you said.";
const BYE: &str = "Thank you for calling, and goodbye.";
/// In the caller's first words, which a fresh session must be given.
pub const WORD: &str = "pelican";

/// The time on tokio's clock, which a test may let pass faster.
fn now() -> Instant {
    Clock::now().into_std()
}

/// Makes the call of a row.
pub async fn make(row: Row) -> Outcome {
    match timeout(LONGEST, attempt(&row)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => Outcome::none(row, format!("{error:#}")),
        Err(_) => Outcome::none(row, format!("the call did not end in {} s", LONGEST.as_secs())),
    }
}

async fn attempt(row: &Row) -> anyhow::Result<Outcome> {
    let usual =
        ModelOptions { think: Duration::from_millis(300), speech: Speech::Tagged, ..ModelOptions::default() };
    let mut options = ModelOptions { faults: row.faults.clone(), ..usual.clone() };
    (row.model)(&mut options);
    let models = [
        ModelServer::start(options).await?,
        ModelServer::start(ModelOptions { items_from: 30_000, ..usual }).await?,
    ];
    let function = Function::start(row.function).await?;
    let other = row.fallback.then(|| models[1].url());
    let process = Process::start(&models[0].url(), other.as_deref(), &assistant(row, &function.url)).await?;
    let stage = Stage {
        models: &models,
        process: &process,
        scene: watch::Sender::new(Scene::Ring),
        heard_from: watch::Sender::new(now()),
    };
    if let Some((Scene::Ring, does)) = row.act {
        stage.perform(does, None).await;
    }
    let phone = Phone::dial(PhoneOptions { status_callback: true, ..PhoneOptions::new(&process.url, TOKEN) });
    let control = phone.control();
    let talk = async {
        let asked = stage.talk(row, &control).await;
        // The rest is the server's to say. A caller who hears nothing more hangs up.
        stage.ended(&control, PATIENCE).await;
        control.hang_up();
        asked
    };
    let act = stage.act(row, &control, &function);
    let call = async { tokio::join!(talk, act, phone.finished()) };
    let flood = async {
        while models.iter().all(|model| model.session(SESSIONS).is_none()) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let (asked, (), record) = tokio::select! {
        done = call => done,
        () = flood => bail!("the call opened more than {SESSIONS} connections"),
    };
    let end = process.end_line(Duration::from_secs(3)).await;
    let sessions = [models[0].sessions(), models[1].sessions()];
    let outcome = Outcome::of(row, asked, end.as_ref(), &record, &sessions);
    drop(process);
    for model in models {
        model.stop().await;
    }
    Ok(outcome)
}

fn assistant(row: &Row, function: &str) -> String {
    // Music counts as silence after a minute, and a check comes before the end.
    let silence = if matches!(row.act, Some((_, Does::Music(_)))) { "15s" } else { "10m" };
    let fallback = if row.fallback { "fallback: [other]\n" } else { "" };
    format!(
        "numbers: [\"*\"]\ninstructions: You answer the phone.\ngreeting: {{ say: \"{GREETING}\" }}\n\
         turn_taking: {{ silence: 500ms }}\ncall_control: {{ end_call: true }}\n\
         functions:\n  look_up: {{ description: Looks up an order., timeout: 30s, http: {{ url: \"{function}\" }} }}\n\
         limits: {{ silence: {silence} }}\non_failure: {{ say: \"Sorry, something broke.\" }}\n{fallback}"
    )
}

/// What the caller and the harness act upon.
struct Stage<'a> {
    models: &'a [ModelServer; 2],
    process: &'a Process,
    scene: watch::Sender<Scene>,
    /// When the caller's words reach the server again.
    heard_from: watch::Sender<Instant>,
}

impl Stage<'_> {
    /// The caller's side of the conversation; `None` if the call ended before the control question.
    async fn talk(&self, row: &Row, caller: &Control) -> Option<Asked> {
        if !caller.wait_for_stream(1).await {
            return None;
        }
        self.scene.send_replace(Scene::Greeting);
        self.answered(caller, now()).await.then_some(())?;
        let first = self.ask(caller, Reply::say(FIRST).to("My word is pelican."), Scene::Speech).await?;
        let call = Reply::call("look_up", r#"{"order":7}"#).then(Reply::say(FOUND));
        self.ask(caller, call.to("Where is my order?"), Scene::Tool).await?;
        self.scene.send_replace(Scene::Pause);
        if let Some((Scene::Pause, does)) = row.act {
            self.ended(caller, does.lasts()).await;
        }
        let control = self.ask(caller, Reply::say(CONTROL).to("What is my word?"), Scene::Pause).await?;
        let bye = Reply::say(BYE).and_call("end_call", r#"{"reason":"done"}"#);
        self.reply_with(bye.to("Thank you, goodbye."));
        self.scene.send_replace(Scene::Goodbye);
        caller.say(speech(1_200));
        Some(Asked { first, control })
    }

    /// The caller asks and waits for the answer; when it was asked. `None` if the call ended.
    async fn ask(&self, caller: &Control, reply: Reply, scene: Scene) -> Option<Instant> {
        // Nobody owes an answer to what no line carried.
        let heard_from = *self.heard_from.borrow();
        self.ended(caller, heard_from.saturating_duration_since(now())).await;
        self.reply_with(reply);
        self.scene.send_replace(scene);
        let asked = now();
        caller.say(speech(1_600));
        sleep(Duration::from_millis(1_600)).await;
        self.answered(caller, asked).await.then_some(asked)
    }

    fn reply_with(&self, reply: Reply) {
        self.models.iter().for_each(|model| model.reply_with(reply.clone()));
    }

    /// Waits until a whole answer has been given since then, and nothing is heard any more, or until the caller loses
    /// patience; `false` if the call has ended.
    async fn answered(&self, caller: &Control, since: Instant) -> bool {
        let began = now();
        let playing = caller.playing();
        let is_answer = |response: &ResponseLog| {
            response.created >= since
                && response.status == "completed"
                && !matches!(response.aim, Aim::Aside | Aim::Form)
                && (!response.calls || response.aim == Aim::Goodbye)
        };
        while (now() - began) < PATIENCE {
            if playing.has_changed().is_err() {
                return false;
            }
            let has_answered = self.models.iter().any(|model| {
                (0..).map_while(|number| model.session(number)).any(|log| {
                    log.lock().is_ok_and(|log| {
                        let spoken = |id: &str| {
                            log.items
                                .iter()
                                .any(|item| item.response == id && !item.silent && item.sent_ms > 0)
                        };
                        log.responses.iter().any(|response| is_answer(response) && spoken(&response.id))
                    })
                })
            });
            let state = *playing.borrow();
            let is_quiet =
                state.since.is_none() && state.quiet_since.is_some_and(|at| now() - at >= FINISHED);
            if has_answered && is_quiet {
                return true;
            }
            sleep(Duration::from_millis(50)).await;
        }
        playing.has_changed().is_ok()
    }

    /// Waits for the end of the call; `false` if the patience ends first.
    async fn ended(&self, caller: &Control, patience: Duration) -> bool {
        let mut playing = caller.playing();
        timeout(patience, async { while playing.changed().await.is_ok() {} }).await.is_ok()
    }

    /// Does at its scene what the row wants to be done.
    async fn act(&self, row: &Row, caller: &Control, function: &Function) {
        let Some((scene, does)) = row.act.filter(|(scene, _)| *scene != Scene::Ring) else { return };
        let mut scenes = self.scene.subscribe();
        let begins = if scene == Scene::Answer { Scene::Speech } else { scene };
        let ready = async {
            // It fails if the call ended before.
            let _ = scenes.wait_for(|scene| *scene >= begins).await;
            match scene {
                Scene::Ring | Scene::Pause => {}
                Scene::Speech => sleep(Duration::from_millis(600)).await,
                Scene::Greeting => drop(caller.wait_until_playing_for(Duration::from_millis(500)).await),
                Scene::Answer | Scene::Goodbye => {
                    sleep(Duration::from_millis(1_200)).await;
                    caller.wait_until_playing_for(Duration::from_secs(1)).await;
                }
                Scene::Tool => function.runs().await,
            }
        };
        // A scene that does not come about is not waited for when the call is over.
        let mut playing = caller.playing();
        tokio::select! {
            () = ready => self.perform(does, Some(caller)).await,
            () = async { while playing.changed().await.is_ok() {} } => {}
        }
    }

    async fn perform(&self, does: Does, caller: Option<&Control>) {
        match does {
            Does::NoMedia(long) => {
                self.heard_from.send_replace(now() + long);
                caller.into_iter().for_each(|caller| caller.pause(long));
            }
            Does::BreakStream(after) => caller.into_iter().for_each(|caller| caller.break_stream(after)),
            Does::Music(long) => {
                caller.into_iter().for_each(|caller| caller.say(music(long.as_millis() as usize)));
            }
            Does::Down(long) => {
                self.models[0].refuse_connections_for(long);
                self.models[0].strike(Trouble::Reset);
            }
            Does::Refuse(long) => {
                self.models[0].refuse_connections_for(long);
            }
            Does::Signal(signal, long) => {
                self.process.signal(signal).await;
                if !long.is_zero() {
                    sleep(long).await;
                    self.process.signal("-CONT").await;
                }
            }
        }
    }
}

/// A function of the assistant: an HTTP service that takes its time.
struct Function {
    url: String,
    asked: watch::Receiver<bool>,
}

impl Function {
    async fn start(takes: Duration) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/", listener.local_addr()?);
        let (asked_tx, asked) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let asked = asked_tx.clone();
                tokio::spawn(async move {
                    let mut request = [0; 4_096];
                    if socket.read(&mut request).await.is_ok_and(|read| read > 0) {
                        asked.send_replace(true);
                        sleep(takes).await;
                        let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\
                                      Connection: close\r\n\r\n{\"state\": \"shipped\"}";
                        // The server may have given up.
                        let _ = socket.write_all(answer.as_bytes()).await;
                    }
                });
            }
        });
        Ok(Self { url, asked })
    }

    /// Waits until it has been running for half a second.
    async fn runs(&self) {
        let mut asked = self.asked.clone();
        let _ = asked.wait_for(|asked| *asked).await;
        sleep(Duration::from_millis(500)).await;
    }
}
