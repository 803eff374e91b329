//! A simulated Twilio REST server, as strict as the real one and as broken as it is told to be.
//!
//! It knows one account: what it is, the numbers it owns and what each of them rings, and the texts it sent. It reads
//! and writes plain JSON after `reference/twilio.md` §4, and keeps every request.

mod account;
mod answer;
mod number;
mod refusal;

use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use account::{Desk, Planned, State};

pub use account::{ACCOUNT, AccountOptions, RestFault, RestRequest};
pub use number::number;

/// A running server on a port of its own; it ends when it is dropped.
pub struct RestServer {
    url: String,
    desk: Arc<Desk>,
    serving: AbortHandle,
}

impl RestServer {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start(options: AccountOptions) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let state = State { options, faults: VecDeque::new(), requests: Vec::new(), messages: Vec::new() };
        let desk = Arc::new(Desk(Mutex::new(state)));
        let routes = Router::new().fallback(answer::answer).with_state(desk.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await }).abort_handle();
        Ok(Self { url, desk, serving })
    }

    /// The address in the place of `https://api.twilio.com`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The next `times` requests whose method and target, such as `POST /2010-04-01/…`, hold `only` go wrong.
    /// `usize::MAX` is for ever. Faults strike in the order in which they are planned.
    pub fn plan(&self, only: &str, times: usize, fault: RestFault) {
        self.desk.lock().faults.push_back(Planned { only: only.to_owned(), left: times, fault });
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        self.desk.lock().faults.clear();
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<RestRequest> {
        self.desk.lock().requests.clone()
    }

    /// The requests so far that would change something.
    pub fn changes(&self) -> Vec<RestRequest> {
        self.requests().into_iter().filter(|request| request.method != "GET").collect()
    }

    /// The account's numbers as they are, in the order of the list.
    pub fn numbers(&self) -> Vec<Value> {
        self.desk.lock().options.numbers.clone()
    }

    /// One of them, by the number itself; `Null` where it is not owned.
    pub fn number(&self, number: &str) -> Value {
        let owned = self.numbers().into_iter().find(|owned| owned["phone_number"] == number);
        owned.unwrap_or_default()
    }

    /// The texts that were sent.
    pub fn messages(&self) -> Vec<Value> {
        self.desk.lock().messages.clone()
    }

    /// Changes the account as somebody else would, such as its owner in the console.
    pub fn edit(&self, edit: impl FnOnce(&mut AccountOptions)) {
        edit(&mut self.desk.lock().options);
    }

    /// Waits until the requests satisfy `seen`; false if they do not within `limit`.
    pub async fn until(&self, limit: Duration, mut seen: impl FnMut(&[RestRequest]) -> bool) -> bool {
        let look = async {
            while !seen(&self.requests()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(limit, look).await.is_ok()
    }
}

impl Drop for RestServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
