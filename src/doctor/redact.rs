//! Hides secrets in what is printed, in the forms in which a server may quote them.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;
use url::Url;

use super::tools;
use crate::assistant::Roster;
use crate::problem;
use crate::settings::{Database, is_secret};
use crate::workspace::Workspace;

const REDACTED: &str = "•••";
/// A shorter value may be any word, in bytes.
const SHORTEST: usize = 6;
/// The beginning of a secret that is recognized if the rest is cut off, in bytes.
const PREFIX: usize = 12;

/// Every secret of the workspace, in every form; the longest first, because one may contain another.
#[derive(Clone, Default)]
pub struct Redactor(Vec<String>);

impl Redactor {
    /// Knows the secrets of the environment, of the settings and of the assistants' tools.
    pub fn new(workspace: &Workspace, roster: Option<&Roster>) -> Redactor {
        let mut redactor = Redactor::default();
        // PWD is the shell's current folder.
        let named = workspace.environment.iter().filter(|(name, _)| is_secret(name) && *name != "PWD");
        named.for_each(|(_, value)| redactor.add(value));
        let settings = &workspace.settings;
        if let Some(Database::Postgres(url)) = &settings.database_url {
            let url = Url::parse(url.expose()).ok();
            redactor.add(url.as_ref().and_then(Url::password).unwrap_or_default());
        }
        settings.secrets().for_each(|secret| redactor.add(secret.expose()));
        for url in settings.providers().iter().filter_map(|provider| Url::parse(&provider.url).ok()) {
            let is_plain = |name: &str| matches!(name, "model" | "api-version" | "deployment");
            let values = url.query_pairs().filter(|(name, _)| !is_plain(name));
            values.for_each(|(_, value)| redactor.add(&value));
        }
        let users = [&settings.twilio_account_sid, &settings.twilio_api_key];
        for user in users.into_iter().flatten() {
            for password in settings.twilio_auth_tokens.iter().chain(&settings.twilio_api_secret) {
                redactor.add(&format!("{user}:{}", password.expose()));
            }
        }
        roster.into_iter().flat_map(tools::secrets).for_each(|secret| redactor.add(secret.expose()));
        redactor
    }

    /// Hides a secret, each line and each list item of it, and what follows `Bearer` or `Basic`.
    fn add(&mut self, secret: &str) {
        self.add_forms(secret.trim());
        secret.split(['\n', ',']).for_each(|part| self.add_forms(part.trim()));
        if let Some((scheme, rest)) = secret.trim().split_once(' ')
            && (scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("basic"))
        {
            self.add_forms(rest);
            let login = STANDARD.decode(rest).ok().and_then(|login| String::from_utf8(login).ok());
            let login = login.unwrap_or_default();
            self.add_forms(login.split_once(':').map_or("", |(_, password)| password));
        }
        self.0.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        self.0.dedup();
    }

    fn add_forms(&mut self, secret: &str) {
        if secret.len() < SHORTEST {
            return;
        }
        let json = Value::from(secret).to_string();
        let form: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        self.0.extend([
            secret.to_owned(),
            json[1..json.len() - 1].to_owned(),
            form.replace('+', "%20"),
            form,
            STANDARD.encode(secret),
            STANDARD_NO_PAD.encode(secret),
            URL_SAFE_NO_PAD.encode(secret),
            // Messages have their long numbers masked already.
            problem::masked(secret),
        ]);
    }

    /// The text without secrets, and without the beginning of one that was cut off.
    pub fn hide(&self, text: &str) -> String {
        let text = self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, REDACTED));
        self.0.iter().fold(text, |text, secret| hide_prefix(text, secret))
    }
}

/// Hides what begins like a secret. Addresses and paths begin alike, so they are exempt.
fn hide_prefix(text: String, secret: &str) -> String {
    let is_place = secret.contains("://") || secret.starts_with('/');
    let Some(prefix) = secret.get(..PREFIX).filter(|_| !is_place) else { return text };
    let mut left = text.as_str();
    let mut hidden = String::new();
    while let Some((before, _)) = left.split_once(prefix) {
        let rest = &left[before.len()..];
        let same = rest.chars().zip(secret.chars()).take_while(|(one, other)| one == other);
        let cut: usize = same.map(|(one, _)| one.len_utf8()).sum();
        hidden.push_str(before);
        hidden.push_str(REDACTED);
        left = &rest[cut..];
    }
    hidden + left
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_secret_is_hidden_in_every_form_in_which_a_server_may_quote_it() {
        let mut redactor = Redactor::default();
        for secret in ["sk-proj-a/b+c \"d\"", TOKEN, "one-secret, other-secret", "error"] {
            redactor.add(secret);
        }
        redactor.add(&format!("Basic {}", STANDARD.encode("me:hush-hush")));
        redactor.add("Bearer whisper");
        redactor.add("https://git.example.com/secret-folder");
        for (what, text, hidden) in [
            ("as it is", "no sk-proj-a/b+c \"d\"!".to_owned(), "no •••!"),
            ("in JSON", format!("{{\"a\":{}}}", Value::from("sk-proj-a/b+c \"d\"")), "{\"a\":\"•••\"}"),
            ("in an address", "?k=sk-proj-a%2Fb%2Bc+%22d%22&x".to_owned(), "?k=•••&x"),
            ("in Base64", STANDARD.encode(TOKEN), "•••"),
            ("in a message", problem::masked(TOKEN), "•••"),
            ("an item of a list", "no other-secret".to_owned(), "no •••"),
            ("a password", "no hush-hush".to_owned(), "no •••"),
            ("a token", "no whisper".to_owned(), "no •••"),
            ("cut off", "<b>0123456789abcde</b>".to_owned(), "<b>•••</b>"),
            ("less of it", "<b>0123456789a</b>".to_owned(), "<b>0123456789a</b>"),
            ("a short word", "an error".to_owned(), "an error"),
            ("another address", "https://git.example.org/a".to_owned(), "https://git.example.org/a"),
        ] {
            assert_eq!(redactor.hide(&text), hidden, "{what}");
        }
    }
}
