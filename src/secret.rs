//! Secrets (keys, tokens, passwords) and personal data, neither of which may be logged.
//!
//! A secret prints as `•••`, is wiped from memory when dropped, and is compared in constant time.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;
use std::ops::Range;

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

/// A key, token or password.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(SecretString::from(text.into()))
    }

    /// The secret itself, for the one place that sends it or verifies with it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl PartialEq for Secret {
    /// Takes a time that depends only on the lengths.
    fn eq(&self, other: &Secret) -> bool {
        self.expose().as_bytes().ct_eq(other.expose().as_bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("•••")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("•••")
    }
}

/// How keys begin, of those that say so, and whose they are.
const PREFIXES: [(&str, &str); 12] = [
    ("sk-", "an API key"),
    ("ek_", "a client secret of OpenAI"),
    ("xai-", "an API key of xAI"),
    ("sk_live_", "a key of Stripe"),
    ("rk_live_", "a key of Stripe"),
    ("whsec_", "the secret of a webhook"),
    ("github_pat_", "a token of GitHub"),
    ("ghp_", "a token of GitHub"),
    ("glpat-", "a token of GitLab"),
    ("xoxb-", "a token of Slack"),
    ("AIza", "an API key of Google"),
    ("AKIA", "an access key of AWS"),
];
/// The shortest of them: any shorter text is a placeholder.
const SHORTEST: usize = 20;

/// The keys that stand in a text, each with what it seems to be. They are recognized by their shape.
pub fn in_text(text: &str) -> impl Iterator<Item = (Range<usize>, &'static str)> {
    let of_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let mut from = 0;
    std::iter::from_fn(move || {
        let start = from + text[from..].find(of_key)?;
        let len = text[start..].find(|c| !of_key(c)).unwrap_or(text.len() - start);
        from = start + len;
        Some(start..from)
    })
    .filter_map(|at| Some((at.clone(), shape(&text[at])?)))
}

/// What a word seems to be, if it looks like a key.
fn shape(word: &str) -> Option<&'static str> {
    let random = |word: &str| {
        word.bytes().any(|b| b.is_ascii_digit()) && word.bytes().any(|b| b.is_ascii_alphabetic())
    };
    if is_hex(word, 32) && random(word) {
        return Some("an auth token of Twilio");
    }
    let (prefix, what) = PREFIXES.iter().find(|(prefix, _)| word.starts_with(prefix))?;
    (word.len() >= SHORTEST && random(&word[prefix.len()..])).then_some(what)
}

/// The scheme, such as `Bearer`, that a token begins with. It must not: the program adds one itself.
pub fn scheme(token: &str) -> Option<&'static str> {
    let (word, _) = token.trim().split_once(char::is_whitespace)?;
    ["Bearer", "Basic"].into_iter().find(|scheme| scheme.eq_ignore_ascii_case(word.trim_end_matches(':')))
}

/// Whether a text has the same quote at both ends and nowhere else. `docker run --env-file` keeps the quotes of its file.
pub fn is_quoted(text: &str) -> bool {
    ['"', '\''].into_iter().any(|quote| {
        let within = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        within.is_some_and(|within| !within.contains(quote))
    })
}

/// Whether a text is this many hex digits in lower case.
pub fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Personal data, such as what somebody said. It prints as its length only.
#[derive(Clone, PartialEq, Eq)]
pub struct Private(String);

impl Private {
    /// The text itself, for the model and for the owner in a rehearsal. Never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn push_str(&mut self, more: &str) {
        self.0.push_str(more);
    }
}

impl From<String> for Private {
    fn from(text: String) -> Private {
        Private(text)
    }
}

impl fmt::Debug for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} characters)", self.0.chars().count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_by_their_shape() {
        let (key, hex) = (format!("sk-proj-{}", "Ab1_".repeat(12)), "0123456789abcdef".repeat(2));
        let text = format!("key: \"{key}\", éé {hex}. task-{} {hex}0", "0a".repeat(12));
        let found: Vec<&str> = in_text(&text).map(|(at, _)| &text[at]).collect();
        assert_eq!(found, [key.as_str(), &hex]);
        for text in
            ["sk-…", "sk-proj-your-key-goes-here", "sk-1234", "whsec_", &"0".repeat(32), &"é".repeat(40)]
        {
            assert_eq!(in_text(text).count(), 0, "{text}");
        }
    }

    #[test]
    fn a_secret_is_hidden_and_can_be_compared() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "••• ••• Some(•••)");
        assert_eq!(secret, Secret::new("hunter2"));
        assert_ne!(secret, Secret::new("hunter3"));
        assert_ne!(secret, Secret::new("hunter"));
        assert_eq!(secret.clone().expose(), "hunter2");
    }
}
