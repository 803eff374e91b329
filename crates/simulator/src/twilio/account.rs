//! The account, what goes wrong with its requests, and the requests that came.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

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

/// What all requests have in common.
pub(super) struct Desk(pub Mutex<State>);

pub(super) struct State {
    pub options: AccountOptions,
    pub faults: VecDeque<Planned>,
    pub requests: Vec<RestRequest>,
    pub messages: Vec<Value>,
}

pub(super) struct Planned {
    /// In `POST /2010-04-01/…`.
    pub only: String,
    pub left: usize,
    pub fault: RestFault,
}

impl Desk {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
