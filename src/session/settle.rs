//! What follows the end of a call: the form that the model fills, and what the owner is told.
//!
//! Nothing here holds up a caller: the call's place is free, and its end is logged. A server that drains waits for it as
//! for a delivery. If the process is killed, the sweep of the next one tells the owner under the same id.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};

use crate::assistant::Roster;
use crate::assistant::plan::{AfterCall, KeptNumbers, Mailbox, Notify, Plan, Reader};
use crate::id::CallSid;
use crate::link;
use crate::notice::{self, Content, Filled, Purpose, Told, Who};
use crate::phone::Party;
use crate::post::{Letter, Taken};
use crate::record::{CallRecord, Form};
use crate::tool::{Client, Tools};

/// An owner is told of one refused ring of a kind in this time.
const QUIET: Duration = Duration::from_secs(10 * 60);
/// The code of a form that was filled.
const FILLED: &str = "ok";

/// A message that the assistant takes. The call may be over before it is taken.
pub(super) type Pending = JoinHandle<Option<notice::Taken>>;

/// A call that is over, and of which its owner may want to hear.
pub(super) struct Settling {
    pub record: CallRecord,
    /// `None`: there was to be none.
    pub form: Option<Form>,
    pub plan: Arc<Plan>,
    pub client: Client,
    pub messages: Vec<Pending>,
}

/// Tells owners of calls.
#[derive(Clone)]
pub(super) struct Notices {
    tools: Arc<Tools>,
    /// Makes a server that drains wait.
    tasks: TaskTracker,
    home: Handle,
    refused: Arc<Mutex<HashMap<(String, String), Refused>>>,
}

/// Rings of one assistant that were refused for one reason.
struct Refused {
    told: Instant,
    /// Since then.
    others: u64,
}

impl Notices {
    pub fn new(tools: Arc<Tools>, tasks: TaskTracker, home: Handle) -> Self {
        Self { tools, tasks, home, refused: Arc::default() }
    }

    /// Tells the owner of a call. `settled` is called once nothing is left to do.
    pub fn settle(&self, settling: Settling, settled: impl FnOnce() + Send + 'static) {
        let notices = self.clone();
        let settle = async move {
            if notices.tell(settling).await {
                settled();
            }
        };
        self.tasks.spawn_on(settle.instrument(Span::current()), &self.home);
    }

    /// False: there was no room for it. Then the next process tells the owner, because the record stays open.
    async fn tell(&self, settling: Settling) -> bool {
        let Settling { record, form, plan, client, messages } = settling;
        let mut taken = Vec::new();
        for message in messages {
            taken.extend(message.await.ok().flatten());
        }
        let caller = match who(&client.caller) {
            // Of a call that another machine answered, nobody knows here.
            Who::Withheld if plan.record.numbers == KeptNumbers::None => Who::NotKept,
            known => known,
        };
        if let Some(form) = form.as_ref().filter(|form| form.outcome == FILLED) {
            self.form(
                Filled { record: &record, caller, form, at: Timestamp::now(), reader: &plan.reader },
                &plan,
                &client,
            )
            .await;
        }
        let told = Told {
            record: &record,
            caller,
            messages: &taken,
            form: form.as_ref().map(|form| form.outcome.as_str()),
            also_refused: 0,
            reader: &plan.reader,
        };
        match &plan.notify {
            Some(notify) if notice::is_wanted(&notify.when, &record, !taken.is_empty()) => {
                self.notify(&told, notify, &client).await
            }
            Some(_) | None => true,
        }
    }

    /// Tells the owner of a refused ring, if it is wanted and was not told of one of its kind a moment ago.
    pub fn refused(&self, record: CallRecord, notify: &Notify, client: Client) {
        if !notice::is_wanted(&notify.when, &record, false) {
            return;
        }
        let kind = (client.assistant.clone(), record.reason.clone().unwrap_or_default());
        let Some(also_refused) = self.turn_of(kind) else { return };
        let (notices, notify) = (self.clone(), notify.clone());
        let tell = async move {
            let (record, caller, reader, messages) = (&record, who(&client.caller), &client.reader, &[]);
            let told = Told { record, caller, messages, form: None, also_refused, reader };
            notices.notify(&told, &notify, &client).await;
        };
        self.tasks.spawn_on(tell, &self.home);
    }

    /// How many rings of this kind nobody was told of, if it is time to tell.
    fn turn_of(&self, kind: (String, String)) -> Option<u64> {
        let now = link::now();
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = refused.get_mut(&kind)
            && now.saturating_duration_since(known.told) < QUIET
        {
            known.others += 1;
            return None;
        }
        let before = refused.insert(kind, Refused { told: now, others: 0 });
        Some(before.map_or(0, |known| known.others))
    }

    /// False: there is no room for it.
    async fn notify(&self, told: &Told<'_>, notify: &Notify, client: &Client) -> bool {
        let id = notice::notification_id(&told.record.id);
        let content = notice::notification(told);
        let letter = letter(id, Purpose::Notification, notify.to.clone(), content, client);
        self.tools.send(letter).await != Taken::NoRoom
    }

    async fn form(&self, filled: Filled<'_>, plan: &Plan, client: &Client) {
        let Some(webhook) = plan.after_call.as_ref().and_then(|after| after.webhook.clone()) else { return };
        let to = Mailbox { webhook: Some(webhook), ..Mailbox::default() };
        let (id, content) = (notice::form_id(&filled.record.id), notice::form(&filled));
        self.tools.send(letter(id, Purpose::Form, to, content, client)).await;
    }
}

/// What its owner gets of a call whose process was gone before it could send it: composed from the record alone, under the
/// same ids.
pub fn letters_of(record: &CallRecord, roster: &Roster) -> Vec<Letter> {
    let Some(assistant) = record.assistant.as_deref().and_then(|name| roster.by_name(name)) else {
        return Vec::new();
    };
    let (reader, keep) = (assistant.reader(), assistant.kept().keep);
    let form = assistant.after_call().and_then(|after| remembered_form(record, after, reader, keep));
    let notify = assistant.notify().and_then(|notify| remembered(record, notify, reader, keep));
    form.into_iter().chain(notify).collect()
}

/// The notification for an owner who wants to hear of these calls.
pub(super) fn remembered(
    record: &CallRecord,
    notify: &Notify,
    reader: &Reader,
    keep: Duration,
) -> Option<Letter> {
    if !notice::is_wanted(&notify.when, record, record.message.is_some()) {
        return None;
    }
    let content = notice::of_record(record, reader)?;
    let (id, client) = (notice::notification_id(&record.id), remembered_client(record, reader, keep)?);
    Some(letter(id, Purpose::Notification, notify.to.clone(), content, &client))
}

/// The form for the owner's webhook, if the model had filled it.
pub(super) fn remembered_form(
    record: &CallRecord,
    after: &AfterCall,
    reader: &Reader,
    keep: Duration,
) -> Option<Letter> {
    let to = Mailbox { webhook: Some(after.webhook.clone()?), ..Mailbox::default() };
    let fields = record.fields.as_ref().and_then(Value::as_object).cloned();
    let form = Form { outcome: FILLED.to_owned(), summary: record.summary.clone(), fields };
    if form.summary.is_none() && form.fields.is_none() {
        return None;
    }
    let client = remembered_client(record, reader, keep)?;
    let caller = record.from.as_deref().map_or(Who::NotKept, Who::Known);
    let content = notice::form(&Filled { record, caller, form: &form, at: Timestamp::now(), reader });
    Some(letter(notice::form_id(&record.id), Purpose::Form, to, content, &client))
}

fn remembered_client(record: &CallRecord, reader: &Reader, keep: Duration) -> Option<Client> {
    let party = |text: &Option<String>| text.as_deref().map_or(Party::Withheld, Party::from_twilio);
    Some(Client {
        call: CallSid::parse(&record.call)?,
        assistant: record.assistant.clone()?,
        caller: party(&record.from),
        called: party(&record.to),
        keep,
        reader: reader.clone(),
    })
}

fn letter(id: String, purpose: Purpose, to: Mailbox, content: Content, client: &Client) -> Letter {
    Letter {
        id,
        purpose,
        assistant: client.assistant.clone(),
        call: Some(client.call.clone()),
        caller: client.caller.number().cloned(),
        called: client.called.number().cloned(),
        to,
        content,
        keep: client.keep,
    }
}

fn who(caller: &Party) -> Who<'_> {
    match caller {
        Party::Number(number) => Who::Known(number.expose()),
        Party::Other(address) => Who::Known(address),
        Party::Withheld => Who::Withheld,
    }
}
