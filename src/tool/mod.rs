//! Tools: the work that is done beside a call, and the outside things that it needs.
//!
//! [`Tools`] is one for the process. It keeps a connection to every MCP server of the roster in force, and runs the
//! errands of all calls. Nothing of a call is kept here once its errand is over, and neither arguments nor results
//! are ever logged.

pub mod mcp;

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::{Map, Value};

use self::mcp::Servers;
use crate::assistant::plan::{Errand, Listed, Server, Supply};
use crate::id::CallSid;
use crate::phone::Party;
use crate::secret::Private;

/// See the module.
pub struct Tools {
    mcp: Servers,
}

/// Which call an errand is for.
#[derive(Debug, Clone)]
pub struct Client {
    pub call: CallSid,
    pub assistant: String,
    pub caller: Party,
    pub called: Party,
}

/// What came of an errand: for the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Text that the model can say, or a plain sentence about what went wrong.
    pub output: Private,
    /// Why it failed, as one word for log and metric; `None`: it worked.
    pub failed: Option<&'static str>,
}

impl Tools {
    /// No server is reached yet. Trusted are the certificates of `tls`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(tls: &ClientConfig) -> Result<Tools, reqwest::Error> {
        Ok(Tools { mcp: Servers::new(tls)? })
    }

    /// Keeps connections to these MCP servers, and to no others; see [`Servers::keep`].
    pub fn keep(&self, servers: impl IntoIterator<Item = (Arc<Server>, Option<Vec<String>>)>) {
        self.mcp.keep(servers);
    }

    /// Why an MCP server cannot be reached, as a sentence for its owner. `None`: it can, or nobody knows yet.
    pub fn trouble(&self, server: &Server) -> Option<String> {
        self.mcp.trouble(server)
    }

    /// Waits until each MCP server is listed or known to be out of reach, at most so long. No ring needs this.
    pub async fn settled(&self, limit: Duration) {
        self.mcp.settled(limit).await;
    }

    /// Ends all connections and the programs that were started.
    pub async fn close(&self) {
        self.mcp.close().await;
    }

    /// Runs one errand. It has no limit of its own: who asks drops it when its time is over. `working` is called
    /// whenever the tool says that it is still at work.
    pub async fn run(
        &self,
        errand: &Errand,
        arguments: Map<String, Value>,
        _client: &Client,
        working: impl Fn() + Send,
    ) -> Done {
        match errand {
            Errand::Mcp { server, tool, fixed } => {
                self.mcp.call(server, tool, fixed, arguments, working).await
            }
            Errand::Http(_) | Errand::SendSms | Errand::TakeMessage(_) => {
                Done { output: "There is no such tool.".to_owned().into(), failed: Some("unknown") }
            }
        }
    }
}

impl Supply for Tools {
    fn listed(&self, server: &Server) -> Option<Arc<[Listed]>> {
        self.mcp.listed(server)
    }

    fn sends_texts(&self) -> bool {
        false
    }
}
