//! The forms of Twilio's webhooks.
//!
//! Twilio's signature joins names and values without separators, so other pairs can have the same signature:
//! `CallStatus=completed` and `CallStatuscompleted=`, or one value and the next name in one value. [`Form::ambiguity`]
//! and [`CallRequest::read`] accept only one reading of what code decides by.

use std::collections::HashSet;

use crate::id::CallSid;
use crate::phone::Party;

/// A form, decoded once (`+` is a space, `%2B` a plus), in its original order.
#[derive(Clone, Default)]
pub struct Form(Vec<(String, String)>);

impl Form {
    /// Reads `application/x-www-form-urlencoded`: a body, or the query of a GET.
    pub fn parse(encoded: &[u8]) -> Self {
        Self(form_urlencoded::parse(encoded).into_owned().collect())
    }

    /// Every pair: the signature covers all of them.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// Why the form cannot be trusted, signed or not: a name that comes twice, or one with its value attached.
    pub fn ambiguity(&self) -> Option<&'static str> {
        let mut names = HashSet::new();
        if !self.0.iter().all(|(name, _)| names.insert(name)) {
            return Some("repeated_parameter");
        }
        // Without the status, a call that is over would be up. Longer names of Twilio's go on in upper case: `FromCity`.
        let is_glued = |name: &&String| {
            let begins = |with: &str, is_value: fn(char) -> bool| {
                name.strip_prefix(with).is_some_and(|rest| rest.starts_with(is_value))
            };
            ["CallStatus", "DialCallStatus"].iter().any(|status| begins(status, |c| c.is_ascii_lowercase()))
                || ["From", "To"].iter().any(|number| begins(number, |c| c == '+'))
        };
        names.iter().any(is_glued).then_some("glued_parameter")
    }

    /// The value with that name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A request about a call that rings, whose stream has ended, or whose status changed.
#[derive(Debug, Clone, PartialEq)]
pub struct CallRequest {
    pub call: CallSid,
    pub from: Party,
    pub to: Party,
    pub status: CallStatus,
    /// Present on the `action` of a `<Dial>`.
    pub dial_status: Option<DialStatus>,
}

/// How far a call is (`CallStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallStatus {
    /// Ringing, answered, or an unknown word.
    Up,
    /// Over for any reason.
    Over,
}

/// How a `<Dial>` ended (`DialCallStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialStatus {
    /// The two talked.
    Completed,
    /// Busy or declined.
    Busy,
    /// Nobody answered in time, or the caller gave up.
    NoAnswer,
    /// The number could not be reached, or an unknown word.
    Failed,
}

impl CallRequest {
    /// `None` without a valid call SID and call status.
    pub fn read(form: &Form) -> Option<Self> {
        let party = |name| Party::from_twilio(form.field(name).unwrap_or_default());
        Some(Self {
            call: CallSid::parse(form.field("CallSid")?)?,
            from: party("From"),
            to: party("To"),
            status: match word(form.field("CallStatus")?)? {
                "completed" | "busy" | "failed" | "no-answer" | "canceled" => CallStatus::Over,
                _ => CallStatus::Up,
            },
            dial_status: match form.field("DialCallStatus") {
                None => None,
                Some(status) => Some(match word(status)? {
                    "completed" | "answered" => DialStatus::Completed,
                    "busy" => DialStatus::Busy,
                    "no-answer" | "canceled" => DialStatus::NoAnswer,
                    _ => DialStatus::Failed,
                }),
            },
        })
    }
}

/// A status, known or not: lower case, so that no other parameter is glued to it.
fn word(text: &str) -> Option<&str> {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-').then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &str = "CallSid=CA00000000000000000000000000000001";

    fn read(more: &str) -> Option<CallRequest> {
        CallRequest::read(&Form::parse(format!("{CALL}&{more}").as_bytes()))
    }

    #[test]
    fn a_ringing_call_is_read_and_every_pair_kept() {
        let more = "From=%2B15550100007&To=%2B15550100001&CallStatus=ringing&Extra=a+b%26&Empty";
        let form = Form::parse(format!("{CALL}&{more}").as_bytes());
        let request = CallRequest::read(&form).unwrap();
        assert_eq!(request.call.as_str(), "CA00000000000000000000000000000001");
        assert_eq!(request.from, Party::from_twilio("+15550100007"));
        assert_eq!((request.status, request.dial_status), (CallStatus::Up, None));
        assert_eq!(form.pairs().len(), 6);
        assert_eq!(form.field("Extra"), Some("a b&"));
        assert_eq!(form.ambiguity(), None);
    }

    #[test]
    fn the_states_of_calls_and_dials_are_read() {
        for (body, status, dial) in [
            ("CallStatus=completed", CallStatus::Over, None),
            ("CallStatus=in-progress", CallStatus::Up, None),
            ("CallStatus=something-new", CallStatus::Up, None),
            ("CallStatus=in-progress&DialCallStatus=completed", CallStatus::Up, Some(DialStatus::Completed)),
            ("CallStatus=in-progress&DialCallStatus=no-answer", CallStatus::Up, Some(DialStatus::NoAnswer)),
            ("CallStatus=in-progress&DialCallStatus=answered", CallStatus::Up, Some(DialStatus::Completed)),
            ("CallStatus=in-progress&DialCallStatus=busy", CallStatus::Up, Some(DialStatus::Busy)),
            ("CallStatus=completed&DialCallStatus=canceled", CallStatus::Over, Some(DialStatus::NoAnswer)),
            ("CallStatus=in-progress&DialCallStatus=failed", CallStatus::Up, Some(DialStatus::Failed)),
            ("CallStatus=in-progress&DialCallStatus=", CallStatus::Up, Some(DialStatus::Failed)),
        ] {
            let request = read(body).unwrap();
            assert_eq!((request.status, request.dial_status), (status, dial), "{body}");
        }
    }

    /// Each has the signature of a form that Twilio may send.
    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (what, body) in [
            ("no call", "From=x&CallStatus=ringing"),
            ("not a call", "CallSid=..%2F&CallStatus=ringing"),
            ("a name in the SID", "CallSid=CA00000000000000000000000000000001CallStatusringing"),
            (
                "the same, with a status",
                "CallSid=CA00000000000000000000000000000001CallStatuscompleted&CallStatus=ringing",
            ),
            ("no status", CALL),
            ("a name in the status", &format!("{CALL}&CallStatus=completedDirectioninbound")),
            (
                "a name in the outcome",
                &format!("{CALL}&CallStatus=in-progress&DialCallStatus=completedFrom%2B15550100007"),
            ),
        ] {
            assert_eq!(CallRequest::read(&Form::parse(body.as_bytes())), None, "{what}");
        }
        for (what, body, ambiguity) in [
            ("twice", "CallSid=a&CallSid=b", Some("repeated_parameter")),
            ("twice the same", "Extra=a&Extra=a", Some("repeated_parameter")),
            ("a status in its name", "CallStatuscompleted=", Some("glued_parameter")),
            ("a part of a number in its name", "From%2B1555=0100007", Some("glued_parameter")),
            ("longer names of Twilio's", "From=a&FromCity=b&ToZip=c&CallStatus=d&CallSidX=e&Token=f", None),
        ] {
            assert_eq!(Form::parse(body.as_bytes()).ambiguity(), ambiguity, "{what}");
        }
    }
}
