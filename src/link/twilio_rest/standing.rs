//! How the account itself stands.

use reqwest::Method;
use serde::Deserialize;

use super::{Account, Again, RestError};

/// How an account stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub status: Status,
    /// Not paid for: it calls and texts verified numbers only, and its calls begin with a notice.
    pub trial: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Active,
    /// Mostly for want of money: no call comes in.
    Suspended,
    Closed,
    /// A word that is not known here.
    Other,
}

#[derive(Deserialize)]
struct Written {
    sid: String,
    status: String,
    r#type: Option<String>,
}

impl Account {
    /// How the account stands; also whether the credentials are right.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn standing(&self) -> Result<Standing, RestError> {
        let written: Written = self.ask(Method::GET, &self.own_path(), None, Again::Safe).await?;
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
