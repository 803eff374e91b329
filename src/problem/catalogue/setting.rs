//! Problems of settings: the environment, `.env` and `switchboard.yaml`.

use super::catalogue;

catalogue! {
    /// A problem of a setting.
    Setting {
        Duplicate { name: String } = Error "setting.double",
            "`{name}` is set twice",
            fix: "remove one of the two";
    }
}
