//! The model's socket: OpenAI Realtime in, the call's events out. How it is opened is in `connect.rs`, and what the
//! plan makes of a session in `configure.rs`.

mod configure;
mod connect;
mod listing;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio::time::{timeout, timeout_at};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::network::Socket;
use super::now;
use super::outbox::Outbox;
use crate::assistant::plan::Plan;
use crate::call::{
    Anomaly, EndReason, Event, Fault, Line, Loss, Outcome, Request, TransferFailure, Truncation, TurnControl,
    Who,
};
use crate::id::{ApprovalId, ItemId, ResponseId, ToolCallId};
use crate::provider::Failure;
use crate::secret::Private;
use crate::wire::openai::realtime::{self, Approval, ErrorBody, Incoming, ResponseDone, Status};
pub use configure::{LeftOut, session};
pub use connect::{NotConnected, Probe, probe};
use connect::{configure, open, until_created};
use listing::Listing;
use switchboard_audio::Chunk;

/// How long one attempt to connect and be configured may take.
pub const ATTEMPT: Duration = Duration::from_secs(5);
/// The caller's audio that may wait to be sent: 10 s. More means that the model takes none.
const MAX_WAITING: u64 = 80_000;
/// How long the model may be silent before it is asked whether it is there.
const PING_AFTER: Duration = Duration::from_secs(15);
/// How long it then has to answer.
const PONG_WITHIN: Duration = Duration::from_secs(8);
/// How long a closing handshake may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest value that the API accepts in a response's metadata.
const METADATA_MAX_CHARACTERS: usize = 512;

/// A configured session of the model.
#[derive(Debug)]
pub struct ModelLink {
    socket: Socket,
    plan: Arc<Plan>,
    outbox: Outbox<u64, Message>,
    /// Bytes of the caller's audio that wait.
    waiting: u64,
    events: VecDeque<ModelStep>,
    last_response: Option<ResponseId>,
    last_item: Option<ItemId>,
    /// The response that began last: what the host asks for without naming one belongs to it.
    began: Option<ResponseId>,
    listing: Listing,
    /// What the caller has said so far, where a provider tells it again and again: the item and its words.
    so_far: Option<(ItemId, Private)>,
    last_heard: Instant,
    pinged: Option<Instant>,
    /// How many responses were asked for: the last request's `event_id`.
    requests: u64,
    /// How many of those beside the conversation.
    asides: u64,
    /// Nothing can be sent any more; what the model sent before it closed may still be read.
    mute: bool,
    /// What of its configuration had to be left out.
    left_out: LeftOut,
    gone: bool,
}

/// What one step brought.
#[derive(Debug)]
pub enum ModelStep {
    Event(Event),
    Anomaly(Anomaly),
}

impl ModelLink {
    /// Connects to the plan's provider and configures the session: `session.created`, our update,
    /// `session.updated`. One attempt, within [`ATTEMPT`].
    ///
    /// # Errors
    /// [`NotConnected`].
    pub async fn connect(plan: Arc<Plan>, tls: Arc<ClientConfig>) -> Result<Self, NotConnected> {
        let deadline = tokio::time::Instant::now() + ATTEMPT;
        let (provider, hosts) = (&plan.provider, !plan.hosted.is_empty());
        let (mut socket, _) = open(provider, &plan.model, hosts, tls, deadline).await?;
        until_created(&mut socket, provider.dialect, deadline).await?;
        let configured = timeout_at(deadline, configure(&mut socket, &plan)).await;
        let left_out = configured.unwrap_or(Err(NotConnected::Late { garbage: 0 }))?;
        Ok(Self {
            socket,
            plan,
            outbox: Outbox::new(),
            waiting: 0,
            events: VecDeque::new(),
            last_response: None,
            last_item: None,
            began: None,
            listing: Listing::default(),
            so_far: None,
            last_heard: now(),
            pinged: None,
            requests: 0,
            asides: 0,
            mute: false,
            left_out,
            gone: false,
        })
    }

    /// Whether the provider refused a part of the configuration, and the session runs without it.
    pub fn is_plainer(&self) -> bool {
        self.left_out != LeftOut::default()
    }

    /// Sends what waits, or takes what came. Cancel-safe: everything happens within one poll.
    pub async fn step(&mut self) -> ModelStep {
        poll_fn(|cx| self.poll_step(cx)).await
    }

    /// The caller's audio. False when too much waits already: the model takes none.
    pub fn append(&mut self, chunk: &Chunk) -> bool {
        if self.waiting + chunk.bytes() > MAX_WAITING {
            return false;
        }
        self.waiting += chunk.bytes();
        self.outbox.push(chunk.bytes(), Message::Text(realtime::append(chunk).into()));
        true
    }

    pub fn configure(&mut self, turns: TurnControl) {
        let session = configure::turns_alone(&self.plan, turns);
        self.send(realtime::session_update(&session));
    }

    pub fn cancel(&mut self, response: &ResponseId) {
        self.send(realtime::cancel(response.as_str()));
    }

    pub fn truncate(&mut self, cut: &Truncation) {
        self.send(realtime::truncate(cut.item.as_str(), cut.audio_end_ms));
    }

    pub fn answer_tool(&mut self, id: &ToolCallId, output: &str) {
        self.send(realtime::function_output(id.as_str(), output));
    }

    pub fn answer_approval(&mut self, id: &ApprovalId, approve: bool, reason: &str) {
        self.send(realtime::approval(id.as_str(), approve, reason));
    }

    pub fn tell(&mut self, line: &Line) {
        self.send(match line {
            Line::Pressed(keys) => {
                let spaced: Vec<String> = keys.chars().map(String::from).collect();
                realtime::user_text(&format!("The caller pressed {}.", spaced.join(" ")))
            }
            Line::TransferFailed { target, why } => {
                let why = match why {
                    TransferFailure::NoAnswer => "nobody answered",
                    TransferFailure::Busy => "the line was busy",
                    TransferFailure::Unreachable => "the number could not be reached",
                };
                let news =
                    format!("The call was passed on to {target}, but {why}. The caller is back with you.");
                realtime::user_text(&news)
            }
            Line::AssistantSaid(text) => configure::assistant_text(&self.plan, text.expose()),
        });
    }

    pub fn say(&mut self, request: &Request) {
        let event = self.next_request();
        let said = Some((&*self.prompt(request), &metadata(request)));
        self.send(configure::response_create(&self.plan, &event, said));
    }

    /// The same, outside the conversation.
    pub fn say_out_of_band(&mut self, request: &Request) {
        self.asides += 1;
        let prompt = self.prompt(request);
        self.send(realtime::response_create_out_of_band(&last_aside(self.asides), &prompt));
    }

    pub fn ask(&mut self) {
        let event = self.next_request();
        self.send(configure::response_create(&self.plan, &event, None));
    }

    /// When [`Self::check_alive`] is next due.
    pub fn alive_deadline(&self) -> Option<Instant> {
        if self.gone {
            return None;
        }
        Some(self.pinged.map_or(self.last_heard + PING_AFTER, |pinged| pinged + PONG_WITHIN))
    }

    /// Asks a silent model whether it is there. False when it was asked and did not answer.
    pub fn check_alive(&mut self, now: Instant) -> bool {
        if self.alive_deadline().is_none_or(|due| due > now) {
            return true;
        }
        if self.pinged.is_some() {
            self.gone = true;
            return false;
        }
        self.pinged = Some(now);
        self.outbox.push(0, Message::Ping(Bytes::new()));
        true
    }

    /// Closes the session.
    pub async fn close(mut self) {
        if self.gone {
            return;
        }
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        let _ = timeout(CLOSE_TIMEOUT, async {
            self.socket.send(Message::Close(Some(frame))).await?;
            while let Some(Ok(_)) = self.socket.next().await {}
            Ok::<(), WsError>(())
        })
        .await;
    }

    fn next_request(&mut self) -> String {
        self.requests += 1;
        last_request(self.requests)
    }

    /// The instructions of one response replace the session's, so the whole prompt goes with the request.
    fn prompt(&self, request: &Request) -> String {
        format!("{}\n\n{}", self.plan.instructions, wording(request))
    }

    fn fault(&self, error: &ErrorBody<'_>) -> Event {
        tracing::debug!(error = described(error), "The model complains");
        match error.code.as_deref() {
            Some(code) if is_permanent(code) => Event::ModelLost(Loss::Refused),
            _ if error.event.as_deref() == Some(&last_aside(self.asides)) => {
                Event::ModelFault(Fault::OutOfBandRefused)
            }
            Some(code) if Failure::from_code(code) == Some(Failure::Conflict) => {
                let ours = error.event.as_deref() == Some(&last_request(self.requests));
                Event::ModelFault(if ours { Fault::RequestRefused } else { Fault::ResponseAlreadyActive })
            }
            _ if error.event.as_deref() == Some(&last_request(self.requests)) => {
                Event::ModelFault(Fault::RequestFailed)
            }
            _ => Event::ModelFault(Fault::Other),
        }
    }

    fn send(&mut self, frame: String) {
        self.outbox.push(0, Message::Text(frame.into()));
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<ModelStep> {
        loop {
            if let Some(step) = self.events.pop_front() {
                return Poll::Ready(step);
            }
            if self.gone {
                return Poll::Pending;
            }
            while !self.mute {
                match self.outbox.poll_send(&mut self.socket, cx) {
                    Poll::Ready(Ok(bytes)) => self.waiting -= bytes,
                    Poll::Ready(Err(_)) => self.mute = true,
                    Poll::Pending => break,
                }
            }
            match self.socket.poll_next_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(message))) => {
                    self.last_heard = now();
                    self.pinged = None;
                    match message {
                        Message::Text(text) => self.read(&Bytes::from(text)),
                        Message::Binary(_) => {
                            self.events.push_back(ModelStep::Anomaly(Anomaly::ModelBadEvent))
                        }
                        Message::Close(_) => return self.lost(),
                        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                    }
                }
                Poll::Ready(Some(Err(_)) | None) => return self.lost(),
            }
        }
    }

    fn lost(&mut self) -> Poll<ModelStep> {
        self.gone = true;
        Poll::Ready(ModelStep::Event(Event::ModelLost(Loss::Closed)))
    }

    fn read(&mut self, frame: &Bytes) {
        let incoming = match realtime::parse(frame) {
            Ok(incoming) => incoming,
            Err(_) => return self.events.push_back(ModelStep::Anomaly(Anomaly::ModelBadEvent)),
        };
        let event = match incoming {
            Incoming::AudioDelta { response, item, chunk: Ok(chunk) } => {
                let response = known(&mut self.last_response, &response);
                let item = known(&mut self.last_item, &item);
                Event::ModelAudio { response, item, chunk }
            }
            Incoming::AudioDelta { chunk: Err(_), .. } => {
                return self.events.push_back(ModelStep::Anomaly(Anomaly::ModelBadAudio));
            }
            Incoming::SpeechStarted { item } => {
                self.heard_whole();
                Event::SpeechStarted(ItemId::from(&*item))
            }
            Incoming::SpeechStopped => Event::SpeechStopped,
            Incoming::ResponseCreated { response, out_of_band: true } => {
                Event::OutOfBandStarted(ResponseId::from(&*response))
            }
            Incoming::ResponseCreated { response, out_of_band: false } => {
                let response = ResponseId::from(&*response);
                self.began = Some(response.clone());
                Event::ResponseStarted(response)
            }
            Incoming::SpokenText { item, text } => transcript(Who::Assistant, &item, &text),
            Incoming::HeardText { item, text } => {
                if self.so_far.as_ref().is_some_and(|(so_far, _)| so_far.as_ref() == &*item) {
                    self.so_far = None;
                }
                transcript(Who::Caller, &item, &text)
            }
            Incoming::HeardSoFar { item, text } => {
                let item = ItemId::from(&*item);
                if self.so_far.as_ref().is_some_and(|(so_far, _)| *so_far != item) {
                    self.heard_whole();
                }
                self.so_far = Some((item, Private::from(text.into_owned())));
                return;
            }
            Incoming::FunctionCall { response, call } => Event::ToolRequested {
                id: ToolCallId::from(&*call.id),
                name: call.name.into_owned(),
                arguments: Private::from(call.arguments.into_owned()),
                response: ResponseId::from(&*response),
            },
            Incoming::HostedStarted { response, item } => {
                let response = response.map(|response| ResponseId::from(&*response));
                Event::HostedStarted { item: ItemId::from(&*item), response }
            }
            Incoming::HostedEnded { item } => Event::HostedEnded { item: ItemId::from(&*item) },
            Incoming::ApprovalRequested { response, approval } => {
                let named = response.map(|response| ResponseId::from(&*response));
                let Some(response) = named.or_else(|| self.began.clone()) else { return };
                asked(approval, response)
            }
            Incoming::Listing { item, server } => return self.listing.began(&item, &server),
            Incoming::Listed { server, tools } => return self.listing.listed(&self.plan, &server, &tools),
            Incoming::ListingFailed { item } => return self.listing.failed(&item),
            Incoming::ResponseDone(done) => return self.response_done(done),
            Incoming::Error(error) => self.fault(&error),
            Incoming::Working => Event::ModelWorking,
            Incoming::Unknown => {
                return self.events.push_back(ModelStep::Anomaly(Anomaly::ModelUnknownEvent));
            }
            Incoming::SessionCreated
            | Incoming::SessionUpdated { .. }
            | Incoming::ConversationCreated
            | Incoming::Ignored => return,
        };
        self.events.push_back(ModelStep::Event(event));
    }

    /// Nothing more comes of what was told again and again: its last telling is the text.
    fn heard_whole(&mut self) {
        if let Some((item, text)) = self.so_far.take() {
            self.events.push_back(ModelStep::Event(Event::Transcript { who: Who::Caller, item, text }));
        }
    }

    fn response_done(&mut self, done: ResponseDone<'_>) {
        self.heard_whole();
        let response = ResponseId::from(&*done.response);
        let outcome = match done.status {
            Status::Completed => Outcome::Completed,
            Status::Incomplete => Outcome::Incomplete,
            Status::Cancelled => Outcome::Cancelled,
            Status::Failed if done.failure.as_deref().is_some_and(is_permanent) => Outcome::Refused,
            Status::Failed => Outcome::Failed,
        };
        if outcome == Outcome::Failed || outcome == Outcome::Refused {
            tracing::warn!(code = plain(done.failure.as_deref()), "The model failed to respond");
        }
        let requests = done.calls.into_iter().map(|call| Event::ToolRequested {
            id: ToolCallId::from(&*call.id),
            name: call.name.into_owned(),
            arguments: Private::from(call.arguments.into_owned()),
            response: response.clone(),
        });
        self.events.extend(requests.map(ModelStep::Event));
        for approval in done.approvals {
            self.events.push_back(ModelStep::Event(asked(approval, response.clone())));
        }
        for (item, ended) in done.hosted {
            let item = ItemId::from(&*item);
            let response = Some(response.clone());
            self.events.push_back(ModelStep::Event(Event::HostedStarted { item: item.clone(), response }));
            if ended {
                self.events.push_back(ModelStep::Event(Event::HostedEnded { item }));
            }
        }
        let usage = Event::Usage { tokens_in: done.tokens_in, tokens_out: done.tokens_out };
        self.events.push_back(ModelStep::Event(usage));
        self.events.push_back(ModelStep::Event(Event::ResponseEnded { response, outcome }));
    }
}

/// What the response is for, in a form that programs can read. The server echoes it.
fn metadata(request: &Request) -> Value {
    let purpose = match request {
        Request::Greeting(_) => "greeting",
        Request::CheckCaller => "check_caller",
        Request::Filler => "filler",
        Request::StatusUpdate => "progress",
        Request::ToolTimedOut => "tool_timeout",
        Request::Goodbye(_) => "goodbye",
    };
    let mut metadata = json!({"purpose": purpose});
    if let Request::Greeting(line) = request
        && line.chars().count() <= METADATA_MAX_CHARACTERS
    {
        metadata["line"] = json!(line);
    }
    metadata
}

/// What the model is asked to say, in words.
fn wording(request: &Request) -> String {
    match request {
        Request::Greeting(line) => {
            format!("The call begins now. Say exactly this, word for word, and nothing else: \"{line}\"")
        }
        Request::CheckCaller => {
            "Nobody has spoken for a while. Ask in one short sentence whether the caller is still there.".to_owned()
        }
        Request::Filler => "What you are doing for the caller takes a moment. Say so in one short sentence, in the \
                            language of the conversation, and nothing else: no result, no question."
            .to_owned(),
        Request::StatusUpdate => "You have used tools several times without saying anything. In one or two short \
                              sentences, in the language of the conversation, tell the caller how far you are. If it \
                              is unclear how to continue, ask."
            .to_owned(),
        Request::ToolTimedOut => "What you started for the caller took too long, and you are no longer waiting for it. It is \
                             unknown whether it was done. Tell the caller so in one or two short sentences, in the \
                             language of the conversation. If it is unclear how to continue, ask."
            .to_owned(),
        Request::Goodbye(reason) => {
            let why = match reason {
                EndReason::LimitSilence => "The caller has not spoken for a long time",
                EndReason::LimitDuration => "The call has reached its maximum duration",
                EndReason::ServerDraining => "The line is closing for maintenance",
                _ => "The conversation is over",
            };
            format!("{why}, and the call ends now. Say goodbye in one short sentence.")
        }
    }
}

/// The `event_id` of our n-th request for a response.
fn last_request(number: u64) -> String {
    format!("ask{number}")
}

/// The `event_id` of our n-th request for an aside.
fn last_aside(number: u64) -> String {
    format!("aside{number}")
}

fn is_permanent(code: &str) -> bool {
    Failure::from_code(code).is_some_and(Failure::is_permanent)
}

/// Code and parameter. The message is left out: it may quote what was sent.
fn described(error: &ErrorBody<'_>) -> String {
    let name = plain(error.code.as_deref().or(error.kind.as_deref()));
    match error.param.as_deref() {
        Some(param) => format!("{name} at {}", plain(Some(param))),
        None => name,
    }
}

/// A word of the provider's, short and plain enough for a log line.
fn plain(word: Option<&str>) -> String {
    let plain = |letter: &char| letter.is_ascii_alphanumeric() || "_.-[]".contains(*letter);
    let word: String = word.unwrap_or_default().chars().filter(plain).take(80).collect();
    if word.is_empty() { "no code".to_owned() } else { word }
}

fn asked(approval: Approval<'_>, response: ResponseId) -> Event {
    Event::ApprovalRequested {
        id: ApprovalId::from(&*approval.id),
        tool: format!("{}/{}", approval.server, approval.tool),
        arguments: Private::from(approval.arguments.into_owned()),
        response,
    }
}

fn transcript(who: Who, item: &str, text: &str) -> Event {
    Event::Transcript { who, item: ItemId::from(item), text: Private::from(text.to_owned()) }
}

/// The same id as last time shares its memory: deltas come by the hundred.
fn known<I: Clone + AsRef<str> + for<'a> From<&'a str>>(last: &mut Option<I>, text: &str) -> I {
    match last {
        Some(id) if id.as_ref() == text => id.clone(),
        _ => last.insert(I::from(text)).clone(),
    }
}

#[cfg(test)]
mod tests;
