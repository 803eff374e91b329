//! Opaque ids from outside. They are compared, never parsed.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;
use std::sync::Arc;

macro_rules! id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as written on the wire.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), &self.0)
            }
        }
    };
}

/// Makes an id of any text.
macro_rules! of_any_text {
    ($($name:ident),*) => { $(
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }
    )* };
}

id! {
    /// Twilio's id of a call: `CA` and 32 hex digits.
    CallSid
}
id! {
    /// The model's id of one piece of the conversation.
    ItemId
}
id! {
    /// The model's id of one answer.
    ResponseId
}
id! {
    /// The model's id of one tool call (`call_id`).
    ToolCallId
}
id! {
    /// The id of a request to approve a hosted tool (`approval_request_id`).
    ApprovalId
}

of_any_text!(ItemId, ResponseId, ToolCallId, ApprovalId);

impl CallSid {
    /// Reads an untrusted call SID. Anything but `CA` and 32 hex digits is none: Twilio's signature does not separate a
    /// value from the next name, so `CA…CallStatusringing` could be signed, too.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("CA")?;
        let is_sid = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_sid.then(|| Self(text.into()))
    }

    /// A new one, for a call that no telephone company knows.
    pub fn of_bits(bits: u128) -> Self {
        Self(format!("CA{bits:032x}").into())
    }

    /// The same id in 16 bytes.
    pub fn bytes(&self) -> [u8; 16] {
        u128::from_str_radix(&self.0[2..], 16).expect("`parse` found 32 hex digits").to_be_bytes()
    }
}

/// A mark after audio for the phone, numbered through the whole call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(pub u32);

/// A piece of audio for the phone, numbered through the whole call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Piece(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_untrusted_call_sid_is_ca_and_32_hex_digits() {
        let sid = CallSid::parse("CA00000000000000000000000000000a1F").unwrap();
        assert_eq!(u128::from_be_bytes(sid.bytes()), 0xa1f);
        for bad in [
            "",
            "CA1",
            "CA0000000000000000000000000000000001",
            "CA0000000000000000000000000000000g",
            "CA+000000000000000000000000000000a",
            "ca00000000000000000000000000000a1f",
            "CH00000000000000000000000000000a1f",
            "CA00000000000000000000000000000a1fCallStatusringing",
            "CA00000000000000000000000000000a1f\n",
        ] {
            assert!(CallSid::parse(bad).is_none(), "{bad:?}");
        }
    }
}
