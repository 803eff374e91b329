//! The faults that strike a session on their own.

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Message;

use super::options::Fault;
use super::refusal::Refusal;
use super::state::{Ending, Session};

impl Session {
    pub fn strike(&mut self, fault: &Fault) {
        match fault {
            Fault::Drop(_) => self.ending = Some(Ending::Drop),
            Fault::Close { code, reason, .. } => {
                self.ending = Some(Ending::Close(*code, (*reason).to_owned()))
            }
            Fault::Expire(_) => self.expire(),
            Fault::Garbage(_) => {
                self.outbox.push_back(Message::Text("{\"type\":\"response.output_audio.del".into()));
                self.outbox.push_back(Message::Text("{\"kind\":3}".into()));
                self.outbox.push_back(Message::Text("[]".into()));
                self.outbox.push_back(Message::Binary(Bytes::from_static(&[0, 159, 146, 150])));
            }
            Fault::Huge { bytes, .. } => {
                let filler = "x".repeat(*bytes);
                let text = format!(r#"{{"type":"huge","filler":"{filler}"}}"#);
                self.outbox.push_back(Message::Text(text.into()));
            }
            Fault::UnsolicitedError(_) => {
                let refusal = Refusal {
                    kind: "weather_error",
                    code: Some("tide_unfavourable".to_owned()),
                    message: "The sea is rough today.".to_owned(),
                    param: None,
                    echoes_event_id: false,
                };
                self.refuse(&refusal, None);
            }
            _ => {}
        }
    }

    /// The session has reached its maximum age.
    pub fn expire(&mut self) {
        let reason = "Your session hit the maximum duration of 60 minutes.";
        self.refuse(&Refusal::new("session_expired", reason, None), None);
        self.ending = Some(Ending::Close(1001, reason.to_owned()));
    }
}
