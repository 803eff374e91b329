//! The phone's side of a session: on the line, away, or coming back by another stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::timeout;

use super::registry::WayBack;
use crate::call::{Anomaly, Return};
use crate::id::CallSid;
use crate::link::caller::{CallerLink, CallerStep, NotStarted, Socket};

/// See the module.
pub(super) enum Phone {
    OnTheLine(Box<CallerLink>),
    /// It was sent elsewhere, or did not come back: there is no stream.
    Away,
    ComingBack(Coming),
}

type Coming = Pin<Box<dyn Future<Output = Back> + Send>>;

/// The result of a phone's way back.
pub(super) struct Back {
    pub how: Return,
    pub anomalies: Vec<Anomaly>,
    /// If no stream came in time, the error is `None`; otherwise, why the stream did not start.
    pub stream: Result<Box<CallerLink>, Option<(NotStarted, Box<Socket>)>>,
}

pub(super) enum PhoneStep {
    Caller(CallerStep),
    Back(Back),
}

impl Phone {
    /// Waits for the stream of `way`, and for its start.
    pub fn coming_back(way: WayBack, call: CallSid) -> Self {
        Self::ComingBack(Box::pin(async move {
            let WayBack { how, stream, life, .. } = way;
            let mut anomalies = Vec::new();
            let stream = match timeout(life, stream).await {
                Ok(Ok(upgraded)) => match upgraded.open().await {
                    Ok(socket) => CallerLink::start(socket, &call, |anomaly| anomalies.push(anomaly))
                        .await
                        .map(Box::new)
                        .map_err(|(why, socket)| Some((why, Box::new(socket)))),
                    Err(_) => Err(None),
                },
                Ok(Err(_)) | Err(_) => Err(None),
            };
            Back { how, anomalies, stream }
        }))
    }

    pub fn line(&mut self) -> Option<&mut CallerLink> {
        match self {
            Self::OnTheLine(link) => Some(link),
            Self::Away | Self::ComingBack(_) => None,
        }
    }

    pub fn with(&mut self, act: impl FnOnce(&mut CallerLink)) {
        if let Some(line) = self.line() {
            act(line);
        }
    }

    /// What the phone does next.
    pub fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<PhoneStep> {
        match self {
            Self::OnTheLine(link) => link.poll_step(cx).map(PhoneStep::Caller),
            Self::ComingBack(coming) => {
                let back = ready!(coming.as_mut().poll(cx));
                // A future that is done must not be polled again.
                *self = Self::Away;
                Poll::Ready(PhoneStep::Back(back))
            }
            Self::Away => Poll::Pending,
        }
    }

    /// Whether so much waits for the phone that nothing more may be queued.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::OnTheLine(link) if link.is_full())
    }

    /// Drops a line that is dead, so that Twilio asks what follows.
    pub fn drop_line(&mut self) {
        drop(self.take_line());
    }

    /// Takes the line away. Nothing can be sent to the phone afterwards.
    pub fn take_line(&mut self) -> Option<Box<CallerLink>> {
        match std::mem::replace(self, Self::Away) {
            Self::OnTheLine(link) => Some(link),
            Self::Away | Self::ComingBack(_) => None,
        }
    }
}
