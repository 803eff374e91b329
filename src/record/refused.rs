//! Why a ring was refused.

/// Why a ring became no call. It is the reason of a short record, and no end of a call: nobody was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// All places were taken.
    Busy,
    /// No assistant answers the number.
    Nobody,
    /// The assistant's plan could not be made.
    Failed,
}

impl Refusal {
    pub fn code(self) -> &'static str {
        match self {
            Self::Busy => "refused.busy",
            Self::Nobody => "refused.nobody",
            Self::Failed => "refused.failed",
        }
    }
}
