//! URLs as Twilio resolves them, and where they lead in a simulation.

use url::Url;

use super::options::PhoneOptions;

/// The parts of a URL that a connection to the server needs.
pub(super) struct Address {
    pub server: String,
    pub host: String,
    pub path: String,
}

impl PhoneOptions {
    /// Where to connect for a URL. Only the public URL's host leads anywhere.
    pub(super) fn address(&self, url: &str) -> Result<Address, String> {
        let target = Url::parse(url).map_err(|error| format!("invalid URL: {error}"))?;
        let public = Url::parse(&self.public_url).map_err(|error| error.to_string())?;
        let secure = |url: &Url| matches!(url.scheme(), "https" | "wss");
        if (target.host(), target.port_or_known_default(), secure(&target))
            != (public.host(), public.port_or_known_default(), secure(&public))
        {
            return Err(format!("no server answers at {}", target.host_str().unwrap_or_default()));
        }
        let server = self.server.strip_prefix("http://").unwrap_or(&self.server);
        let server = server.trim_end_matches('/');
        let server = if server.contains(':') { server.to_owned() } else { format!("{server}:80") };
        // The path is sent as written.
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let rest = rest.split('#').next().unwrap_or_default();
        let split = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, path) = rest.split_at(split);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Address { server, host: host.to_owned(), path })
    }
}

/// Resolves a URL in a document against the document's own URL.
pub(super) fn resolve(base: &str, url: &str) -> String {
    if url.contains("://") {
        return url.to_owned();
    }
    let joined = Url::parse(base).and_then(|base| base.join(url));
    joined.map_or_else(|_| url.to_owned(), String::from)
}
