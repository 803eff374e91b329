//! One connection: the handshake and its refusals, then frames between the socket and the session.

use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt, StreamExt, future::poll_fn};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

use super::faults::{ConnectError, Fault};
use super::log::{Closed, Happened, ModelEvent, SessionLog};
use super::options::Dialect;
use super::refusal::Refusal;
use super::shared::Shared;
use super::speech;
use super::state::{Ending, Session};
use crate::clock::now;

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// A client with this many unread frames is not reading.
const MAX_WAITING: usize = 8_192;

type Socket = WebSocketStream<TcpStream>;

/// Serves one accepted connection to its end.
pub(super) async fn serve(shared: Arc<Shared>, tcp: TcpStream, log: Arc<Mutex<SessionLog>>, number: usize) {
    let stop = shared.stop.clone();
    let how = tokio::select! {
        how = talk(&shared, tcp, &log, number) => how,
        () = stop.cancelled() => Closed::Stopped,
    };
    {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.closed.is_some() {
            return; // The session has reported its end itself.
        }
        log.closed = Some(how.clone());
    }
    shared.publish(ModelEvent { session: number, at: now(), what: Happened::Closed(how) });
}

async fn talk(shared: &Arc<Shared>, tcp: TcpStream, log: &Arc<Mutex<SessionLog>>, number: usize) -> Closed {
    let options = &shared.options;
    let faults: &[Fault] = if options.is_faulty(number) { &options.faults } else { &[] };
    if faults.contains(&Fault::SilentTcp) {
        let mut ignored = [0; 1_024];
        while tcp.readable().await.is_ok() && !matches!(tcp.try_read(&mut ignored), Ok(0)) {}
        return Closed::Lost;
    }
    if tcp.set_nodelay(true).is_err() {
        return Closed::Lost;
    }
    let slow = faults.iter().find_map(|fault| match fault {
        Fault::SlowHandshake(long) => Some(*long),
        _ => None,
    });
    if let Some(long) = slow {
        sleep(long).await;
    }
    let status = faults.iter().find_map(|fault| match fault {
        Fault::UpgradeStatus(status) => Some(*status),
        _ => None,
    });
    let mut model = None;
    let mut refusal = None;
    #[expect(clippy::result_large_err, reason = "tungstenite's callback fixes the type")]
    let look = |request: &Request, response: Response| {
        let (asked, verdict) = examine(request, shared, log);
        let denied = verdict.as_ref().filter(|_| options.denies_at_upgrade);
        let denied = denied.map(|(_, code)| if *code == 3000 { 401 } else { 400 });
        (model, refusal) = (asked, verdict);
        match status.or_else(|| (request.uri().path() != options.path).then_some(404)).or(denied) {
            None => Ok(response),
            Some(status) => Err(refused_upgrade(status)),
        }
    };
    let accept = accept_hdr_async_with_config(tcp, look, Some(socket_config()));
    let Ok(Ok(mut socket)) = timeout(HANDSHAKE_LIMIT, accept).await else { return Closed::Lost };
    let forced = faults.iter().find_map(|fault| match fault {
        Fault::RefuseConnect(error) => Some(connect_refusal(*error, model.as_deref())),
        _ => None,
    });
    if let Some((refusal, code)) = forced.or(refusal) {
        let what = Happened::Refused(refusal.code.clone().unwrap_or_default());
        shared.publish(ModelEvent { session: number, at: now(), what });
        let text = {
            let mut entry = log.lock().unwrap_or_else(PoisonError::into_inner);
            entry.errors.push(refusal.code.clone().unwrap_or_default());
            let mut event = refusal.event(None);
            event["event_id"] = serde_json::json!(format!("event_{number:021}"));
            event.to_string()
        };
        if socket.feed(Message::Text(text.into())).await.is_err() {
            return Closed::Lost;
        }
        return close(socket, code, refusal.close_reason()).await;
    }
    shared.publish(ModelEvent { session: number, at: now(), what: Happened::Connected });
    let model = model.unwrap_or_default();
    let session = Session::new(Arc::clone(shared), Arc::clone(log), number, &model, now());
    run(socket, session).await
}

async fn run(socket: Socket, mut session: Session) -> Closed {
    let (mut sink, mut stream) = socket.split();
    let mut scratch = Vec::new();
    let mut synthesis: JoinSet<(String, Bytes)> = JoinSet::new();
    let mut strikes = session.shared.strikes.subscribe();
    let mut timer = pin!(sleep_until(now().into()));
    let ending = loop {
        if let Some(ending) = session.ending.take() {
            break ending;
        }
        if session.outbox.len() > MAX_WAITING {
            return Closed::Lost;
        }
        for line in session.wanted_lines.drain(..) {
            synthesis.spawn_blocking(move || {
                let audio = speech::synthesise(&line);
                (line, audio)
            });
        }
        let deadline = session.deadline();
        if let Some(deadline) = deadline
            && timer.deadline() != deadline.into()
        {
            timer.as_mut().reset(deadline.into());
        }
        tokio::select! {
            message = stream.next() => match message {
                Some(Ok(Message::Text(text))) => session.handle_text(&text, now(), &mut scratch),
                Some(Ok(Message::Binary(_))) => session.handle_binary(now()),
                Some(Ok(Message::Pong(_))) => session.handle_pong(now()),
                Some(Ok(Message::Ping(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(frame))) => {
                    let _ = timeout(CLOSE_LIMIT, sink.flush()).await; // Sends the close echo.
                    return Closed::ByClient(frame.map(|frame| frame.code.into()));
                }
                Some(Err(_)) | None => return Closed::Lost,
            },
            result = pump(&mut sink, &mut session.outbox) => match result {
                Ok(never) => match never {},
                Err(_) => return Closed::Lost,
            },
            Ok(trouble) = strikes.recv() => session.handle_strike(trouble, now()),
            () = &mut timer, if deadline.is_some() => session.handle_timeout(now()),
            Some(Ok((line, audio))) = synthesis.join_next(), if !synthesis.is_empty() => {
                session.handle_speech(&line, &audio, now());
            }
        }
    };
    match ending {
        Ending::Drop => {
            session.closed(Closed::Dropped);
            Closed::Dropped
        }
        Ending::Reset => {
            session.closed(Closed::Dropped);
            // What waits for the client is lost with the connection.
            let _ = sink.reunite(stream).map(|socket| socket.get_ref().set_zero_linger());
            Closed::Dropped
        }
        // The log says that it is open, as the client must believe.
        Ending::HalfOpen => pending().await,
        Ending::Close(code, reason) => {
            session.closed(Closed::ByServer(code, reason.clone()));
            let outbox = std::mem::take(&mut session.outbox);
            let Ok(mut socket) = sink.reunite(stream) else { return Closed::Lost };
            let send = async {
                for message in outbox {
                    socket.feed(message).await?;
                }
                socket.flush().await
            };
            match timeout(CLOSE_LIMIT, send).await {
                Ok(Ok(())) => close(socket, code, reason).await,
                _ => Closed::Lost,
            }
        }
    }
}

/// Sends until the queue is empty, then waits forever. Cancel-safe: a frame leaves the queue only in the step in
/// which the socket accepts it.
async fn pump<S>(sink: &mut S, queue: &mut std::collections::VecDeque<Message>) -> Result<Infallible, Error>
where
    S: Sink<Message, Error = Error> + Unpin,
{
    loop {
        if queue.is_empty() {
            sink.flush().await?;
            pending::<()>().await;
        }
        poll_fn(|cx| sink.poll_ready_unpin(cx)).await?;
        if let Some(message) = queue.pop_front() {
            sink.start_send_unpin(message)?;
        }
    }
}

/// Closes with a code and waits briefly for the echo.
async fn close(mut socket: Socket, code: u16, reason: String) -> Closed {
    let frame = CloseFrame { code: code.into(), reason: reason.clone().into() };
    let goodbye = async {
        socket.close(Some(frame)).await?;
        while let Some(message) = socket.next().await {
            message?;
        }
        Ok::<(), Error>(())
    };
    // A client that has gone away sends no echo.
    let _ = timeout(CLOSE_LIMIT, goodbye).await;
    Closed::ByServer(code, reason)
}

/// The model that the request asks for, and why it is refused after the 101, if it is.
fn examine(
    request: &Request,
    shared: &Shared,
    log: &Mutex<SessionLog>,
) -> (Option<String>, Option<(Refusal, u16)>) {
    let query = request.uri().query().unwrap_or_default();
    let model = form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == "model")
        .map(|(_, model)| model.into_owned())
        .filter(|model| !model.is_empty());
    let options = &shared.options;
    let name = options.auth_header.as_deref().unwrap_or("authorization");
    let header = request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    let token = match options.auth_header {
        Some(_) => header,
        None => header.and_then(|value| value.strip_prefix("Bearer ")),
    };
    let is_open = options.key.is_empty();
    let is_good = token == Some(options.key.as_str());
    {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.headers = request.headers().keys().map(|name| name.as_str().to_owned()).collect();
        log.model.clone_from(&model);
        log.authorization_present = header.is_some();
        log.authorization_good = is_good;
    }
    let error = if is_open {
        None
    } else if token.is_none() {
        Some(ConnectError::MissingKey)
    } else if !is_good {
        Some(ConnectError::InvalidKey)
    } else if options.dialect == Dialect::Ga && request.headers().contains_key("openai-beta") {
        Some(ConnectError::BetaHeader)
    } else {
        None
    };
    let error = error.or_else(|| match &model {
        None => Some(ConnectError::MissingModel),
        Some(model) if !options.models.is_empty() && !options.models.contains(model) => {
            Some(ConnectError::UnknownModel)
        }
        Some(_) => None,
    });
    let refusal = error.map(|error| connect_refusal(error, model.as_deref()));
    (model, refusal)
}

fn connect_refusal(error: ConnectError, model: Option<&str>) -> (Refusal, u16) {
    let refusal = |code: &str, message: &str| Refusal::new(code, message, None);
    match error {
        ConnectError::InvalidKey => {
            let message = "Incorrect API key provided: sk-****. You can find your API key at \
                https://platform.openai.com/account/api-keys.";
            (refusal("invalid_api_key", message), 3000)
        }
        ConnectError::MissingKey => {
            let message = "Missing bearer or basic authentication in header";
            (Refusal { code: None, ..refusal("", message) }, 3000)
        }
        ConnectError::UnknownModel => {
            let model = model.unwrap_or_default();
            (refusal("invalid_model", &format!("Model \"{model}\" is not supported in realtime mode.")), 4000)
        }
        ConnectError::MissingModel => {
            let message = "You must provide a model parameter, for example \
                wss://api.openai.com/v1/realtime?model=gpt-realtime.";
            (refusal("missing_model", message), 4000)
        }
        ConnectError::BetaHeader => {
            let message =
                "The Realtime Beta API is no longer supported. Please use /v1/realtime for the GA API.";
            (refusal("beta_api_shape_disabled", message), 4000)
        }
        ConnectError::InsufficientQuota => {
            let message = "You exceeded your current quota, please check your plan and billing details.";
            (Refusal { kind: "insufficient_quota", ..refusal("insufficient_quota", message) }, 4000)
        }
    }
}

fn refused_upgrade(status: u16) -> ErrorResponse {
    let body = r#"{"error":{"code":"refused","message":"The simulated model refuses the upgrade."}}"#;
    let mut response = ErrorResponse::new(Some(body.to_owned()));
    *response.status_mut() = status.try_into().unwrap_or_default();
    response
}

/// 4 KiB each way: hundreds of sessions live in one process. A message may be an append of 15 MiB in base64.
fn socket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4 * 1_024)
        .write_buffer_size(4 * 1_024)
        .max_message_size(Some(32 * 1_024 * 1_024))
        .max_frame_size(Some(32 * 1_024 * 1_024))
}
