//! URLs in settings, read more strictly than a browser reads them: a browser repairs a URL, but Twilio is sent the
//! text as it is written.

use url::Url;

use crate::secret;

/// Why a text is not a valid URL. Never shows the text: it may contain a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Invalid {
    #[error("is still a placeholder")]
    Placeholder,
    #[error("has quotes around it; `docker run --env-file` keeps the quotes of its file")]
    Quoted,
    #[error("contains a space")]
    Space,
    #[error("contains a backslash; a URL has slashes")]
    Backslash,
    #[error("must start with {0}")]
    Scheme(String),
    #[error("has more than two slashes after its scheme")]
    Slashes,
    #[error("is not a URL: {0}")]
    Syntax(url::ParseError),
    #[error("has no host")]
    NoHost,
    #[error("must not contain a user name or a password")]
    User,
    #[error("must not contain `?` or `#`")]
    Query,
    #[error("must not end with {0}")]
    OurPath(&'static str),
}

/// A URL with one of these schemes, without a user and a fragment; with a query only if `query`: with one, Twilio's
/// signatures never match.
pub(super) fn parse(text: &str, schemes: &[&str], query: bool) -> Result<Url, Invalid> {
    let starts = || schemes.iter().map(|scheme| format!("{scheme}://")).collect::<Vec<_>>().join(" or ");
    if text.contains(['…', '<', '>', '•']) || text.contains("//...") || text.ends_with("...") {
        return Err(Invalid::Placeholder);
    }
    if secret::is_quoted(text) {
        return Err(Invalid::Quoted);
    }
    if text.chars().any(char::is_whitespace) {
        return Err(Invalid::Space);
    }
    if text.contains('\\') {
        return Err(Invalid::Backslash);
    }
    let lower = text.to_ascii_lowercase();
    let rest = schemes.iter().find_map(|scheme| lower.strip_prefix(&format!("{scheme}://")));
    let Some(rest) = rest else { return Err(Invalid::Scheme(starts())) };
    if rest.starts_with('/') {
        return Err(Invalid::Slashes);
    }
    let url = match Url::parse(text) {
        Ok(url) if url.host().is_some() => url,
        Ok(_) | Err(url::ParseError::EmptyHost) => return Err(Invalid::NoHost),
        Err(error) => return Err(Invalid::Syntax(error)),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Invalid::User);
    }
    match url.fragment().is_some() || (!query && url.query().is_some()) {
        true => Err(Invalid::Query),
        false => Ok(url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_a_browser_would_repair_is_invalid() {
        let scheme = || Err(Invalid::Scheme("https:// or http://".to_owned()));
        for (text, expected) in [
            ("https://phone.example.com", Ok(())),
            ("HTTPS://phone.example.com/sub//path", Ok(())),
            ("http://[::1]:5050", Ok(())),
            ("https://example.com/a...b.tar.gz", Ok(())),
            ("https:/phone.example.com", scheme()),
            ("https:phone.example.com", scheme()),
            ("phone.example.com", scheme()),
            ("phone.example.com:443", scheme()),
            ("wss://phone.example.com", scheme()),
            ("https:///phone.example.com", Err(Invalid::Slashes)),
            ("https:\\\\phone.example.com", Err(Invalid::Backslash)),
            ("\"https://phone.example.com\"", Err(Invalid::Quoted)),
            ("https://phone.example.com wrong", Err(Invalid::Space)),
            ("https://\tphone.example.com", Err(Invalid::Space)),
            ("https://…", Err(Invalid::Placeholder)),
            ("https://...", Err(Invalid::Placeholder)),
            ("https://<your host>", Err(Invalid::Placeholder)),
            ("https://phone.example.com:port", Err(Invalid::Syntax(url::ParseError::InvalidPort))),
            ("https://", Err(Invalid::NoHost)),
            ("https://?x", Err(Invalid::NoHost)),
            ("https://user:hunter2@phone.example.com", Err(Invalid::User)),
            ("https://phone.example.com/?hunter2", Err(Invalid::Query)),
            ("https://phone.example.com/#x", Err(Invalid::Query)),
        ] {
            assert_eq!(parse(text, &["https", "http"], false).map(drop), expected, "{text}");
        }
        assert!(parse("https://phone.example.com/?x", &["https"], true).is_ok());
    }
}
