//! Why a ring was refused.

/// Why a ring became no call. It is the reason of a short record, and no end of a call: nobody was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// All places were taken.
    Busy,
    /// The assistant had as many calls as its file allows.
    Calls,
    /// The caller had called too often.
    Caller,
    /// The calls of the day had cost what they may.
    Cost,
    /// The file blocks the caller.
    Blocked,
    /// No assistant answers the number.
    Nobody,
    /// The assistant's plan could not be made.
    Failed,
}

impl Refusal {
    /// The reason of the record.
    pub fn code(self) -> &'static str {
        match self {
            Self::Busy | Self::Calls => "refused.busy",
            Self::Caller | Self::Cost => "refused.limit",
            Self::Blocked => "refused.blocked",
            Self::Nobody => "refused.nobody",
            Self::Failed => "refused.failed",
        }
    }

    /// The `why` of the metric, which is finer. `None`: what failed is logged as an error.
    pub fn why(self) -> Option<&'static str> {
        match self {
            Self::Busy => Some("busy"),
            Self::Calls => Some("limit_calls"),
            Self::Caller => Some("limit_caller"),
            Self::Cost => Some("limit_cost"),
            Self::Blocked => Some("blocked"),
            Self::Nobody => Some("no_assistant"),
            Self::Failed => None,
        }
    }
}
