//! Who may ask the console anything: whether it is on, under which addresses, and what the browser may do with the
//! answer.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use url::{Host, Url};

use super::Console;
use super::attempts::Attempts;
use super::keys::{Keys, OneTimeLink};
use crate::secret::Secret;
use crate::settings::Settings;

/// Headers of proxies. What comes through one does not come from this machine.
const FORWARDED: [&str; 6] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "cf-connecting-ip", "fly-client-ip"];
/// Fly's proxy names the client here, and takes away what the client sent.
const FLY_CLIENT: &str = "fly-client-ip";

/// What a request is allowed, besides its session.
pub struct Gate {
    pub access: Access,
    pub keys: Keys,
    pub attempts: Attempts,
    /// The origins that are ours, such as `https://phone.example.com`, without those of this machine.
    origins: Vec<String>,
    /// The addresses that they are of.
    bases: Vec<String>,
    on_fly: bool,
    pub api_token: Option<Secret>,
}

/// How one gets in.
pub enum Access {
    /// There is no console.
    Off,
    Password(Secret),
    /// By a link that works once, from this machine.
    Link(OneTimeLink),
}

/// The address under which the browser asks, such as `https` and `phone.example.com`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub authority: String,
    pub is_loopback: bool,
}

impl Gate {
    pub fn new(settings: &Settings, link: Option<OneTimeLink>) -> Self {
        let access = match (&settings.console_password, link) {
            (Some(password), _) => Access::Password(password.clone()),
            (None, Some(link)) => Access::Link(link),
            (None, None) => Access::Off,
        };
        let keys = match (&access, settings.twilio_auth_tokens.first()) {
            (Access::Password(password), Some(token)) => Keys::new(token, password),
            _ => Keys::random(),
        };
        let urls = settings.public_url.iter().chain(&settings.fly_url);
        let origin = |url: &String| Some((Url::parse(url).ok()?.origin().ascii_serialization(), url.clone()));
        let (origins, bases) = urls.filter_map(origin).unzip();
        Self {
            access,
            keys,
            attempts: Attempts::default(),
            origins,
            bases,
            on_fly: settings.on_fly(),
            api_token: settings.api_token.clone(),
        }
    }

    /// The address that the request names, if it is one of ours. A page of somebody else whose name leads to this machine
    /// names another.
    pub fn address(&self, headers: &HeaderMap) -> Option<Address> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next()?.to_str().ok()?;
        if hosts.next().is_some() {
            return None;
        }
        // What it is made of goes into a header.
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        if !host.bytes().all(fits) {
            return None;
        }
        let authority = host.to_ascii_lowercase();
        let is_loopback = is_loopback(&authority);
        let is_ours = self.origins.iter().any(|origin| is_of(origin, &authority));
        let may = match self.access {
            Access::Off => false,
            Access::Password(_) => is_loopback || is_ours,
            Access::Link(_) => is_loopback && !FORWARDED.iter().any(|name| headers.contains_key(*name)),
        };
        may.then_some(Address { authority, is_loopback })
    }

    /// The origin of a request that changes something: a page of the address that it names.
    pub fn origin(&self, headers: &HeaderMap, address: &Address) -> Option<String> {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let origin = origins.next()?.to_str().ok()?.to_ascii_lowercase();
        let is_single = origins.next().is_none();
        let is_ours = address.is_loopback || self.origins.contains(&origin);
        (is_single && is_ours && is_of(&origin, &address.authority)).then_some(origin)
    }

    /// The address of the server behind an origin of ours: it may have a path.
    pub fn base<'a>(&'a self, origin: &'a str) -> &'a str {
        let ours = self.origins.iter().position(|ours| ours == origin);
        ours.map_or(origin, |at| self.bases[at].as_str())
    }

    /// Whose attempts count together.
    pub fn client(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Option<IpAddr> {
        let named = headers.get(FLY_CLIENT).filter(|_| self.on_fly);
        named.and_then(|name| name.to_str().ok()?.parse().ok()).or(peer)
    }
}

/// Whether an origin has this authority, with or without the usual port.
fn is_of(origin: &str, authority: &str) -> bool {
    let (rest, port) = match origin.split_once("://") {
        Some(("https", rest)) => (rest, ":443"),
        Some(("http", rest)) => (rest, ":80"),
        _ => return false,
    };
    rest == authority || authority.strip_suffix(port) == Some(rest)
}

/// Whether an authority is a name or address of this machine for itself, on any port.
fn is_loopback(authority: &str) -> bool {
    let Ok(url) = Url::parse(&format!("http://{authority}/")) else { return false };
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Refuses what does not come from our own pages, and gives every answer its headers.
pub async fn guarded(State(console): State<Arc<Console>>, mut request: Request, next: Next) -> Response {
    let gate = &console.gate;
    let Some(address) = gate.address(request.headers()) else {
        return match gate.access {
            Access::Password(_) => {
                let text = "The console answers under PUBLIC_URL, and on this machine under localhost.\n";
                secured((StatusCode::FORBIDDEN, text).into_response(), None)
            }
            Access::Off | Access::Link(_) => StatusCode::NOT_FOUND.into_response(),
        };
    };
    let changes = ![Method::GET, Method::HEAD].contains(request.method());
    let origin = gate.origin(request.headers(), &address);
    if changes && origin.is_none() {
        return secured((StatusCode::FORBIDDEN, "Forbidden\n").into_response(), Some(&address));
    }
    request.extensions_mut().insert(address.clone());
    request.extensions_mut().insert(Origin(origin));
    secured(next.run(request).await, Some(&address))
}

/// The origin of the page that asks, if it was named and is ours.
#[derive(Debug, Clone)]
pub struct Origin(pub Option<String>);

/// The answer with the headers that keep a browser to our own files.
fn secured(mut answer: Response, address: Option<&Address>) -> Response {
    let sockets = address.map(|address| {
        let scheme = if address.is_loopback { "ws://" } else { "wss://" };
        format!(" {scheme}{0}{1}", address.authority, secure_too(address))
    });
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; \
         worker-src 'self'; connect-src 'self'{}; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        sockets.unwrap_or_default()
    );
    let headers = answer.headers_mut();
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Without any, the browser would not say where a form comes from.
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "microphone=(self), camera=(), geolocation=()"),
        (HeaderName::from_static("x-robots-tag"), "noindex"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    answer
}

/// On this machine a proxy may add TLS.
fn secure_too(address: &Address) -> String {
    if address.is_loopback { format!(" wss://{}", address.authority) } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Sources;

    fn gate(password: bool) -> Gate {
        let mut environment =
            vec![("PUBLIC_URL", "https://Phone.example.com"), ("TWILIO_AUTH_TOKEN", "12345")];
        environment.extend(password.then_some(("CONSOLE_PASSWORD", "a long password")));
        let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings =
            Settings::checked(&Sources { file: None, environment: environment.collect() }).unwrap();
        Gate::new(&settings, (!password).then(OneTimeLink::default))
    }

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn only_our_own_addresses_lead_to_the_console() {
        let gate = gate(true);
        for (host, is_ours) in [
            ("phone.example.com", true),
            ("PHONE.example.com:443", true),
            ("localhost:5050", true),
            ("127.0.0.1:5050", true),
            ("[::1]:5050", true),
            ("phone.example.com:8443", false),
            ("phone.example.com.evil.example", false),
            ("localhost.evil.example", false),
            ("evil.example", false),
            ("192.0.2.1", false),
            ("localhost:5050; script-src *", false),
            ("", false),
        ] {
            assert_eq!(gate.address(&headers(&[("host", host)])).is_some(), is_ours, "{host}");
        }
        assert!(gate.address(&headers(&[])).is_none());
        let two = headers(&[("host", "localhost"), ("host", "evil.example")]);
        assert!(gate.address(&two).is_none());
    }

    #[test]
    fn without_a_password_nothing_but_this_machine_gets_in() {
        let gate = gate(false);
        assert!(gate.address(&headers(&[("host", "localhost:5050")])).is_some());
        assert!(gate.address(&headers(&[("host", "phone.example.com")])).is_none());
        for name in FORWARDED {
            let through = headers(&[("host", "localhost:5050"), (name, "192.0.2.1")]);
            assert!(gate.address(&through).is_none(), "{name}");
        }
    }

    #[test]
    fn a_change_comes_from_a_page_of_the_same_address() {
        let gate = gate(true);
        for (host, origin, is_ours) in [
            ("phone.example.com", "https://phone.example.com", true),
            ("phone.example.com:443", "https://phone.example.com", true),
            ("phone.example.com", "http://phone.example.com", false),
            ("phone.example.com", "https://phone.example.com:8443", false),
            ("phone.example.com", "https://evil.example", false),
            ("phone.example.com", "null", false),
            ("phone.example.com", "http://localhost:5050", false),
            ("localhost:5050", "http://localhost:5050", true),
            ("localhost:5050", "https://localhost:5050", true),
            ("localhost:5050", "http://localhost:6060", false),
            ("localhost:5050", "https://phone.example.com", false),
        ] {
            let address = gate.address(&headers(&[("host", host)])).unwrap();
            let found = gate.origin(&headers(&[("origin", origin)]), &address);
            assert_eq!(found.is_some(), is_ours, "{host} {origin}");
        }
        let address = gate.address(&headers(&[("host", "localhost")])).unwrap();
        assert!(gate.origin(&headers(&[]), &address).is_none());
    }
}
