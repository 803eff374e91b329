//! The phone's socket: translates Twilio's media stream into the call's events.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::timeout;

use super::outbox::Outbox;
use crate::call::{Anomaly, Event};
use crate::id::{CallSid, Mark, Piece};
use crate::wire::twilio::media_stream::{self, Incoming, Writer};
use switchboard_audio::Chunk;

/// How long `start` may take after the upgrade.
pub const START_TIMEOUT: Duration = Duration::from_secs(5);
/// A frame that the socket does not accept within this time stops the playback clock.
const STALL: Duration = Duration::from_millis(20);
/// How long a closing handshake may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The frames that are tolerated before `start`.
const MAX_EARLY_FRAMES: u32 = 64;

/// WebSocket close codes (RFC 6455 §7.4.1).
pub mod close {
    pub const NORMAL: u16 = 1000;
    pub const POLICY: u16 = 1008;
}

/// A media stream that has started.
#[derive(Debug)]
pub struct CallerLink {
    socket: WebSocket,
    stream: String,
    writer: Writer,
    outbox: Outbox<Tag, Message>,
    stall_reported: bool,
    /// Sending failed. Frames that the phone sent before it closed can still be read.
    mute: bool,
    gone: bool,
}

#[derive(Debug, Clone, Copy)]
enum Tag {
    Audio(Piece),
    Mark,
    Clear,
}

/// The result of one step.
#[derive(Debug)]
pub enum CallerStep {
    Event(Event),
    Anomaly(Anomaly),
}

/// Why a stream did not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotStarted {
    #[error("no start in time")]
    Late,
    #[error("the start names another call")]
    AnotherCall,
    #[error("the audio is not 8 kHz mono μ-law")]
    OtherAudio,
    #[error("the socket closed before the start")]
    Closed,
}

impl NotStarted {
    /// The metric's label.
    pub fn code(self) -> &'static str {
        match self {
            Self::Late => "no_start",
            Self::AnotherCall => "wrong_call",
            Self::OtherAudio => "wrong_audio",
            Self::Closed => "closed_before_start",
        }
    }
}

impl CallerLink {
    /// Waits for `start`, which must name `call`.
    ///
    /// # Errors
    /// [`NotStarted`], with the socket for [`refuse`], once the decision about the call is recorded.
    pub async fn start(
        mut socket: WebSocket,
        call: &CallSid,
        mut on_anomaly: impl FnMut(Anomaly),
    ) -> Result<Self, (NotStarted, WebSocket)> {
        let started = timeout(START_TIMEOUT, start_frame(&mut socket, call, &mut on_anomaly)).await;
        match started.unwrap_or(Err(NotStarted::Late)) {
            Ok(stream) => Ok(Self {
                writer: Writer::new(&stream),
                socket,
                stream,
                outbox: Outbox::new(),
                stall_reported: false,
                mute: false,
                gone: false,
            }),
            Err(why) => Err((why, socket)),
        }
    }

    /// Sends a frame or receives one. Cancel-safe: everything happens within one poll.
    pub async fn step(&mut self) -> CallerStep {
        poll_fn(|cx| self.poll_step(cx)).await
    }

    pub fn play(&mut self, piece: Piece, chunk: &Chunk) {
        let frame = self.writer.media(chunk);
        self.outbox.push(Tag::Audio(piece), Message::Text(frame.into()));
    }

    pub fn mark(&mut self, mark: Mark) {
        let frame = self.writer.mark(&format!("m{}", mark.0));
        self.outbox.push(Tag::Mark, Message::Text(frame.into()));
    }

    /// Drops the frames that wait, and empties the phone's buffer.
    pub fn clear(&mut self) {
        self.outbox.retain(|tag| matches!(tag, Tag::Clear));
        self.outbox.push(Tag::Clear, Message::Text(self.writer.clear().into()));
        self.stall_reported = false;
    }

    /// When the waiting frame will have stalled.
    pub fn stall_deadline(&self) -> Option<Instant> {
        if self.stall_reported || self.mute {
            return None;
        }
        Some(self.outbox.waiting_since()? + STALL)
    }

    /// Whether a frame has stalled. Reported once until a frame is sent.
    pub fn has_stalled(&mut self, now: Instant) -> bool {
        let stalled = self.stall_deadline().is_some_and(|due| due <= now);
        self.stall_reported |= stalled;
        stalled
    }

    /// Closes the stream, so that Twilio requests `/after-stream`.
    pub async fn close(mut self) {
        if !self.gone {
            send_close(&mut self.socket, close::NORMAL).await;
        }
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<CallerStep> {
        if self.gone {
            return Poll::Pending;
        }
        while !self.mute {
            match self.outbox.poll_send(&mut self.socket, cx) {
                Poll::Ready(Ok(Tag::Audio(piece))) => {
                    self.stall_reported = false;
                    return Poll::Ready(CallerStep::Event(Event::AudioLeft(piece)));
                }
                Poll::Ready(Ok(Tag::Mark | Tag::Clear)) => self.stall_reported = false,
                Poll::Ready(Err(_)) => self.mute = true,
                Poll::Pending => break,
            }
        }
        loop {
            let step = match self.socket.poll_next_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(Message::Text(text)))) => self.read(&Bytes::from(text)),
                Poll::Ready(Some(Ok(Message::Binary(_)))) => {
                    Some(CallerStep::Anomaly(Anomaly::CallerBinaryFrame))
                }
                Poll::Ready(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => None,
                Poll::Ready(Some(Ok(Message::Close(_)) | Err(_)) | None) => return self.lost(),
            };
            if let Some(step) = step {
                return Poll::Ready(step);
            }
        }
    }

    fn lost(&mut self) -> Poll<CallerStep> {
        self.gone = true;
        Poll::Ready(CallerStep::Event(Event::StreamLost))
    }

    fn read(&self, frame: &Bytes) -> Option<CallerStep> {
        let is_wrong = |stream: &str| stream != self.stream;
        let incoming = match media_stream::parse(frame) {
            Ok(incoming) => incoming,
            Err(_) => return Some(CallerStep::Anomaly(Anomaly::CallerBadFrame)),
        };
        Some(match incoming {
            Incoming::Media { stream, .. }
            | Incoming::Dtmf { stream, .. }
            | Incoming::Mark { stream, .. }
                if is_wrong(&stream) =>
            {
                CallerStep::Anomaly(Anomaly::CallerWrongStream)
            }
            Incoming::Media { chunk: Ok(chunk), .. } => CallerStep::Event(Event::CallerAudio(chunk)),
            Incoming::Media { chunk: Err(_), .. } => CallerStep::Anomaly(Anomaly::CallerBadAudio),
            Incoming::Dtmf { digit, .. } => CallerStep::Event(Event::Digit(digit)),
            Incoming::Mark { name, .. } => match name.strip_prefix('m').and_then(|n| n.parse().ok()) {
                Some(number) => CallerStep::Event(Event::MarkPlayed(Mark(number))),
                None => CallerStep::Anomaly(Anomaly::CallerUnknownMark),
            },
            Incoming::Stop => CallerStep::Event(Event::CallerHungUp),
            Incoming::Connected => return None,
            Incoming::Start(_) | Incoming::Unknown => CallerStep::Anomaly(Anomaly::CallerUnknownEvent),
        })
    }
}

/// Rejects a stream with 1008.
pub async fn refuse(mut socket: WebSocket) {
    send_close(&mut socket, close::POLICY).await;
}

async fn start_frame(
    socket: &mut WebSocket,
    call: &CallSid,
    on_anomaly: &mut impl FnMut(Anomaly),
) -> Result<String, NotStarted> {
    for _ in 0..MAX_EARLY_FRAMES {
        let frame = match socket.next().await {
            Some(Ok(Message::Text(text))) => Bytes::from(text),
            Some(Ok(Message::Binary(_))) => {
                on_anomaly(Anomaly::CallerBinaryFrame);
                continue;
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(NotStarted::Closed),
        };
        match media_stream::parse(&frame) {
            Ok(Incoming::Connected) => {}
            Ok(Incoming::Start(start)) if start.call != call.as_str() => return Err(NotStarted::AnotherCall),
            Ok(Incoming::Start(start)) if !start.is_ulaw_8k_mono => return Err(NotStarted::OtherAudio),
            Ok(Incoming::Start(start)) => return Ok(start.stream.into_owned()),
            Ok(Incoming::Stop) => return Err(NotStarted::Closed),
            Ok(Incoming::Unknown) => on_anomaly(Anomaly::CallerUnknownEvent),
            Ok(_) | Err(_) => on_anomaly(Anomaly::CallerBadFrame),
        }
    }
    Err(NotStarted::Late)
}

async fn send_close(socket: &mut WebSocket, code: u16) {
    let frame = CloseFrame { code, reason: "".into() };
    let _ = timeout(CLOSE_TIMEOUT, async {
        socket.send(Message::Close(Some(frame))).await?;
        // Reads until the peer's own close.
        while let Some(Ok(_)) = socket.next().await {}
        Ok::<(), axum::Error>(())
    })
    .await;
}
