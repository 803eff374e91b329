//! The jobs of one call. Each is a task of its own, beside the calls, that reports its result through a channel.
//!
//! The log shows a job's tool, duration and outcome, but never an argument or a result.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use serde_json::{Map, Value};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{Instrument as _, Span};

use super::settle::Pending;
use super::{Switchboard, rare};
use crate::assistant::plan::{Job, Tool, Work};
use crate::call::{Event, Stop};
use crate::id::ToolCallId;
use crate::link::now;
use crate::notice::Taken;
use crate::observe::metrics;
use crate::record::{Entry, RecordId, What};
use crate::tool::Client;

/// Concurrent jobs of one call. No conversation needs more.
const MAX_AT_ONCE: usize = 32;
/// Events that may wait for the session.
const MAX_EVENTS: usize = 64;
/// What the model gets for a result.
const TOO_MANY: &str = "Too many tools are running for this call. Wait for their results, then try again.";
const NO_JOB: &str = "This tool cannot be used now.";

/// See the module. Dropping it cancels every job except those that outlive their call.
pub(super) struct Jobs {
    switchboard: Arc<Switchboard>,
    client: Client,
    /// Of the call, where a message that is taken is noted.
    record: RecordId,
    tasks: JoinSet<()>,
    running: HashMap<ToolCallId, Running>,
    /// Messages that the call took, or still takes.
    messages: Vec<Pending>,
    /// Boxed, because a channel has room for 32 events from the start.
    events_tx: rare::Sender<Box<Event>>,
    events: rare::Receiver<Box<Event>>,
}

/// A task that can be cancelled.
struct Running {
    task: AbortHandle,
    /// Why it was cancelled.
    stopped: Arc<OnceLock<Stop>>,
}

impl Jobs {
    pub fn new(switchboard: Arc<Switchboard>, client: Client, record: RecordId) -> Self {
        let (events_tx, events) = rare::channel(MAX_EVENTS);
        Self {
            switchboard,
            client,
            record,
            tasks: JoinSet::new(),
            running: HashMap::new(),
            messages: Vec::new(),
            events_tx,
            events,
        }
    }

    /// Starts a job, whose result comes from [`Self::next_event`].
    ///
    /// # Errors
    /// The result for the model if the job cannot start.
    pub fn run(
        &mut self,
        id: ToolCallId,
        tool: Option<&Tool>,
        arguments: Map<String, Value>,
    ) -> Result<(), Event> {
        let Some(Tool { name, work: Work::Job(job), .. }) = tool else {
            return Err(not_run(id, NO_JOB));
        };
        let lasts = matches!(**job, Job::TakeMessage(_));
        while self.tasks.try_join_next().is_some() {}
        self.running.retain(|_, running| !running.task.is_finished());
        if self.running.len() >= MAX_AT_ONCE {
            return Err(not_run(id, TOO_MANY));
        }
        let stopped = Arc::new(OnceLock::new());
        let run = Run {
            tool: name.clone(),
            place: place(job),
            began: now(),
            outcome: None,
            stopped: stopped.clone(),
        };
        let (switchboard, client, events) =
            (self.switchboard.clone(), self.client.clone(), self.events_tx.clone());
        let (job, call_id, record) = (job.clone(), id.clone(), self.record.clone());
        let fields = lasts.then(|| arguments.clone());
        let task = async move {
            let mut run = run;
            let working = || {
                // If the channel is full, the session is late anyway.
                let _ = events.try_send(Box::new(Event::ToolWorking(call_id.clone())));
            };
            let done = switchboard.tools.run(&job, arguments, &client, working).await;
            let outcome = done.failed.unwrap_or("ok");
            run.outcome = Some(outcome);
            drop(run);
            if let (Some(id), Some(sink)) = (&done.message, &switchboard.records.sink) {
                sink(&record, Entry { at_ms: 0, what: What::Message { id: id.clone() } });
            }
            let failed = done.failed.map(str::to_owned);
            let taken = fields.map(|fields| Taken { id: done.message, fields: Some(fields), failed });
            // It fails only after the call.
            events.send(Box::new(Event::ToolFinished { id: call_id, outcome, output: done.output })).await;
            taken
        }
        .instrument(Span::current());
        if lasts {
            // The message is taken even if the caller hangs up at once.
            self.messages.push(self.switchboard.lasting.spawn_on(task, self.switchboard.workers.home()));
        } else {
            let task = async { drop(task.await) };
            let task = self.tasks.spawn_on(task, self.switchboard.workers.home());
            self.running.insert(id, Running { task, stopped });
        }
        Ok(())
    }

    /// Cancels a job. Its result may still come, too late.
    pub fn stop(&mut self, id: &ToolCallId, why: Stop) {
        if let Some(running) = self.running.remove(id) {
            // Before the abort, which reads it. It is set nowhere else.
            let _ = running.stopped.set(why);
            running.task.abort();
        }
    }

    /// Cancels what does not outlive the call.
    pub fn stop_all(&mut self) {
        self.tasks.abort_all();
        self.running.clear();
    }

    /// The messages that the call took, or still takes.
    pub fn take_messages(&mut self) -> Vec<Pending> {
        std::mem::take(&mut self.messages)
    }

    /// The next event of a job.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        self.events.poll(cx).map(|event| *event)
    }
}

/// The result for the model of a job that cannot start.
fn not_run(id: ToolCallId, output: &str) -> Event {
    Event::ToolFinished { id, outcome: "refused", output: output.to_owned().into() }
}

/// A running job. Dropping it logs its end, even after an abort.
struct Run {
    tool: String,
    /// The MCP server's name, or the kind of job.
    place: String,
    began: Instant,
    /// `None` until it ends by itself.
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
