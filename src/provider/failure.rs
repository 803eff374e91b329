//! What the failures of providers mean: one table for connecting, calls, `doctor` and `docs/reliability.md`.
//!
//! Whoever decides something looks at the class, never at a code. A code that is not in the table has no class, and
//! ends no call.

use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Try again, after the time that the provider asks for.
    Transient,
    /// Try again without the option that the provider does not accept.
    WithoutOption,
    /// This provider will fail again until somebody changes a setting or an account; another may work.
    Failover,
    /// Every provider would fail.
    Permanent,
    /// Another response is active.
    Conflict,
}

impl Class {
    /// The word for the log and the docs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::WithoutOption => "without_option",
            Self::Failover => "failover",
            Self::Permanent => "permanent",
            Self::Conflict => "conflict",
        }
    }
}

/// What is behind a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The key is missing or wrong.
    Key,
    /// The account has no credit left.
    Credit,
    /// The account is closed.
    AccountClosed,
    /// The model does not exist, or the key may not use it.
    Model,
    /// The provider does not serve this country or address.
    Region,
    /// The provider has ended the beta version of its API.
    BetaApi,
    /// The provider rejects the request to connect, and does not say why.
    Rejected,
    /// The request is against the provider's rules.
    Policy,
    RateLimit,
    ServerError,
    /// The session has reached its maximum age.
    Expired,
    /// The connection broke or ended.
    Closed,
    /// There was no connection, or no answer in time.
    Unreachable,
    /// An option or a value that the provider does not accept.
    Option,
    /// Another response is active.
    Conflict,
    /// An answer was filtered.
    Filtered,
    /// What we asked for was already done or over.
    TooLate,
}

/// The meaning of what providers send.
struct Row {
    cause: Cause,
    /// `None`: nothing to do; the call goes on.
    class: Option<Class>,
    means: &'static str,
    /// Error codes, and types of errors that have no code.
    codes: &'static [&'static str],
    /// HTTP statuses of the answer to the upgrade.
    statuses: &'static [RangeInclusive<u16>],
    /// WebSocket close codes.
    closes: &'static [u16],
}

/// Each code is in one row only. A code comes before the status or close code that it came with.
const TABLE: [Row; 17] = [
    Row {
        cause: Cause::RateLimit,
        class: Some(Class::Transient),
        means: "too many requests, tokens or sessions for now",
        codes: &[
            "rate_limit_exceeded",
            "rate_limit_error",
            "rate_limit_reached",
            // Azure's.
            "inference_rate_limit_exceeded",
            "RateLimitReached",
            "429",
            "too_many_requests",
            "session_limit_reached",
        ],
        statuses: &[429..=429],
        closes: &[],
    },
    Row {
        cause: Cause::ServerError,
        class: Some(Class::Transient),
        means: "the provider has an error, or too much to do",
        codes: &[
            "server_error",
            "internal_error",
            "internal_server_error",
            "InternalServerError",
            "api_error",
            "service_unavailable",
            "service_unavailable_error",
            "overloaded",
            "overloaded_error",
            "server_overloaded",
            "slow_down",
            "timeout",
        ],
        statuses: &[408..=408, 425..=425, 500..=599],
        closes: &[1011, 1012, 1013, 1014],
    },
    Row {
        cause: Cause::Expired,
        class: Some(Class::Transient),
        means: "the session has reached its maximum age",
        codes: &["session_expired"],
        statuses: &[],
        closes: &[],
    },
    Row {
        cause: Cause::Closed,
        class: Some(Class::Transient),
        means: "the connection broke or ended",
        codes: &[],
        statuses: &[],
        closes: &[1000, 1001, 1005, 1006, 1015],
    },
    Row {
        cause: Cause::Unreachable,
        class: Some(Class::Transient),
        means: "no connection, or no answer in time",
        codes: &[],
        statuses: &[],
        closes: &[],
    },
    Row {
        cause: Cause::Option,
        class: Some(Class::WithoutOption),
        means: "the provider does not accept an option or its value",
        codes: &[
            "unknown_parameter",
            "unsupported_parameter",
            "unsupported_value",
            "missing_required_parameter",
            "invalid_value",
            "invalid_type",
            "invalid_function_parameters",
            "integer_below_min_value",
            "integer_above_max_value",
            "decimal_below_min_value",
            "decimal_above_max_value",
            "string_above_max_length",
            "array_above_max_length",
            "cannot_update_voice",
        ],
        statuses: &[],
        closes: &[],
    },
    Row {
        cause: Cause::Key,
        class: Some(Class::Failover),
        means: "the key is missing or wrong",
        codes: &[
            "invalid_api_key",
            "invalid_authentication",
            "missing_api_key",
            "unauthorized",
            "authentication_error",
            // Azure's.
            "401",
        ],
        statuses: &[401..=401],
        // OpenAI's, and that of servers without close codes of their own.
        closes: &[3000, 1008],
    },
    Row {
        cause: Cause::Credit,
        class: Some(Class::Failover),
        means: "the account has no credit left",
        codes: &[
            "insufficient_quota",
            "billing_hard_limit_reached",
            "credit_balance_exhausted",
            "billing_not_active",
        ],
        statuses: &[402..=402],
        closes: &[],
    },
    Row {
        cause: Cause::AccountClosed,
        class: Some(Class::Failover),
        means: "the account is closed",
        codes: &["account_deactivated", "organization_deactivated"],
        statuses: &[],
        closes: &[],
    },
    Row {
        cause: Cause::Model,
        class: Some(Class::Failover),
        means: "the model is gone, or the key may not use it",
        codes: &[
            "invalid_model",
            "model_not_found",
            "missing_model",
            "DeploymentNotFound",
            "OperationNotSupported",
            // The misspelling is Azure's.
            "OpperationNotSupported",
        ],
        statuses: &[404..=404, 410..=410],
        closes: &[],
    },
    Row {
        cause: Cause::Region,
        class: Some(Class::Failover),
        means: "the provider does not serve this country or address",
        codes: &["unsupported_country_region_territory", "ip_not_authorized"],
        statuses: &[451..=451],
        closes: &[],
    },
    Row {
        cause: Cause::BetaApi,
        class: Some(Class::Failover),
        means: "the provider has ended the beta version of its API",
        codes: &["beta_api_shape_disabled"],
        statuses: &[],
        closes: &[],
    },
    Row {
        cause: Cause::Rejected,
        class: Some(Class::Failover),
        means: "the provider rejects the request to connect, and does not say why",
        codes: &[],
        statuses: &[400..=400, 403..=403, 405..=407, 411..=424, 426..=428],
        closes: &[4000],
    },
    Row {
        cause: Cause::Policy,
        class: Some(Class::Permanent),
        means: "the request is against the provider's rules",
        codes: &[
            "content_policy_violation",
            "policy_violation",
            "invalid_prompt",
            // Azure's.
            "ResponsibleAIPolicyViolation",
        ],
        statuses: &[],
        closes: &[],
    },
    Row {
        cause: Cause::Conflict,
        class: Some(Class::Conflict),
        means: "another response is active",
        codes: &["conversation_already_has_active_response"],
        statuses: &[],
        closes: &[],
    },
    Row {
        cause: Cause::Filtered,
        class: None,
        means: "an answer was filtered",
        codes: &["content_filter", "moderation_blocked"],
        statuses: &[],
        closes: &[],
    },
    Row {
        cause: Cause::TooLate,
        class: None,
        means: "what we asked for was already done or over",
        codes: &[
            "response_cancel_not_active",
            "input_audio_buffer_commit_empty",
            "item_create_duplicate_item_id",
            "item_create_invalid_previous_item_id",
            "item_truncate_invalid_item_id",
            "item_delete_invalid_item_id",
            "item_retrieve_invalid_item_id",
            "unsupported_content_type",
            "invalid_json",
            "invalid_event",
            "unknown_or_invalid_event",
        ],
        statuses: &[],
        closes: &[],
    },
];

impl Cause {
    fn row(self) -> Option<&'static Row> {
        TABLE.iter().find(|row| row.cause == self)
    }

    /// What to do about it. `None`: nothing.
    pub fn class(self) -> Option<Class> {
        self.row().and_then(|row| row.class)
    }

    fn of_code(code: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.codes.contains(&code)).map(|row| row.cause)
    }

    fn of_status(status: u16) -> Option<Self> {
        TABLE.iter().find(|row| row.statuses.iter().any(|known| known.contains(&status))).map(|row| row.cause)
    }

    fn of_close(code: u16) -> Option<Self> {
        TABLE.iter().find(|row| row.closes.contains(&code)).map(|row| row.cause)
    }
}

/// A failure of a provider. It holds code words and figures, never the provider's free words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failure {
    /// `None`: nothing that came is in the table.
    pub cause: Option<Cause>,
    /// The error's code, or its type if it has no code.
    pub code: Option<Arc<str>>,
    /// The HTTP status of the answer to the upgrade.
    pub status: Option<u16>,
    /// The WebSocket close code.
    pub close: Option<u16>,
    /// The reason of the close, if it is a code word.
    pub reason: Option<Arc<str>>,
    /// How long the provider asks us to wait.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// An error with a code, a type, or both.
    pub fn of_error(code: Option<&str>, kind: Option<&str>, retry_after: Option<Duration>) -> Self {
        let words = [code, kind].into_iter().flatten();
        Self {
            cause: words.clone().find_map(Cause::of_code),
            code: words.map(|word| word_of(word).into()).next(),
            retry_after,
            ..Self::default()
        }
    }

    /// A closed connection; `None` if there was no close code.
    pub fn of_close(code: Option<u16>, reason: &str) -> Self {
        // OpenAI's reason is the error's type and code: `invalid_request_error.invalid_api_key`.
        let said = reason.rsplit('.').next().and_then(Cause::of_code);
        Self {
            cause: said.or_else(|| code.map_or(Some(Cause::Closed), Cause::of_close)),
            close: code,
            reason: Some(reason).filter(|reason| is_word(reason)).map(Arc::from),
            ..Self::default()
        }
    }

    /// An upgrade that was answered with this status, and the error's code in its body.
    pub fn of_status(status: u16, code: Option<&str>, retry_after: Option<Duration>) -> Self {
        let error = Self::of_error(code, None, retry_after);
        Self { cause: error.cause.or_else(|| Cause::of_status(status)), status: Some(status), ..error }
    }

    /// The same failure, behind which is this if nothing else is known.
    pub fn or(self, cause: Cause) -> Self {
        Self { cause: self.cause.or(Some(cause)), ..self }
    }

    /// What to do about it. `None`: it is unknown, or there is nothing to do.
    pub fn class(&self) -> Option<Class> {
        self.cause.and_then(Cause::class)
    }

    /// Whether the provider refuses us, so that trying again changes nothing.
    pub fn is_refusal(&self) -> bool {
        matches!(self.class(), Some(Class::Failover | Class::Permanent))
    }
}

impl From<Cause> for Failure {
    fn from(cause: Cause) -> Self {
        Self { cause: Some(cause), ..Self::default() }
    }
}

/// The code of an error, or the path of what it is about. Other words may quote what was said, and more digits a number.
pub fn word_of(text: &str) -> &str {
    match text {
        "" => "no code",
        text if is_word(text) => text,
        _ => "unknown code",
    }
}

fn is_word(text: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_.-[]".contains(letter);
    let digits = text.chars().filter(char::is_ascii_digit).count();
    !text.is_empty() && text.len() <= 80 && text.chars().all(plain) && digits <= 4
}

/// The table, for `docs/reliability.md`.
pub fn markdown() -> String {
    let mut page = String::from(
        "| class | what happened | error codes | HTTP status | close codes |\n| --- | --- | --- | --- | --- |\n",
    );
    for row in &TABLE {
        let class = row.class.map_or("(none)".to_owned(), |class| format!("`{}`", class.code()));
        let codes: Vec<String> = row.codes.iter().map(|code| format!("`{code}`")).collect();
        let statuses: Vec<String> = row.statuses.iter().map(range).collect();
        let closes: Vec<String> = row.closes.iter().map(u16::to_string).collect();
        let [codes, statuses, closes] = [codes.join(" "), statuses.join(", "), closes.join(", ")];
        let _ = writeln!(page, "| {class} | {} | {codes} | {statuses} | {closes} |", row.means);
    }
    page
}

fn range(statuses: &RangeInclusive<u16>) -> String {
    match (statuses.start(), statuses.end()) {
        (one, same) if one == same => one.to_string(),
        (first, last) => format!("{first} to {last}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn nothing_stands_in_two_rows() {
        let mut seen = BTreeSet::new();
        for row in &TABLE {
            let statuses = row.statuses.iter().cloned().flatten().map(|status| format!("HTTP {status}"));
            let closes = row.closes.iter().map(|close| format!("close {close}"));
            let causes = [format!("{:?}", row.cause)];
            for what in
                row.codes.iter().map(|code| (*code).to_owned()).chain(statuses).chain(closes).chain(causes)
            {
                assert!(seen.insert(what.clone()), "{what} stands in two rows");
            }
        }
    }

    #[test]
    fn a_code_counts_before_what_it_came_with() {
        use Class::{Conflict, Failover, Permanent, Transient, WithoutOption};
        let error = |code, kind| Failure::of_error(code, kind, None);
        for (failure, class) in [
            (error(Some("insufficient_quota"), Some("rate_limit_error")), Some(Failover)),
            (error(None, Some("server_error")), Some(Transient)),
            (error(Some("brand_new"), Some("server_error")), Some(Transient)),
            (error(Some("brand_new"), Some("invalid_request_error")), None),
            (error(None, None), None),
            (error(Some("rate_limit_exceeded"), Some("tokens")), Some(Transient)),
            (error(Some("unknown_parameter"), None), Some(WithoutOption)),
            (error(Some("conversation_already_has_active_response"), None), Some(Conflict)),
            (error(Some("content_policy_violation"), None), Some(Permanent)),
            (error(Some("response_cancel_not_active"), None), None),
            (Failure::of_close(Some(3000), "invalid_request_error.invalid_api_key"), Some(Failover)),
            (Failure::of_close(Some(4000), "server_error.internal_error"), Some(Transient)),
            (Failure::of_close(Some(4000), ""), Some(Failover)),
            (
                Failure::of_close(Some(1001), "Your session hit the maximum duration of 60 minutes."),
                Some(Transient),
            ),
            (Failure::of_close(Some(1011), ""), Some(Transient)),
            (Failure::of_close(Some(1008), ""), Some(Failover)),
            (Failure::of_close(Some(4999), ""), None),
            (Failure::of_close(None, ""), Some(Transient)),
            (Failure::of_status(429, None, None), Some(Transient)),
            (Failure::of_status(429, Some("insufficient_quota"), None), Some(Failover)),
            (Failure::of_status(503, Some("brand_new"), None), Some(Transient)),
            (Failure::of_status(301, None, None), None),
        ] {
            assert_eq!(failure.class(), class, "{failure:?}");
        }
    }

    #[test]
    fn a_failure_never_quotes() {
        let quoted = Failure::of_error(Some("my name is Ann"), None, None);
        assert_eq!(quoted.code.as_deref(), Some("unknown code"));
        assert_eq!(Failure::of_close(Some(1011), "call +1 555 010 9999").reason, None);
        let named = Failure::of_close(Some(3000), "invalid_request_error.invalid_api_key");
        assert_eq!(named.reason.as_deref(), Some("invalid_request_error.invalid_api_key"));
    }
}
