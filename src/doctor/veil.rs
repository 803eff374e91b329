//! What nobody may see: every secret that the program was given, in the forms in which others send it back.
//!
//! A server may quote what it was sent: as it came, in JSON, in an address, in Base64 as `Basic` has it. Whatever is
//! received is veiled as a whole, before anything is cut out of it: half a secret is known no more.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::Value;
use url::Url;

use crate::problem;
use crate::settings::{Settings, is_secret};

/// What stands in the place of a secret.
const DOTS: &str = "•••";
/// What is shorter, in bytes, may be any word.
const SHORTEST: usize = 6;
/// The least of a secret's beginning that is taken for one, in bytes, where the rest is cut off.
const LEAST: usize = 4;
/// The same where nothing says that it is cut off: what is so long is a secret's, and no word.
const TELLING: usize = 12;

/// All secrets, as they may be quoted. The longest is first: one may be a part of another.
#[derive(Clone, Default)]
pub struct Veil(Vec<Form>);

/// One way to write a secret.
#[derive(Clone, PartialEq, Eq)]
struct Form {
    text: String,
    /// The secret is an address or a path: others begin alike, in whatever form.
    is_place: bool,
}

impl Veil {
    /// Over what the environment and the settings hold.
    pub fn over(environment: &BTreeMap<String, String>, settings: &Settings) -> Veil {
        let mut veil = Veil::default();
        // The shell's word for the folder that it is in.
        let named = environment.iter().filter(|(name, _)| is_secret(name) && *name != "PWD");
        named.for_each(|(_, value)| veil.add(value));
        let secrets = [
            &settings.openai_api_key,
            &settings.twilio_api_secret,
            &settings.assistants_url,
            &settings.assistants_token,
            &settings.metrics_token,
        ];
        let shared = settings.twilio_shared_keys.iter().map(|(_, secret)| secret);
        let keys = settings.named_providers.iter().filter_map(|provider| provider.key.as_ref());
        let all = secrets.into_iter().flatten().chain(&settings.twilio_auth_tokens).chain(shared).chain(keys);
        all.for_each(|secret| veil.add(secret.expose()));
        for url in settings.providers().iter().filter_map(|provider| Url::parse(&provider.url).ok()) {
            let plain = |name: &str| matches!(name, "model" | "api-version" | "deployment");
            let values = url.query_pairs().filter(|(name, _)| !plain(name));
            values.for_each(|(_, value)| veil.add(&value));
        }
        let users = [&settings.twilio_account_sid, &settings.twilio_api_key];
        for user in users.into_iter().flatten() {
            veil.add(user);
            for password in settings.twilio_auth_tokens.iter().chain(&settings.twilio_api_secret) {
                veil.add(&format!("{user}:{}", password.expose()));
            }
        }
        veil
    }

    /// Hides this as well; of a header such as `Bearer …` also what follows the word, and of `Basic …` the password.
    pub fn add(&mut self, secret: &str) {
        let secret = secret.trim();
        self.add_forms(secret);
        // A text of several lines is shown indented, and a list is used one by one.
        secret.lines().chain(secret.split(',')).for_each(|part| self.add_forms(part.trim()));
        if let Some((scheme @ ("Bearer" | "Basic" | "bearer" | "basic"), rest)) = secret.split_once(' ') {
            self.add_forms(rest);
            let login = STANDARD.decode(rest).ok().and_then(|login| String::from_utf8(login).ok());
            if let Some(login) = login.filter(|_| scheme.eq_ignore_ascii_case("basic")) {
                self.add_forms(&login);
                self.add_forms(login.split_once(':').map_or("", |(_, password)| password));
            }
        }
        self.0.sort_by(|Form { text: one, .. }, Form { text: other, .. }| {
            other.len().cmp(&one.len()).then_with(|| one.cmp(other))
        });
        self.0.dedup();
    }

    fn add_forms(&mut self, secret: &str) {
        if secret.len() < SHORTEST {
            return;
        }
        let quoted = Value::from(secret).to_string();
        let quoted = &quoted[1..quoted.len() - 1];
        let escaped: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let forms = [
            secret.to_owned(),
            quoted.to_owned(),
            escaped.replace('+', "%20"),
            escaped,
            STANDARD.encode(secret),
            STANDARD_NO_PAD.encode(secret),
            URL_SAFE.encode(secret),
            URL_SAFE_NO_PAD.encode(secret),
            // A finding has its long numbers starred already.
            problem::masked(secret),
        ];
        let is_place = secret.contains("://") || secret.starts_with('/');
        let forms = forms.into_iter().filter(|text| text.len() >= SHORTEST);
        self.0.extend(forms.map(|text| Form { text, is_place }));
    }

    /// A text without them, nor the beginning of one where somebody cut it with `…`.
    pub fn hide(&self, text: &str) -> String {
        let text = self.hide_whole(text);
        let text = self.0.iter().fold(text, without_stem);
        if !text.contains('…') {
            return text;
        }
        let mut parts: Vec<String> = text.split('…').map(str::to_owned).collect();
        if let Some((_, cut)) = parts.split_last_mut() {
            cut.iter_mut().for_each(|part| *part = self.without_beginning(part));
        }
        parts.join("…")
    }

    /// A text that nobody cut, without them: what only begins like one is left as it is.
    pub fn hide_whole(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, form| text.replace(&form.text, DOTS))
    }

    /// What was received, without them: it may break off anywhere.
    pub fn received(&self, text: &str) -> String {
        self.without_beginning(&self.hide(text))
    }

    /// A text that does not end with the beginning of a secret.
    fn without_beginning(&self, text: &str) -> String {
        // Every address begins alike.
        let texts = self.0.iter().map(|form| form.text.as_str());
        let begun = texts.filter(|form| !form.contains("://")).filter_map(|form| {
            let whole = form.char_indices().map(|(at, _)| at).filter(|at| *at >= LEAST);
            whole.filter(|at| text.ends_with(&form[..*at])).max()
        });
        match begun.max() {
            Some(length) => format!("{}{DOTS}", &text[..text.len() - length]),
            None => text.to_owned(),
        }
    }
}

/// A text without the beginning of a secret, wherever it was cut. Every address and every path begins alike.
fn without_stem(text: String, form: &Form) -> String {
    let Form { text: form, is_place } = form;
    let Some(stem) = form.get(..TELLING).filter(|_| !is_place) else { return text };
    let mut left = text.as_str();
    let mut hidden = String::new();
    while let Some((before, _)) = left.split_once(stem) {
        let rest = &left[before.len()..];
        let cut: usize = rest
            .chars()
            .zip(form.chars())
            .take_while(|(one, other)| one == other)
            .map(|(one, _)| one.len_utf8())
            .sum();
        hidden.push_str(before);
        hidden.push_str(DOTS);
        left = &rest[cut..];
    }
    hidden + left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use crate::settings::Sources;

    const KEY: &str = "sk-proj-a/b+c \"d\"";
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    const OTHER: &str = "fedcba9876543210fedcba9876543210";

    fn veil() -> Veil {
        let sid = format!("AC{TOKEN}");
        let tokens = format!("{TOKEN}, {OTHER}");
        let environment =
            [("OPENAI_API_KEY", KEY), ("TWILIO_AUTH_TOKEN", &tokens), ("TWILIO_ACCOUNT_SID", &sid)];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let settings = Settings::read(&Sources { file: None, environment }).unwrap();
        // As if they stood in the file.
        let others = [("PWD", "/calls"), ("SOME_TOKEN", "error"), ("OTHER_TOKEN", "other-secret")];
        let others = others.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut veil = Veil::over(&others, &settings);
        veil.add(&format!("Basic {}", STANDARD.encode("me:hush-hush")));
        veil.add(Secret::new("Bearer whisper").expose());
        veil
    }

    #[test]
    fn a_secret_is_hidden_in_every_form_in_which_it_may_be_quoted() {
        let veil = veil();
        let basic = STANDARD.encode(format!("AC{TOKEN}:{TOKEN}"));
        for (what, text, hidden) in [
            ("as it is", format!("no {KEY}!"), "no •••!"),
            ("in JSON", format!("{{\"a\":{}}}", Value::from(KEY)), "{\"a\":\"•••\"}"),
            ("in an address", "?k=sk-proj-a%2Fb%2Bc+%22d%22&x".to_owned(), "?k=•••&x"),
            ("in another", "sk-proj-a%2Fb%2Bc%20%22d%22".to_owned(), "•••"),
            ("in Base64", STANDARD.encode(KEY), "•••"),
            (
                "of Basic",
                format!("Authorization: Basic {basic}, you said"),
                "Authorization: Basic •••, you said",
            ),
            ("a second token", format!("<{OTHER}>"), "<•••>"),
            ("in a finding", problem::masked(TOKEN), "•••"),
            ("a tool's header", format!("[{}]", STANDARD.encode("me:hush-hush")), "[•••]"),
            ("a tool's password", "no hush-hush".to_owned(), "no •••"),
            ("a tool's token", "no whisper".to_owned(), "no •••"),
            ("cut", "no sk-proj-a/…, nor fedcba98… here".to_owned(), "no •••…, nor •••… here"),
            ("another program's", "no other-secret".to_owned(), "no •••"),
            (
                "cut without a word, twice",
                "<b>0123456789abcde</b> or 0123456789abcd".to_owned(),
                "<b>•••</b> or •••",
            ),
            ("less of it", "<b>0123456789a</b>".to_owned(), "<b>0123456789a</b>"),
            ("nothing", "model not found".to_owned(), "model not found"),
            ("a word that is no secret", "an error".to_owned(), "an error"),
            ("where this is", "/calls/.env".to_owned(), "/calls/.env"),
        ] {
            assert_eq!(veil.hide(&text), hidden, "{what}");
        }
    }

    #[test]
    fn what_breaks_off_in_the_middle_of_a_secret_shows_no_part_of_it() {
        let veil = veil();
        for (text, hidden) in [
            ("wrong: sk-proj-a/b", "wrong: •••"),
            ("wrong: 0123456789abcdef0123456789abcde", "wrong: •••"),
            ("wrong: sk-", "wrong: sk-"),
            ("wrong", "wrong"),
            ("", ""),
        ] {
            assert_eq!(veil.received(text), hidden, "{text}");
        }
    }

    #[test]
    fn an_address_like_a_secret_one_is_shown_in_every_form() {
        let mut veil = Veil::default();
        veil.add("https://git.example.com/secret-folder");
        let others =
            "https://git.example.org/a?to=https%3A%2F%2Fgit.example.org&as=aHR0cHM6Ly9naXQuZXhhbXBsZS5vcmc";
        assert_eq!(veil.hide(others), others);
        let same = "?to=https%3A%2F%2Fgit.example.com%2Fsecret-folder&x";
        assert_eq!(veil.hide(same), "?to=•••&x");
        veil.add("0123456789abcdef");
        assert_eq!(veil.hide_whole("0123456789abcdef, 0123456789abc…"), "•••, 0123456789abc…");
    }
}
