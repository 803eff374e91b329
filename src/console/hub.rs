//! What changes on pages that are open: made once for all who watch, and only while somebody does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::{Console, assistants, now};
use crate::id::CallSid;
use crate::session::LiveCall;

/// How often a part may change.
const PACE: Duration = Duration::from_millis(300);
/// The same for a list that is long.
const SLOW: Duration = Duration::from_secs(1);
/// A list is long from so many bytes on.
const LONG: usize = 32 * 1024;

/// A part of a page.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// The calls in progress.
    Now,
    /// One of them.
    Call(CallSid),
    /// The last edit and its problems.
    Assistants,
}

/// HTML that a page takes in.
pub type Shown = Arc<str>;

/// See the module.
#[derive(Default)]
pub struct Hub(Mutex<HashMap<Topic, watch::Sender<Shown>>>);

impl Hub {
    fn lock(&self) -> MutexGuard<'_, HashMap<Topic, watch::Sender<Shown>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches a part from now on. The first value is there already.
pub async fn watch(console: &Arc<Console>, topic: Topic) -> watch::Receiver<Shown> {
    if let Some(sender) = console.hub.lock().get(&topic) {
        return sender.subscribe();
    }
    let live = live_call(console, &topic);
    let first = render(console, &topic, live.as_ref()).await;
    let mut topics = console.hub.lock();
    if let Some(sender) = topics.get(&topic) {
        return sender.subscribe();
    }
    let (sender, receiver) = watch::channel(first);
    topics.insert(topic.clone(), sender);
    tokio::spawn(keep(console.clone(), topic, live));
    receiver
}

/// Renders a part again and again until nobody watches it any more.
async fn keep(console: Arc<Console>, topic: Topic, live: Option<LiveCall>) {
    let mut length = 0;
    loop {
        tokio::select! {
            () = console.ending.cancelled() => break,
            () = sleep(if length < LONG { PACE } else { SLOW }) => {}
        }
        {
            let mut topics = console.hub.lock();
            if topics.get(&topic).is_none_or(|sender| sender.receiver_count() == 0) {
                topics.remove(&topic);
                return;
            }
        }
        let next = render(&console, &topic, live.as_ref()).await;
        length = next.len();
        if let Some(sender) = console.hub.lock().get(&topic) {
            sender.send_if_modified(|shown| {
                let changed = *shown != next;
                *shown = next;
                changed
            });
        }
    }
    console.hub.lock().remove(&topic);
}

/// The call of a topic. It is held, so that it shows how it ended.
fn live_call(console: &Console, topic: &Topic) -> Option<LiveCall> {
    match topic {
        Topic::Call(call) => console.switchboard.live_call(call),
        Topic::Now | Topic::Assistants => None,
    }
}

async fn render(console: &Console, topic: &Topic, live: Option<&LiveCall>) -> Shown {
    let part = match topic {
        Topic::Now => now::calls_part(console).await,
        Topic::Call(call) => now::call_part(console, call, live),
        Topic::Assistants => assistants::edit_part(console),
    };
    part.to_string().into()
}
