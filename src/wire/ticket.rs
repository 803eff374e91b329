//! The ticket: the single-use right to open one media stream.
//!
//! It travels in the stream's path, because Twilio drops a query. This module seals and opens tickets. The machine that
//! issued one makes sure that it is used once, and in time.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::id::CallSid;
use crate::secret::Secret;

/// The longest ticket, in characters.
pub const MAX_LENGTH: usize = 300;

/// The longest name of a machine or an assistant in a ticket, in bytes.
pub const MAX_NAME: usize = 64;

const VERSION: u8 = 1;
const MAC_LENGTH: usize = 32;

/// The content of a ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The machine that issued it; empty if there is only one.
    pub machine: String,
    pub call: CallSid,
    pub assistant: String,
    /// Seconds since 1970.
    pub issued: u64,
    pub nonce: [u8; 16],
}

impl Ticket {
    /// The machine that issued it, if the name is safe in a host name and a header.
    pub fn machine_name(&self) -> Option<&str> {
        is_machine_name(&self.machine).then_some(&self.machine)
    }
}

/// Whether a name is safe in a host name and a header: 1 to 64 of `a-z`, `0-9` and `-`.
pub fn is_machine_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(fits)
}

/// Why a text is not one of our tickets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTicket {
    #[error("it does not have the form of a ticket")]
    Malformed,
    #[error("it was not sealed by us")]
    Forged,
}

/// Seals and opens tickets under keys derived from the account's tokens.
#[derive(Clone)]
pub struct Keys(Vec<Hmac<Sha256>>);

impl Keys {
    /// The first token seals; all of them open, so that tickets outlive a rotation.
    pub fn new(tokens: &[Secret]) -> Self {
        let derive = |token: &Secret| {
            let mut mac = keyed(token.expose().as_bytes());
            mac.update(b"switchboard ticket v1");
            keyed(&mac.finalize().into_bytes())
        };
        Self(tokens.iter().map(derive).collect())
    }

    /// The ticket as text of letters, digits, `-` and `_`. `None` if a name is too long, or there is no key.
    pub fn seal(&self, ticket: &Ticket) -> Option<String> {
        let mut bytes = vec![VERSION];
        for field in [&ticket.machine, ticket.call.as_str(), &ticket.assistant] {
            if field.len() > MAX_NAME {
                return None;
            }
            bytes.push(field.len() as u8);
            bytes.extend_from_slice(field.as_bytes());
        }
        bytes.extend_from_slice(&ticket.issued.to_be_bytes());
        bytes.extend_from_slice(&ticket.nonce);
        let mut mac = self.0.first()?.clone();
        mac.update(&bytes);
        bytes.extend_from_slice(&mac.finalize().into_bytes());
        let text = URL_SAFE_NO_PAD.encode(bytes);
        (text.len() <= MAX_LENGTH).then_some(text)
    }

    /// Opens what [`Self::seal`] made.
    ///
    /// # Errors
    /// [`BadTicket`]. Keep the reason from strangers.
    pub fn open(&self, text: &str) -> Result<Ticket, BadTicket> {
        if text.len() > MAX_LENGTH {
            return Err(BadTicket::Malformed);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadTicket::Malformed)?;
        let split = bytes.len().checked_sub(MAC_LENGTH).ok_or(BadTicket::Malformed)?;
        let (body, seal) = bytes.split_at(split);
        let ours = self.0.iter().any(|key| {
            let mut mac = key.clone();
            mac.update(body);
            mac.verify_slice(seal).is_ok()
        });
        if ours { parse(body).ok_or(BadTicket::Malformed) } else { Err(BadTicket::Forged) }
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

fn parse(body: &[u8]) -> Option<Ticket> {
    let (version, mut rest) = body.split_first()?;
    if *version != VERSION {
        return None;
    }
    let mut field = || {
        let (length, after) = rest.split_first()?;
        let (text, after) = after.split_at_checked(usize::from(*length))?;
        rest = after;
        std::str::from_utf8(text).ok().map(str::to_owned)
    };
    let (machine, call, assistant) = (field()?, field()?, field()?);
    let (issued, nonce) = rest.split_at_checked(8)?;
    Some(Ticket {
        machine,
        call: CallSid::parse(&call)?,
        assistant,
        issued: u64::from_be_bytes(issued.try_into().ok()?),
        nonce: nonce.try_into().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            machine: "0123456789abcd".to_owned(),
            call: CallSid::parse("CA00000000000000000000000000000001").unwrap(),
            assistant: "clinic".to_owned(),
            issued: 1_790_000_000,
            nonce: [7; 16],
        }
    }

    fn keys(tokens: &[&str]) -> Keys {
        Keys::new(&tokens.iter().map(|token| Secret::new(*token)).collect::<Vec<_>>())
    }

    #[test]
    fn a_sealed_ticket_opens() {
        let text = keys(&["one"]).seal(&ticket()).unwrap();
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
        assert_eq!(keys(&["one"]).open(&text), Ok(ticket()));
    }

    #[test]
    fn only_a_safe_name_names_a_machine() {
        for (name, safe) in [
            ("0123456789abcd", true),
            ("m-1", true),
            (&"m".repeat(MAX_NAME), true),
            ("", false),
            (&"m".repeat(MAX_NAME + 1), false),
            ("M1", false),
            ("m1.example.com", false),
            ("m1;state=x", false),
            ("m1\r\nx: y", false),
            ("m1/..", false),
            ("m1@x", false),
            ("mé", false),
        ] {
            let named = Ticket { machine: name.to_owned(), ..ticket() };
            assert_eq!(named.machine_name(), safe.then_some(name), "{name:?}");
        }
    }

    #[test]
    fn a_ticket_outlives_one_rotation() {
        let text = keys(&["old"]).seal(&ticket()).unwrap();
        assert_eq!(keys(&["new", "old"]).open(&text), Ok(ticket()));
        assert_eq!(keys(&["new"]).open(&text), Err(BadTicket::Forged));
    }

    #[test]
    fn no_character_can_be_changed() {
        let keys = keys(&["one"]);
        let text = keys.seal(&ticket()).unwrap();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(keys.open(&String::from_utf8(bytes).unwrap()).is_err(), "character {at}");
        }
        for bad in ["", "A", "AAAA", &text[1..], &text[..text.len() - 4], &"A".repeat(301), "é"] {
            assert!(keys.open(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_longest_names_fit_and_longer_ones_are_refused() {
        let keys = keys(&["one"]);
        let mut long = ticket();
        long.machine = "m".repeat(32);
        long.assistant = "a".repeat(MAX_NAME);
        assert!(keys.seal(&long).is_some_and(|text| text.len() <= MAX_LENGTH));
        long.assistant.push('a');
        assert_eq!(keys.seal(&long), None);
    }
}
