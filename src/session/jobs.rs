//! The jobs of one call: each is a task beside the audio, and tells by a channel what came of it.
//!
//! The log learns of each one its tool, how long it took and one word for how it ended; never an argument or a
//! result.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tracing::{Instrument as _, Span};

use super::Switchboard;
use crate::assistant::plan::{Job, Tool, Work, unfit};
use crate::call::{Event, Stop};
use crate::id::ToolCallId;
use crate::link::now;
use crate::observe::metrics;
use crate::tool::Client;

/// Jobs of one call at once. No conversation needs more.
const MAX_AT_ONCE: usize = 32;
/// What jobs have told and the session has not yet taken.
const MAX_NEWS: usize = 64;
/// For the model, in place of a result.
const TOO_MANY: &str = "Too many tools are at work for this call. Wait for their results, then try again.";
const NO_JOB: &str = "This tool cannot be used now.";

/// See the module. Dropping it gives up every job but those that outlive their call.
pub(super) struct Jobs {
    switchboard: Arc<Switchboard>,
    client: Client,
    tasks: JoinSet<()>,
    running: HashMap<ToolCallId, Running>,
    news_tx: mpsc::Sender<Event>,
    news: mpsc::Receiver<Event>,
}

/// A task that can be given up.
struct Running {
    task: AbortHandle,
    /// Why it was.
    stopped: Arc<OnceLock<Stop>>,
}

impl Jobs {
    pub fn new(switchboard: Arc<Switchboard>, client: Client) -> Self {
        let (news_tx, news) = mpsc::channel(MAX_NEWS);
        Self { switchboard, client, tasks: JoinSet::new(), running: HashMap::new(), news_tx, news }
    }

    /// Begins one. What comes of it, [`Self::news`] tells.
    ///
    /// # Errors
    /// What the model is told instead, where it cannot begin.
    pub fn run(
        &mut self,
        id: ToolCallId,
        tool: Option<&Tool>,
        arguments: Map<String, Value>,
    ) -> Result<(), Event> {
        let Some(Tool { name, parameters, work: Work::Job(job), .. }) = tool else {
            return Err(Event::ToolFinished { id, output: NO_JOB.to_owned().into() });
        };
        let lasts = matches!(**job, Job::TakeMessage(_));
        // A service judges its arguments; nobody else looks at a message before it is promised.
        if lasts && let Some(sentence) = unfit(parameters, &arguments) {
            return Err(Event::ToolFinished { id, output: sentence.into() });
        }
        // Those that are done leave here.
        while self.tasks.try_join_next().is_some() {}
        self.running.retain(|_, running| !running.task.is_finished());
        if self.running.len() >= MAX_AT_ONCE {
            return Err(Event::ToolFinished { id, output: TOO_MANY.to_owned().into() });
        }
        let stopped = Arc::new(OnceLock::new());
        let run = Run {
            tool: name.clone(),
            place: place(job),
            began: now(),
            outcome: None,
            stopped: stopped.clone(),
        };
        let (switchboard, client, news) =
            (self.switchboard.clone(), self.client.clone(), self.news_tx.clone());
        let (job, call_id) = (job.clone(), id.clone());
        let task = async move {
            let mut run = run;
            let working = || {
                // Where the session is behind with news, it knows that much already.
                let _ = news.try_send(Event::ToolWorking(call_id.clone()));
            };
            let done = switchboard.tools.run(&job, arguments, &client, working).await;
            run.outcome = Some(done.failed.unwrap_or("ok"));
            drop(run);
            // Where nobody listens any more, the call is over.
            let _ = news.send(Event::ToolFinished { id: call_id, output: done.output }).await;
        }
        .instrument(Span::current());
        if lasts {
            // The caller may hang up on their last word: the message is taken down all the same.
            self.switchboard.lasting.spawn(task);
        } else {
            self.running.insert(id, Running { task: self.tasks.spawn(task), stopped });
        }
        Ok(())
    }

    /// Gives one up. What it tells in this very moment comes late.
    pub fn stop(&mut self, id: &ToolCallId, why: Stop) {
        if let Some(running) = self.running.remove(id) {
            // Before the end, which reads it. Nobody else sets it.
            let _ = running.stopped.set(why);
            running.task.abort();
        }
    }

    /// The call is over: what does not outlive it is given up.
    pub fn stop_all(&mut self) {
        self.tasks.abort_all();
        self.running.clear();
    }

    /// What a job tells next. Cancel-safe.
    pub async fn news(&mut self) -> Event {
        // One sender is ours: the channel does not close.
        self.news.recv().await.expect("a sender is kept beside the receiver")
    }
}

/// One job under way; its end, however it comes, is a line in the log.
struct Run {
    tool: String,
    /// The MCP server's name, or the kind of job.
    place: String,
    began: Instant,
    /// `None` until it has ended by itself.
    outcome: Option<&'static str>,
    stopped: Arc<OnceLock<Stop>>,
}

impl Drop for Run {
    fn drop(&mut self) {
        let time = now() - self.began;
        let ms = time.as_millis() as u64;
        let outcome = self.outcome.unwrap_or(match self.stopped.get() {
            Some(Stop::Timeout) => "timeout",
            Some(Stop::Cancelled) | None => "stopped",
        });
        tracing::info!(tool = self.tool, at = self.place, ms, outcome, "Tool ended");
        metrics::tool(outcome, time);
    }
}

fn place(job: &Job) -> String {
    match job {
        Job::Mcp { server, .. } => server.name.clone(),
        Job::Http(_) => "http".to_owned(),
        Job::SendSms => "sms".to_owned(),
        Job::TakeMessage(_) => "message".to_owned(),
    }
}
