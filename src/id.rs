//! Identities that come from outside. Opaque: compared, never taken apart.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;
use std::sync::Arc;

macro_rules! identity {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The identity as it is written on the wire.
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

identity! {
    /// Twilio's name for a call, `CA…`.
    CallSid
}
identity! {
    /// The model's name for one piece of the conversation.
    ItemId
}
identity! {
    /// The model's name for one answer.
    ResponseId
}
identity! {
    /// The model's name for one request of a tool (`call_id`).
    ToolCallId
}

identity! {
    /// The name of a host's question whether it may run its tool (`approval_request_id`).
    ApprovalId
}

impl CallSid {
    /// The longest SID that is taken. Twilio's have 34 characters.
    pub const MAX_LENGTH: usize = 64;

    /// A call SID as a stranger sent it: letters and digits only, at most [`Self::MAX_LENGTH`].
    pub fn parse(text: &str) -> Option<Self> {
        let plausible = !text.is_empty()
            && text.len() <= Self::MAX_LENGTH
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        plausible.then(|| Self::from(text))
    }
}

/// A mark that we put behind audio for the phone; numbered for the whole call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(pub u32);

/// A piece of audio on its way to the phone; numbered for the whole call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Piece(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_sid_from_a_stranger_is_letters_and_digits() {
        assert!(CallSid::parse("CA00000000000000000000000000000001").is_some());
        for bad in ["", "CA0 1", "CA\n", "CA/../1", &"A".repeat(65)] {
            assert!(CallSid::parse(bad).is_none(), "{bad:?}");
        }
    }
}
