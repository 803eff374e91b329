//! Whether secrets look as such things look, judged by their signs alone. None is shown.

use url::Url;

use super::{FILE, PROVIDERS, Settings};
use crate::problem::Problem;

/// A secret that does not look as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OddSecret {
    /// Its setting; `providers` for the key of one that is named there.
    pub setting: &'static str,
    /// Begins with the name.
    pub message: String,
    pub help: &'static str,
    /// No call can be answered with it: it only holds the place of a value, or it is another one.
    pub hopeless: bool,
    /// Calls may work all the same: others can do in its place, or it is not used for them.
    pub harmless: bool,
}

impl OddSecret {
    /// An error where it is hopeless, else a warning; `settings` are those that have it.
    pub fn problem(&self, settings: &Settings) -> Problem {
        let in_file = self.setting == PROVIDERS || settings.in_file.contains(self.setting);
        let place = if in_file { FILE } else { "environment" };
        let problem = Problem::about(place, "setting.secret", &*self.message).help(self.help);
        if self.hopeless { problem } else { problem.into_warning() }
    }
}

const CONSOLE: &str = "copy it again from the start page of Twilio's console, without spaces and quotes";

impl Settings {
    /// The secrets that do not look as they should.
    pub fn odd_secrets(&self) -> Vec<OddSecret> {
        let mut found = Vec::new();
        self.odd_tokens(&mut found);
        self.odd_account(&mut found);
        self.odd_keys(&mut found);
        if self.metrics_token.as_ref().is_some_and(|token| token.expose().len() < 16) {
            found.push(OddSecret {
                setting: "METRICS_TOKEN",
                message: "METRICS_TOKEN is short: it can be guessed".to_owned(),
                help: "set it to what `openssl rand -hex 24` prints",
                hopeless: false,
                harmless: true,
            });
        }
        found
    }

    fn odd_tokens(&self, found: &mut Vec<OddSecret>) {
        let tokens = &self.twilio_auth_tokens;
        let is_none = |text: &str| stands_for_another(text) || is_sid(text, "AC") || is_sid(text, "SK");
        // Another of them may be Twilio's.
        let hopeless = tokens.iter().all(|token| is_none(token.expose()));
        let first = found.len();
        for (at, token) in tokens.iter().enumerate() {
            let which = match tokens.len() {
                1 => "TWILIO_AUTH_TOKEN".to_owned(),
                _ => format!("TWILIO_AUTH_TOKEN, entry {},", at + 1),
            };
            let text = token.expose();
            let why = if let Some(why) = spoilt(text) {
                why.to_owned()
            } else if text.starts_with("AC") || text.starts_with("SK") {
                "is a SID: the token stands below it".to_owned()
            } else if self.twilio_api_secret.as_ref() == Some(token) {
                "is the secret of the API key: that one signs no webhooks".to_owned()
            } else if !is_hex(text, 32) {
                let size = size(text);
                format!("is not an auth token: one has 32 digits and letters a to f, and this has {size}")
            } else {
                continue;
            };
            let message = format!("{which} {why}");
            let odd =
                OddSecret { setting: "TWILIO_AUTH_TOKEN", message, help: CONSOLE, hopeless, harmless: false };
            found.push(odd);
        }
        let harmless = found.len() - first < tokens.len();
        found[first..].iter_mut().for_each(|odd| odd.harmless = harmless);
    }

    /// What the account is looked at with.
    fn odd_account(&self, found: &mut Vec<OddSecret>) {
        let mut odd = |setting: &'static str, why: &str, help: &'static str| {
            let message = format!("{setting} {why}");
            found.push(OddSecret { setting, message, help, hopeless: false, harmless: false });
        };
        for (name, value, prefix) in [
            ("TWILIO_ACCOUNT_SID", &self.twilio_account_sid, "AC"),
            ("TWILIO_API_KEY", &self.twilio_api_key, "SK"),
        ] {
            let Some(text) = value.as_ref().filter(|text| !is_sid(text, prefix)) else { continue };
            match spoilt(text) {
                Some(why) => odd(name, why, CONSOLE),
                None => {
                    let why = format!("must be `{prefix}` and 32 digits and letters a to f, and is not");
                    odd(name, &why, CONSOLE);
                }
            }
        }
        match (&self.twilio_api_key, &self.twilio_api_secret) {
            (Some(_), None) => odd(
                "TWILIO_API_KEY",
                "is set, and TWILIO_API_SECRET is not: the auth token is used in their place",
                "set both: a key's secret is shown once, when it is made in Twilio's console",
            ),
            (None, Some(_)) => odd(
                "TWILIO_API_SECRET",
                "is set, and TWILIO_API_KEY is not: the auth token is used in their place",
                "set TWILIO_API_KEY to the SID of that key: SK…",
            ),
            (Some(_), Some(secret)) => {
                if let Some(why) = spoilt(secret.expose()) {
                    let help = "make a new key in Twilio's console, and copy its secret";
                    odd("TWILIO_API_SECRET", why, help);
                }
            }
            (None, None) => {}
        }
    }

    /// The keys of models.
    fn odd_keys(&self, found: &mut Vec<OddSecret>) {
        if let Some(key) = &self.openai_api_key {
            let ours = is_openai(&self.openai_realtime_url);
            let text = key.expose();
            let why = spoilt(text).or_else(|| {
                let unlike = ours && !text.starts_with("sk-") && !text.starts_with("ek_");
                unlike.then_some("does not begin with `sk-`, as OpenAI's keys do")
            });
            if let Some(why) = why {
                // Elsewhere any word may do, and assistants may use another provider.
                let harmless = !ours || !self.named_providers.is_empty();
                found.push(OddSecret {
                    setting: "OPENAI_API_KEY",
                    message: format!("OPENAI_API_KEY {why}"),
                    help: "make a key at https://platform.openai.com/api-keys, and copy it whole, without quotes",
                    hopeless: !harmless && stands_for_another(text),
                    harmless,
                });
            }
        }
        for provider in &self.named_providers {
            if let Some(why) = provider.key.as_ref().and_then(|key| spoilt(key.expose())) {
                found.push(OddSecret {
                    setting: PROVIDERS,
                    message: format!("the key of the provider `{}` {why}", provider.name),
                    help: "set the variable that its `key` in switchboard.yaml names",
                    hopeless: false,
                    harmless: !is_openai(&provider.url),
                });
            }
        }
    }
}

/// Whether OpenAI itself is asked: others may take any word for a key.
fn is_openai(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| url.host_str().is_some_and(|host| host.ends_with("openai.com")))
}

/// What is wrong with any secret that looks so: it was not copied as it is, or never replaced.
fn spoilt(text: &str) -> Option<&'static str> {
    if stands_for_another(text) {
        return Some("only holds the place of a value: nobody has put the real one there");
    }
    if text.starts_with(['"', '\'', '`', '“', '„', '‘', '’'])
        || text.ends_with(['"', '\'', '`', '”', '“', '‘', '’'])
    {
        return Some("has quotes around it that belong to the file, not to the value");
    }
    if text.chars().any(char::is_whitespace) {
        return Some("has a space or a line break in it");
    }
    if !text.is_ascii() {
        return Some("has a sign in it that no such value has");
    }
    None
}

/// Whether a value is an example's. Its words stand alone: in a long key each of them may come by chance.
fn stands_for_another(text: &str) -> bool {
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

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// What may be told of a secret's length.
fn size(text: &str) -> String {
    match text.chars().count() {
        32 => "32 signs, with others among them".to_owned(),
        1 => "1 sign".to_owned(),
        count => format!("{count} signs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Sources;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    /// Each odd secret with whether it is hopeless.
    fn odd(file: Option<&str>, variables: &[(&str, &str)]) -> Vec<(String, bool)> {
        let environment =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let file = file.map(|text| crate::yaml::SourceFile::new("switchboard.yaml", text));
        let settings = Settings::read(&Sources { file, environment }).unwrap();
        settings.odd_secrets().into_iter().map(|odd| (odd.message, odd.hopeless)).collect()
    }

    #[test]
    fn what_can_answer_no_call_is_told_from_what_is_odd() {
        let sid = format!("AC{TOKEN}");
        let (twice, quoted) = (format!("{sid},{TOKEN}"), format!("“{TOKEN}”"));
        let none = format!("{sid},…");
        for (name, value, hopeless) in [
            ("OPENAI_API_KEY", "sk-…", Some(true)),
            ("OPENAI_API_KEY", "sk-xxxxxxxx", Some(true)),
            ("OPENAI_API_KEY", "your_api_key", Some(true)),
            ("OPENAI_API_KEY", "“sk-…”", Some(true)),
            ("OPENAI_API_KEY", "sk-proj-A1_b2", None),
            ("OPENAI_API_KEY", "sk-A1tODo2yOur", None),
            ("OPENAI_API_KEY", "“sk-proj-A1”", Some(false)),
            ("OPENAI_API_KEY", "‘sk-proj-A1’", Some(false)),
            ("OPENAI_API_KEY", "sk-proj A1", Some(false)),
            ("OPENAI_API_KEY", "hunter2", Some(false)),
            ("TWILIO_AUTH_TOKEN", TOKEN, None),
            ("TWILIO_AUTH_TOKEN", "…", Some(true)),
            ("TWILIO_AUTH_TOKEN", &sid, Some(true)),
            ("TWILIO_AUTH_TOKEN", &none, Some(true)),
            ("TWILIO_AUTH_TOKEN", &twice, Some(false)),
            ("TWILIO_AUTH_TOKEN", &quoted, Some(false)),
            ("TWILIO_AUTH_TOKEN", "hunter2", Some(false)),
            ("TWILIO_ACCOUNT_SID", TOKEN, Some(false)),
            ("TWILIO_ACCOUNT_SID", "AC…", Some(false)),
        ] {
            let found = odd(None, &[(name, value)]);
            assert_eq!(found.first().map(|(_, hopeless)| *hopeless), hopeless, "{value}: {found:?}");
            assert!(found.iter().all(|(message, _)| message.starts_with(name)), "{found:?}");
            assert!(found.iter().all(|(message, _)| !message.contains(value)), "{found:?}");
        }
    }

    #[test]
    fn where_another_model_answers_the_key_may_be_any() {
        let elsewhere = [("OPENAI_API_KEY", "placeholder"), ("OPENAI_REALTIME_URL", "ws://127.0.0.1:9")];
        assert!(odd(None, &elsewhere).iter().all(|(_, hopeless)| !hopeless));
        let file = "providers: { house: { url: \"wss://voice.example.com\" } }";
        assert!(odd(Some(file), &[("OPENAI_API_KEY", "sk-…")]).iter().all(|(_, hopeless)| !hopeless));
    }
}
