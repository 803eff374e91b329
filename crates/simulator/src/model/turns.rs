//! The caller's side: audio in, turns detected, committed and transcribed.

use std::time::Duration;

use rand::RngExt;
use serde_json::{Value, json};

use super::faults::Fault;
use super::log::Happened;
use super::options::Dialect;
use super::parts::Cause;
use super::refusal::Refusal;
use super::speech::Speech;
use super::state::{Due, Session};
use super::vad::Heard;
use crate::tag;
use switchboard_audio::SILENCE;

const TRANSCRIPTION: &str = "conversation.item.input_audio_transcription";

impl Session {
    /// The caller's audio, decoded from base64.
    pub fn handle_audio(&mut self, bytes: &mut [u8]) {
        let now = self.now;
        let keep = self.options().keep_audio;
        let is_first = self.note(|log| {
            log.appends += 1;
            if keep {
                log.audio.extend_from_slice(bytes);
            }
            log.first_append.replace(log.first_append.unwrap_or(now)).is_none()
        });
        if is_first {
            self.publish(Happened::Received("input_audio_buffer.append".to_owned()));
        }
        if self.options().speech == Speech::Stamped {
            let latencies = take_stamps(bytes);
            self.note(|log| log.latencies.extend(latencies));
        }
        let mut heard = Vec::new();
        let detection = self.detection.as_ref().filter(|_| !self.deaf);
        self.vad.listen(bytes, self.format, detection, &mut heard);
        for what in heard {
            match what {
                _ if self.endless.is_some() => {}
                Heard::Started { audio_start_ms } => self.speech_started(audio_start_ms),
                Heard::Stopped { audio_end_ms, speech_ms } => self.speech_stopped(audio_end_ms, speech_ms),
            }
        }
        match self.vad.speaking_ms() {
            _ if self.endless.is_some() => {}
            Some(speaking) => self.trouble_speech(Duration::from_millis(speaking)),
            None => self.user_item = None,
        }
    }

    /// The client commits the buffer.
    pub fn commit_buffer(&mut self) -> Result<(), Refusal> {
        let buffered = self.vad.buffered_ms();
        if buffered < 100.0 {
            let message = format!(
                "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, \
                 but buffer only has {buffered:.2}ms of audio."
            );
            return Err(Refusal::new("input_audio_buffer_commit_empty", message, None));
        }
        self.vad.empty();
        self.endless = None;
        self.take_turn(buffered as u64);
        Ok(())
    }

    /// The client empties the buffer.
    pub fn clear_buffer(&mut self) {
        self.vad.empty();
        self.endless = None;
        self.user_item = None;
        self.emit(json!({"type": "input_audio_buffer.cleared"}));
    }

    /// A speech goes on, whether the caller speaks or not.
    pub fn endless_speech(&mut self, until: Option<Duration>) {
        if !self.vad.is_speaking() && self.endless.is_none() {
            self.speech_started(self.vad.clock_ms());
        }
        self.endless = Some(self.vad.clock_ms());
        if let Some(until) = until {
            self.later(until, Due::SpeechEnds(self.vad.clock_ms()));
        }
    }

    /// The endless speech with this number ends.
    pub fn speech_ends(&mut self, number: u64) {
        if self.endless.take_if(|endless| *endless == number).is_some() {
            let buffered = self.vad.buffered_ms() as u64;
            self.vad.empty();
            self.speech_stopped(self.vad.clock_ms(), buffered);
        }
    }

    /// Prompts a caller who has been silent for too long.
    pub fn idle(&mut self, armed: u64) {
        let idle_ms = self.detection.as_ref().and_then(|detection| detection.idle_ms);
        let Some(idle_ms) = idle_ms.filter(|_| armed == self.idle_armed) else { return };
        if self.vad.is_speaking() || self.active().is_some() {
            return;
        }
        let end = self.vad.clock_ms();
        let id = self.new_id("item_");
        self.emit(json!({"type": "input_audio_buffer.timeout_triggered",
            "audio_start_ms": end.saturating_sub(idle_ms), "audio_end_ms": end, "item_id": id}));
        self.vad.empty();
        self.commit(&id, idle_ms);
        self.start_response(Value::Null, Cause::Idle);
    }

    /// Reports the words of the caller's turn `item`.
    pub fn transcribe(&mut self, item: &str, text: &str, heard_ms: u64) {
        if self.options().dialect == Dialect::Xai {
            return self.transcribe_cumulatively(item, text);
        }
        let transcriber = self.config.transcriber().unwrap_or("whisper-1");
        let streams = transcriber.starts_with("gpt-");
        let by_duration = !transcriber.starts_with("gpt-4o");
        if streams {
            for word in text.split_inclusive(' ') {
                let obfuscation = self.letters(5);
                self.emit(
                    json!({"type": format!("{TRANSCRIPTION}.delta"), "item_id": item, "content_index": 0,
                    "delta": word, "obfuscation": obfuscation}),
                );
            }
        }
        let usage = if by_duration {
            json!({"type": "duration", "seconds": heard_ms as f64 / 1_000.0})
        } else {
            let (input, output) = (heard_ms / 100, text.len() as u64 / 4);
            json!({"type": "tokens", "total_tokens": input + output, "input_tokens": input,
                "input_token_details": {"text_tokens": 0, "audio_tokens": input}, "output_tokens": output})
        };
        if let Some(stored) = self.conversation.find_mut(item) {
            stored.value["content"][0]["transcript"] = json!(text);
        }
        self.publish(Happened::CallerSaid(text.to_owned()));
        self.emit(json!({"type": format!("{TRANSCRIPTION}.completed"), "item_id": item, "content_index": 0,
            "transcript": text, "usage": usage}));
    }

    /// Each update holds all words so far. Every other turn, from the first, ends without a `completed`.
    fn transcribe_cumulatively(&mut self, item: &str, text: &str) {
        let mut so_far = String::new();
        for word in text.split_inclusive(' ') {
            so_far.push_str(word);
            self.emit(
                json!({"type": format!("{TRANSCRIPTION}.updated"), "item_id": item, "content_index": 0,
                "transcript": so_far}),
            );
        }
        self.publish(Happened::CallerSaid(text.to_owned()));
        if self.turns.is_multiple_of(2) {
            self.emit(
                json!({"type": format!("{TRANSCRIPTION}.completed"), "item_id": item, "content_index": 0,
                "transcript": text}),
            );
        }
    }

    fn speech_started(&mut self, audio_start_ms: u64) {
        let now = self.now;
        self.idle_armed += 1;
        self.spent_in_speech.clear();
        self.note(|log| log.speech_started.push(now));
        let id = self.new_id("item_");
        let event = json!({"type": "input_audio_buffer.speech_started", "audio_start_ms": audio_start_ms,
            "item_id": id});
        self.user_item = Some(id);
        if self.faults.contains(&Fault::DuplicateSpeechStarted) {
            self.emit(event.clone());
        }
        self.emit(event);
        if self.options().interrupts
            && self.detection.as_ref().is_some_and(|detection| detection.interrupts)
            && let Some(active) = self.active().map(str::to_owned)
        {
            self.cancel_response(&active, "turn_detected");
        }
    }

    fn speech_stopped(&mut self, audio_end_ms: u64, speech_ms: u64) {
        let now = self.now;
        self.note(|log| log.speech_stopped.push(now));
        let id = self.user_item.take().unwrap_or_else(|| self.new_id("item_"));
        self.emit(
            json!({"type": "input_audio_buffer.speech_stopped", "audio_end_ms": audio_end_ms, "item_id": id}),
        );
        self.user_item = Some(id);
        self.take_turn(speech_ms);
        // If a response is still running, the service silently makes no automatic one.
        if self.detection.as_ref().is_some_and(|detection| detection.creates) && self.active().is_none() {
            self.start_response(Value::Null, Cause::Turn);
        }
    }

    /// Commits the turn that was spoken, counts it, and has it transcribed if the session asks for that.
    fn take_turn(&mut self, heard_ms: u64) {
        let item = self.user_item.take().unwrap_or_else(|| self.new_id("item_"));
        self.commit(&item, heard_ms);
        self.turns += 1;
        self.unanswered = true;
        self.results.clear();
        if self.config.transcriber().is_none() && self.options().dialect != Dialect::Xai {
            return;
        }
        let text = self.reply().caller_says.unwrap_or_else(|| format!("This is turn number {}.", self.turns));
        // The service does not promise when: before the response, within it, or after.
        let delay = match self.rng.random_range(0..3) {
            0 => return self.transcribe(&item, &text, heard_ms),
            1 => 200,
            _ => 1_500,
        };
        let due = Due::Transcript { item, text, heard_ms };
        self.later(self.options().think + Duration::from_millis(delay), due);
    }

    /// The buffer becomes the caller's item `id`.
    fn commit(&mut self, id: &str, heard_ms: u64) {
        let content = json!([{"type": "input_audio", "transcript": null}]);
        let item =
            json!({"id": id, "type": "message", "status": "completed", "role": "user", "content": content});
        let previous = self.conversation.last_id();
        self.emit(
            json!({"type": "input_audio_buffer.committed", "previous_item_id": previous, "item_id": id}),
        );
        self.add_item(&item, heard_ms);
        self.item_done(&item);
    }
}

/// Reads the one-way latencies in stamped caller audio. Stamps become silence, because they are not a voice.
fn take_stamps(bytes: &mut [u8]) -> Vec<Duration> {
    let now = tag::nanos();
    let mut latencies = Vec::new();
    for frame in bytes.chunks_mut(160) {
        if let Some(head) = frame.first_chunk_mut::<{ tag::STAMP_LEN }>()
            && let Some((sent, _)) = tag::unstamp(head)
        {
            latencies.push(Duration::from_nanos(now.saturating_sub(sent)));
            head.fill(SILENCE);
        }
    }
    latencies
}
