//! One media stream: the socket, fifty frames a second, and the marks that come back from the buffer.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::time::{sleep_until, timeout};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::connect::{Socket, open};
use super::message::{self, FromServer, Habits, Writer};
use super::options::Fault;
use super::playback::{Effect, Playback, bytes_between};
use super::record::{MarkRecord, MediaArrival, PhoneEvent, StreamEnd, StreamRecord};
use super::state::{Call, Filled};
use super::twiml;
use super::webhook::{pass, sid};
use crate::clock::now;
use crate::tag;
use switchboard_audio::{SILENCE, decode, encode};

/// From the loudspeaker to the microphone and back.
const ECHO_DELAY: Duration = Duration::from_millis(60);
const FRAME: usize = 160;
const FRAME_TIME: Duration = Duration::from_millis(20);
/// The timeout of a close.
const CLOSE: Duration = Duration::from_secs(2);
/// The most frames that wait for a slow server before audio is dropped: 5 s.
const BACKLOG: usize = 250;
/// The frame at which the socket's faults occur.
const FAULTY_FRAME: u64 = 10;

const PROTOCOL_ERROR: u32 = 31_924;
const TOO_SLOW: u32 = 31_930;
const TOO_MUCH: u32 = 31_931;
const UNDECODABLE: u32 = 31_950;
const INVALID: u32 = 31_951;

/// Runs a stream from its connection to its end.
pub(super) async fn run(call: &mut Call, plan: &twiml::Stream, base: &str) -> StreamRecord {
    let mut record = StreamRecord {
        stream_sid: sid("MZ"),
        url: plan.url.clone(),
        opened: None,
        started: None,
        first_media: None,
        ended: now(),
        end: StreamEnd::Cut,
        media: Vec::new(),
        marks: Vec::new(),
        clears: Vec::new(),
        speech: Vec::new(),
        media_received: 0,
        bytes_received: 0,
        bytes_played: 0,
        latencies: Vec::new(),
        second_connect: None,
    };
    let delay = call.options.network.up + call.options.network.down + call.jitter();
    pass(delay).await;
    let socket = match open(&call.options, &plan.url, base).await {
        Ok(socket) => socket,
        Err(refusal) => {
            call.violation(refusal.code, refusal.what);
            record.end = StreamEnd::Refused { code: refusal.code, status: refusal.status };
            record.ended = now();
            return record;
        }
    };
    record.opened = Some(now());
    if call.options.faults.contains(&Fault::TwoConnects) {
        record.second_connect = match open(&call.options, &plan.url, base).await {
            Ok(_) => Some(101),
            Err(refusal) => refusal.status,
        };
    }
    Live::new(call, socket, record).run(plan).await
}

struct Outgoing {
    due: Instant,
    message: Message,
}

enum Incoming {
    Text(Utf8Bytes),
    Binary,
    End(StreamEnd),
}

/// A stream that is open.
struct Live<'call> {
    call: &'call mut Call,
    socket: Socket,
    writer: Writer,
    playback: Playback,
    record: StreamRecord,
    /// Messages delayed by the network, in each direction.
    outgoing: VecDeque<Outgoing>,
    incoming: VecDeque<(Instant, Incoming)>,
    unflushed: bool,
    /// The socket has nothing more to say.
    closed: bool,
    effects: Vec<Effect>,
    scratch: Vec<u8>,
    began: Instant,
    /// When the next frame leaves the caller's phone, and its number.
    next_frame: Option<Instant>,
    frame: u64,
    /// The caller is in the middle of a clip.
    speaking: bool,
    first_timestamp: u64,
    /// After the caller hung up: when the socket is dropped.
    leaving: Option<Instant>,
    discarding: bool,
    end: Option<StreamEnd>,
}

impl<'call> Live<'call> {
    fn new(call: &'call mut Call, socket: Socket, record: StreamRecord) -> Self {
        let options = &call.options;
        let has = |fault| options.faults.contains(&fault);
        let habits = Habits {
            escape_slashes: has(Fault::EscapedSlashes),
            numbers: has(Fault::NumericCounters),
            extra_fields: has(Fault::ExtraFields),
        };
        let wrong = sid("CA");
        let call_sid = if has(Fault::WrongCallSid) { &wrong } else { &options.call_sid };
        let writer = Writer::new(record.stream_sid.clone(), &options.account_sid, call_sid, habits);
        let heard = options.keep_audio.then(|| std::mem::take(&mut call.record.heard));
        let first_timestamp = call.up_to(Duration::from_millis(60)).as_millis() as u64;
        Self {
            playback: Playback::new(call.record.started, heard),
            call,
            socket,
            writer,
            record,
            outgoing: VecDeque::new(),
            incoming: VecDeque::new(),
            unflushed: false,
            closed: false,
            effects: Vec::new(),
            scratch: Vec::new(),
            began: now(),
            next_frame: None,
            frame: 0,
            speaking: false,
            first_timestamp,
            leaving: None,
            discarding: false,
            end: None,
        }
    }

    async fn run(mut self, plan: &twiml::Stream) -> StreamRecord {
        self.greet(plan);
        let end = loop {
            let at = now();
            self.deliver(at);
            self.play(at);
            self.speak(at);
            if self.leaving.is_some_and(|latest| latest <= at) {
                self.end = Some(StreamEnd::CallerHungUp);
            }
            if let Some(end) = self.end.take() {
                break end;
            }
            if let Some((from, until)) = self.half_open()
                && from <= at
            {
                self.hold(until).await;
                break StreamEnd::Cut;
            }
            if let Some(until) = self.call.broken.take() {
                self.hold(until).await;
                break StreamEnd::Cut;
            }
            let wake = self.wake(at);
            tokio::select! {
                biased;
                Some(act) = self.call.acts.recv() => self.call.perform_act(act),
                message = exchange(&mut self.socket, &mut self.outgoing, &mut self.unflushed), if !self.closed => {
                    self.arrive(message);
                }
                () = sleep_until(wake.into()) => {}
            }
            if self.call.hung_up && self.leaving.is_none() {
                self.leave();
            }
        };
        self.finish(end).await
    }

    /// Sends `connected` and `start`.
    fn greet(&mut self, plan: &twiml::Stream) {
        let has = |live: &Self, fault| live.call.options.faults.contains(&fault);
        let connected = self.writer.connected();
        self.send(Message::text(connected));
        if has(self, Fault::NoStart) {
            return;
        }
        if has(self, Fault::MediaFirst) {
            let early = Message::text(self.writer.media(0, &[SILENCE; FRAME]));
            self.send(early);
        }
        let start = self.writer.start(&plan.parameters);
        self.send(Message::text(start));
        self.began = now();
        self.record.started = Some(self.began);
        self.next_frame = Some(self.began + FRAME_TIME);
        if self.call.options.keep_audio {
            let place = bytes_between(self.call.record.started, self.began) as usize;
            let spoken = &mut self.call.record.spoken;
            spoken.resize(place.max(spoken.len()), SILENCE);
        }
        self.call.playing.send_modify(|playing| playing.streams += 1);
        let stream_sid = self.record.stream_sid.clone();
        if let Some(url) = &plan.status_callback {
            let name = plan.name.as_deref();
            self.call.stream_status(url.clone(), name, &stream_sid, "stream-started", None);
        }
        self.call.emit(PhoneEvent::StreamStarted { stream_sid });
    }

    /// Sends a message into the network.
    fn send(&mut self, message: Message) {
        self.send_later(message, now());
    }

    fn send_later(&mut self, message: Message, from: Instant) {
        let due = from + self.call.options.network.up + self.call.jitter();
        let due = self.outgoing.back().map_or(due, |before| before.due.max(due));
        self.outgoing.push_back(Outgoing { due, message });
    }

    /// Queues a message from the socket until the network delivers it.
    fn arrive(&mut self, message: Option<Result<Message, Error>>) {
        self.closed = !matches!(message, Some(Ok(_)));
        let incoming = match message {
            Some(Ok(Message::Text(text))) => Incoming::Text(text),
            Some(Ok(Message::Binary(_))) => Incoming::Binary,
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => return,
            Some(Ok(Message::Close(frame))) => Incoming::End(StreamEnd::ServerClosed {
                code: frame.as_ref().map_or(1_005, |frame| frame.code.into()),
                reason: frame.map_or_else(String::new, |frame| frame.reason.to_string()),
            }),
            Some(Err(
                error @ (Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
                | Error::Io(_)
                | Error::ConnectionClosed
                | Error::AlreadyClosed),
            )) => Incoming::End(StreamEnd::Lost(error.to_string())),
            Some(Err(error)) => Incoming::End(StreamEnd::Broken(error.to_string())),
            None => Incoming::End(StreamEnd::Lost("the connection ended".to_owned())),
        };
        if self.call.options.stamps
            && let Incoming::Text(text) = &incoming
            && let Ok(FromServer::Media) = message::read(text, &self.record.stream_sid, &mut self.scratch)
            && let Some(head) = self.scratch.first_chunk()
            && let Some((left, _)) = tag::unstamp(head)
        {
            let under_way = tag::nanos().saturating_sub(left);
            self.record.latencies.push(Duration::from_nanos(under_way));
        }
        let due = now() + self.call.options.network.down + self.call.jitter();
        let due = self.incoming.back().map_or(due, |(before, _)| (*before).max(due));
        self.incoming.push_back((due, incoming));
    }

    /// Handles the messages that the network has delivered by now.
    fn deliver(&mut self, at: Instant) {
        while self.incoming.front().is_some_and(|(due, _)| *due <= at) && self.end.is_none() {
            let Some((due, incoming)) = self.incoming.pop_front() else { break };
            self.play(due);
            match incoming {
                Incoming::End(_) if self.leaving.is_some() => {
                    self.end = Some(StreamEnd::CallerHungUp);
                }
                Incoming::End(end) => {
                    if let StreamEnd::Broken(why) = &end {
                        self.call.violation(PROTOCOL_ERROR, why.clone());
                    }
                    self.end = Some(end);
                }
                // The caller has hung up, so late messages have no effect.
                _ if self.leaving.is_some() => {}
                Incoming::Binary => self.call.violation(UNDECODABLE, "a binary frame"),
                Incoming::Text(_) if self.record.started.is_none() => {
                    self.call.violation(INVALID, "a message before start");
                }
                Incoming::Text(text) => self.hear(&text, due),
            }
            self.react();
        }
    }

    fn hear(&mut self, text: &str, at: Instant) {
        match message::read(text, &self.record.stream_sid, &mut self.scratch) {
            Err(what) => self.call.violation(INVALID, what),
            Ok(FromServer::Media) => {
                let bytes = self.scratch.len();
                self.record.media_received += 1;
                self.record.bytes_received += bytes as u64;
                if self.record.first_media.is_none() {
                    self.record.first_media = Some(at);
                    self.call.emit(PhoneEvent::FirstMedia);
                }
                if self.call.options.keep_audio {
                    self.record.media.push(MediaArrival { at, bytes });
                }
                let room = self.playback.media(&self.scratch, at, &mut self.effects);
                if !room {
                    self.call.violation(TOO_MUCH, "more than 10 minutes in the buffer");
                }
            }
            Ok(FromServer::Mark(name)) => self.playback.mark(name, at, &mut self.effects),
            Ok(FromServer::Clear) => {
                let cleared = self.playback.clear(at, &mut self.effects);
                // The speaker is quiet before the reason is reported.
                self.react();
                self.call.emit(PhoneEvent::Cleared(cleared.clone()));
                self.record.clears.push(cleared);
            }
        }
    }

    /// Plays the buffer until `at`.
    fn play(&mut self, at: Instant) {
        if self.leaving.is_none() {
            self.playback.advance(at, &mut self.effects);
            self.react();
        }
    }

    /// Applies the effects of the buffer.
    fn react(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Began { at } => {
                    self.call.playing.send_modify(|playing| {
                        playing.since = Some(at);
                        playing.runs += 1;
                    });
                    self.call.emit(PhoneEvent::Playing);
                }
                Effect::Quiet { at, played } => {
                    self.call.playing.send_modify(|playing| {
                        playing.since = None;
                        playing.quiet_since = Some(at);
                    });
                    let played = switchboard_audio::duration(played as usize);
                    self.call.emit(PhoneEvent::Quiet { played });
                }
                Effect::Echo { name, at, flushed } => {
                    let echo = self.writer.mark(&name);
                    self.send_later(Message::text(echo), at);
                    self.call.emit(PhoneEvent::MarkEchoed { name: name.clone(), flushed });
                    if self.call.options.keep_audio {
                        let mark = MarkRecord { name, flushed };
                        self.record.marks.push(mark);
                    }
                }
            }
        }
        self.effects = effects;
    }

    /// Sends the frames that are due, filled with the caller's speech.
    fn speak(&mut self, at: Instant) {
        while let Some(due) = self.next_frame.filter(|due| *due <= at) {
            self.next_frame = Some(due + FRAME_TIME);
            self.frame += 1;
            while let Some(digit) = self.call.speech.digits.pop_front() {
                let dtmf = self.writer.dtmf(digit);
                self.send_later(Message::text(dtmf), due);
            }
            let mut frame = [SILENCE; FRAME];
            let filled = self.call.speech.fill(&mut frame);
            if let Some(decibels) = self.call.options.echo {
                let gain = 10_f32.powf(-decibels / 20.0);
                for (own, echo) in frame.iter_mut().zip(self.playback.heard_until(due - ECHO_DELAY, FRAME)) {
                    let sum = f32::from(decode(*own)) + gain * f32::from(decode(*echo));
                    *own = encode(sum as i16);
                }
            }
            if self.call.options.keep_audio {
                self.call.record.spoken.extend_from_slice(&frame);
                if filled != Filled::Silence {
                    self.record.speech.push(at);
                }
            }
            if filled != Filled::Silence && !self.speaking {
                // A frame holds the 20 ms before it is sent.
                self.call.emit_at(PhoneEvent::Speaking, due - FRAME_TIME);
            }
            self.speaking = filled == Filled::Speech;
            if filled == Filled::End {
                self.call.emit(PhoneEvent::Spoke);
            }
            if self.frame == FAULTY_FRAME {
                self.misbehave();
            }
            if self.silent(at) || self.backed_up() {
                continue;
            }
            if self.call.options.stamps {
                frame[..tag::STAMP_LEN].copy_from_slice(&tag::stamp(tag::nanos(), self.frame as u32));
            }
            let timestamp = self.first_timestamp + (self.frame - 1) * 20;
            let message = Message::text(self.writer.media(timestamp, &frame));
            let most = self.call.options.frame_jitter;
            let late = self.call.up_to(most);
            self.send_later(message, due + late);
        }
    }

    /// Whether the server reads so slowly that audio is dropped.
    fn backed_up(&mut self) -> bool {
        let under_way = self.call.options.network.up + self.call.options.network.jitter;
        let under_way = (under_way.as_millis() / 20) as usize;
        let full = self.outgoing.len() > BACKLOG + under_way;
        if full && !self.discarding {
            self.discarding = true;
            self.call.violation(TOO_SLOW, "the server reads too slowly; audio is discarded");
        }
        full
    }

    /// Whether a fault suppresses media.
    fn silent(&self, at: Instant) -> bool {
        let since = at - self.began;
        self.call.paused.is_some_and(|until| at < until)
            || self.call.options.faults.iter().any(|fault| {
                matches!(fault, Fault::Silent { after, lasting }
                if (*after..*after + *lasting).contains(&since))
            })
    }

    /// The period in which the connection is half-open.
    fn half_open(&self) -> Option<(Instant, Instant)> {
        self.call.options.faults.iter().find_map(|fault| match fault {
            Fault::HalfOpen { after, lasting } => Some((self.began + *after, self.began + *after + *lasting)),
            Fault::Cut { after } => Some((self.began + *after, self.began + *after)),
            _ => None,
        })
    }

    /// Reads and writes nothing until then.
    async fn hold(&mut self, until: Instant) {
        while !self.call.hung_up && now() < until {
            tokio::select! {
                Some(act) = self.call.acts.recv() => self.call.perform_act(act),
                () = sleep_until(until.into()) => {}
            }
        }
    }

    /// Sends the socket's faults.
    fn misbehave(&mut self) {
        for fault in self.call.options.faults.clone() {
            let messages = match fault {
                Fault::Binary => vec![Message::binary(vec![0_u8; FRAME])],
                Fault::Garbage => vec![Message::text("{\"event\":\"media\",")],
                Fault::Oversized => {
                    let big = vec![SILENCE; 100 * 1_024];
                    vec![Message::text(self.writer.media(0, &big))]
                }
                Fault::WrongStream => vec![Message::text(
                    "{\"event\":\"media\",\"streamSid\":\"MZother\",\"media\":{\"payload\":\"////\"}}",
                )],
                Fault::UnknownEvents => vec![
                    Message::text("{\"event\":\"weather\",\"weather\":{\"rain\":true}}"),
                    Message::text("{\"nothing\":1}"),
                ],
                _ => continue,
            };
            for message in messages {
                self.send(message);
            }
        }
    }

    /// The caller hangs up: `stop`, then a close frame.
    fn leave(&mut self) {
        let at = now();
        self.play(at);
        self.next_frame = None;
        let has = |live: &Self, fault| live.call.options.faults.contains(&fault);
        if has(self, Fault::NoStop) {
            self.leaving = Some(at);
            return;
        }
        let network = self.call.options.network;
        self.leaving = Some(at + CLOSE + network.up + network.down + network.jitter * 2);
        if self.record.started.is_some() {
            for _ in 0..1 + usize::from(has(self, Fault::TwoStops)) {
                let stop = self.writer.stop();
                self.send(Message::text(stop));
            }
        }
        let close = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::from_static("") };
        self.send(Message::Close(Some(close)));
    }

    fn wake(&self, at: Instant) -> Instant {
        let blocked = self.outgoing.front().is_some_and(|next| next.due <= at);
        let outgoing = self.outgoing.front().filter(|_| !blocked).map(|next| next.due);
        let incoming = self.incoming.front().map(|(due, _)| *due);
        let playback = self.playback.deadline().filter(|_| self.leaving.is_none());
        let cut = self.half_open().map(|(from, _)| from);
        [self.next_frame, outgoing, incoming, playback, cut, self.leaving]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(at + Duration::from_secs(1))
    }

    async fn finish(mut self, end: StreamEnd) -> StreamRecord {
        let at = now();
        self.play(at);
        if self.playback.deadline().is_some() {
            // The rest of the buffer is never heard.
            self.playback.clear(at, &mut self.effects);
            self.effects.retain(|effect| matches!(effect, Effect::Quiet { .. }));
            self.react();
        }
        if matches!(end, StreamEnd::ServerClosed { .. }) {
            // The library has queued the close echo.
            let _ = timeout(CLOSE, self.socket.flush()).await;
        }
        self.record.bytes_played = self.playback.total;
        self.record.ended = at;
        self.record.end = end;
        if let Some(heard) = self.playback.finish() {
            self.call.record.heard = heard;
        }
        self.record
    }
}

/// Sends what is due and waits for the next message. Cancel-safe: a message leaves the queue only in the step in which
/// the socket accepts it, and the socket keeps a partly read message.
async fn exchange(
    socket: &mut Socket,
    outgoing: &mut VecDeque<Outgoing>,
    unflushed: &mut bool,
) -> Option<Result<Message, Error>> {
    poll_fn(|cx| {
        let mut failed = None;
        let at = now();
        while failed.is_none() && outgoing.front().is_some_and(|next| next.due <= at) {
            match socket.poll_ready_unpin(cx) {
                Poll::Pending => break,
                Poll::Ready(Err(error)) => failed = Some(error),
                Poll::Ready(Ok(())) => {
                    let Some(next) = outgoing.pop_front() else { break };
                    failed = socket.start_send_unpin(next.message).err();
                    *unflushed = true;
                }
            }
        }
        if *unflushed && failed.is_none() {
            match socket.poll_flush_unpin(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => *unflushed = false,
                Poll::Ready(Err(error)) => failed = Some(error),
            }
        }
        match (socket.poll_next_unpin(cx), failed) {
            // Messages that the server sent before it disconnected come first.
            (Poll::Ready(message), _) => Poll::Ready(message),
            (Poll::Pending, Some(error)) => Poll::Ready(Some(Err(error))),
            (Poll::Pending, None) => Poll::Pending,
        }
    })
    .await
}
