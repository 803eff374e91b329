//! Tools: the work that is done beside a call, and the outside things that it needs.
//!
//! [`Tools`] is one for the process. It keeps a connection to every MCP server of the roster in force, and runs the
//! errands of all calls. Nothing of a call is kept here once its errand is over, and neither arguments nor results
//! are ever logged.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::assistant::plan::{Errand, Listed, Server, Supply};
use crate::id::CallSid;
use crate::phone::Party;
use crate::secret::Private;

/// See the module.
pub struct Tools {}

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
    /// Runs one errand. It has no limit of its own: who asks drops it when its time is over. `working` is called
    /// whenever the tool says that it is still at work.
    pub async fn run(
        &self,
        _errand: &Errand,
        _arguments: Map<String, Value>,
        _client: &Client,
        _working: impl Fn() + Send,
    ) -> Done {
        Done { output: "There is no such tool.".to_owned().into(), failed: Some("unknown") }
    }
}

impl Supply for Tools {
    fn listed(&self, _: &Server) -> Option<Arc<[Listed]>> {
        None
    }

    fn sends_texts(&self) -> bool {
        false
    }
}
