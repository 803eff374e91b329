//! Phone numbers and who is at the other end of a call.
//!
//! This module knows the shape of an E.164 number, and the words that Twilio sends if there is none. It keeps numbers
//! out of logs: `Debug` and `Display` are masked, and only [`PhoneNumber::expose`] shows the digits.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;

use crate::invisible::{self, Invisible};

/// A number in E.164: a plus and 7 to 15 digits. Prints masked.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhoneNumber(String);

/// Why a text is not a phone number. Never contains the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNumber {
    #[error("it contains an invisible character, {0}")]
    Invisible(Invisible),
    #[error("a phone number starts with + and the country code")]
    NoPlus,
    #[error("a phone number holds only digits after the +, no spaces or dashes")]
    NotDigits,
    #[error("a phone number has 7 to 15 digits after the +")]
    Length,
    #[error("no country code starts with 0")]
    Zero,
}

impl PhoneNumber {
    /// Reads `+` and digits, nothing else. The number need not exist.
    pub fn parse(text: &str) -> Result<PhoneNumber, InvalidNumber> {
        if let Some(found) = invisible::find(text) {
            return Err(InvalidNumber::Invisible(found));
        }
        let digits = text.strip_prefix('+').ok_or(InvalidNumber::NoPlus)?;
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidNumber::NotDigits);
        }
        if digits.starts_with('0') {
            return Err(InvalidNumber::Zero);
        }
        if !(7..=15).contains(&digits.len()) {
            return Err(InvalidNumber::Length);
        }
        Ok(PhoneNumber(text.to_owned()))
    }

    /// The number itself, for the wire and the model's prompt. Never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The digits as a voice should read them: separated by spaces, without the plus.
    pub fn spoken(&self) -> String {
        let digits: Vec<String> = self.0.chars().skip(1).map(String::from).collect();
        digits.join(" ")
    }

    /// Whether it is a number for examples and tests: nobody has the North American area code 555.
    pub fn is_example(&self) -> bool {
        self.0.starts_with("+1555")
    }

    /// Why no such number exists in the world's numbering plans. Numbers for examples are fine.
    pub fn implausible(&self) -> Option<Implausible> {
        if self.is_example() {
            return None;
        }
        let Ok(parsed) = phonenumber::parse(None, &self.0) else {
            return Some(Implausible::UnknownCountryCode);
        };
        if parsed.is_valid() {
            return None;
        }
        Some(Implausible::NotInPlan(parsed.country().code()))
    }

    /// The ISO 3166 code of the country, such as `US`, if the numbering plan has one.
    pub fn country(&self) -> Option<String> {
        let parsed = phonenumber::parse(None, &self.0).ok()?;
        parsed.country().id().map(|id| id.as_ref().to_owned())
    }
}

/// Why a well-formed number cannot exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Implausible {
    /// No country has this code.
    UnknownCountryCode,
    /// It does not fit the numbering plan of this country code: a digit is wrong, missing or too many.
    NotInPlan(u16),
}

impl fmt::Display for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // At least three digits stay hidden.
        let digits = &self.0[1..];
        let shown = 4.min(digits.len() - 5);
        write!(f, "+{}•••{}", &digits[..shown], &digits[digits.len() - 2..])
    }
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who is at one end of a call. Prints masked.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Party {
    Number(PhoneNumber),
    /// The network gave no number.
    Withheld,
    /// A SIP address, a Twilio client, or anything else that is not an E.164 number.
    Other(String),
}

impl Party {
    /// Reads what a person types for the caller: a phone number, or `anonymous` for one that is withheld.
    pub fn calling(text: &str) -> Result<Party, InvalidNumber> {
        match Party::from_twilio(text) {
            Party::Withheld if !text.trim().is_empty() => Ok(Party::Withheld),
            _ => PhoneNumber::parse(text.trim()).map(Party::Number),
        }
    }

    /// Reads Twilio's `From` or `To`.
    pub fn from_twilio(text: &str) -> Party {
        // Twilio sends words if there is no number,
        const WORDS: [&str; 8] =
            ["", "anonymous", "unknown", "restricted", "blocked", "private", "unavailable", "withheld"];
        // or the same words typed on a phone's keys, after + or +1. twilio/allowlist-function.js has the same list.
        const WITHHELD: [&str; 5] = ["266696687", "8656696", "86282452253", "2562533", "7378742833"];
        let text = text.trim();
        let keys = text.strip_prefix("+1").or(text.strip_prefix('+'));
        if WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
            || keys.is_some_and(|keys| WITHHELD.contains(&keys))
        {
            return Party::Withheld;
        }
        match PhoneNumber::parse(text) {
            Ok(number) => Party::Number(number),
            Err(_) => Party::in_sip(text).unwrap_or_else(|| Party::Other(text.to_owned())),
        }
    }

    /// The number, or the word for none, in an address such as `sip:+15550100001@example.com` (RFC 3261, 19.1). A number
    /// without a plus counts if the address says that it is one (`user=phone`).
    fn in_sip(text: &str) -> Option<Party> {
        let (scheme, address) = text.split_once(':')?;
        let (user, host) = address.split_once('@')?;
        let is_sip = ["sip", "sips"].iter().any(|sip| scheme.eq_ignore_ascii_case(sip));
        let user = user.split([';', ':']).next().filter(|_| is_sip)?;
        let is_phone = host.split(';').skip(1).any(|option| option.eq_ignore_ascii_case("user=phone"));
        let with_plus = || PhoneNumber::parse(&format!("+{user}")).ok().filter(|_| is_phone);
        match Party::from_twilio(user) {
            Party::Other(_) => with_plus().map(Party::Number),
            party => Some(party),
        }
    }

    /// The number, if there is one.
    pub fn number(&self) -> Option<&PhoneNumber> {
        match self {
            Party::Number(number) => Some(number),
            Party::Withheld | Party::Other(_) => None,
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Party::Number(number) => number.fmt(f),
            Party::Withheld => f.write_str("withheld"),
            // Such an address may contain a name or a number, so only its kind is shown.
            Party::Other(text) if text.starts_with("client:") => f.write_str("client:•••"),
            Party::Other(text) if text.starts_with("sip:") => f.write_str("sip:•••"),
            Party::Other(_) => f.write_str("other:•••"),
        }
    }
}

impl fmt::Debug for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_or_rejected_with_a_reason() {
        let table = [
            ("placeholder", "+15550100001", Ok("+1555•••01")),
            ("shortest", "+1234567", Ok("+12•••67")),
            ("longest", "+155512345678901", Ok("+1555•••01")),
            ("no plus", "15550100001", Err(InvalidNumber::NoPlus)),
            ("empty", "", Err(InvalidNumber::NoPlus)),
            ("only a plus", "+", Err(InvalidNumber::NotDigits)),
            ("spaces", "+1 555 010 0001", Err(InvalidNumber::NotDigits)),
            ("other digits", "+١٢٣٤٥٦٧٨", Err(InvalidNumber::NotDigits)),
            (
                "invisible",
                "+1555\u{200b}0100001",
                Err(InvalidNumber::Invisible(invisible::find("12345\u{200b}").unwrap())),
            ),
            (
                "invisible",
                "\u{feff}+15550100001",
                Err(InvalidNumber::Invisible(invisible::find("\u{feff}").unwrap())),
            ),
            ("too short", "+123456", Err(InvalidNumber::Length)),
            ("too long", "+1555123456789012", Err(InvalidNumber::Length)),
            ("zero", "+0555010000", Err(InvalidNumber::Zero)),
        ];
        for (name, text, expected) in table {
            let shown = PhoneNumber::parse(text).map(|number| format!("{number} {number:?}"));
            assert_eq!(shown, expected.map(|masked| format!("{masked} {masked}")), "{name}");
        }
    }

    #[test]
    fn a_number_is_spoken_digit_by_digit() {
        let number = PhoneNumber::parse("+15550100001").unwrap();
        assert_eq!(number.spoken(), "1 5 5 5 0 1 0 0 0 0 1");
        assert_eq!(number.expose(), "+15550100001");
    }

    #[test]
    fn a_country_comes_from_the_numbering_plan() {
        // The British regulator reserves it for films and plays.
        assert_eq!(PhoneNumber::parse("+442079460000").unwrap().country().as_deref(), Some("GB"));
        PhoneNumber::parse("+15550100001").unwrap().country();
        assert_eq!(PhoneNumber::parse("+9999999999").unwrap().country(), None);
    }

    #[test]
    fn parties_are_recognised_and_masked() {
        let table = [
            ("+15550100001", "+1555•••01"),
            (" +15550100001 ", "+1555•••01"),
            ("anonymous", "withheld"),
            ("Anonymous", "withheld"),
            ("+266696687", "withheld"),
            ("+86282452253", "withheld"),
            ("+7378742833", "withheld"),
            ("+17378742833", "withheld"),
            ("+1266696687", "withheld"),
            ("+1555266696", "+1555•••96"),
            ("RESTRICTED", "withheld"),
            ("", "withheld"),
            ("client:alice", "client:•••"),
            ("sip:alice@example.com", "sip:•••"),
            ("sip:+15550100001@example.com", "+1555•••01"),
            ("SIPS:+15550100001;npdi:secret@example.com:5061;transport=tls", "+1555•••01"),
            ("sip:15550100001@example.com;user=phone", "+1555•••01"),
            ("sip:15550100001@example.com", "sip:•••"),
            ("sip:anonymous@anonymous.invalid", "withheld"),
            ("sip:+266696687@example.com", "withheld"),
            ("sip:example.com", "sip:•••"),
            ("sip:alice@example.com;user=phone", "sip:•••"),
            ("sip:sip:+15550100001@example.com", "sip:•••"),
            ("client:+15550100001@example.com", "client:•••"),
            ("5550100001", "other:•••"),
        ];
        for (text, expected) in table {
            assert_eq!(format!("{:?}", Party::from_twilio(text)), expected, "{text}");
        }
    }

    #[test]
    fn what_a_person_types_for_the_caller_is_a_number_or_withheld() {
        for (text, calling) in [
            (" +15550100001", Some("+1555•••01")),
            ("anonymous", Some("withheld")),
            ("sip:alice@example.com", None),
            ("client:bob", None),
            ("salon", None),
            ("030", None),
            ("", None),
        ] {
            let shown = Party::calling(text).ok().map(|party| party.to_string());
            assert_eq!(shown.as_deref(), calling, "{text}");
        }
    }

    #[test]
    fn numbers_outside_the_numbering_plans_are_implausible() {
        let not_in_plan = |code| Some(Implausible::NotInPlan(code));
        for (number, reason) in [
            ("+15550100001", None),
            ("+12025550123", None),
            ("+442079460000", None),
            ("+99912345678", Some(Implausible::UnknownCountryCode)),
            ("+1202555012", not_in_plan(1)),
            ("+4420794600001", not_in_plan(44)),
        ] {
            assert_eq!(PhoneNumber::parse(number).unwrap().implausible(), reason, "{number}");
        }
    }
}
