//! The other machines of this house, over the private network: a request of Twilio's that came to the wrong one is
//! asked there, signed as it came.
//!
//! It knows where a machine answers. What is asked and what the answer means, it leaves to who asks. A request that
//! is passed on bears [`FORWARDED`], and who gets it passes it on to nobody.

use std::time::Duration;

use reqwest::Client;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use rustls::ClientConfig;

/// Marks a request that another machine passed on. Anybody can send it: it takes a right away, and gives none.
pub const FORWARDED: &str = "switchboard-forwarded";

/// How long a connection may take to be made. A machine that is there is near.
const CONNECT: Duration = Duration::from_secs(1);
/// The largest answer that is read, in bytes: Twilio takes no longer document.
const LARGEST: usize = 64 * 1024;
/// What belongs to one connection, or is written anew for the next one.
const HOP_BY_HOP: [&str; 11] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// See the module.
pub struct Peers {
    client: Client,
    /// With `{machine}` where the name goes.
    form: String,
}

/// A request as it came.
#[derive(Clone)]
pub struct Asked {
    pub method: Method,
    /// Path and query, as they were signed.
    pub path: String,
    pub headers: HeaderMap,
    pub body: bytes::Bytes,
}

/// What another machine answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub content_type: Option<HeaderValue>,
    pub body: Vec<u8>,
}

/// Why another machine gave no answer. None of them quotes the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    #[error("it cannot be reached")]
    Unreachable,
    #[error("it did not answer in time")]
    Late,
    #[error("its answer broke off, or is too long")]
    Broken,
}

impl Peers {
    /// `form` is a machine's address, with `{machine}` for its name and no slash at its end.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(form: String, tls: &ClientConfig) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            // A machine may be gone by the next question: no connection outlives its own.
            .pool_max_idle_per_host(0)
            .no_proxy()
            .build()?;
        Ok(Self { client, form })
    }

    /// Asks a machine, whose name may stand in a host name, and waits for the whole answer.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub async fn ask(&self, machine: &str, asked: &Asked, patience: Duration) -> Result<Answer, NoAnswer> {
        tokio::time::timeout(patience, self.exchange(machine, asked)).await.unwrap_or(Err(NoAnswer::Late))
    }

    async fn exchange(&self, machine: &str, asked: &Asked) -> Result<Answer, NoAnswer> {
        let url = format!("{}{}", self.form.replace("{machine}", machine), asked.path);
        let mut headers = asked.headers.clone();
        for name in HOP_BY_HOP {
            headers.remove(name);
        }
        headers.insert(FORWARDED, HeaderValue::from_static("1"));
        let request =
            self.client.request(asked.method.clone(), url).headers(headers).body(asked.body.clone());
        let mut response = request.send().await.map_err(|error| match error.is_timeout() {
            true if !error.is_connect() => NoAnswer::Late,
            _ => NoAnswer::Unreachable,
        })?;
        let (status, content_type) =
            (response.status(), response.headers().get(header::CONTENT_TYPE).cloned());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|_| NoAnswer::Broken)? {
            if body.len() + chunk.len() > LARGEST {
                return Err(NoAnswer::Broken);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, content_type, body })
    }
}
