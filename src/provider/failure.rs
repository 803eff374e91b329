//! What the error codes of providers mean. Calls and `doctor` share this one table.
//!
//! A call reacts to the class, never to a code: it gives up on a permanent failure and tries again after a temporary
//! one. It survives a code that is not in the table. If the provider rejects a configuration with such a code, the
//! call takes it for an option that this provider does not accept, and tries again without it.

/// The class of a provider's error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The key is missing or wrong.
    Key,
    /// The provider does not serve this country or address.
    Region,
    /// The account has no credit left.
    Credit,
    /// The account is closed.
    AccountClosed,
    /// The model does not exist, or the key may not use it.
    Model,
    /// The provider has ended the beta version of its API.
    BetaApi,
    RateLimit,
    ServerError,
    /// Another response is active.
    Conflict,
}

impl Failure {
    /// `None`: the code is unknown.
    pub fn from_code(code: &str) -> Option<Self> {
        Some(match code {
            "invalid_api_key"
            | "invalid_authentication"
            | "missing_api_key"
            | "unauthorized"
            | "authentication_error" => Self::Key,
            "unsupported_country_region_territory" | "ip_not_authorized" => Self::Region,
            "insufficient_quota"
            | "billing_hard_limit_reached"
            | "credit_balance_exhausted"
            | "billing_not_active" => Self::Credit,
            "account_deactivated" | "organization_deactivated" => Self::AccountClosed,
            // The misspelling is Azure's.
            "invalid_model"
            | "model_not_found"
            | "missing_model"
            | "OpperationNotSupported"
            | "DeploymentNotFound" => Self::Model,
            "beta_api_shape_disabled" => Self::BetaApi,
            "rate_limit_exceeded" | "rate_limit_error" | "inference_rate_limit_exceeded" => Self::RateLimit,
            "server_error" | "internal_error" | "service_unavailable" | "overloaded" => Self::ServerError,
            "conversation_already_has_active_response" => Self::Conflict,
            _ => return None,
        })
    }

    /// Whether no other attempt can succeed until somebody changes a setting or an account.
    pub fn is_permanent(self) -> bool {
        match self {
            Self::Key | Self::Region | Self::Credit | Self::AccountClosed | Self::Model | Self::BetaApi => {
                true
            }
            Self::RateLimit | Self::ServerError | Self::Conflict => false,
        }
    }
}
