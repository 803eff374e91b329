//! A server made by `fly mcp launch`: a program behind HTTP, with `POST` for its input and one `GET` for its output.
//!
//! It looks like streamable HTTP but is not: it answers every `POST` with 202 and no body, and the body of the `GET` is
//! JSON lines. It allows one listener at a time, all clients share the program, and output without a listener is lost.
//! So our ids have a random prefix, and answers to other ids are dropped.

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use reqwest::{Client, Response};
use rmcp::RoleClient;
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use serde_json::Value;

use super::lines::{self, Lines};
use super::trouble::Trouble;
use crate::link::network::Fault;

/// The one listener of such a server, as a transport.
pub struct Wrapped {
    client: Client,
    url: String,
    headers: HeaderMap,
    listening: Response,
    lines: Lines,
    /// The prefix of our ids.
    mark: String,
}

impl Wrapped {
    /// Becomes the listener.
    ///
    /// # Errors
    /// [`Trouble::Taken`] while another client listens.
    pub async fn connect(client: Client, url: &str, headers: HeaderMap) -> Result<Wrapped, Trouble> {
        let listen = client.get(url).headers(headers.clone()).header(ACCEPT, "text/event-stream");
        let listening = listen.send().await.map_err(Fault::from)?;
        match listening.status().as_u16() {
            200..=299 => {}
            409 => return Err(Trouble::Taken),
            status => return Err(Trouble::from_status(status)),
        }
        let mark = format!("{:016x}-", rand::random::<u64>());
        Ok(Wrapped { client, url: url.to_owned(), headers, listening, lines: Lines::default(), mark })
    }

    fn read(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        while let Some(mut message) = self.lines.next() {
            if unmark(&mut message, &self.mark)
                && let Some(message) = lines::read(&message)
            {
                return Some(message);
            }
        }
        None
    }
}

impl Transport<RoleClient> for Wrapped {
    type Error = Trouble;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Trouble>> + Send + 'static {
        let post = self.client.post(&self.url).headers(self.headers.clone());
        let mark = self.mark.clone();
        async move {
            let mut message = serde_json::to_value(&message).map_err(|_| Trouble::NotMcp)?;
            add_mark(&mut message, &mark);
            let post = post.header(CONTENT_TYPE, "application/json").body(format!("{message}\n"));
            let answer = post.send().await.map_err(Fault::from)?;
            match answer.status().is_success() {
                true => Ok(()),
                false => Err(Trouble::from_status(answer.status().as_u16())),
            }
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            if let Some(message) = self.read() {
                return Some(message);
            }
            // Cancel-safe: what was read is in `lines` before the next await.
            let piece = self.listening.chunk().await.ok()??;
            self.lines.feed(&piece);
        }
    }

    async fn close(&mut self) -> Result<(), Trouble> {
        Ok(())
    }
}

/// Marks the id of our message, and the two other places that name a request.
fn add_mark(message: &mut Value, mark: &str) {
    if message.get("method").is_none() {
        return;
    }
    for place in ["/id", "/params/requestId", "/params/_meta/progressToken"] {
        if let Some(id) = message.pointer_mut(place).filter(|id| id.is_number()) {
            *id = format!("{mark}{id}").into();
        }
    }
}

/// Whether a message is for us. If so, removes the mark from its ids.
fn unmark(message: &mut Value, mark: &str) -> bool {
    let place = match message.get("method").and_then(Value::as_str) {
        None => "/id",
        Some("notifications/progress") => "/params/progressToken",
        Some(_) => return true,
    };
    let Some(id) = message.pointer_mut(place) else { return false };
    let number = id.as_str().and_then(|id| id.strip_prefix(mark)).and_then(|id| id.parse::<i64>().ok());
    match number {
        Some(number) => *id = number.into(),
        None => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_our_ids_come_back() {
        let mut sent = json!({"id": 3, "method": "tools/call", "params": {"_meta": {"progressToken": 5}}});
        add_mark(&mut sent, "m-");
        assert_eq!(sent["id"], "m-3");
        assert_eq!(sent["params"]["_meta"]["progressToken"], "m-5");
        let mut cancel = json!({"method": "notifications/cancelled", "params": {"requestId": 3}});
        add_mark(&mut cancel, "m-");
        assert_eq!(cancel["params"]["requestId"], "m-3");

        let mut answer = json!({"id": "m-3", "result": {}});
        assert!(unmark(&mut answer, "m-"));
        assert_eq!(answer["id"], 3);
        let mut progress = json!({"method": "notifications/progress", "params": {"progressToken": "m-5"}});
        assert!(unmark(&mut progress, "m-"));
        assert_eq!(progress["params"]["progressToken"], 5);
        for foreign in
            [json!({"id": 3, "result": {}}), json!({"id": "n-3", "result": {}}), json!({"error": {}})]
        {
            assert!(!unmark(&mut foreign.clone(), "m-"), "{foreign}");
        }
        assert!(unmark(&mut json!({"id": 1, "method": "ping"}), "m-"), "a request of the server");
    }
}
