//! A simulated Twilio REST server, as strict as the real one and as broken as it is told to be.
//!
//! It knows one account: what it is, the numbers it owns and what each of them rings, and the texts it sent. It reads
//! and writes plain JSON after `reference/twilio.md` §4, and keeps every request.

mod answer;
mod number;

use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio::time::timeout;

pub use number::number;

/// The account of [`AccountOptions::default`].
pub const ACCOUNT: &str = "AC00000000000000000000000000000001";

/// Everything about a [`RestServer`]. The default is an account in good order that owns nothing.
#[derive(Debug, Clone)]
pub struct AccountOptions {
    /// `AC…`
    pub sid: String,
    /// User and password: the account's SID with its token, or an API key's SID with its secret.
    pub credentials: Vec<(String, String)>,
    /// `active`, `suspended` or `closed`.
    pub status: String,
    /// `Trial` or `Full`.
    pub kind: String,
    /// In the order in which they are listed; see [`number`].
    pub numbers: Vec<Value>,
    /// The longest page, whatever is asked for; Twilio's is 1,000.
    pub longest_page: usize,
}

impl Default for AccountOptions {
    fn default() -> Self {
        Self {
            sid: ACCOUNT.to_owned(),
            credentials: vec![(ACCOUNT.to_owned(), "12345".to_owned())],
            status: "active".to_owned(),
            kind: "Full".to_owned(),
            numbers: Vec::new(),
            longest_page: 1_000,
        }
    }
}

/// What goes wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestFault {
    /// An error in Twilio's own form, such as 429 with 20429, and nothing is done.
    Refuse { status: u16, code: u32 },
    /// A 5xx in Twilio's form, though what was asked is done.
    BreakAfter { status: u16 },
    /// It never answers.
    Silence,
    /// The connection is lost in the middle of the answer, though what was asked is done.
    Cut,
    /// 200, and no JSON.
    Garbage,
    /// 200, and JSON of some other service.
    Stranger,
    /// A page in HTML of a proxy before it, with this status.
    Proxy { status: u16 },
    /// The answer comes after so long.
    Slow(Duration),
    /// This JSON, with 200.
    Answer(Value),
    /// It sends whoever asks elsewhere, with this status.
    Redirect { status: u16, to: String },
}

/// A request that came, whatever became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestRequest {
    pub method: String,
    /// With its query.
    pub target: String,
    /// User and password of its Basic authorization.
    pub credentials: Option<(String, String)>,
    /// The fields of its body, in their order.
    pub form: Vec<(String, String)>,
    /// The status it was answered with; 0 where it was not.
    pub status: u16,
}

impl RestRequest {
    /// The first value of a field of its body.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.form.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

/// A running server on a port of its own; it ends when it is dropped.
pub struct RestServer {
    url: String,
    desk: Arc<Desk>,
    serving: AbortHandle,
}

/// What all requests have in common.
struct Desk(Mutex<State>);

struct State {
    options: AccountOptions,
    faults: VecDeque<Planned>,
    requests: Vec<RestRequest>,
    messages: Vec<Value>,
}

struct Planned {
    /// In `POST /2010-04-01/…`.
    only: String,
    left: usize,
    fault: RestFault,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
