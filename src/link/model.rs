//! The model's socket: translates OpenAI Realtime into the call's events. `connect.rs` opens a session, and
//! `configure.rs` builds its configuration from the plan.

mod aside;
mod capture;
mod configure;
mod connect;
mod form;
mod listing;
mod pending;
mod pulse;
mod requests;
mod seed;
mod wording;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{Either, select};
use futures_util::{SinkExt, StreamExt};
use rustls::ClientConfig;
use tokio::time::{sleep, timeout, timeout_at};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tracing::Span;

use super::inbox::Inbox;
use super::network::Socket;
use super::now;
use super::outbox::{self, Outbox};
use crate::assistant::plan::Plan;
use crate::call::{
    About, Anomaly, By, Event, Fault, Loss, Lost, Origin, Outcome, Request, TurnControl, Who, Why,
};
use crate::id::{ApprovalId, ItemId, ResponseId, ToolCallId};
use crate::provider::usage::Tokens;
use crate::provider::{Cause, Class, Failure, word_of};
use crate::secret::Private;
use crate::wire::openai::realtime::{
    self, Approval, Cancelled, ErrorBody, FunctionCall, Hosted, Incoming, Incomplete, RateLimit,
    ResponseDone, Status,
};
pub use capture::NotCaptured;
pub use configure::{LeftOut, session};
pub use connect::{NotConnected, Probe, probe};
use connect::{configure, open, until_created};
pub use form::{Filled, NotFilled};
use listing::Listing;
use pending::Pending;
use pulse::{Check, Pulse};
use requests::{Kind, Requests};
use seed::Seed;
use switchboard_audio::Chunk;
use wording::{metadata, tongue, wording};

/// How long one attempt to connect and be configured may take: a slow session is better than none.
pub const ATTEMPT: Duration = Duration::from_secs(10);
/// How long a closing handshake may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The share of a limit of the account below which it is almost used up.
const SCARCE: f64 = 0.02;
/// The longest time until a limit is restored that is believed: some limits are for a day.
const MAX_RESET: Duration = Duration::from_secs(24 * 60 * 60);

/// A configured session of the model.
#[derive(Debug)]
pub struct ModelLink {
    socket: Socket,
    plan: Arc<Plan>,
    inbox: Inbox,
    outbox: Outbox<()>,
    events: VecDeque<ModelStep>,
    last_response: Option<ResponseId>,
    last_item: Option<ItemId>,
    /// The latest response. A host's request without a response belongs to it.
    began: Option<ResponseId>,
    listing: Listing,
    /// The growing transcript of a caller's item, from providers that repeat it.
    so_far: Option<(ItemId, Private)>,
    pulse: Pulse,
    requests: Requests,
    /// The number of requests for a response, which makes their `event_id`.
    asked: u64,
    /// The same for out-of-band requests.
    out_of_band: u64,
    /// The server echoes the metadata of requests.
    echoes: bool,
    /// The response to the latest of them.
    aside: Option<ResponseId>,
    pending: Pending,
    left_out: LeftOut,
    /// A limit of the account is almost used up until then.
    limited: Option<Instant>,
    /// When the session reaches its maximum age, until the call knows.
    expires: Option<Instant>,
    /// The session continues the conversation of another one.
    seed: Option<Box<Seed>>,
    gone: bool,
}

/// The result of one step.
#[derive(Debug)]
pub enum ModelStep {
    Event(Event),
    Anomaly(Anomaly),
}

impl ModelLink {
    /// Connects to the plan's provider and configures the session: `session.created`, our update,
    /// `session.updated`. One attempt, within [`ATTEMPT`].
    pub async fn connect(plan: Arc<Plan>, tls: Arc<ClientConfig>) -> Result<Self, NotConnected> {
        Self::connect_within(ATTEMPT, plan, tls).await
    }

    /// The same for a call, which needs a session and has time: an attempt that takes longer than [`ATTEMPT`] goes on
    /// for as long beside a second one, and the first that succeeds is used.
    pub async fn connect_patiently(plan: Arc<Plan>, tls: Arc<ClientConfig>) -> Result<Self, NotConnected> {
        let first = Self::connect_within(2 * ATTEMPT, plan.clone(), tls.clone());
        patiently(first, || Self::connect(plan, tls)).await
    }

    async fn connect_within(
        limit: Duration,
        plan: Arc<Plan>,
        tls: Arc<ClientConfig>,
    ) -> Result<Self, NotConnected> {
        let deadline = tokio::time::Instant::now() + limit;
        let (provider, hosts) = (&plan.provider, !plan.hosted.is_empty());
        let (mut socket, _) = open(provider, &plan.model, hosts, tls, deadline).await?;
        let created = until_created(&mut socket, provider.dialect, deadline).await?;
        let configured = timeout_at(deadline, configure(&mut socket, &plan)).await;
        let (left_out, updated) = configured.unwrap_or(Err(NotConnected::Late { garbage: 0 }))?;
        let left = connect::left(updated.or(created), provider.abilities.session_limit);
        Ok(Self {
            socket,
            plan,
            inbox: Inbox::default(),
            outbox: Outbox::new(),
            events: VecDeque::new(),
            last_response: None,
            last_item: None,
            began: None,
            listing: Listing::default(),
            so_far: None,
            pulse: Pulse::new(now()),
            requests: Requests::new(now()),
            asked: 0,
            out_of_band: 0,
            echoes: false,
            aside: None,
            pending: Pending::default(),
            left_out,
            limited: None,
            expires: Some(now() + left),
            seed: None,
            gone: false,
        })
    }

    /// Whether the session runs without a part of the configuration that the provider rejected.
    pub fn is_plainer(&self) -> bool {
        self.left_out != LeftOut::default()
    }

    /// When the session reaches its maximum age; once.
    pub fn take_expiry(&mut self) -> Option<Instant> {
        self.expires.take()
    }

    /// Sends the caller's audio.
    pub fn append(&mut self, chunk: &Chunk) {
        self.pulse.audio_flows();
        self.send(realtime::append(chunk));
    }

    /// Whether the session has ended.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether so much waits for the model that it cannot be reading.
    pub fn is_full(&self) -> bool {
        self.outbox.is_full()
    }

    pub fn configure(&mut self, turns: TurnControl) {
        let session = configure::turns_alone(&self.plan, turns);
        self.send(realtime::session_update(&session));
    }

    pub fn answer_approval(&mut self, id: &ApprovalId, approve: bool, reason: &str) {
        self.send(realtime::approval(id.as_str(), approve, reason));
    }

    /// Asks for a response that says something. Its instructions replace the session's, so they contain the whole prompt.
    pub fn say(&mut self, request: &Request) {
        let event = self.next_request();
        let said = Some((self.prompt(request), metadata(request)));
        self.request(Kind::InConversation, configure::response_create(&self.plan, &event, said));
    }

    /// The same, outside the conversation.
    pub fn say_out_of_band(&mut self, request: &Request) {
        let (event, prompt) = (self.next_aside(), self.prompt(request));
        let frame = realtime::response_create_out_of_band(&event, &prompt);
        self.request(Kind::OutOfBand, frame);
    }

    pub fn ask(&mut self) {
        let event = self.next_request();
        self.request(Kind::InConversation, configure::response_create(&self.plan, &event, None));
    }

    /// When [`Self::check_alive`] is next due.
    pub fn alive_deadline(&self) -> Option<Instant> {
        if self.gone {
            return None;
        }
        [Some(self.pulse.due()), self.outbox.stuck_deadline(), self.requests.due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The process stood still, so the model may not have had a chance.
    pub fn stood_still(&mut self, time: Duration) {
        self.pulse.stood_still(time, now());
        self.outbox.stood_still(time);
    }

    /// Nobody reads what the model sends, because the phone accepts nothing: its silence proves nothing.
    pub fn is_not_read(&mut self) {
        self.pulse.heard(now());
    }

    /// Pings a silent model, and sends the request that had to wait. False: it did not answer the last ping, or accepts
    /// nothing.
    pub fn check_alive(&mut self, now: Instant) -> bool {
        if self.gone {
            return true;
        }
        if let Some(frame) = self.requests.release(now) {
            self.send(frame);
        }
        let check = self.pulse.check(now);
        if check == Check::Ping {
            self.outbox.push((), Message::Ping(Bytes::new()));
        }
        self.gone = check == Check::Gone || self.outbox.stuck_deadline().is_some_and(|due| due <= now);
        !self.gone
    }

    /// Closes the session. Boxed, because a future has room for all that moves through it, from the call's start on.
    pub async fn close(mut self: Box<Self>) {
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
        self.asked += 1;
        request_id(self.asked)
    }

    /// The instructions of one response replace the session's, so the whole prompt goes with the request.
    fn prompt(&self, request: &Request) -> String {
        format!("{}\n\n{}", self.plan.instructions, wording(request, &tongue(&self.plan)))
    }

    /// Who asked for the response whose metadata names this request.
    fn origin(&mut self, request: Option<&str>) -> Origin {
        let number = request.and_then(|id| id.strip_prefix(REQUEST)).and_then(|number| number.parse().ok());
        self.echoes |= number.is_some();
        match number {
            Some(number) => Origin::Request(number),
            None if self.echoes => Origin::Model,
            None => Origin::Unknown,
        }
    }

    fn fault(&self, error: ErrorBody) -> Event {
        let failure = failure(&error);
        tracing::debug!(
            error = described(&error),
            class = failure.class().map(Class::code),
            "The model reported an error"
        );
        let about = match error.event.as_deref() {
            Some(event) if event == request_id(self.asked) => About::Request,
            Some(event) if event == out_of_band_id(self.out_of_band) => About::OutOfBand,
            _ => About::Other,
        };
        let active = error.active.as_deref().map(ResponseId::from);
        Event::ModelFault(Fault { active, ..Fault::new(about, failure) })
    }

    /// Requests a response, at once or when its time comes.
    fn request(&mut self, kind: Kind, frame: String) {
        if self.requests.may_send(now()) {
            return self.send(frame);
        }
        self.requests.hold(kind, frame);
        self.anomaly(Anomaly::ModelRequestDelayed);
    }

    fn send(&mut self, frame: String) {
        self.outbox.push((), Message::Text(frame.into()));
    }

    /// Sends or receives. `span` is entered while a received message is read.
    pub fn poll_step(&mut self, span: &Span, cx: &mut Context<'_>) -> Poll<ModelStep> {
        for _ in 0..outbox::MAX_FRAMES {
            if let Some(step) = self.events.pop_front() {
                return Poll::Ready(step);
            }
            if self.gone {
                return Poll::Pending;
            }
            while let Poll::Ready(()) = self.outbox.poll_send(&mut self.socket, cx) {}
            // What a model asks for while it reads nothing only makes more wait.
            if self.outbox.is_full() {
                return Poll::Pending;
            }
            match ready!(self.inbox.poll_next(&mut self.socket, cx)) {
                Some(Ok(message)) => {
                    self.pulse.heard(now());
                    match message {
                        Message::Text(text) => span.in_scope(|| self.read(&Bytes::from(text))),
                        Message::Binary(_) => self.anomaly(Anomaly::ModelBadEvent),
                        Message::Close(frame) => return self.lost(connect::closed(frame).failure()),
                        Message::Ping(_) => self.outbox.must_flush(),
                        Message::Pong(_) | Message::Frame(_) => {}
                    }
                }
                Some(Err(_)) | None => return self.lost(Cause::Closed.into()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn lost(&mut self, failure: Failure) -> Poll<ModelStep> {
        self.gone = true;
        tracing::warn!(
            class = failure.class().map(Class::code),
            close = failure.close,
            close_reason = failure.reason.as_deref(),
            "The model closed the connection"
        );
        Poll::Ready(ModelStep::Event(Event::ModelLost(Lost { loss: Loss::Closed, failure })))
    }

    fn read(&mut self, frame: &Bytes) {
        let Ok(incoming) = realtime::parse(frame) else { return self.anomaly(Anomaly::ModelBadEvent) };
        let event = match incoming {
            Incoming::AudioDelta { response, item, chunk: Ok(chunk) } => {
                let response = known(&mut self.last_response, &response);
                self.began.get_or_insert_with(|| response.clone());
                let item = known(&mut self.last_item, &item);
                Event::ModelAudio { response, item, chunk }
            }
            Incoming::AudioDelta { chunk: Err(_), .. } => return self.anomaly(Anomaly::ModelBadAudio),
            Incoming::SpeechStarted { item } => {
                self.transcript_complete();
                Event::SpeechStarted(ItemId::from(&*item))
            }
            Incoming::SpeechStopped => Event::SpeechStopped,
            Incoming::ResponseCreated { response: Some(response), out_of_band: true, request } => {
                let response = ResponseId::from(&*response);
                if request.is_some_and(|request| request == out_of_band_id(self.out_of_band)) {
                    self.aside = Some(response.clone());
                }
                Event::OutOfBandStarted(response)
            }
            Incoming::ResponseCreated { response: None, .. } => {
                // Its audio or its calls will name it.
                self.began = None;
                Event::ModelWorking
            }
            Incoming::ResponseCreated { response: Some(response), out_of_band: false, request } => {
                let response = ResponseId::from(&*response);
                self.began = Some(response.clone());
                let origin = self.origin(request.as_deref());
                Event::ResponseStarted { response, origin }
            }
            Incoming::SpokenMore { item, text } => more(Who::Assistant, &item, text.into_owned()),
            Incoming::HeardMore { item, text } => more(Who::Caller, &item, text.into_owned()),
            Incoming::SpokenText { item, text } => transcript(Who::Assistant, &item, &text),
            Incoming::HeardText { item, text, used } => {
                if let Some(used) = used {
                    self.event(Event::TranscriptUsage { used, standby: false });
                }
                if self.so_far.as_ref().is_some_and(|(so_far, _)| so_far.as_ref() == &*item) {
                    self.so_far = None;
                }
                transcript(Who::Caller, &item, &text)
            }
            Incoming::HeardSoFar { item, text } => {
                let item = ItemId::from(&*item);
                if self.so_far.as_ref().is_some_and(|(so_far, _)| *so_far != item) {
                    self.transcript_complete();
                }
                self.so_far = Some((item, Private::from(text.into_owned())));
                return;
            }
            Incoming::FunctionCall { response, call } => {
                let response = ResponseId::from(&*response);
                self.began.get_or_insert_with(|| response.clone());
                tool_requested(call, response)
            }
            Incoming::HostedStarted { response, item, tool } => {
                let response = response.map(|response| ResponseId::from(&*response));
                Event::HostedStarted { item: ItemId::from(&*item), response, tool }
            }
            Incoming::HostedEnded { item, failed } => {
                Event::HostedEnded { item: ItemId::from(&*item), failed }
            }
            Incoming::ApprovalRequested { response, approval } => {
                let named = response.map(|response| ResponseId::from(&*response));
                let Some(response) = named.or_else(|| self.began.clone()) else { return };
                approval_requested(approval, response)
            }
            Incoming::Listing { item, server } => return self.listing.began(&item, &server),
            Incoming::Listed { server, tools } => return self.listing.listed(&self.plan, &server, &tools),
            Incoming::ListingFailed { item } => return self.listing.failed(&item),
            Incoming::ResponseDone(done) => return self.response_done(done),
            Incoming::Error(error) => self.fault(error),
            Incoming::RateLimits(limits) => match used_up(&limits) {
                Some(reset) => Event::RateLimited { until: *self.limited.insert(now() + reset) },
                None => return,
            },
            Incoming::Working => Event::ModelWorking,
            Incoming::Unknown => return self.anomaly(Anomaly::ModelUnknownEvent),
            Incoming::SessionCreated { .. }
            | Incoming::SessionUpdated { .. }
            | Incoming::ConversationCreated
            | Incoming::Ignored => return,
        };
        self.event(event);
    }

    /// The repeated transcript is complete: its last version counts.
    fn transcript_complete(&mut self) {
        if let Some((item, text)) = self.so_far.take() {
            self.event(Event::Transcript { who: Who::Caller, item, text });
        }
    }

    fn response_done(&mut self, done: ResponseDone<'_>) {
        self.transcript_complete();
        let named = done.response.map(|response| ResponseId::from(&*response));
        let response = named.or_else(|| self.began.clone()).unwrap_or_else(|| {
            // Nothing has named it, so the call does not know it.
            let unnamed = ResponseId::from(&*format!("unnamed-{}", self.asked));
            self.event(Event::ResponseStarted { response: unnamed.clone(), origin: Origin::Unknown });
            unnamed
        });
        let outcome = match done.status {
            Status::Completed => Outcome::Completed,
            Status::Incomplete(why) => Outcome::Incomplete(match why {
                Incomplete::MaxOutputTokens => Why::TooLong,
                Incomplete::ContentFilter => Why::Filtered,
                Incomplete::Unknown => Why::Unknown,
            }),
            Status::Cancelled(why) => Outcome::Cancelled(match why {
                Cancelled::TurnDetected => By::Caller,
                Cancelled::ByClient => By::Us,
                Cancelled::Unknown => By::Unknown,
            }),
            Status::Failed => match failure(&done.error.unwrap_or_default()) {
                Failure { cause: Some(Cause::Filtered), .. } => Outcome::Incomplete(Why::Filtered),
                failure => Outcome::Failed(failure),
            },
        };
        if let Outcome::Failed(failure) = &outcome {
            tracing::warn!(
                class = failure.class().map(Class::code),
                code = failure.code.as_deref().unwrap_or("no code"),
                "The model failed to respond"
            );
        }
        for call in done.calls {
            self.event(tool_requested(call, response.clone()));
        }
        for approval in done.approvals {
            self.event(approval_requested(approval, response.clone()));
        }
        for Hosted { item, tool, ended, failed } in done.hosted {
            let (item, response) = (ItemId::from(&*item), Some(response.clone()));
            self.event(Event::HostedStarted { item: item.clone(), response, tool });
            if ended {
                self.event(Event::HostedEnded { item, failed });
            }
        }
        if done.tokens != Tokens::default() {
            self.event(Event::Usage { tokens: done.tokens, standby: false });
        }
        self.event(Event::ResponseEnded { response, outcome });
    }

    fn event(&mut self, event: Event) {
        self.pending.saw(&event);
        if let Some(seed) = &mut self.seed {
            seed.saw(&event);
        }
        self.events.push_back(ModelStep::Event(event));
    }

    fn anomaly(&mut self, anomaly: Anomaly) {
        self.events.push_back(ModelStep::Anomaly(anomaly));
    }
}

/// An attempt, and after [`ATTEMPT`] another one beside it: the first that succeeds. A second one that fails ends nothing.
async fn patiently<T, E, S: Future<Output = Result<T, E>>>(
    first: impl Future<Output = Result<T, E>>,
    second: impl FnOnce() -> S,
) -> Result<T, E> {
    let second = Box::pin(async {
        sleep(ATTEMPT).await;
        Box::pin(second()).await
    });
    match select(Box::pin(first), second).await {
        Either::Left((first, _)) => first,
        Either::Right((Ok(second), _)) => Ok(second),
        Either::Right((Err(_), first)) => first.await,
    }
}

/// How the `event_id` of a request for a response begins.
const REQUEST: &str = "ask";

/// The `event_id` of our n-th request for a response.
fn request_id(number: u64) -> String {
    format!("{REQUEST}{number}")
}

/// The `event_id` of our n-th out-of-band request.
fn out_of_band_id(number: u64) -> String {
    format!("out_of_band_{number}")
}

fn failure(error: &ErrorBody) -> Failure {
    Failure::of_error(error.code.as_deref(), error.kind.as_deref(), error.retry_after)
}

/// Code and parameter, without the message, which may quote what was sent.
fn described(error: &ErrorBody) -> String {
    let name = word_of(error.code.as_deref().or(error.kind.as_deref()).unwrap_or_default());
    match error.param.as_deref() {
        Some(param) => format!("{name} at {}", word_of(param)),
        None => name.to_owned(),
    }
}

/// How long until the limits are restored of which almost nothing is left.
fn used_up(limits: &[RateLimit]) -> Option<Duration> {
    let scarce = limits.iter().filter(|limit| limit.remaining < limit.limit * SCARCE);
    scarce.map(|limit| limit.reset.min(MAX_RESET)).max()
}

fn tool_requested(call: FunctionCall<'_>, response: ResponseId) -> Event {
    Event::ToolRequested {
        id: ToolCallId::from(&*call.id),
        name: call.name.into_owned(),
        arguments: Private::from(call.arguments.into_owned()),
        response,
    }
}

fn approval_requested(approval: Approval<'_>, response: ResponseId) -> Event {
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

fn more(who: Who, item: &str, text: String) -> Event {
    Event::TranscriptGrew { who, item: ItemId::from(item), text: Private::from(text) }
}

/// Reuses the last id if it is the same: deltas come by the hundred.
fn known<I: Clone + AsRef<str> + for<'a> From<&'a str>>(last: &mut Option<I>, text: &str) -> I {
    match last {
        Some(id) if id.as_ref() == text => id.clone(),
        _ => last.insert(I::from(text)).clone(),
    }
}

#[cfg(test)]
mod tests;
