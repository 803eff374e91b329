//! Fetches the remote folder, a `.tar.gz`, by HTTPS, and only if it changed.
//!
//! The token is sent only to the address that the owner wrote. Neither it nor a URL's query is in any message.
//! `archive.rs` knows what is in an archive.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, ETAG, HeaderValue, IF_NONE_MATCH, LOCATION};
use reqwest::{Client, Response, StatusCode};
use rustls::ClientConfig;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;
use url::Url;

use super::archive::{self, ArchiveError};
use crate::assistant::Folder;
use crate::link;
use crate::link::network::{self, Fault};
use crate::problem;
use crate::secret::Secret;
use crate::settings::is_loopback;

/// How long a fetch may take, from the DNS lookup to the last byte, redirects included.
const PATIENCE: Duration = Duration::from_secs(20);
/// The largest archive, compressed, in bytes.
const LARGEST: usize = 32 * 1024 * 1024;
/// How many redirects one fetch follows.
const MOST_REDIRECTS: usize = 5;
/// From one fetch to the next.
const EVERY: Duration = Duration::from_secs(30);
/// The longest pause if the host does not answer; each failure doubles it.
const LONGEST_PAUSE: Duration = Duration::from_secs(2 * 60);

/// A folder at a URL, and its last version.
pub struct Remote {
    url: Url,
    /// `Bearer …`, marked as sensitive.
    authorization: Option<HeaderValue>,
    client: Client,
    patience: Duration,
    seen: Seen,
}

/// What a fetch returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// The archive is the same as before.
    Unchanged,
    /// The first archive, or another one. Its files are not checked yet.
    Folder(Folder),
}

/// Why nothing was fetched. No message contains the token or the query of a URL.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("ASSISTANTS_URL must start with https:// (http:// only for this machine) and have no user name")]
    Url,
    #[error("ASSISTANTS_TOKEN has an invalid character; copy it again")]
    Token,
    #[error("TLS for ASSISTANTS_URL cannot be set up")]
    Setup,
    #[error("{at}: a token is required (401); set ASSISTANTS_TOKEN")]
    NoToken { at: String },
    #[error("{at}: ASSISTANTS_TOKEN is rejected (401); create a new token")]
    BadToken { at: String },
    #[error("{at}: access denied (403); {}", match with_token {
        true => "give the token of ASSISTANTS_TOKEN the right to read this",
        false => "set ASSISTANTS_TOKEN to a token that may read this",
    })]
    Forbidden { at: String, with_token: bool },
    #[error(
        "{at}: not found ({status}); check owner, repository and branch, and if the repository is private, that \
         ASSISTANTS_TOKEN may read it"
    )]
    Missing { at: String, status: u16 },
    #[error("{at}: too many requests (429){}", if *with_token { "" } else { "; many hosts allow more with ASSISTANTS_TOKEN" })]
    TooOften { at: String, with_token: bool },
    #[error("{at}: server error ({status}); wait until the host works again")]
    ServerError { at: String, status: u16 },
    #[error("{at}: unexpected status {status}; check ASSISTANTS_URL")]
    Status { at: String, status: u16 },
    #[error("{at}: {fault}; {help}", help = fault.help())]
    Network { at: String, fault: Fault },
    #[error("{at}: redirected to an address without https, which is not safe; {REDIRECT}")]
    Insecure { at: String },
    #[error("{at}: redirected to an invalid address; {REDIRECT}")]
    BadRedirect { at: String },
    #[error("{at}: more than 5 redirects; {REDIRECT}")]
    TooManyRedirects { at: String },
    #[error("{at}: larger than 32 MB; keep the assistants in their own repository")]
    TooLarge { at: String },
    #[error("{at}: {error}")]
    Archive { at: String, error: ArchiveError },
}

const REDIRECT: &str = "set ASSISTANTS_URL to the address of the archive";

impl FetchError {
    /// Whether the host works, and a push or a change of its settings will fix the error. Then the interval stays.
    fn answered(&self) -> bool {
        match self {
            Self::Url | Self::Token | Self::Setup | Self::Network { .. } => false,
            // The host asks for a pause.
            Self::TooOften { .. } | Self::ServerError { .. } => false,
            Self::NoToken { .. } | Self::BadToken { .. } | Self::Forbidden { .. } | Self::Missing { .. } => {
                true
            }
            Self::Insecure { .. } | Self::BadRedirect { .. } | Self::TooManyRedirects { .. } => true,
            Self::Status { .. } | Self::TooLarge { .. } | Self::Archive { .. } => true,
        }
    }
}

/// The last archive that was good.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// Its entity tag, and the address that gave it, without a query.
    tag: Option<(Url, HeaderValue)>,
    /// Its bytes, for hosts that give no tag.
    digest: Option<[u8; 32]>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("at", &self.place()).finish_non_exhaustive()
    }
}

impl Remote {
    /// A folder that was not fetched yet.
    pub fn new(url: &str, token: Option<&Secret>, tls: &Arc<ClientConfig>) -> Result<Remote, FetchError> {
        let url = Url::parse(url).map_err(|_| FetchError::Url)?;
        let local = url.scheme() == "http" && is_loopback(&url);
        let named = !url.username().is_empty() || url.password().is_some();
        if (url.scheme() != "https" && !local) || named || url.host().is_none() {
            return Err(FetchError::Url);
        }
        let bearer = |token: &Secret| {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose())).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        let authorization = token.map(|token| bearer(token).ok_or(FetchError::Token)).transpose()?;
        let client = link::http_client(tls).build().map_err(|_| FetchError::Setup)?;
        Ok(Remote { url, authorization, client, patience: PATIENCE, seen: Seen::default() })
    }

    /// Limits a fetch to another time than 20 s.
    pub fn with_patience(self, patience: Duration) -> Remote {
        Remote { patience, ..self }
    }

    /// Host and path for people, without the query, which may hold a secret.
    pub fn place(&self) -> String {
        place(&self.url, true)
    }

    /// Fetches and unpacks the archive once.
    pub async fn fetch_once(mut self) -> Result<Folder, FetchError> {
        match self.fetch().await? {
            Fetched::Folder(folder) => Ok(folder),
            Fetched::Unchanged => unreachable!("nothing was fetched before"),
        }
    }

    /// Fetches and unpacks the archive, unless it is the same as before.
    ///
    /// Cancel-safe, and after an error the next fetch starts from the same state: the last version changes only when a
    /// whole archive was unpacked.
    pub async fn fetch(&mut self) -> Result<Fetched, FetchError> {
        let late = |_| FetchError::Network { at: self.place(), fault: Fault::AnswerTimeout };
        let asked = timeout(self.patience, self.ask()).await.map_err(late)??;
        let Some((bytes, tag)) = asked else { return Ok(Fetched::Unchanged) };
        let before = self.seen.digest;
        // Unpacking up to 64 MB must not delay audio.
        let unpacked = tokio::task::spawn_blocking(move || {
            let digest: [u8; 32] = Sha256::digest(&bytes).into();
            let folder = (before != Some(digest)).then(|| archive::unpack(&bytes)).transpose();
            folder.map(|folder| (digest, folder))
        });
        let unpacked = unpacked.await.unwrap_or(Err(ArchiveError::Damaged));
        let (digest, folder) = unpacked.map_err(|error| FetchError::Archive { at: self.place(), error })?;
        self.seen = Seen { tag, digest: Some(digest) };
        Ok(folder.map_or(Fetched::Unchanged, Fetched::Folder))
    }

    /// The archive's bytes and its tag. `None` if the host answers that it is unchanged.
    async fn ask(&self) -> Result<Option<(Vec<u8>, Option<(Url, HeaderValue)>)>, FetchError> {
        let mut url = self.url.clone();
        let mut authorization = self.authorization.as_ref();
        for hop in 0..=MOST_REDIRECTS {
            let at = place(&url, hop == 0);
            let mut request = self.client.get(url.clone()).header(ACCEPT, "*/*");
            if let Some(token) = authorization {
                request = request.header(AUTHORIZATION, token);
            }
            let tag = self.seen.tag.as_ref().filter(|(from, _)| *from == without_query(&url));
            if let Some((_, tag)) = tag {
                request = request.header(IF_NONE_MATCH, tag);
            }
            let response = request.send().await;
            let response =
                response.map_err(|error| FetchError::Network { at: at.clone(), fault: error.into() })?;
            match response.status() {
                StatusCode::OK => {
                    let tag = response.headers().get(ETAG).map(|tag| (without_query(&url), tag.clone()));
                    return match network::body(response, LARGEST).await {
                        Ok(Some(body)) => Ok(Some((body, tag))),
                        Ok(None) => Err(FetchError::TooLarge { at }),
                        Err(fault) => Err(FetchError::Network { at, fault }),
                    };
                }
                StatusCode::NOT_MODIFIED if tag.is_some() => return Ok(None),
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => {
                    let next = self.next(&url, &response).map_err(|error| error(at))?;
                    if next.origin() != url.origin() {
                        // For good: a stranger who leads back must not borrow it.
                        authorization = None;
                    }
                    url = next;
                }
                status => return Err(refusal(status, at, authorization.is_some())),
            }
        }
        Err(FetchError::TooManyRedirects { at: place(&url, false) })
    }

    /// Where a redirect leads.
    fn next(&self, from: &Url, response: &Response) -> Result<Url, fn(String) -> FetchError> {
        let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let url = location.and_then(|location| from.join(location).ok());
        let url = url
            .filter(|url| url.host().is_some())
            .ok_or((|at| FetchError::BadRedirect { at }) as fn(_) -> _)?;
        let local = url.scheme() == "http" && is_loopback(&url) && self.url.scheme() == "http";
        match url.scheme() == "https" || local {
            true => Ok(url),
            false => Err(|at| FetchError::Insecure { at }),
        }
    }
}

/// An address for people. The path of a redirect may be a secret, so only its host is shown.
fn place(url: &Url, own: bool) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    match own {
        true => format!("ASSISTANTS_URL (`{host}{port}{}`)", problem::masked(url.path())),
        false => format!("`{host}{port}`, a redirect of ASSISTANTS_URL"),
    }
}

fn without_query(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url
}

fn refusal(status: StatusCode, at: String, with_token: bool) -> FetchError {
    let code = status.as_u16();
    match code {
        401 if with_token => FetchError::BadToken { at },
        401 => FetchError::NoToken { at },
        403 => FetchError::Forbidden { at, with_token },
        404 | 410 => FetchError::Missing { at, status: code },
        429 => FetchError::TooOften { at, with_token },
        500..=599 => FetchError::ServerError { at, status: code },
        _ => FetchError::Status { at, status: code },
    }
}

/// When the next fetch is due. Logs a failure once, until it changes or is over.
#[derive(Debug)]
pub struct Rounds {
    every: Duration,
    failures: u32,
    logged: Option<String>,
}

impl Default for Rounds {
    /// A fetch every 30 s.
    fn default() -> Rounds {
        Rounds::every(EVERY)
    }
}

impl Rounds {
    /// The pause between fetches if none fails.
    pub fn every(every: Duration) -> Rounds {
        Rounds { every, failures: 0, logged: None }
    }

    /// Logs the outcome of a fetch and returns the pause before the next. If the host does not answer, the pause
    /// doubles each time, up to 2 minutes.
    pub fn after(&mut self, outcome: &Result<Fetched, FetchError>) -> Duration {
        let Err(error) = outcome else {
            if self.logged.is_some() {
                tracing::info!("The remote folder can be fetched again");
            }
            *self = Rounds::every(self.every);
            return self.every;
        };
        self.failures = if error.answered() { 0 } else { self.failures + 1 };
        // The exponent is capped so that this cannot overflow.
        let pause = self.every * 2u32.pow(self.failures.saturating_sub(1).min(8));
        let pause = pause.min(LONGEST_PAUSE);
        let why = error.to_string();
        if self.logged.as_ref() != Some(&why) {
            let retry_secs = pause.as_secs();
            tracing::warn!(%why, retry_secs, "The remote folder cannot be fetched; the assistants in force stay");
            self.logged = Some(why);
        }
        pause
    }
}
