//! Tools: the work next to a call, and the connections that it needs.
//!
//! The process has one [`Tools`]. It keeps a connection to every MCP server of the roster in force and of the plans of
//! active calls, and runs the jobs of all calls. It forgets a job when it ends, and never logs arguments or results.

mod http;
pub mod mcp;
mod media;

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use rustls::ClientConfig;
use serde_json::{Map, Value};

use self::mcp::Servers;
use crate::assistant::plan::{Job, Listed, Mailbox, Reader, Server, ServerUse, SoundKey, Supply};
use crate::id::CallSid;
use crate::link::mail::Mailer;
use crate::link::twilio_rest::{Account, NotSent};
use crate::notice::{self, Left, Purpose};
use crate::phone::Party;
pub use crate::post::Mailboxes;
use crate::post::{Letter, Post, Taken};
use crate::secret::Private;
use crate::sound::Store;
use crate::store;
use http::Web;
pub use mcp::{Trouble, kill_all as kill_programs};
use switchboard_audio::Clip;

/// The longest text for the model, in bytes: what it reads costs tokens, and what it says takes time.
const MAX_TEXT: usize = 16 * 1024;
/// The longest answer of a tool that is read, in bytes. Only its start reaches the model.
const MAX_ANSWER: usize = 4 * 1024 * 1024;
const CUT: &str = "… (cut)";

/// See the module.
pub struct Tools {
    mcp: Servers,
    web: Web,
    post: Post,
    /// Sends text messages. `None`: there are no credentials.
    account: Option<Arc<Account>>,
    sounds: Arc<Store>,
    observer: OnceLock<Arc<Observer>>,
}

/// Sees what is for owners.
pub type Observer = dyn Fn(&Letter, Taken) + Send + Sync;

/// The call that a job is for.
#[derive(Debug, Clone)]
pub struct Client {
    pub call: CallSid,
    pub assistant: String,
    pub caller: Party,
    pub called: Party,
    /// For how long what is taken in the call is kept.
    pub keep: Duration,
    /// How the owner reads.
    pub reader: Reader,
}

/// The result of a job, for the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Text that the model can use, or a sentence about what went wrong.
    pub output: Private,
    /// The reason of a failure, for log and metric.
    pub failed: Option<&'static str>,
    /// The id of a message that was taken, whether it can be promised or not.
    pub message: Option<String>,
}

impl Done {
    fn ok(output: impl Into<String>) -> Self {
        Self { output: output.into().into(), failed: None, message: None }
    }

    /// `sentence` explains the failure to the model.
    fn failed(why: &'static str, sentence: impl Into<String>) -> Self {
        Self { output: sentence.into().into(), failed: Some(why), message: None }
    }
}

impl Tools {
    /// [`Self::with`] neither an account nor a mail server nor a state folder.
    pub fn new(tls: &ClientConfig) -> Result<Self, reqwest::Error> {
        Self::with(tls, None, None, None)
    }

    /// Connects to nothing yet. `account` sends text messages, `mailer` e-mail, and `state` is the folder for messages and
    /// prepared lines.
    pub fn with(
        tls: &ClientConfig,
        account: Option<Account>,
        mailer: Option<Mailer>,
        state: Option<&Path>,
    ) -> Result<Self, reqwest::Error> {
        let sounds = Arc::new(Store::open(state));
        let account = account.map(Arc::new);
        Ok(Self {
            mcp: Servers::new(tls)?,
            web: Web::new(tls)?,
            post: Post::new(tls, state, account.clone(), mailer)?,
            account,
            sounds,
            observer: OnceLock::new(),
        })
    }

    /// Takes what is for owners, and delivers it.
    pub fn post(&self) -> &Post {
        &self.post
    }

    /// Shows `observer` everything that is for owners, and what became of it at first.
    pub fn show_letters(&self, observer: Arc<Observer>) {
        let _ = self.observer.set(observer);
    }

    /// Takes something for an owner.
    pub async fn send(&self, letter: Letter) -> Taken {
        let Some(observer) = self.observer.get() else { return self.post.take(letter).await };
        let taken = self.post.take(letter.clone()).await;
        observer(&letter, taken);
        taken
    }

    /// The prepared lines that models said.
    pub fn sounds(&self) -> &Arc<Store> {
        &self.sounds
    }

    /// Connects to these MCP servers; see [`Servers::keep`].
    pub fn keep(&self, uses: impl IntoIterator<Item = ServerUse>) {
        self.mcp.keep(uses);
    }

    /// The names of an MCP server's tools, once they are listed.
    pub fn names(&self, server: &Server) -> Option<Vec<String>> {
        Some(self.mcp.listed(server)?.iter().map(|tool| tool.name.clone()).collect())
    }

    /// Whether an MCP server's tools are listed.
    pub fn is_listed(&self, server: &Server) -> bool {
        self.mcp.listed(server).is_some()
    }

    /// Why an MCP server cannot be used. `None`: it can, or that is not known yet.
    pub fn trouble(&self, server: &Server) -> Option<Trouble> {
        self.mcp.trouble(server)
    }

    /// The same as a sentence for the owner, with the last words of a program.
    pub fn why_not(&self, server: &Server) -> Option<String> {
        self.mcp.why_not(server)
    }

    /// Whether we are connected to the MCP server, and it was made by `fly mcp launch`.
    pub fn is_wrapped(&self, server: &Server) -> bool {
        self.mcp.is_wrapped(server)
    }

    /// Waits until each MCP server is listed or has failed, at most for `limit`. Calls do not need this.
    pub async fn settled(&self, limit: Duration) {
        self.mcp.settled(limit).await;
    }

    /// Closes all connections and ends all programs.
    pub async fn close(&self) {
        self.mcp.close().await;
    }

    /// Runs one job. It has no time limit: the caller drops it. It calls `working` whenever the tool reports progress.
    pub async fn run(
        &self,
        job: &Job,
        arguments: Map<String, Value>,
        client: &Client,
        working: impl Fn() + Send,
    ) -> Done {
        match job {
            Job::Mcp { server, tool, fixed } => self.mcp.call(server, tool, fixed, arguments, working).await,
            Job::Http(call) => self.web.run(call, &arguments).await,
            Job::SendSms => self.send_sms(&arguments, client).await,
            Job::TakeMessage(mailbox) => self.take_message(mailbox, arguments, client).await,
        }
    }

    /// Keeps messages in `store` from now on, and delivers those that wait there or in files. The store need not be open
    /// yet. `mailboxes` looks addresses up in the roster in force.
    pub async fn resume_messages(&self, store: Option<store::Store>, mailboxes: Arc<Mailboxes>) {
        self.post.address_by(mailboxes);
        self.post.resume(store).await;
    }

    /// Draining has begun: messages that are not on disk are tried again at once.
    pub fn wake_messages(&self) {
        self.post.wake();
    }

    /// The process is about to exit: no message waits long for its next try.
    pub fn hurry_messages(&self) {
        self.post.hurry();
    }

    /// Waits up to `grace` for the delivery of messages that are not on disk.
    pub async fn last_messages(&self, grace: Duration) {
        self.post.close(grace).await;
    }

    async fn take_message(&self, mailbox: &Mailbox, fields: Map<String, Value>, client: &Client) -> Done {
        let id = Letter::message_id();
        let content = notice::message(Left {
            id: &id,
            call: &client.call,
            assistant: &client.assistant,
            caller: client.caller.number(),
            called: client.called.number(),
            fields,
            at: Timestamp::now(),
            reader: &client.reader,
        });
        let letter = Letter {
            id: id.clone(),
            purpose: Purpose::Message,
            assistant: client.assistant.clone(),
            call: Some(client.call.clone()),
            caller: client.caller.number().cloned(),
            called: client.called.number().cloned(),
            to: mailbox.clone(),
            content,
            keep: client.keep,
        };
        let done = match self.send(letter).await {
            Taken::Kept => Done::ok("The message is saved and will be delivered."),
            Taken::Delivered => Done::ok("The message was delivered."),
            Taken::Undelivered => Done::failed(
                "undelivered",
                "The message has not been delivered yet. Tell the caller that it may not arrive, and that they \
                 should call again or try another way.",
            ),
            Taken::NoRoom => {
                return Done::failed(
                    "no_room",
                    "No message can be taken at the moment. Tell the caller to call again later.",
                );
            }
        };
        Done { message: Some(id), ..done }
    }

    async fn send_sms(&self, arguments: &Map<String, Value>, client: &Client) -> Done {
        let Some(account) = &self.account else {
            return Done::failed("denied", NotSent::Denied.to_string());
        };
        let Some(caller) = client.caller.number() else {
            return Done::failed(
                "no_number",
                "The caller's number is unknown, so no text can be sent to it.",
            );
        };
        let Some(called) = client.called.number() else {
            return Done::failed("no_number", "This line has no number to send a text from.");
        };
        let text = arguments.get("text").and_then(Value::as_str).unwrap_or_default();
        match account.send_text(called, caller, text).await {
            Ok(()) => Done::ok("The text message was sent."),
            Err(why) => Done::failed(why.code(), why.to_string()),
        }
    }
}

impl Supply for Tools {
    fn listed(&self, server: &Server) -> Option<Arc<[Listed]>> {
        self.mcp.listed(server)
    }

    fn sends_texts(&self) -> bool {
        self.account.is_some()
    }

    fn captured(&self, line: &SoundKey) -> Option<Arc<Clip>> {
        self.sounds.find(line)
    }
}

/// At most `max` bytes, cut between two characters.
fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let mut end = max - CUT.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{CUT}", &text[..end])
}

#[cfg(test)]
mod tests;
