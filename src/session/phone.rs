//! Where the phone of a session is: on the line, away, or on its way back by another stream.

use std::future::pending;
use std::pin::Pin;

use axum::extract::ws::WebSocket;
use tokio::time::timeout;

use super::registry::Way;
use crate::call::{Anomaly, Return};
use crate::id::CallSid;
use crate::link::caller::{CallerLink, CallerStep, NotStarted};

/// See the module.
pub(super) enum Phone {
    OnTheLine(Box<CallerLink>),
    /// It was sent elsewhere, or its stream never came back: there is nothing to send to or hear from.
    Away,
    ComingBack(Coming),
}

type Coming = Pin<Box<dyn Future<Output = Back> + Send>>;

/// A phone's way back, at its end.
pub(super) struct Back {
    pub how: Return,
    pub anomalies: Vec<Anomaly>,
    pub stream: Result<Box<CallerLink>, NotBack>,
}

/// Why a phone did not come back.
pub(super) enum NotBack {
    /// No stream came in time.
    NoStream,
    NotStarted(NotStarted, Box<WebSocket>),
}

/// What one step brought.
pub(super) enum PhoneStep {
    Caller(CallerStep),
    Back(Back),
}

impl Phone {
    /// Waits for the stream of `way`, and for its start.
    pub fn coming_back(way: Way, call: CallSid) -> Self {
        Self::ComingBack(Box::pin(async move {
            let Way { how, stream, life, .. } = way;
            let mut anomalies = Vec::new();
            let stream = match timeout(life, stream).await {
                Ok(Ok(socket)) => {
                    match CallerLink::start(socket, &call, |anomaly| anomalies.push(anomaly)).await {
                        Ok(link) => Ok(Box::new(link)),
                        Err((why, socket)) => Err(NotBack::NotStarted(why, Box::new(socket))),
                    }
                }
                Ok(Err(_)) | Err(_) => Err(NotBack::NoStream),
            };
            Back { how, anomalies, stream }
        }))
    }

    /// The line, while there is one.
    pub fn line(&mut self) -> Option<&mut CallerLink> {
        match self {
            Self::OnTheLine(link) => Some(link),
            Self::Away | Self::ComingBack(_) => None,
        }
    }

    /// What the phone does next. Cancel-safe.
    pub async fn step(&mut self) -> PhoneStep {
        match self {
            Self::OnTheLine(link) => PhoneStep::Caller(link.step().await),
            Self::ComingBack(coming) => {
                let back = coming.await;
                // A future that is done must not be asked again.
                *self = Self::Away;
                PhoneStep::Back(back)
            }
            Self::Away => pending().await,
        }
    }

    /// Takes the line away: what is sent from here on goes nowhere.
    pub fn let_go(&mut self) -> Option<Box<CallerLink>> {
        match std::mem::replace(self, Self::Away) {
            Self::OnTheLine(link) => Some(link),
            Self::Away | Self::ComingBack(_) => None,
        }
    }
}
