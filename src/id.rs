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

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
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

id! {
    /// Twilio's id of a call, `CA…`.
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

impl CallSid {
    /// The longest accepted SID. Twilio's have 34 characters.
    pub const MAX_LENGTH: usize = 64;

    /// Reads an untrusted call SID: letters and digits only, at most [`Self::MAX_LENGTH`].
    pub fn parse(text: &str) -> Option<Self> {
        let plausible = !text.is_empty()
            && text.len() <= Self::MAX_LENGTH
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        plausible.then(|| Self::from(text))
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
    fn an_untrusted_call_sid_is_letters_and_digits() {
        assert!(CallSid::parse("CA00000000000000000000000000000001").is_some());
        for bad in ["", "CA0 1", "CA\n", "CA/../1", &"A".repeat(65)] {
            assert!(CallSid::parse(bad).is_none(), "{bad:?}");
        }
    }
}
