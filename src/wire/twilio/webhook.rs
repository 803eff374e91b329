//! The forms of Twilio's webhooks.

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

    /// The first value with that name.
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
    /// `None` without a valid call SID.
    pub fn read(form: &Form) -> Option<Self> {
        let party = |name| Party::from_twilio(form.field(name).unwrap_or_default());
        Some(Self {
            call: CallSid::parse(form.field("CallSid")?)?,
            from: party("From"),
            to: party("To"),
            status: match form.field("CallStatus") {
                Some("completed" | "busy" | "failed" | "no-answer" | "canceled") => CallStatus::Over,
                _ => CallStatus::Up,
            },
            dial_status: form.field("DialCallStatus").map(|status| match status {
                "completed" | "answered" => DialStatus::Completed,
                "busy" => DialStatus::Busy,
                "no-answer" | "canceled" => DialStatus::NoAnswer,
                _ => DialStatus::Failed,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ringing_call_is_read_and_every_pair_kept() {
        let form = Form::parse(
            b"CallSid=CA01&From=%2B15550100007&To=%2B15550100001&CallStatus=ringing&Extra=a+b%26&Extra=&Empty",
        );
        let request = CallRequest::read(&form).unwrap();
        assert_eq!(request.call.as_str(), "CA01");
        assert_eq!(request.from, Party::from_twilio("+15550100007"));
        assert_eq!((request.status, request.dial_status), (CallStatus::Up, None));
        assert_eq!(form.pairs().len(), 7);
        assert_eq!(form.field("Extra"), Some("a b&"));
    }

    #[test]
    fn the_states_of_calls_and_dials_are_read() {
        for (body, status, dial) in [
            ("CallSid=CA1&CallStatus=completed", CallStatus::Over, None),
            ("CallSid=CA1&CallStatus=in-progress", CallStatus::Up, None),
            (
                "CallSid=CA1&CallStatus=in-progress&DialCallStatus=completed",
                CallStatus::Up,
                Some(DialStatus::Completed),
            ),
            (
                "CallSid=CA1&CallStatus=in-progress&DialCallStatus=no-answer",
                CallStatus::Up,
                Some(DialStatus::NoAnswer),
            ),
            ("CallSid=CA1&DialCallStatus=answered", CallStatus::Up, Some(DialStatus::Completed)),
            ("CallSid=CA1&DialCallStatus=busy", CallStatus::Up, Some(DialStatus::Busy)),
            (
                "CallSid=CA1&CallStatus=completed&DialCallStatus=canceled",
                CallStatus::Over,
                Some(DialStatus::NoAnswer),
            ),
            ("CallSid=CA1&DialCallStatus=failed", CallStatus::Up, Some(DialStatus::Failed)),
            ("CallSid=CA1&DialCallStatus=", CallStatus::Up, Some(DialStatus::Failed)),
        ] {
            let request = CallRequest::read(&Form::parse(body.as_bytes())).unwrap();
            assert_eq!((request.status, request.dial_status), (status, dial), "{body}");
        }
        assert_eq!(CallRequest::read(&Form::parse(b"From=x")), None);
        assert_eq!(CallRequest::read(&Form::parse(b"CallSid=..%2F")), None);
    }
}
