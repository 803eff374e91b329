//! The state of the account.

use reqwest::Method;
use serde::Deserialize;

use super::{Account, RestError, Retry};

/// The state of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub status: Status,
    /// A trial account calls and texts only verified numbers, and its calls begin with a notice.
    pub trial: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Active,
    /// Usually because it has no money left. It receives no calls.
    Suspended,
    Closed,
    /// An unknown status.
    Other,
}

#[derive(Deserialize)]
struct Written {
    sid: String,
    status: String,
    r#type: Option<String>,
}

impl Account {
    /// The state of the account. This also checks the credentials.
    pub async fn standing(&self) -> Result<Standing, RestError> {
        let path = format!("/2010-04-01/Accounts/{}.json", self.sid);
        let written: Written = self.ask(Method::GET, &path, None, Retry::Always).await?;
        if written.sid != self.sid {
            return Err(RestError::NotTwilio);
        }
        let status = match written.status.as_str() {
            "active" => Status::Active,
            "suspended" => Status::Suspended,
            "closed" => Status::Closed,
            _ => Status::Other,
        };
        Ok(Standing { status, trial: written.r#type.is_some_and(|kind| kind.eq_ignore_ascii_case("trial")) })
    }
}
