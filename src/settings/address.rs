//! Addresses, read more strictly than a browser does: it mends what would stay wrong in the text, which is what goes
//! out to others.

use url::Url;

/// An address with one of these schemes, or what is wrong with it. That is told without the text.
pub(super) fn parse(text: &str, schemes: &[&str]) -> Result<Url, String> {
    let starts = schemes.iter().map(|scheme| format!("{scheme}://")).collect::<Vec<_>>().join(" or ");
    if text.contains(['…', '<', '>', '•']) || text.contains("//...") || text.ends_with("...") {
        return Err("only holds the place of an address: write the real one there".to_owned());
    }
    if text.chars().any(char::is_whitespace) {
        return Err("has a space in it".to_owned());
    }
    if text.contains('\\') {
        return Err("has a backslash in it: an address has slashes".to_owned());
    }
    let lower = text.to_ascii_lowercase();
    let scheme = schemes.iter().find(|scheme| lower.starts_with(&format!("{scheme}:")));
    let behind = scheme.map(|scheme| &text[scheme.len() + 1..]);
    match (behind, Url::parse(text)) {
        (None, Ok(_)) => Err(format!("must start with {starts}")),
        (None, Err(_)) => Err(format!("is not a URL; it starts with {starts}")),
        (Some(behind), _) if !behind.starts_with("//") => {
            Err(format!("must start with {starts}, with two slashes"))
        }
        (Some(behind), _) if behind.starts_with("///") => {
            Err("has more than two slashes at its start".to_owned())
        }
        (Some(_), Err(url::ParseError::EmptyHost)) => Err("names no host".to_owned()),
        (Some(_), Err(error)) => Err(format!("is not a URL: {error}")),
        (Some(_), Ok(url)) if url.host().is_none() => Err("names no host".to_owned()),
        (Some(_), Ok(url)) => Ok(url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_an_address_is_said() {
        for (text, told) in [
            ("https://phone.example.com", ""),
            ("HTTPS://phone.example.com/sub//path", ""),
            ("http://[::1]:5050", ""),
            ("https:/phone.example.com", "must start with https:// or http://, with two slashes"),
            ("https:phone.example.com", "must start with https:// or http://, with two slashes"),
            ("https:///phone.example.com", "has more than two slashes at its start"),
            ("https:\\\\phone.example.com", "has a backslash in it: an address has slashes"),
            ("https://phone.example.com wrong", "has a space in it"),
            ("https://phone.exa\tmple.com", "has a space in it"),
            ("https://…", "only holds the place of an address: write the real one there"),
            ("https://...", "only holds the place of an address: write the real one there"),
            ("https://example.com/a...b.tar.gz", ""),
            ("https://<your host>", "only holds the place of an address: write the real one there"),
            ("https://phone.example.com:port", "is not a URL: invalid port number"),
            ("https://", "names no host"),
            ("https://?x", "names no host"),
            ("phone.example.com", "is not a URL; it starts with https:// or http://"),
            ("phone.example.com:443", "must start with https:// or http://"),
            ("wss://phone.example.com", "must start with https:// or http://"),
        ] {
            let found = parse(text, &["https", "http"]);
            assert_eq!(found.err().unwrap_or_default(), told, "{text}");
        }
    }
}
