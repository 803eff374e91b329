//! Where the other machines of the server answer.

use super::{Reader, address};

impl Reader {
    /// The form of other machines' addresses. `{app}` is filled in here, `{machine}` when one is asked.
    pub(super) fn peer_url(&mut self, app: Option<&str>, port: u16) -> Option<String> {
        const NAME: &str = "PEER_URL";
        let Some(text) = self.text(NAME) else {
            return app.map(|app| format!("http://{{machine}}.vm.{app}.internal:{port}"));
        };
        if !text.contains("{machine}") {
            self.wrong(NAME, "must hold `{machine}`, where the name of a machine goes");
            return None;
        }
        if text.contains("{app}") && app.is_none() {
            self.wrong(NAME, "holds `{app}`, and FLY_APP_NAME is not set; write the app's name");
            return None;
        }
        let form = text.replace("{app}", app.unwrap_or_default());
        let sample = address::parse(&form.replace("{machine}", "m1"), &["http", "https"]).ok();
        let fits = sample.is_some_and(|url| {
            url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        });
        if !fits {
            // Not shown: a password may be in it.
            self.wrong(
                NAME,
                "must be a URL such as `http://{machine}.vm.{app}.internal:5050`, without a user, `?` or `#`",
            );
            return None;
        }
        Some(form.trim_end_matches('/').to_owned())
    }
}
