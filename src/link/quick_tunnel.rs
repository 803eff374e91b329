//! The addresses of cloudflared's quick tunnels.

const DOMAIN: &str = ".trycloudflare.com";

/// Whether a URL leads through a quick tunnel.
pub fn is_tunnel(url: &str) -> bool {
    address(url).is_some_and(|tunnel| url.starts_with(&tunnel))
}

/// The address in a line of cloudflared's log, such as `INF |  https://four-random-words-here.trycloudflare.com  |`.
pub fn address(line: &str) -> Option<String> {
    line.match_indices("https://").find_map(|(at, scheme)| {
        let rest = &line[at + scheme.len()..];
        let is_host = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.');
        let host = &rest[..rest.find(|letter| !is_host(letter)).unwrap_or(rest.len())];
        let name = host.strip_suffix(DOMAIN)?;
        // cloudflared requests a tunnel from `api`.
        (!name.is_empty() && !name.contains('.') && name != "api").then(|| format!("https://{host}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_address_of_a_quick_tunnel_is_found() {
        for (line, expected) in [
            ("INF |  https://a-b-c.trycloudflare.com  |", Some("https://a-b-c.trycloudflare.com")),
            ("https://x1.trycloudflare.com/path", Some("https://x1.trycloudflare.com")),
            (
                "see https://www.cloudflare.com/website-terms/ https://a.trycloudflare.com",
                Some("https://a.trycloudflare.com"),
            ),
            ("Post \"https://api.trycloudflare.com/tunnel\": dial tcp", None),
            ("https://trycloudflare.com", None),
            ("https://.trycloudflare.com", None),
            ("https://a.b.trycloudflare.com", None),
            ("https://a.trycloudflare.com.example.com", None),
            ("http://a.trycloudflare.com", None),
            ("https://é.trycloudflare.com", None),
        ] {
            assert_eq!(address(line).as_deref(), expected, "{line}");
        }
        assert!(is_tunnel("https://a.trycloudflare.com/incoming-call"));
        assert!(!is_tunnel("https://example.com/?to=https://a.trycloudflare.com"));
    }
}
