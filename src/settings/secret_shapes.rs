//! Whether secrets look as they should. None is shown.

use url::Url;

use super::{FILE, Settings};
use crate::problem::catalogue::Setting;
use crate::problem::{Place, Problem};
use crate::provider::Auth;
use crate::secret::{self, Secret, is_hex};

const CONSOLE: &str = "copy it again from the start page of Twilio's console, without spaces and quotes";
const OPENAI: &str =
    "create a key at https://platform.openai.com/api-keys and copy all of it, without quotes";

impl Settings {
    /// The secrets that do not look as they should: an error if no call can be answered with it, otherwise a warning.
    pub fn check_secrets(&self) -> Vec<Problem> {
        let mut problems = self.check_tokens();
        problems.extend(self.check_account());
        problems.extend(self.check_keys());
        problems.extend(self.check_own());
        for problem in &mut problems {
            if problem.of_setting().is_some_and(|name| self.is_in_file(name)) {
                problem.place = Some(Place::file(FILE));
            }
        }
        problems
    }

    fn check_tokens(&self) -> Vec<Problem> {
        const NAME: &str = "TWILIO_AUTH_TOKEN";
        let tokens = &self.twilio_auth_tokens;
        let is_any_sid = |text: &str| is_sid(text, "AC") || is_sid(text, "SK");
        // Another entry may be Twilio's token.
        let useless = tokens.iter().all(|token| is_placeholder(token.expose()) || is_any_sid(token.expose()));
        let check = |(at, token): (usize, &Secret)| {
            let name = match tokens.len() {
                1 => NAME.to_owned(),
                _ => format!("{NAME}, entry {},", at + 1),
            };
            let text = token.expose();
            let what = if let Some(what) = spoilt(text, &name, CONSOLE, useless) {
                what
            } else if useless && is_any_sid(text) {
                Setting::TokenIsSid { name }
            } else if self.twilio_api_secret.as_ref() == Some(token) {
                Setting::TokenIsApiSecret { name }
            } else if !is_hex(text, 32) {
                Setting::TokenShape { name, length: text.chars().count() }
            } else {
                return None;
            };
            Some(Problem::setting(NAME, what))
        };
        tokens.iter().enumerate().filter_map(check).collect()
    }

    fn check_account(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (name, value, prefix) in [
            ("TWILIO_ACCOUNT_SID", &self.twilio_account_sid, "AC"),
            ("TWILIO_API_KEY", &self.twilio_api_key, "SK"),
        ] {
            let Some(text) = value.as_ref().filter(|text| !is_sid(text, prefix)) else { continue };
            let what = spoilt(text, name, CONSOLE, false).unwrap_or(Setting::SidShape { name, prefix });
            problems.push(Problem::setting(name, what));
        }
        let (key, secret) = ("TWILIO_API_KEY", "TWILIO_API_SECRET");
        match (&self.twilio_api_key, &self.twilio_api_secret) {
            (Some(_), None) => {
                problems.push(Problem::setting(key, Setting::HalfKeyPair { set: key, missing: secret }));
            }
            (None, Some(_)) => {
                problems.push(Problem::setting(secret, Setting::HalfKeyPair { set: secret, missing: key }));
            }
            (Some(_), Some(text)) => {
                let fix = "create another key in Twilio's console and copy its secret";
                let what = spoilt(text.expose(), secret, fix, false);
                problems.extend(what.map(|what| Problem::setting(secret, what)));
            }
            (None, None) => {}
        }
        problems
    }

    /// Those that are nobody's, or anybody's, so that only copying can have spoilt them.
    fn check_own(&self) -> Vec<Problem> {
        let (metrics, api, assistants) = ("METRICS_TOKEN", "API_TOKEN", "ASSISTANTS_TOKEN");
        let shared = "TWILIO_SHARED_KEYS";
        let mut problems = Vec::new();
        let tokens =
            [(metrics, &self.metrics_token), (api, &self.api_token), (assistants, &self.assistants_token)];
        for (name, token) in tokens {
            let Some(text) = token.as_ref().map(Secret::expose) else { continue };
            let what = bearer(text, name).or_else(|| spoilt(text, name, "set it again", false));
            let is_short = name != assistants && text.len() < 16;
            let what = what.or_else(|| is_short.then_some(Setting::ShortToken { name }));
            problems.extend(what.map(|what| Problem::setting(name, what)));
        }
        let password = "CONSOLE_PASSWORD";
        if self.console_password.as_ref().is_some_and(|it| it.expose().chars().count() < 12) {
            problems.push(Problem::setting(password, Setting::ShortToken { name: password }));
        }
        if let Some(url) = &self.smtp_url
            // Any word may be a part of a host's name.
            && url.expose().contains(['…', '<', '>', '•'])
        {
            let fix = "set it to the URL of your mail server, with user and password";
            let what = Setting::UnusedPlaceholder { name: "SMTP_URL".to_owned(), fix };
            problems.push(Problem::setting("SMTP_URL", what));
        }
        for (id, key) in &self.twilio_shared_keys {
            let pair = format!("{id}={}", key.expose());
            let what = spoilt(&pair, shared, CONSOLE, false);
            problems.extend(what.map(|what| Problem::setting(shared, what)));
        }
        problems
    }

    /// The keys of models.
    fn check_keys(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Some(key) = &self.openai_api_key {
            let is_openai = is_openai(&self.openai_realtime_url);
            let text = key.expose();
            // Another server may accept any word, and assistants may use another provider.
            let needed = is_openai && self.named_providers.is_empty();
            let unlike = is_openai && !text.starts_with("sk-") && !text.starts_with("ek_");
            let name = "OPENAI_API_KEY";
            let what = bearer(text, name).or_else(|| spoilt(text, name, OPENAI, needed));
            let what = what.or_else(|| unlike.then_some(Setting::KeyShape));
            problems.extend(what.map(|what| Problem::setting("OPENAI_API_KEY", what)));
        }
        for provider in &self.named_providers {
            let name = format!("the key of the provider `{}`", provider.name);
            let fix = "set the variable that its `key` in switchboard.yaml names";
            let check = |text| match provider.auth {
                Auth::Bearer => bearer(text, &name).or_else(|| spoilt(text, &name, fix, false)),
                Auth::Header(_) => spoilt(text, &name, fix, false),
            };
            let what = provider.key.as_ref().and_then(|key| check(key.expose()));
            problems.extend(what.map(|what| Problem::file(FILE, what)));
        }
        problems
    }
}

/// Whether this is OpenAI itself: other servers may accept any word as a key.
fn is_openai(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| url.host_str().is_some_and(|host| host.ends_with("openai.com")))
}

/// What is wrong with a secret that is sent, or asked for, behind the word `Bearer`.
fn bearer(text: &str, name: &str) -> Option<Setting> {
    let scheme = secret::scheme(text)?;
    Some(Setting::SchemeTwice { name: name.to_owned(), scheme })
}

/// What is wrong with any secret that looks like this: it was not copied exactly, or never replaced. `needed`: no call
/// can be answered with a placeholder.
fn spoilt(text: &str, name: &str, fix: &'static str, needed: bool) -> Option<Setting> {
    let name = name.to_owned();
    if is_placeholder(text) {
        return Some(match needed {
            true => Setting::Placeholder { name, fix },
            false => Setting::UnusedPlaceholder { name, fix },
        });
    }
    if text.starts_with(['"', '\'', '`', '“', '„', '‘', '’'])
        || text.ends_with(['"', '\'', '`', '”', '“', '‘', '’'])
    {
        return Some(Setting::Quoted { name });
    }
    if text.chars().any(char::is_whitespace) {
        return Some(Setting::Whitespace { name, fix });
    }
    (!text.is_ascii()).then_some(Setting::NotAscii { name, fix })
}

/// Whether a value comes from an example. Its words must stand alone: a long key may contain any of them by chance.
fn is_placeholder(text: &str) -> bool {
    let lower = text.to_lowercase();
    let parts: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).collect();
    let is_word = |part: &&str| {
        matches!(*part, "changeme" | "placeholder" | "example" | "replace" | "replaceme" | "todo")
            || (part.starts_with("your") && part.len() <= 16)
            || (part.len() >= 4 && part.bytes().all(|byte| byte == b'x'))
    };
    text.contains(['…', '<', '>', '*', '•'])
        || text.contains("...")
        || text.contains("${")
        || parts.iter().any(is_word)
        || parts.windows(2).any(|pair| pair == ["change", "me"])
}

fn is_sid(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|digits| is_hex(digits, 32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::{self, Severity};
    use crate::settings::Sources;
    use crate::yaml::SourceFile;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn check(file: Option<&str>, variables: &[(&str, &str)]) -> Vec<Problem> {
        let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let file = file.map(|text| SourceFile::new(FILE, text));
        Settings::read(&Sources { file, environment: environment.collect() }).0.check_secrets()
    }

    #[test]
    fn secrets_are_checked_by_their_shape_and_never_shown() {
        let (sid, key) = (format!("AC{TOKEN}"), format!("SK{TOKEN}"));
        let (twice, quoted, upper) =
            (format!("{TOKEN}{TOKEN}"), format!("\"{TOKEN}\""), TOKEN.to_uppercase());
        let (one_bad, sid_and_token) = (format!("{TOKEN},hunter2"), format!("{sid},{TOKEN}"));
        const PLACEHOLDER: &str = "setting.placeholder";
        const SHAPE: &str = "setting.secret";
        for (name, value, expected) in [
            ("OPENAI_API_KEY", "sk-…", Some((PLACEHOLDER, Severity::Error))),
            ("OPENAI_API_KEY", "sk-xxxxxxxx", Some((PLACEHOLDER, Severity::Error))),
            ("OPENAI_API_KEY", "your-key-here", Some((PLACEHOLDER, Severity::Error))),
            ("OPENAI_API_KEY", "“sk-…”", Some((PLACEHOLDER, Severity::Error))),
            ("OPENAI_API_KEY", "sk-proj-A1_b2", None),
            ("OPENAI_API_KEY", "sk-A1tODo2yOur", None),
            ("OPENAI_API_KEY", "“sk-proj-A1”", Some((SHAPE, Severity::Warning))),
            ("OPENAI_API_KEY", "sk-proj A1", Some((SHAPE, Severity::Warning))),
            ("OPENAI_API_KEY", "hunter2", Some((SHAPE, Severity::Warning))),
            ("TWILIO_AUTH_TOKEN", TOKEN, None),
            ("TWILIO_AUTH_TOKEN", "…", Some((PLACEHOLDER, Severity::Error))),
            ("TWILIO_AUTH_TOKEN", &sid, Some((SHAPE, Severity::Error))),
            ("TWILIO_AUTH_TOKEN", &sid_and_token, Some((SHAPE, Severity::Warning))),
            ("TWILIO_AUTH_TOKEN", &twice, Some((SHAPE, Severity::Warning))),
            ("TWILIO_AUTH_TOKEN", &quoted, Some((SHAPE, Severity::Warning))),
            ("TWILIO_AUTH_TOKEN", &upper, Some((SHAPE, Severity::Warning))),
            ("TWILIO_AUTH_TOKEN", &one_bad, Some((SHAPE, Severity::Warning))),
            ("TWILIO_ACCOUNT_SID", &key, Some((SHAPE, Severity::Warning))),
            ("TWILIO_ACCOUNT_SID", "AC…", Some((PLACEHOLDER, Severity::Warning))),
            ("TWILIO_API_KEY", &key, Some((SHAPE, Severity::Warning))),
            ("TWILIO_API_SECRET", "hunter2", Some((SHAPE, Severity::Warning))),
            ("METRICS_TOKEN", "hunter2", Some((SHAPE, Severity::Warning))),
            ("METRICS_TOKEN", "\"hunter2-hunter2-hunter2\"", Some((SHAPE, Severity::Warning))),
            ("METRICS_TOKEN", "bearer hunter2-hunter2", Some((SHAPE, Severity::Error))),
            ("API_TOKEN", "hunter2", Some((SHAPE, Severity::Warning))),
            ("API_TOKEN", "hunter2-hunter2-hunter2", None),
            ("CONSOLE_PASSWORD", "hunter2", Some((SHAPE, Severity::Warning))),
            ("CONSOLE_PASSWORD", "hunter2 and more", None),
            ("ASSISTANTS_TOKEN", "BEARER hunter2", Some((SHAPE, Severity::Error))),
            ("ASSISTANTS_TOKEN", "'hunter2'", Some((SHAPE, Severity::Warning))),
            ("ASSISTANTS_TOKEN", "hunter2", None),
            ("OPENAI_API_KEY", "Bearer sk-proj-A1", Some((SHAPE, Severity::Error))),
            ("TWILIO_SHARED_KEYS", "\"id=hunter2\"", Some((SHAPE, Severity::Warning))),
            ("SMTP_URL", "smtps://me:…@mail.example.com", Some((PLACEHOLDER, Severity::Warning))),
            ("SMTP_URL", "smtps://me:hunter2@mail.example.com", None),
        ] {
            let found = check(None, &[(name, value)]);
            let got = found.first().map(|problem| (problem.code(), problem.severity()));
            assert_eq!(got, expected, "{name}={value}: {found:?}");
            assert!(found.len() < 2 && found.iter().all(|problem| problem.of_setting() == Some(name)));
            assert!(!problem::plain(&found).contains(value), "{value} is shown: {found:?}");
        }
    }

    #[test]
    fn a_key_may_be_any_word_if_another_model_answers() {
        let elsewhere = [("OPENAI_API_KEY", "placeholder"), ("OPENAI_REALTIME_URL", "ws://127.0.0.1:9")];
        let file = "providers: { lan: { url: \"wss://voice.example.com\", key: placeholder } }";
        for found in [check(None, &elsewhere), check(Some(file), &[("OPENAI_API_KEY", "sk-…")])] {
            assert!(!found.is_empty() && found.iter().all(|problem| !problem.is_error()), "{found:?}");
        }
        assert!(check(None, &[("OPENAI_API_KEY", "any"), elsewhere[1]]).is_empty());
    }
}
