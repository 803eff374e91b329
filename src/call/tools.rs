//! Tools in a call.

use std::time::Instant;

use super::action::{Action, Oddity};
use super::turn::Ask;
use super::{Call, odd};
use crate::assistant::plan::Work;
use crate::id::{ResponseId, ToolCallId};

impl Call {
    pub(super) fn tool_requested(
        &mut self,
        id: ToolCallId,
        name: &str,
        response: &ResponseId,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        self.last_from_model = Some(now);
        if self.tools_seen.contains(&id) {
            return; // The same request is told of twice: when it is whole, and when its response is.
        }
        if self.tools_seen.len() == 256 {
            self.tools_seen.pop_front();
        }
        self.tools_seen.push_back(id.clone());
        let tool = self.plan.tools.iter().find(|tool| tool.name == name);
        if tool.is_some_and(|tool| tool.work == Work::EndCall) {
            return self.end_call(id, response, now, out);
        }
        odd(Oddity::ModelUnknownTool, out);
        out.push(Action::AnswerTool { id, output: "There is no such tool.".to_owned().into() });
        self.responses.want(Ask::Next);
    }
}
