//! The phone's socket: translates Twilio's media stream into the call's events. `pauses.rs` fills what is missing of it.

mod pauses;

use std::io;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::inbox::Inbox;
use super::outbox::{self, Outbox};
use crate::call::{Anomaly, Event};
use crate::id::{CallSid, Mark, Piece};
use crate::link::now;
use crate::wire::twilio::media_stream::{self, Incoming, MAX_MESSAGE, Writer};
use pauses::Pauses;
use switchboard_audio::Chunk;

/// How long `start` may take after the upgrade.
pub const START_TIMEOUT: Duration = Duration::from_secs(5);
/// A frame that the socket does not accept within this time stops the playback clock.
const STALL: Duration = Duration::from_millis(20);
/// How long a closing handshake may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The frames that are tolerated before `start`.
const MAX_EARLY_FRAMES: u32 = 64;

/// A usual frame has 400 bytes. Before each read the library fills the buffer with zeros, twice a frame.
const READ_BUFFER: usize = 1024;
/// The largest of our messages: a piece of audio.
const LARGEST: usize = 16 * 1024;

pub type Socket = WebSocketStream<TcpStream>;

/// The phone's socket after the upgrade, on its way to the session. It belongs to no runtime.
#[derive(Debug)]
pub struct Upgraded {
    tcp: std::net::TcpStream,
    /// What the HTTP server has read beyond the request.
    read: Bytes,
}

impl Upgraded {
    pub fn new(tcp: std::net::TcpStream, read: Bytes) -> Self {
        Self { tcp, read }
    }

    /// Registers the socket with the runtime of the caller.
    ///
    /// # Errors
    /// If the runtime cannot watch it.
    pub async fn open(self) -> io::Result<Socket> {
        let tcp = TcpStream::from_std(self.tcp)?;
        let limits = outbox::limits(READ_BUFFER, MAX_MESSAGE, LARGEST);
        Ok(WebSocketStream::from_partially_read(tcp, self.read.into(), Role::Server, Some(limits)).await)
    }
}

/// A media stream that has started.
#[derive(Debug)]
pub struct CallerLink {
    socket: Socket,
    stream: String,
    writer: Writer,
    inbox: Inbox,
    outbox: Outbox<Tag>,
    stall_reported: bool,
    pauses: Pauses,
    /// A frame after a pause, whose silence comes first.
    after_pause: Option<Chunk>,
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
        mut socket: Socket,
        call: &CallSid,
        mut on_anomaly: impl FnMut(Anomaly),
    ) -> Result<Self, (NotStarted, Socket)> {
        let started = timeout(START_TIMEOUT, start_frame(&mut socket, call, &mut on_anomaly)).await;
        match started.unwrap_or(Err(NotStarted::Late)) {
            Ok(stream) => Ok(Self::started(socket, stream)),
            Err(why) => Err((why, socket)),
        }
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

    /// The stream's time at which the caller's last frame ended, in milliseconds; `None` if it did not say, or if what was
    /// heard last is silence that stands for a pause.
    pub fn frame_ended(&self) -> Option<u64> {
        self.pauses.ended().filter(|_| self.after_pause.is_none())
    }

    /// When the caller's last frame was read.
    pub fn heard_at(&self) -> Option<Instant> {
        self.pauses.last()
    }

    /// Whether so much waits for the phone that nothing more may be queued.
    pub fn is_full(&self) -> bool {
        self.outbox.is_full()
    }

    /// When [`Self::overdue`] is next due.
    pub fn deadline(&self) -> Option<Instant> {
        if self.gone {
            return None;
        }
        self.stall_due().into_iter().chain(self.pauses.due()).min()
    }

    fn stall_due(&self) -> Option<Instant> {
        match self.stall_reported {
            true => self.outbox.stuck_deadline(),
            false => Some(self.outbox.blocked_since()? + STALL),
        }
    }

    /// The silence for a pause of the phone's; or the event if the phone accepts nothing: its playback stalls, once until
    /// it accepts a frame; then it is cut off.
    pub fn overdue(&mut self, now: Instant) -> Option<Event> {
        if self.gone {
            return None;
        }
        if let Some(silence) = self.pauses.fill(now) {
            return Some(Event::CallerAudio(silence));
        }
        if self.stall_due().is_none_or(|due| due > now) {
            return None;
        }
        if !self.stall_reported {
            self.stall_reported = true;
            return Some(Event::CallerStalled);
        }
        tracing::warn!("The phone's socket accepts nothing; cutting it off");
        self.gone = true;
        Some(Event::StreamLost)
    }

    /// The process stood still, so the phone may not have had a chance.
    pub fn stood_still(&mut self, time: Duration) {
        self.outbox.stood_still(time);
        self.pauses.stood_still(time, now());
    }

    /// Closes the stream, so that Twilio requests `/after-stream`. Boxed, so that the call's future stays small.
    pub async fn close(mut self: Box<Self>) {
        if !self.gone {
            send_close(&mut self.socket, CloseCode::Normal).await;
        }
    }

    fn started(socket: Socket, stream: String) -> Self {
        Self {
            writer: Writer::new(&stream),
            socket,
            stream,
            inbox: Inbox::default(),
            outbox: Outbox::new(),
            stall_reported: false,
            pauses: Pauses::default(),
            after_pause: None,
            gone: false,
        }
    }

    /// Sends a frame or receives one.
    pub fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<CallerStep> {
        for _ in 0..outbox::MAX_FRAMES {
            if self.gone {
                return Poll::Pending;
            }
            if let Some(chunk) = self.after_pause.take() {
                return Poll::Ready(CallerStep::Event(Event::CallerAudio(chunk)));
            }
            if let Some(step) = self.send(cx) {
                return Poll::Ready(step);
            }
            let step = match ready!(self.inbox.poll_next(&mut self.socket, cx)) {
                Some(Ok(Message::Text(text))) => self.read(&Bytes::from(text)),
                Some(Ok(Message::Binary(_))) => Some(CallerStep::Anomaly(Anomaly::CallerBinaryFrame)),
                Some(Ok(Message::Ping(_))) => {
                    self.outbox.must_flush();
                    None
                }
                Some(Ok(Message::Pong(_) | Message::Frame(_))) => None,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return self.lost(),
            };
            if let Some(step) = step {
                return Poll::Ready(step);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends what waits. Returns once a piece of audio has left.
    fn send(&mut self, cx: &mut Context<'_>) -> Option<CallerStep> {
        while let Poll::Ready(tag) = self.outbox.poll_send(&mut self.socket, cx) {
            self.stall_reported = false;
            if let Tag::Audio(piece) = tag {
                return Some(CallerStep::Event(Event::AudioLeft(piece)));
            }
        }
        None
    }

    fn lost(&mut self) -> Poll<CallerStep> {
        self.gone = true;
        Poll::Ready(CallerStep::Event(Event::StreamLost))
    }

    /// What the caller says next: the chunk, or the silence before it.
    fn heard(&mut self, chunk: Chunk, timestamp: Option<u64>) -> Chunk {
        match self.pauses.frame(timestamp, chunk.bytes(), now()) {
            Some(silence) => {
                self.after_pause = Some(chunk);
                silence
            }
            None => chunk,
        }
    }

    fn read(&mut self, frame: &Bytes) -> Option<CallerStep> {
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
            Incoming::Media { chunk: Ok(chunk), timestamp, .. } => {
                CallerStep::Event(Event::CallerAudio(self.heard(chunk, timestamp)))
            }
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
pub async fn refuse(mut socket: Box<Socket>) {
    send_close(&mut socket, CloseCode::Policy).await;
}

async fn start_frame(
    socket: &mut Socket,
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
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
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

async fn send_close(socket: &mut Socket, code: CloseCode) {
    let frame = CloseFrame { code, reason: "".into() };
    let _ = timeout(CLOSE_TIMEOUT, async {
        socket.send(Message::Close(Some(frame))).await?;
        // Reads until the peer's own close.
        while let Some(Ok(_)) = socket.next().await {}
        Ok::<(), WsError>(())
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::link::now;
    use crate::link::outbox::tests::a_peer_that_pings_and_never_reads;
    use crate::process::is_alone;

    /// A link, and the phone's end of its socket.
    async fn linked() -> (CallerLink, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let phone = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let tcp = listener.accept().await.unwrap().0.into_std().unwrap();
        let socket = Upgraded::new(tcp, Bytes::new()).open().await.unwrap();
        (CallerLink::started(socket, "MZ1".to_owned()), phone)
    }

    #[tokio::test]
    async fn a_phone_that_pings_and_never_reads_is_cut_off() {
        if !is_alone("link::caller::tests::a_phone_that_pings_and_never_reads_is_cut_off") {
            return;
        }
        let (mut link, phone) = linked().await;
        let step = async { drop(poll_fn(|cx| link.poll_step(cx)).await) };
        a_peer_that_pings_and_never_reads(phone, true, step).await;
        // What we want to say then waits, too.
        link.clear();
        assert!(poll_fn(|cx| Poll::Ready(link.poll_step(cx).is_pending())).await);
        let stall = link.deadline().expect("the phone accepts nothing");
        assert!(matches!(link.overdue(stall), Some(Event::CallerStalled)));
        let stuck = link.deadline().unwrap();
        assert!(link.overdue(stuck - Duration::from_millis(1)).is_none());
        assert!(matches!(link.overdue(stuck), Some(Event::StreamLost)));
        assert!(stuck - now() <= Duration::from_secs(10));
    }

    #[tokio::test]
    async fn a_flood_of_pings_leaves_others_their_turn() {
        let (mut link, mut phone) = linked().await;
        phone.write_all(&[0x89, 0x80, 0, 0, 0, 0].repeat(1_000)).await.unwrap();
        link.socket.get_ref().readable().await.unwrap();
        assert!(poll_fn(|cx| Poll::Ready(link.poll_step(cx).is_pending())).await);
        let mut pongs = [0; 4_096];
        let answered = phone.read(&mut pongs).await.unwrap();
        assert!(answered <= outbox::MAX_FRAMES * 2, "{answered} bytes of pongs in one step");
        // The step wakes its task, so that the others are answered, too.
        let mut left = 2_000 - answered;
        while left > 0 {
            tokio::select! {
                read = phone.read(&mut pongs) => left -= read.unwrap(),
                step = poll_fn(|cx| link.poll_step(cx)) => panic!("{step:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_phone_that_never_reads_fills_the_outbox() {
        let (mut link, _phone) = linked().await;
        let second = Chunk::from_ulaw(&[0xFF; 7_998]);
        let mut seconds = 0;
        while !link.is_full() {
            link.play(Piece(seconds), &second);
            seconds += 1;
            assert!(seconds < 2_000, "the kernel takes no 20 MB");
            let polled = poll_fn(|cx| Poll::Ready(link.poll_step(cx))).await;
            assert!(!matches!(polled, Poll::Ready(CallerStep::Anomaly(_))));
        }
        assert!(link.deadline().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_of_the_phone_becomes_silence() {
        let (mut link, phone) = linked().await;
        let mut phone = WebSocketStream::from_raw_socket(phone, Role::Client, None).await;
        let mut heard = async |link: &mut CallerLink, timestamp: u64, chunks: usize| {
            let payload = Chunk::from_ulaw(&[0x20; 160]);
            let media = format!(r#"{{"timestamp":"{timestamp}","payload":"{}"}}"#, payload.as_str());
            let frame = format!(r#"{{"event":"media","streamSid":"MZ1","media":{media}}}"#);
            phone.send(Message::Text(frame.into())).await.unwrap();
            let mut heard = Vec::new();
            for _ in 0..chunks {
                match poll_fn(|cx| link.poll_step(cx)).await {
                    CallerStep::Event(Event::CallerAudio(chunk)) => heard.push(chunk.bytes()),
                    step => panic!("{step:?}"),
                }
            }
            heard
        };
        assert_eq!(heard(&mut link, 5, 1).await, [160]);
        assert_eq!(heard(&mut link, 525, 2).await, [4_000, 160], "half a second is missing");
        let due = link.deadline().expect("the phone may pause");
        assert_eq!(due - now(), Duration::from_millis(750));
        let Some(Event::CallerAudio(silence)) = link.overdue(due) else { panic!("silence") };
        assert_eq!(silence, Chunk::from_ulaw(&[0xFF; 8_000]));
        assert_eq!((link.deadline(), link.overdue(due)), (None, None), "once for each pause");
        assert_eq!(heard(&mut link, 60_000, 1).await, [160]);
    }
}
