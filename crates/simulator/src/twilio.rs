//! A simulated Twilio REST server, as strict as the real one, with faults on demand.
//!
//! It has one account, with its phone numbers, where each one leads, and the messages it sent. It is written from Twilio's
//! reference (§4) and keeps every request.

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

/// A running server on its own port; dropping it stops it.
pub struct RestServer {
    url: String,
    desk: Arc<Desk>,
    serving: AbortHandle,
}

impl RestServer {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start(options: AccountOptions) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let state = State { options, faults: VecDeque::new(), requests: Vec::new(), messages: Vec::new() };
        let desk = Arc::new(Desk(Mutex::new(state)));
        let routes = Router::new().fallback(answer::answer).with_state(desk.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await }).abort_handle();
        Ok(Self { url, desk, serving })
    }

    /// The address that replaces `https://api.twilio.com`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes the next `times` requests fail whose method and target, such as `POST /2010-04-01/…`, contain `only`.
    /// `usize::MAX` means always. Faults apply in the order in which they are planned.
    pub fn plan(&self, only: &str, times: usize, fault: RestFault) {
        self.desk.lock().faults.push_back(Planned { only: only.to_owned(), left: times, fault });
    }

    /// Removes all faults.
    pub fn heal(&self) {
        self.desk.lock().faults.clear();
    }

    pub fn requests(&self) -> Vec<RestRequest> {
        self.desk.lock().requests.clone()
    }

    /// All requests so far except GET.
    pub fn changes(&self) -> Vec<RestRequest> {
        self.requests().into_iter().filter(|request| request.method != "GET").collect()
    }

    pub fn numbers(&self) -> Vec<Value> {
        self.desk.lock().options.numbers.clone()
    }

    /// The entry of one phone number; `Null` if the account does not own it.
    pub fn number(&self, number: &str) -> Value {
        let owned = self.numbers().into_iter().find(|owned| owned["phone_number"] == number);
        owned.unwrap_or_default()
    }

    pub fn messages(&self) -> Vec<Value> {
        self.desk.lock().messages.clone()
    }

    /// Changes the account from outside, as its owner can in Twilio's console.
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
