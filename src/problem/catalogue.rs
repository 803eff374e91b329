//! Every problem that the program can report: its code, its severity, its arguments, and its sentences.
//!
//! A message says what is wrong; an effect, what callers or the owner notice, if that is not obvious; a fix, what to do.
//! Each is a short clause that starts small and ends without a full stop. An empty fix is none.

mod assistant;
mod delivery;
mod doctor;
mod file;
mod number;
mod recording;
mod setting;
mod store;
mod template;
mod tool;

pub use assistant::Assistant;
pub use delivery::Delivery;
pub use doctor::{Clock, Doctor, Fly, Folder, Function, Mcp, Obstacle, Provider, Public, Twilio};
pub use file::{File, ReadFolder};
pub use number::Number;
pub use recording::Recording;
pub use setting::Setting;
pub use store::Store;
pub use template::Template;
pub use tool::Tool;

use super::Severity;

/// Declares the problems of one area, as an enum with a variant for each:
///
/// ```text
/// Unknown { name: String, suggestion: Suggestion } = Error "voice.unknown",
///     "there is no voice `{name}`", fix: "{suggestion}";
/// ```
macro_rules! catalogue {
    ($(#[$meta:meta])* $area:ident { $(
        $(#[$doc:meta])*
        $variant:ident $({ $($argument:ident: $type:ty),* $(,)? })? = $severity:ident $code:literal,
        $message:literal $(, effect: $effect:literal)? $(, fix: $fix:literal)?;
    )* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub enum $area {
            $( $(#[$doc])* $variant $({ $($argument: $type),* })?, )*
        }

        impl std::fmt::Display for $area {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.message())
            }
        }

        impl std::error::Error for $area {}

        impl $area {
            /// Every code of this area, with its severity.
            pub const CODES: &[(&str, $crate::problem::Severity)] =
                &[$(($code, $crate::problem::Severity::$severity)),*];

            pub(crate) fn code(&self) -> &'static str {
                match self { $( Self::$variant { .. } => $code, )* }
            }

            pub(crate) fn severity(&self) -> $crate::problem::Severity {
                match self { $( Self::$variant { .. } => $crate::problem::Severity::$severity, )* }
            }

            #[allow(unused_variables, reason = "not every argument appears in every sentence")]
            pub(crate) fn message(&self) -> String {
                match self { $( Self::$variant $({ $($argument),* })? => format!($message), )* }
            }

            #[allow(unused_variables, reason = "not every argument appears in every sentence")]
            pub(crate) fn effect(&self) -> Option<String> {
                match self { $( Self::$variant $({ $($argument),* })? => $crate::problem::catalogue::sentence!($($effect)?), )* }
            }

            #[allow(unused_variables, reason = "not every argument appears in every sentence")]
            pub(crate) fn fix(&self) -> Option<String> {
                match self { $( Self::$variant $({ $($argument),* })? => $crate::problem::catalogue::sentence!($($fix)?), )* }
            }
        }
    };
}

macro_rules! sentence {
    () => {
        None
    };
    ($text:literal) => {
        Some(format!($text))
    };
}

/// Joins the areas into one type.
macro_rules! areas {
    ($($area:ident),*) => {
        /// What is wrong: one entry of the catalogue, with its arguments.
        #[derive(Debug, Clone, PartialEq)]
        pub enum What {
            $( $area($area), )*
        }

        $( impl From<$area> for What {
            fn from(what: $area) -> What {
                What::$area(what)
            }
        } )*

        impl What {
            pub(crate) fn code(&self) -> &'static str {
                match self { $( What::$area(what) => what.code(), )* }
            }

            pub(crate) fn severity(&self) -> Severity {
                match self { $( What::$area(what) => what.severity(), )* }
            }

            #[allow(unused_variables, reason = "not every argument appears in every sentence")]
            pub(crate) fn message(&self) -> String {
                match self { $( What::$area(what) => what.message(), )* }
            }

            pub(crate) fn effect(&self) -> Option<String> {
                match self { $( What::$area(what) => what.effect(), )* }
            }

            pub(crate) fn fix(&self) -> Option<String> {
                match self { $( What::$area(what) => what.fix(), )* }
            }
        }

        /// Every code with its severity, in the order of the areas.
        pub fn codes() -> impl Iterator<Item = (&'static str, Severity)> {
            [$($area::CODES),*].into_iter().flatten().copied()
        }
    };
}

pub(crate) use {catalogue, sentence};

areas!(
    Assistant, Clock, Delivery, Doctor, File, Fly, Folder, Function, Mcp, Number, Provider, Public,
    ReadFolder, Recording, Setting, Store, Template, Tool, Twilio
);
