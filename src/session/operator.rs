//! What the owner sees of the calls of this process, and can do to them.

use tokio::sync::watch;

use super::Switchboard;
use super::live::Glance;
use super::registry::{Command, Handle};
use crate::id::CallSid;

/// A call of this process that is not over.
#[derive(Debug, Clone)]
pub struct LiveCall {
    pub call: CallSid,
    pub live: watch::Receiver<Glance>,
}

impl From<Handle> for LiveCall {
    fn from(handle: Handle) -> Self {
        Self { call: handle.call, live: handle.live }
    }
}

impl Switchboard {
    /// The calls of this process, in the order of their rings.
    pub fn live_calls(&self) -> Vec<LiveCall> {
        let mut calls: Vec<LiveCall> = self.registry.live().into_iter().map(LiveCall::from).collect();
        calls.sort_by_cached_key(|call| call.live.borrow().id.clone());
        // A phone on its way back has two tickets.
        calls.dedup_by(|a, b| a.call == b.call);
        calls
    }

    /// The call with this SID.
    pub fn live_call(&self, call: &CallSid) -> Option<LiveCall> {
        self.registry.of_call(call).0.map(LiveCall::from)
    }

    /// Ends a call with a goodbye, because the owner says so. Returns whether it is one of this process.
    pub fn end_call(&self, call: &CallSid) -> bool {
        let (Some(handle), _) = self.registry.of_call(call) else { return false };
        handle.commands.try_send(Command::OperatorEnds).is_ok()
    }
}
