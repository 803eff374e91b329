//! The keys of the console: its sessions, the tokens of their forms, and the link that opens it once.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::secret::Secret;

/// How long a session lasts, in seconds.
pub const SESSION_LIFE: u64 = 12 * 60 * 60;
/// How long the link of `serve --console` works, in seconds.
const LINK_LIFE: u64 = 15 * 60;
/// The most sessions that are remembered as ended. Each would expire by itself.
const MAX_ENDED: usize = 10_000;

const NONCE: usize = 16;
const SEAL: usize = 32;

/// A session, as its cookie proves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Seconds since 1970.
    expires: u64,
    nonce: [u8; NONCE],
}

/// Seals cookies and tokens.
pub struct Keys {
    key: Hmac<Sha256>,
    /// Sessions that were ended before they expired, with their expiry.
    ended: Mutex<BTreeMap<[u8; NONCE], u64>>,
}

impl Keys {
    /// Machines with the same secrets accept each other's sessions. The password alone could be guessed from a cookie, and
    /// a new password ends all sessions.
    pub fn new(secret: &Secret, password: &Secret) -> Self {
        let mut mac = keyed(secret.expose().as_bytes());
        mac.update(b"switchboard console v1\0");
        mac.update(password.expose().as_bytes());
        Self::keyed(&mac.finalize().into_bytes())
    }

    /// Of this process only.
    pub fn random() -> Self {
        let bytes: [u8; 32] = rand::random();
        Self::keyed(&bytes)
    }

    fn keyed(key: &[u8]) -> Self {
        Self { key: keyed(key), ended: Mutex::default() }
    }

    /// A new session, and the text of its cookie.
    pub fn begin(&self, now: u64) -> (Session, String) {
        let session = Session { expires: now + SESSION_LIFE, nonce: rand::random() };
        let mut bytes = session.bytes();
        bytes.extend_from_slice(&self.seal(b"session", &bytes));
        (session, URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The session of a cookie, unless it is forged, expired or ended.
    pub fn open(&self, cookie: &str, now: u64) -> Option<Session> {
        let bytes = URL_SAFE_NO_PAD.decode(cookie).ok()?;
        let (body, seal) = bytes.split_at_checked(8 + NONCE)?;
        if !self.is_sealed(b"session", body, seal) {
            return None;
        }
        let (expires, nonce) = body.split_at(8);
        let session =
            Session { expires: u64::from_be_bytes(expires.try_into().ok()?), nonce: nonce.try_into().ok()? };
        self.holds(&session, now).then_some(session)
    }

    /// Whether a session is neither expired nor ended.
    pub fn holds(&self, session: &Session, now: u64) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        session.expires > now && !ended.contains_key(&session.nonce)
    }

    /// Nobody uses this session any more.
    pub fn end(&self, session: &Session, now: u64) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.retain(|_, expires| *expires > now);
        if ended.len() < MAX_ENDED {
            ended.insert(session.nonce, session.expires);
        }
    }

    /// The token that the forms of a session send.
    pub fn token(&self, session: &Session) -> String {
        URL_SAFE_NO_PAD.encode(self.seal(b"form", &session.bytes()))
    }

    /// Whether a form is of this session.
    pub fn is_token(&self, session: &Session, token: &str) -> bool {
        let seal = URL_SAFE_NO_PAD.decode(token).unwrap_or_default();
        self.is_sealed(b"form", &session.bytes(), &seal)
    }

    fn seal(&self, purpose: &[u8], body: &[u8]) -> [u8; SEAL] {
        self.mac(purpose, body).finalize().into_bytes().into()
    }

    /// In constant time.
    fn is_sealed(&self, purpose: &[u8], body: &[u8], seal: &[u8]) -> bool {
        self.mac(purpose, body).verify_slice(seal).is_ok()
    }

    fn mac(&self, purpose: &[u8], body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.key.clone();
        mac.update(purpose);
        mac.update(&[0]);
        mac.update(body);
        mac
    }
}

impl Session {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.expires.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.nonce);
        bytes
    }
}

/// Opens the console once, for whoever reads the terminal.
#[derive(Debug)]
pub struct OneTimeLink {
    token: Secret,
    used: Mutex<bool>,
    made: u64,
}

impl Default for OneTimeLink {
    fn default() -> Self {
        let bytes: [u8; 24] = rand::random();
        let token = Secret::new(URL_SAFE_NO_PAD.encode(bytes));
        Self { token, used: Mutex::new(false), made: unix_seconds() }
    }
}

impl OneTimeLink {
    /// Where it leads on this address, such as `http://127.0.0.1:5050`.
    pub fn url(&self, base: &str) -> String {
        format!("{base}/console/open/{}", self.token.expose())
    }

    /// Whether this is the token, in time and for the first time.
    pub fn takes(&self, token: &str, now: u64) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let is_good = !*used && now < self.made + LINK_LIFE && self.token == Secret::new(token);
        *used |= is_good;
        is_good
    }
}

pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("any key will do")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(secret: &str, password: &str) -> Keys {
        Keys::new(&Secret::new(secret), &Secret::new(password))
    }

    #[test]
    fn a_session_holds_for_twelve_hours_on_every_machine_with_the_same_secrets() {
        let (session, cookie) = keys("token", "password").begin(1_000);
        let other = keys("token", "password");
        assert_eq!(other.open(&cookie, 1_000 + SESSION_LIFE - 1), Some(session));
        assert_eq!(other.open(&cookie, 1_000 + SESSION_LIFE), None);
        assert_eq!(keys("token", "another").open(&cookie, 1_000), None);
        assert_eq!(keys("other", "password").open(&cookie, 1_000), None);
    }

    #[test]
    fn no_changed_cookie_is_a_session() {
        let keys = keys("token", "password");
        let (_, cookie) = keys.begin(1_000);
        let bytes = URL_SAFE_NO_PAD.decode(&cookie).unwrap();
        for at in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[at] ^= 1;
            assert_eq!(keys.open(&URL_SAFE_NO_PAD.encode(forged), 1_000), None, "byte {at}");
        }
        for text in ["", "a", "é", &cookie[..20], &"A".repeat(75)] {
            assert_eq!(keys.open(text, 1_000), None, "{text}");
        }
    }

    #[test]
    fn a_token_is_of_one_session_and_is_no_cookie() {
        let keys = keys("token", "password");
        let ((one, cookie), (other, _)) = (keys.begin(1_000), keys.begin(1_000));
        let token = keys.token(&one);
        assert!(keys.is_token(&one, &token));
        assert!(!keys.is_token(&other, &token));
        assert!(!keys.is_token(&one, "") && !keys.is_token(&one, &cookie));
        assert_eq!(keys.open(&token, 1_000), None);
    }

    #[test]
    fn a_session_that_was_ended_is_none() {
        let keys = keys("token", "password");
        let (session, cookie) = keys.begin(1_000);
        keys.end(&session, 1_001);
        assert_eq!(keys.open(&cookie, 1_002), None);
        keys.end(&keys.begin(1_000).0, 1_000 + SESSION_LIFE);
        assert_eq!(keys.ended.lock().unwrap().len(), 1, "what expired is forgotten");
    }

    #[test]
    fn a_link_works_once_and_for_a_quarter_of_an_hour() {
        let link = OneTimeLink::default();
        let token = link.token.expose().to_owned();
        assert!(!link.takes("", link.made) && !link.takes(&token[1..], link.made));
        assert!(!link.takes(&token, link.made + LINK_LIFE));
        assert!(link.takes(&token, link.made + LINK_LIFE - 1));
        assert!(!link.takes(&token, link.made));
    }
}
