//! One attempt to deliver one message, by each way.

use std::io;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::{Letter, MAX_AGE, Office, file, seconds};
use crate::assistant::plan::{Mailbox, Webhook};
use crate::link::mail::{self, Mail, NotMailed};
use crate::link::network::Fault;
use crate::link::twilio_rest::{LONGEST_TEXT, NotSent};
use crate::notice::Via;
use crate::phone::PhoneNumber;
use crate::secret::Secret;
use crate::store::UNCLEAR;

/// The time limit of one request.
pub(super) const TIMEOUT: Duration = Duration::from_secs(15);
/// How long an attempt may go on once the server is being stopped, if the message is on a disk.
const LAST_ATTEMPT: Duration = Duration::from_secs(3);
/// The time after an attempt to write down what became of it.
const WRITING: Duration = Duration::from_secs(15);

/// Where a message goes.
#[derive(Clone)]
pub(super) enum Address {
    Email(String),
    Sms(PhoneNumber),
    Webhook(Webhook),
    File(String),
}

/// What is sent by e-mail.
#[derive(Serialize, Deserialize)]
struct Letterhead {
    subject: String,
    text: String,
}

/// What is sent as a text message.
#[derive(Serialize, Deserialize)]
struct Text {
    /// The number that the caller called. `None`: there is none that could send it.
    from: Option<String>,
    text: String,
}

/// A message that is delivered.
pub(super) struct Delivery<'a> {
    pub id: &'a str,
    /// Seconds since 1970.
    pub taken: u64,
    pub body: &'a str,
}

/// Why a delivery failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Undelivered {
    #[error("the assistant has no address for it")]
    NoMailbox,
    #[error("HTTP status {0}")]
    Status(u16),
    #[error("{0}")]
    Network(#[from] Fault),
    #[error("HTTP status 410: the webhook accepts no more messages")]
    Gone,
    #[error("{0}")]
    Mail(#[from] NotMailed),
    #[error("SMTP_URL is not set")]
    NoMailServer,
    #[error("{0}")]
    Text(NotSent),
    #[error("it is unclear whether the text message was sent, so it is not sent again")]
    Unclear,
    #[error("TWILIO_ACCOUNT_SID is not set")]
    NoAccount,
    #[error("no number of ours that could send the text message is known")]
    NoSender,
    #[error("there is no STATE_DIR")]
    NoFolder,
    #[error("the file cannot be written: {0}")]
    Disk(io::ErrorKind),
    #[error("the store did not answer")]
    Store,
    #[error("the message cannot be read")]
    Unreadable,
    #[error("the server is being stopped")]
    Stopped,
}

impl Undelivered {
    pub fn code(self) -> String {
        match self {
            Self::NoMailbox => "no_mailbox".to_owned(),
            Self::Status(status) => format!("status.{status}"),
            Self::Network(fault) => fault.code().to_owned(),
            Self::Gone => "gone".to_owned(),
            Self::Mail(why) => why.code(),
            Self::NoMailServer => "no_mail_server".to_owned(),
            Self::Text(why) => match why {
                NotSent::NoTexts => "sms.no_texts".to_owned(),
                NotSent::OptedOut => "sms.opted_out".to_owned(),
                NotSent::NotFromHere => "sms.not_from_here".to_owned(),
                other => format!("sms.{}", other.code()),
            },
            Self::Unclear => UNCLEAR.to_owned(),
            Self::NoAccount => "no_account".to_owned(),
            Self::NoSender => "no_sender".to_owned(),
            Self::NoFolder => "no_state_dir".to_owned(),
            Self::Disk(_) => "disk".to_owned(),
            Self::Store => "store".to_owned(),
            Self::Unreadable => "unreadable".to_owned(),
            Self::Stopped => "stopped".to_owned(),
        }
    }

    /// Whether to give up on a message that is tried since this time, in seconds since 1970.
    pub fn is_final(self, since: u64) -> bool {
        let is_hopeless = match self {
            Self::Gone | Self::Unclear | Self::NoSender | Self::Unreadable => true,
            Self::Text(why) => matches!(
                why,
                NotSent::NoTexts | NotSent::OptedOut | NotSent::Refused | NotSent::Empty | NotSent::TooLong
            ),
            _ => false,
        };
        is_hopeless || seconds().saturating_sub(since) >= MAX_AGE.as_secs()
    }
}

impl Address {
    pub fn of(mailbox: &Mailbox, via: Via) -> Option<Self> {
        let mailbox = mailbox.clone();
        match via {
            Via::Email => mailbox.email.map(Self::Email),
            Via::Sms => mailbox.sms.map(Self::Sms),
            Via::Webhook => mailbox.webhook.map(Self::Webhook),
            Via::File => mailbox.file.map(Self::File),
        }
    }

    /// What hangs if it hangs.
    pub fn limit(&self) -> (String, usize) {
        match self {
            // All of it goes to one server.
            Self::Email(_) => ("email:".to_owned(), 4),
            Self::Sms(_) => ("sms:".to_owned(), 4),
            Self::Webhook(webhook) => (webhook.url.clone(), 8),
            // One line after the other.
            Self::File(file) => (format!("file:{file}"), 1),
        }
    }
}

/// The ways to an owner that there are.
pub(super) fn ways(to: &Mailbox) -> impl Iterator<Item = Via> {
    Via::ALL.into_iter().filter(|via| Address::of(to, *via).is_some())
}

/// The longest that a process may need for an attempt, and to write down what became of it.
pub(super) fn lease(via: Via) -> Duration {
    WRITING + if via == Via::Email { mail::LIMIT } else { TIMEOUT }
}

/// What is delivered.
pub(super) fn body(letter: &Letter, via: Via) -> String {
    let content = &letter.content;
    let json = |written: serde_json::Result<String>| written.expect("texts are JSON");
    match via {
        Via::Email => {
            let (subject, text) = (content.subject.clone(), content.text.clone());
            json(serde_json::to_string(&Letterhead { subject, text }))
        }
        Via::Sms => {
            let from = letter.called.as_ref().map(|number| number.expose().to_owned());
            json(serde_json::to_string(&Text { from, text: cut(&content.short) }))
        }
        Via::Webhook | Via::File => content.event.to_string(),
    }
}

/// As long as a text message can be.
fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        None => text.to_owned(),
        Some(_) => text.chars().take(LONGEST_TEXT - 1).chain(['…']).collect(),
    }
}

impl Office {
    /// Tries once.
    pub(super) async fn attempt(
        &self,
        delivery: &Delivery<'_>,
        address: Option<&Address>,
    ) -> Result<(), Undelivered> {
        match address.ok_or(Undelivered::NoMailbox)? {
            Address::Webhook(webhook) => self.by_webhook(delivery, webhook).await,
            Address::Email(to) => self.by_email(delivery, to).await,
            Address::Sms(to) => self.by_text(delivery, to).await,
            Address::File(file) => self.by_file(delivery, file).await,
        }
    }

    /// [`Self::attempt`] of what is on a disk: an address that hangs delays no shutdown.
    pub(super) async fn attempt_or_leave(
        &self,
        delivery: &Delivery<'_>,
        address: Option<&Address>,
    ) -> Result<(), Undelivered> {
        let stopped = async {
            self.closing.cancelled().await;
            sleep(LAST_ATTEMPT).await;
        };
        tokio::select! {
            result = self.attempt(delivery, address) => result,
            () = stopped => Err(Undelivered::Stopped),
        }
    }

    /// Whether the attempt can only be made once.
    pub(super) fn sends_once(&self, address: Option<&Address>) -> bool {
        matches!(address, Some(Address::Sms(_))) && self.account.is_some()
    }

    async fn by_webhook(&self, delivery: &Delivery<'_>, webhook: &Webhook) -> Result<(), Undelivered> {
        let (id, body) = (delivery.id, delivery.body);
        let timestamp = seconds();
        let request = self
            .http
            .post(&webhook.url)
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature(&webhook.secret, id, timestamp, body))
            .body(body.to_owned());
        let response = request.send().await.map_err(Fault::from)?;
        match response.status().as_u16() {
            200..=299 => Ok(()),
            410 => Err(Undelivered::Gone),
            status => Err(Undelivered::Status(status)),
        }
    }

    async fn by_email(&self, delivery: &Delivery<'_>, to: &str) -> Result<(), Undelivered> {
        let mailer = self.mailer.as_ref().ok_or(Undelivered::NoMailServer)?;
        let Letterhead { subject, text } =
            serde_json::from_str(delivery.body).map_err(|_| Undelivered::Unreadable)?;
        let id = delivery.id.strip_suffix(".email").unwrap_or(delivery.id);
        let at = UNIX_EPOCH + Duration::from_secs(delivery.taken);
        Ok(mailer.send(Mail { id, to, subject: &subject, text: &text, at }).await?)
    }

    async fn by_text(&self, delivery: &Delivery<'_>, to: &PhoneNumber) -> Result<(), Undelivered> {
        let account = self.account.as_ref().ok_or(Undelivered::NoAccount)?;
        let Text { from, text } = serde_json::from_str(delivery.body).map_err(|_| Undelivered::Unreadable)?;
        let from = from.and_then(|from| PhoneNumber::parse(&from).ok()).ok_or(Undelivered::NoSender)?;
        account.send_text_once(&from, to, &text).await.map_err(|why| match why {
            NotSent::Unknown => Undelivered::Unclear,
            why => Undelivered::Text(why),
        })
    }

    async fn by_file(&self, delivery: &Delivery<'_>, file: &str) -> Result<(), Undelivered> {
        let state = self.state.as_deref().ok_or(Undelivered::NoFolder)?;
        let path = file::path(state, file).ok_or(Undelivered::Disk(io::ErrorKind::InvalidInput))?;
        let line = delivery.body.to_owned();
        let written = spawn_blocking(move || file::append(&path, &line));
        match timeout(TIMEOUT, written).await {
            Ok(Ok(done)) => done.map_err(|why| Undelivered::Disk(why.kind())),
            // The runtime is shutting down.
            Ok(Err(_)) => Err(Undelivered::Disk(io::ErrorKind::Interrupted)),
            Err(_) => Err(Undelivered::Disk(io::ErrorKind::TimedOut)),
        }
    }
}

/// `v1,` and the HMAC of id, timestamp and body: <https://www.standardwebhooks.com>. A secret that starts with
/// `whsec_` is base64; any other is used as it is.
pub(crate) fn signature(secret: &Secret, id: &str, timestamp: u64, body: &str) -> String {
    let encoded = secret.expose().strip_prefix("whsec_").and_then(|key| STANDARD.decode(key).ok());
    let key = encoded.unwrap_or_else(|| secret.expose().as_bytes().to_vec());
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes a key of any length");
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_signed_like_standard_webhooks() {
        // The vector of the standard's own libraries.
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let code =
            signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(code, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        // Without the prefix the secret is used as it is.
        let plain = signature(&Secret::new("hunter2"), "msg_1", 1, "{}");
        assert_eq!(plain, signature(&Secret::new("whsec_aHVudGVyMg=="), "msg_1", 1, "{}"));
    }

    #[test]
    fn a_text_message_is_cut_to_what_one_can_hold() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"é".repeat(1_600)).chars().count(), 1_600);
        let long = cut(&"é".repeat(1_601));
        assert_eq!((long.chars().count(), long.chars().last()), (1_600, Some('…')));
    }

    #[test]
    fn only_what_cannot_succeed_is_given_up_early() {
        let now = seconds();
        for (why, is_final) in [
            (Undelivered::Gone, true),
            (Undelivered::Unclear, true),
            (Undelivered::NoSender, true),
            (Undelivered::Text(NotSent::OptedOut), true),
            (Undelivered::Text(NotSent::NoTexts), true),
            (Undelivered::Text(NotSent::Busy), false),
            (Undelivered::Text(NotSent::Denied), false),
            (Undelivered::Text(NotSent::Unreachable), false),
            (Undelivered::Mail(NotMailed::Status(550)), false),
            (Undelivered::NoMailbox, false),
            (Undelivered::Status(500), false),
        ] {
            assert_eq!(why.is_final(now), is_final, "{why:?}");
            assert!(why.is_final(now - MAX_AGE.as_secs()), "{why:?}");
        }
    }
}
