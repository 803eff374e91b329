//! Tools: the work that is done beside a call, and the outside things that it needs.
//!
//! [`Tools`] is one for the process. It keeps a connection to every MCP server of the roster in force and of the plans
//! of calls under way, and runs the jobs of all calls. Nothing of a call is kept here once its job is over, and
//! neither arguments nor results are ever logged.

mod http;
pub mod mcp;
mod message;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::{Map, Value};

use self::mcp::Servers;
use crate::assistant::plan::{Job, Listed, Server, ServerUse, Supply, unfit};
use crate::id::CallSid;
use crate::link::twilio_rest::{Account, NotSent};
use crate::phone::Party;
use crate::secret::Private;
use http::Web;
pub use mcp::kill_all as kill_programs;
pub use message::Mailboxes;
use message::Post;

/// See the module.
pub struct Tools {
    mcp: Servers,
    web: Web,
    post: Post,
    /// Sends text messages, where there are credentials.
    account: Option<Account>,
}

/// Which call a job is for.
#[derive(Debug, Clone)]
pub struct Client {
    pub call: CallSid,
    pub assistant: String,
    pub caller: Party,
    pub called: Party,
}

/// What came of a job: for the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Text that the model can say, or a plain sentence about what went wrong.
    pub output: Private,
    /// Why it failed, as one word for log and metric; `None`: it worked.
    pub failed: Option<&'static str>,
}

impl Done {
    /// It worked, and this came of it.
    fn well(output: impl Into<String>) -> Self {
        Self { output: output.into().into(), failed: None }
    }

    /// It failed for this reason, which is told to the model in a plain sentence.
    fn failed(why: &'static str, sentence: impl Into<String>) -> Self {
        Self { output: sentence.into().into(), failed: Some(why) }
    }
}

impl Tools {
    /// Without an account for text messages, and with nowhere to keep what must last; else as [`Self::with`].
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(tls: &ClientConfig) -> Result<Self, reqwest::Error> {
        Self::with(tls, None, None)
    }

    /// No server is reached yet. Trusted are the certificates of `tls`; texts are sent by `account`; what must last is kept in the folder
    /// `state`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn with(
        tls: &ClientConfig,
        account: Option<Account>,
        state: Option<&Path>,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self { mcp: Servers::new(tls)?, web: Web::new(tls)?, post: Post::new(tls, state)?, account })
    }

    /// Offers these MCP servers, and no others; see [`Servers::keep`].
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

    /// Why an MCP server cannot be reached, as a sentence for its owner. `None`: it can, or nobody knows yet.
    pub fn trouble(&self, server: &Server) -> Option<String> {
        self.mcp.trouble(server)
    }

    /// Whether somebody else has the only listener's place at an MCP server, as servers made by `fly mcp launch` have it.
    pub fn is_taken(&self, server: &Server) -> bool {
        self.mcp.is_taken(server)
    }

    /// Whether an MCP server that is reached was made by `fly mcp launch`.
    pub fn is_wrapped(&self, server: &Server) -> bool {
        self.mcp.is_wrapped(server)
    }

    /// Waits until each MCP server is listed or known to be out of reach, at most so long. No ring needs this.
    pub async fn settled(&self, limit: Duration) {
        self.mcp.settled(limit).await;
    }

    /// Ends all connections and the programs that were started.
    pub async fn close(&self) {
        self.mcp.close().await;
    }

    /// Runs one job. It has no limit of its own: who asks drops it when its time is over. `working` is called
    /// whenever the tool says that it is still at work.
    pub async fn run(
        &self,
        job: &Job,
        arguments: Map<String, Value>,
        client: &Client,
        working: impl Fn() + Send,
    ) -> Done {
        match job {
            Job::Mcp { server, tool, fixed, parameters } => {
                if let Some(sentence) =
                    parameters.as_ref().and_then(|parameters| unfit(parameters, &arguments))
                {
                    return Done::failed("bad_arguments", sentence);
                }
                self.mcp.call(server, tool, fixed, arguments, working).await
            }
            Job::Http(call) => self.web.run(call, &arguments).await,
            Job::SendSms => self.send_sms(&arguments, client).await,
            Job::TakeMessage(mailbox) => self.post.take(mailbox, arguments, client).await,
        }
    }

    /// Goes on with the messages that an earlier process left; `mailboxes` finds where an assistant's go, by the
    /// roster in force.
    pub async fn resume_messages(&self, mailboxes: Arc<Mailboxes>) {
        self.post.address_by(mailboxes);
        self.post.resume().await;
    }

    /// The process will end before long: messages that are nowhere else are tried now.
    pub fn wake_messages(&self) {
        self.post.wake();
    }

    /// The process is about to end: no message waits long for its next try.
    pub fn hurry_messages(&self) {
        self.post.hurry();
    }

    /// No more messages come: those that are nowhere else have so long to be delivered.
    pub async fn last_messages(&self, grace: Duration) {
        self.post.close(grace).await;
    }

    async fn send_sms(&self, arguments: &Map<String, Value>, client: &Client) -> Done {
        let Some(account) = &self.account else {
            return Done::failed("denied", NotSent::Denied.to_string());
        };
        let Some(caller) = client.caller.number() else {
            return Done::failed(
                "no_number",
                "The caller's number is not known, so no text can be sent to it.",
            );
        };
        let Some(called) = client.called.number() else {
            return Done::failed("no_number", "This line has no number that a text could be sent from.");
        };
        let text = arguments.get("text").and_then(Value::as_str).unwrap_or_default();
        match account.send_text(called, caller, text).await {
            Ok(()) => Done::well("The text message is sent."),
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
}
