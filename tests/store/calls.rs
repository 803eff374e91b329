//! Calls as sessions note them.
#![allow(dead_code, reason = "the tests and the benchmark each use a part")]

use jiff::{SignedDuration, Timestamp};
use switchboard::phone::PhoneNumber;
use switchboard::record::{Ended, Entry, Rang, RecordId, Said, What};
use switchboard::store::{Options, Place, Records, Store};

/// When the calls of the tests began: the first of them, a minute before the second, and so on.
pub fn time(minute: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap() + SignedDuration::from_mins(minute)
}

pub fn number(last: u32) -> PhoneNumber {
    PhoneNumber::parse(&format!("+1555010{last:04}")).unwrap()
}

/// A call, by default of the number 1 to `salon`.
pub struct Call {
    pub id: RecordId,
    pub rang: Rang,
}

impl Call {
    /// The `minute` also makes the id and the call SID.
    pub fn at(minute: u32) -> Self {
        let at = time(minute.into());
        let id = ulid::Ulid::from_parts(at.as_millisecond() as u64, minute.into()).to_string();
        let rang = Rang {
            call: format!("CA{minute:032x}"),
            at,
            assistant: Some("salon".to_owned()),
            assistant_version: None,
            from: None,
            to: Some("+15550109999".to_owned()),
            caller: None,
            numberless: false,
            test: false,
            simulated: false,
            keep_until: None,
        };
        Self { id: id.as_str().into(), rang }.from(1)
    }

    /// The same call, as a machine knows it at which it did not ring.
    pub fn unknown(minute: u32) -> Self {
        let mut call = Self::at(minute);
        (call.rang.from, call.rang.to, call.rang.caller, call.rang.numberless) = (None, None, None, true);
        call
    }

    pub fn from(mut self, last: u32) -> Self {
        self.rang.from = Some(number(last).expose().to_owned());
        self.rang.caller = Some(number(last));
        self
    }

    pub fn to(mut self, assistant: &str) -> Self {
        self.rang.assistant = Some(assistant.to_owned());
        self
    }

    pub fn ring(&self, records: &Records) {
        self.note(records, 0, What::Rang(self.rang.clone()));
    }

    pub fn note(&self, records: &Records, at_ms: u64, what: What) {
        records.file(&self.id, Entry { at_ms, what });
    }

    pub fn say(&self, records: &Records, at_ms: u64, text: &str) {
        let said = Said { item: format!("item_{at_ms}"), text: text.to_owned() };
        self.note(
            records,
            at_ms,
            What::CallerSpoke { item: said.item.clone(), start_ms: at_ms, end_ms: at_ms + 500 },
        );
        self.note(records, at_ms, What::Said(said));
    }

    pub fn end(&self, records: &Records, reason: &str) {
        let ended = Ended { reason: reason.to_owned(), seconds: 42.5, longest_silence_ms: 0 };
        self.note(records, 40_000, What::Ended(ended));
    }

    /// All of a call in which the caller says this.
    pub fn run(&self, records: &Records, text: &str, reason: &str) {
        self.ring(records);
        self.say(records, 1_000, text);
        self.end(records, reason);
    }
}

/// Starts a store without a spill folder.
pub fn start(place: &Place) -> (Records, Store, switchboard::store::Closer) {
    switchboard::store::start(Options::new(place.clone()))
}
