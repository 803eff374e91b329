//! Proof that a request is Twilio's.
//!
//! Source: Twilio's webhook security page and helper libraries. The signed string is the exact URL, followed by each
//! distinct name and value of a form in order. The code is an HMAC with the account's token (SHA-1) or a shared key
//! (SHA-1 or SHA-256). Every comparison takes constant time.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::secret::Secret;

/// The secrets that Twilio may sign with.
#[derive(Debug, Clone)]
pub struct Keys {
    tokens: Vec<Secret>,
    shared: BTreeMap<String, Secret>,
}

/// Why a request is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the request has no signature")]
    Missing,
    #[error("the signature is not Twilio's")]
    Wrong,
    #[error("the signature names a key or an algorithm that is not configured")]
    UnknownKey,
}

impl Refusal {
    /// The metric's label.
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing => "signature_missing",
            Self::Wrong => "signature_wrong",
            Self::UnknownKey => "signature_key",
        }
    }
}

/// The headers that carry a signature.
#[derive(Debug, Clone, Copy, Default)]
pub struct Signature<'a> {
    /// `X-Twilio-Signature`: base64.
    pub code: Option<&'a str>,
    /// `X-Twilio-Webhooks-Signature-Settings`: `key=…,algorithm=…`. Absent: SHA-1 with the account's token.
    pub settings: Option<&'a str>,
}

/// What is signed with the URL.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    /// A form, decoded once and untrimmed. Empty for GET and for the upgrade.
    Form(&'a [(String, String)]),
    /// Anything else; the URL's query contains its SHA-256 as `bodySHA256`.
    Raw(&'a [u8]),
}

impl Keys {
    /// `tokens` are the account's (two during a rotation). `shared` maps ids to secrets.
    pub fn new(tokens: Vec<Secret>, shared: BTreeMap<String, Secret>) -> Self {
        Self { tokens, shared }
    }

    /// Checks that one of the keys signed one of `urls`, the possible spellings of the requested address.
    ///
    /// # Errors
    /// [`Refusal`]: the request must have no effect.
    pub fn verify(&self, urls: &[String], body: Body<'_>, signature: Signature<'_>) -> Result<(), Refusal> {
        let code = signature.code.ok_or(Refusal::Missing)?;
        let code = STANDARD.decode(code).map_err(|_| Refusal::Wrong)?;
        let candidates = self.candidates(signature.settings)?;
        let form = match body {
            Body::Form(form) => joined(form),
            Body::Raw(raw) => {
                let hash = urls.first().and_then(|url| body_hash(url)).ok_or(Refusal::Wrong)?;
                if !bool::from(hex(&Sha256::digest(raw)).as_bytes().ct_eq(hash.as_bytes())) {
                    return Err(Refusal::Wrong);
                }
                String::new()
            }
        };
        let signed = urls
            .iter()
            .any(|url| candidates.iter().any(|(key, algorithm)| algorithm.verifies(key, url, &form, &code)));
        if signed { Ok(()) } else { Err(Refusal::Wrong) }
    }

    fn candidates(&self, settings: Option<&str>) -> Result<Vec<(&Secret, Algorithm)>, Refusal> {
        let Some(settings) = settings else {
            return Ok(self.tokens.iter().map(|token| (token, Algorithm::Sha1)).collect());
        };
        let mut key = None;
        let mut algorithm = None;
        for pair in settings.split(',') {
            match pair.trim().split_once('=') {
                Some(("key", id)) => key = self.shared.get(id),
                Some(("algorithm", "HMAC_SHA256")) => algorithm = Some(Algorithm::Sha256),
                Some(("algorithm", "HMAC_SHA1")) => algorithm = Some(Algorithm::Sha1),
                _ => return Err(Refusal::UnknownKey),
            }
        }
        Ok(vec![key.zip(algorithm).ok_or(Refusal::UnknownKey)?])
    }
}

#[derive(Clone, Copy)]
enum Algorithm {
    Sha1,
    Sha256,
}

impl Algorithm {
    fn verifies(self, key: &Secret, url: &str, form: &str, code: &[u8]) -> bool {
        fn check<M: Mac + KeyInit>(key: &Secret, url: &str, form: &str, code: &[u8]) -> bool {
            let mut mac = <M as KeyInit>::new_from_slice(key.expose().as_bytes())
                .expect("HMAC takes a key of any length");
            mac.update(url.as_bytes());
            mac.update(form.as_bytes());
            mac.verify_slice(code).is_ok()
        }
        match self {
            Self::Sha1 => check::<Hmac<Sha1>>(key, url, form, code),
            Self::Sha256 => check::<Hmac<Sha256>>(key, url, form, code),
        }
    }
}

/// The SHA-1 code that Twilio sends with a form to `url`, for requests to ourselves.
pub fn sign(token: &Secret, url: &str, form: &[(String, String)]) -> String {
    let mut mac = <Hmac<Sha1> as KeyInit>::new_from_slice(token.expose().as_bytes())
        .expect("HMAC takes a key of any length");
    mac.update(url.as_bytes());
    mac.update(joined(form).as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

/// Each distinct name and value in byte order, without separators.
fn joined(form: &[(String, String)]) -> String {
    let sorted: BTreeSet<(&str, &str)> =
        form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    sorted.iter().flat_map(|(name, value)| [*name, *value]).collect()
}

fn body_hash(url: &str) -> Option<&str> {
    url.split_once('?')?.1.split('&').find_map(|pair| pair.strip_prefix("bodySHA256="))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How Twilio may have spelt the address of a webhook: its back end adds and drops the default port.
/// `path_and_query` is as requested, with its percent-encoding untouched.
pub fn webhook_urls(public_url: &str, path_and_query: &str) -> Vec<String> {
    let Address { scheme, host, port, path } = Address::of(public_url);
    let mut urls = vec![format!("{public_url}{path_and_query}")];
    for port in ports(scheme, port) {
        push_new(&mut urls, format!("{scheme}://{host}{port}{path}{path_and_query}"));
    }
    urls
}

/// How Twilio may have spelt the address of a stream: first as our TwiML wrote it, then the variants that have been
/// reported (scheme, trailing slash, port).
pub fn stream_urls(public_url: &str, path: &str) -> Vec<String> {
    let Address { scheme, host, port, path: base } = Address::of(public_url);
    let bare = path.trim_end_matches('/');
    let mut urls = vec![format!("{}{bare}", stream_base(public_url))];
    for scheme in [if scheme == "http" { "ws" } else { "wss" }, "wss", "https", "ws", "http"] {
        for port in ports(scheme, port) {
            for slash in ["", "/"] {
                push_new(&mut urls, format!("{scheme}://{host}{port}{base}{bare}{slash}"));
            }
        }
    }
    urls
}

/// The public address with a WebSocket scheme.
pub fn stream_base(public_url: &str) -> String {
    match public_url.strip_prefix("http") {
        Some(rest) => format!("ws{rest}"), // "https" keeps its "s".
        None => public_url.to_owned(),
    }
}

struct Address<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<&'a str>,
    /// Empty, or starts with a slash.
    path: &'a str,
}

impl<'a> Address<'a> {
    fn of(url: &'a str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let after_brackets = authority.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match authority[after_brackets..].find(':') {
            Some(at) => (&authority[..after_brackets + at], Some(&authority[after_brackets + at + 1..])),
            None => (authority, None),
        };
        Self { scheme, host, port, path }
    }
}

/// The given port, none, and the scheme's default.
fn ports(scheme: &str, given: Option<&str>) -> Vec<String> {
    let default = if matches!(scheme, "https" | "wss") { ":443" } else { ":80" };
    let mut ports: Vec<String> = given.map(|port| format!(":{port}")).into_iter().collect();
    ports.extend([String::new(), default.to_owned()]);
    ports
}

fn push_new(urls: &mut Vec<String>, url: String) {
    if !urls.contains(&url) {
        urls.push(url);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "12345";

    fn keys() -> Keys {
        let shared = [("webhooks_sharedkey_1".to_owned(), Secret::new("sharedkey-secret"))];
        Keys::new(vec![Secret::new(TOKEN)], shared.into_iter().collect())
    }

    fn form(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn p() -> Vec<(String, String)> {
        form(&[
            ("AccountSid", "AC00000000000000000000000000000000"),
            ("ApiVersion", "2010-04-01"),
            ("CallSid", "CA00000000000000000000000000000001"),
            ("CallStatus", "ringing"),
            ("Direction", "inbound"),
            ("From", "+15551234567"),
            ("To", "+15557654321"),
        ])
    }

    const BASE: &str = "https://bridge.example.com";

    fn webhook(path: &str, form: &[(String, String)], code: &str) -> Result<(), Refusal> {
        let signature = Signature { code: Some(code), settings: None };
        keys().verify(&webhook_urls(BASE, path), Body::Form(form), signature)
    }

    /// Rows 1 to 4, 7 and 8 of the reference.
    #[test]
    fn the_reference_vectors_of_webhooks_are_accepted() {
        let status = form(&[
            ("CallSid", "CA00000000000000000000000000000001"),
            ("CallStatus", "completed"),
            ("CallDuration", "7"),
            ("SipResponseCode", ""),
        ]);
        let several = form(&[
            ("Body", "hé +&= z"),
            ("From", "+15551234567"),
            ("MediaUrl", "https://x.example.com/b"),
            ("MediaUrl", "https://x.example.com/a"),
            ("MediaUrl", "https://x.example.com/a"),
        ]);
        let order = form(&[("b", "1"), ("B", "2"), ("a", "3"), ("A_b", "4")]);
        let get = "/voice?CallSid=CA00000000000000000000000000000001&From=%2B15551234567&To=%2B15557654321";
        for (row, path, form, code) in [
            ("1", "/voice", p(), "AcOu8WjCweLnbv1U7RB3QNsqIu0="),
            ("2, signed with :443", "/voice", p(), "Sf8sPL+etlS3+Ncqfg1MBahOnA0="),
            ("3, a query", "/status?tenant=a%20b&x=1", status, "HbKPNp9tWk0E9SWAxmvYnd6MGO0="),
            ("4, GET", get, vec![], "M4NBOnB7KC/4NMENh+02LjDGYGA="),
            ("7, several values", "/sms", several, "ERuTPTxUyWw+Lpt7jc/NsmzxcZc="),
            ("8, the order of names", "/x", order, "pe3AjBwQD8Nmz0BSEU/QSekiw+o="),
        ] {
            assert_eq!(webhook(path, &form, code), Ok(()), "row {row}");
            if !row.ends_with(":443") {
                let url = format!("{BASE}{path}");
                assert_eq!(sign(&Secret::new(TOKEN), &url, &form), code, "row {row}, signed by us");
            }
        }
    }

    /// Rows 5, 5b and 5c.
    #[test]
    fn the_reference_vectors_of_the_upgrade_are_accepted() {
        for (row, code) in [
            ("5", "ASGyPT9kdDVOm79OxfQnw7HcSP8="),
            ("5b, a slash", "s8PR4IzGlCW8C4hFit29c/IbuH8="),
            ("5c, a port", "C9S82mGEXw9m712vXhUGYWVNxaI="),
        ] {
            for asked in ["/media", "/media/"] {
                let signature = Signature { code: Some(code), settings: None };
                let verdict = keys().verify(&stream_urls(BASE, asked), Body::Form(&[]), signature);
                assert_eq!(verdict, Ok(()), "row {row}, asked {asked}");
            }
        }
    }

    /// Row 6.
    #[test]
    fn a_json_body_is_verified_by_its_hash() {
        let path = "/events?bodySHA256=225e08b0eda60eabc1e704044175ecf49f35952a6f4299ef5c7ee6dadd662984";
        let body = r#"{"CallSid":"CA00000000000000000000000000000001","note":"café"}"#;
        let signature = Signature { code: Some("SeO0aSc0EbB2ENVtXckpWIBGn+Q="), settings: None };
        let verify =
            |body: &str| keys().verify(&webhook_urls(BASE, path), Body::Raw(body.as_bytes()), signature);
        assert_eq!(verify(body), Ok(()));
        assert_eq!(verify(&format!("{body} ")), Err(Refusal::Wrong));
        let unhashed = keys().verify(&webhook_urls(BASE, "/events"), Body::Raw(b"{}"), signature);
        assert_eq!(unhashed, Err(Refusal::Wrong));
    }

    /// Row 9. The header chooses among configured keys only.
    #[test]
    fn a_shared_key_is_chosen_by_its_id_and_never_downgraded() {
        const CODE: &str = "nmqBereI5z+DAOEHZfKgv8L+688IkWlw5IkCaqRcpLI=";
        let verify = |code, settings| {
            let signature = Signature { code: Some(code), settings: Some(settings) };
            keys().verify(&webhook_urls(BASE, "/voice"), Body::Form(&p()), signature)
        };
        assert_eq!(verify(CODE, "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"), Ok(()));
        for (what, code, settings, refusal) in [
            ("another algorithm", CODE, "key=webhooks_sharedkey_1,algorithm=HMAC_MD5", Refusal::UnknownKey),
            ("another key", CODE, "key=webhooks_sharedkey_2,algorithm=HMAC_SHA256", Refusal::UnknownKey),
            ("no algorithm", CODE, "key=webhooks_sharedkey_1", Refusal::UnknownKey),
            (
                "letters in other case",
                CODE,
                "Key=webhooks_sharedkey_1,algorithm=HMAC_SHA256",
                Refusal::UnknownKey,
            ),
            (
                "the token's code under a shared key",
                "AcOu8WjCweLnbv1U7RB3QNsqIu0=",
                "key=webhooks_sharedkey_1,algorithm=HMAC_SHA1",
                Refusal::Wrong,
            ),
        ] {
            assert_eq!(verify(code, settings), Err(refusal), "{what}");
        }
    }

    #[test]
    fn forgeries_are_rejected() {
        const GOOD: &str = "AcOu8WjCweLnbv1U7RB3QNsqIu0=";
        let mut more = p();
        more.push(("Extra".to_owned(), "1".to_owned()));
        let mut other = p();
        other[6].1 = "+15557654322".to_owned();
        for (what, path, form, code) in [
            ("another path", "/voice/", p(), GOOD),
            ("another case", "/Voice", p(), GOOD),
            ("a query", "/voice?a=1", p(), GOOD),
            ("one more field", "/voice", more, GOOD),
            ("another number", "/voice", other, GOOD),
            ("a shortened code", "/voice", p(), "AcOu8WjCweLnbv1U7RB3QNsqIg=="),
            ("no base64", "/voice", p(), "%%%"),
            ("an empty code", "/voice", p(), ""),
        ] {
            assert_eq!(webhook(path, &form, code), Err(Refusal::Wrong), "{what}");
        }
        let none = keys().verify(&webhook_urls(BASE, "/voice"), Body::Form(&p()), Signature::default());
        assert_eq!(none, Err(Refusal::Missing));
    }

    #[test]
    fn both_tokens_are_accepted_during_a_rotation() {
        let tokens = ["next", TOKEN].map(Secret::new).to_vec();
        let signature = Signature { code: Some("AcOu8WjCweLnbv1U7RB3QNsqIu0="), settings: None };
        let keys = Keys::new(tokens, BTreeMap::new());
        assert_eq!(keys.verify(&webhook_urls(BASE, "/voice"), Body::Form(&p()), signature), Ok(()));
    }

    #[test]
    fn addresses_are_spelt_in_every_way_that_twilio_uses() {
        assert_eq!(
            webhook_urls("https://[::1]:8443", "/x"),
            ["https://[::1]:8443/x", "https://[::1]/x", "https://[::1]:443/x"]
        );
        assert_eq!(
            webhook_urls("https://h:8443/base", "/x"),
            ["https://h:8443/base/x", "https://h/base/x", "https://h:443/base/x"]
        );
        assert_eq!(webhook_urls("http://h", "/x"), ["http://h/x", "http://h:80/x"]);
        let urls = stream_urls("http://127.0.0.1:5050", "/media-stream/t/");
        assert_eq!(urls[0], "ws://127.0.0.1:5050/media-stream/t");
        assert!(urls.contains(&"https://127.0.0.1/media-stream/t/".to_owned()));
        assert_eq!(urls.len(), 4 * 3 * 2);
    }
}
