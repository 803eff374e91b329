//! `max_output_tokens`: a response that reaches it ends as incomplete. A token is 4 characters or 50 ms of audio.

use serde_json::{Value, json};

use super::parts::Response;
use super::response::Next;
use super::state::Session;

impl Session {
    /// How many tokens a response may make; `None` for any number.
    fn most_tokens(&self, response: &Response) -> Option<u64> {
        let most = response.options.get("max_output_tokens");
        most.unwrap_or(&self.config.session()["max_output_tokens"]).as_u64()
    }

    /// Whether the response would make more than that with so many more characters.
    pub fn exceeds(&self, response: &Response, characters: usize) -> bool {
        let made = (response.text_chars + characters) as u64 / 4 + response.audio_ms / 50;
        self.most_tokens(response).is_some_and(|most| made > most)
    }

    /// The response has made all the tokens that it may.
    pub fn run_out(&mut self, response: &mut Response) -> Next {
        self.close_part(response, "incomplete");
        let most = self.most_tokens(response).unwrap_or_default();
        response.text_chars = most.saturating_sub(response.audio_ms / 50) as usize * 4;
        let details: Value = json!({"type": "incomplete", "reason": "max_output_tokens"});
        self.finish(response, "incomplete", details);
        self.take_back(response);
        Next::Ended
    }
}
