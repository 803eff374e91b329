//! What the rehearsed assistant has for its owner: on the screen, as the owner gets it.

use std::path::Path;

use crate::assistant::plan::{Job, Mailbox, Plan, Work};
use crate::notice::Purpose;
use crate::post::{Letter, Taken};
use crate::record::print;

/// How far text below a line is indented.
const INDENT: usize = 21;

/// Something for the owner.
#[derive(Debug)]
pub(super) struct News {
    purpose: Purpose,
    to: Vec<Way>,
    taken: Taken,
    subject: String,
    text: String,
}

/// Where something goes.
#[derive(Debug)]
enum Way {
    File(String),
    Other(String),
}

/// Whether the assistant can have anything for its owner.
pub(super) fn has_any(plan: &Plan) -> bool {
    let takes_messages = plan
        .tools
        .iter()
        .any(|tool| matches!(&tool.work, Work::Job(job) if matches!(**job, Job::TakeMessage(_))));
    takes_messages || plan.notify.is_some() || plan.after_call.is_some()
}

impl News {
    pub fn of(letter: &Letter, taken: Taken) -> Self {
        let Mailbox { email, sms, webhook, file } = &letter.to;
        let mut to: Vec<Way> = file.iter().cloned().map(Way::File).collect();
        to.extend(email.iter().map(|address| Way::Other(format!("e-mail to {address}"))));
        to.extend(sms.iter().map(|number| Way::Other(format!("text message to {}", number.expose()))));
        // The rest of an address may be secret.
        let host = |url: &str| url.split(['/', '?', '#']).nth(2).unwrap_or_default().to_owned();
        to.extend(webhook.iter().map(|webhook| Way::Other(format!("webhook at {}", host(&webhook.url)))));
        let (subject, text) = (letter.content.subject.clone(), letter.content.text.clone());
        Self { purpose: letter.purpose, to, taken, subject, text }
    }

    /// Whether it belongs to the conversation, and does not follow the call.
    pub fn is_of_call(&self) -> bool {
        self.purpose == Purpose::Message
    }

    /// The lines of a message that was taken in the call. Files are in `state`.
    pub fn in_call(&self, ms: u64, state: Option<&Path>) -> String {
        let mut lines = vec![print::row(ms, "message", &self.place(state))];
        lines.extend(self.text.lines().map(|line| format!("{:INDENT$}{line}", "").trim_end().to_owned()));
        lines.join("\n")
    }

    /// The lines of what follows the call.
    pub fn after_call(&self, state: Option<&Path>) -> Vec<String> {
        let what = match self.purpose {
            Purpose::Form => "Form",
            Purpose::Message => "Message",
            Purpose::Notification | Purpose::Alert => "Notification",
        };
        let mut lines = vec![String::new(), format!("{what}: {}", self.place(state))];
        let text = [self.subject.as_str(), ""].into_iter().chain(self.text.lines());
        lines.extend(text.map(|line| format!("  {line}").trim_end().to_owned()));
        lines
    }

    /// What became of it, and where it goes.
    fn place(&self, state: Option<&Path>) -> String {
        let way = |way: &Way| match (way, state) {
            (Way::File(file), Some(state)) => super::shown(&state.join(file)),
            (Way::File(text) | Way::Other(text), _) => text.clone(),
        };
        let to = self.to.iter().map(way).collect::<Vec<_>>().join(", ");
        match self.taken {
            Taken::Kept => format!("taken for {to}"),
            Taken::Delivered => format!("delivered: {to}"),
            Taken::Undelivered => format!("could not be delivered yet: {to}"),
            Taken::NoRoom => format!("not taken, because too many wait: {to}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value;

    use super::*;
    use crate::assistant::plan::Webhook;
    use crate::notice::Content;
    use crate::secret::Secret;

    fn news(purpose: Purpose, to: Mailbox, taken: Taken) -> News {
        let content = Content {
            subject: "clinic: Message from +15550100007".to_owned(),
            text: "name: Ann\n\nCaller: +15550100007".to_owned(),
            short: String::new(),
            event: Value::Null,
        };
        let letter = Letter {
            id: "msg_1".to_owned(),
            purpose,
            assistant: "clinic".to_owned(),
            call: None,
            caller: None,
            called: None,
            to,
            content,
            keep: Duration::ZERO,
        };
        News::of(&letter, taken)
    }

    #[test]
    fn a_message_shows_where_it_is() {
        let to = Mailbox { file: Some("messages.jsonl".to_owned()), ..Mailbox::default() };
        let news = news(Purpose::Message, to, Taken::Kept);
        insta::assert_snapshot!(news.in_call(21_300, Some(Path::new("./rehearsal"))), @r"
        0:21.300  message    taken for rehearsal/messages.jsonl
                             name: Ann

                             Caller: +15550100007
        ");
    }

    #[test]
    fn a_notification_shows_what_the_owner_gets_and_no_secret() {
        let url = "https://hooks.example.com/secret?key=12345".to_owned();
        let webhook = Some(Webhook { url, secret: Secret::new("12345") });
        let to = Mailbox { email: Some("owner@example.com".to_owned()), webhook, ..Mailbox::default() };
        let news = news(Purpose::Notification, to, Taken::Undelivered);
        insta::assert_snapshot!(news.after_call(None).join("\n"), @r"

        Notification: could not be delivered yet: e-mail to owner@example.com, webhook at hooks.example.com
          clinic: Message from +15550100007

          name: Ann

          Caller: +15550100007
        ");
        assert!(!news.is_of_call());
    }
}
