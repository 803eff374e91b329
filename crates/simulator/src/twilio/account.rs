//! The account, the planned faults, and the requests so far.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

/// The account of [`AccountOptions::default`].
pub const ACCOUNT: &str = "AC00000000000000000000000000000001";

/// Everything about a `RestServer`. The default is an active account without numbers.
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
    /// In the order of the list; see [`number()`](super::number()).
    pub numbers: Vec<Value>,
    /// The maximum page size; Twilio's is 1,000.
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
    /// An error in Twilio's form, such as 429 with 20429, without any effect.
    Refuse { status: u16, code: u32 },
    /// A 5xx in Twilio's form, although the request takes effect.
    BreakAfter { status: u16 },
    /// There is no answer.
    Silence,
    /// The connection is lost in the middle of the answer, although the request takes effect.
    Cut,
    /// 200, but not JSON.
    Garbage,
    /// 200, with another service's JSON.
    Stranger,
    /// An HTML page from a proxy, with this status.
    Proxy { status: u16 },
    /// The answer is delayed by this time.
    Slow(Duration),
    /// 200, with this JSON.
    Answer(Value),
    /// A redirect with this status.
    Redirect { status: u16, to: String },
}

/// A request that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestRequest {
    pub method: String,
    /// Including the query.
    pub target: String,
    /// User and password from Basic authorization.
    pub credentials: Option<(String, String)>,
    /// The fields of the body, in order.
    pub form: Vec<(String, String)>,
    /// The status of the answer; 0 without an answer.
    pub status: u16,
}

impl RestRequest {
    /// The first value of a field of the body.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.form.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

/// The state that all requests share.
pub(super) struct Desk(pub Mutex<State>);

pub(super) struct State {
    pub options: AccountOptions,
    pub faults: VecDeque<Planned>,
    pub requests: Vec<RestRequest>,
    pub messages: Vec<Value>,
}

pub(super) struct Planned {
    /// A part of the method and target.
    pub only: String,
    pub left: usize,
    pub fault: RestFault,
}

impl Desk {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
