//! The other machines of this server, over the private network: a request of Twilio's that came to the wrong one is
//! asked there, signed as it came.
//!
//! It knows where a machine answers. What is asked and what the answer means, it leaves to who asks. A request that
//! is passed on bears [`FORWARDED`], and who gets it passes it on to nobody; it may name who has what was asked for.

use std::time::Duration;

use reqwest::Client;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use rustls::ClientConfig;

use crate::wire::ticket::is_machine_name;

/// Marks a request that another machine passed on, and names that machine. Anybody can send it: it takes a right away,
/// and gives none.
pub const FORWARDED: &str = "switchboard-forwarded";
/// Says that what the request is about is served already by the machine that passed it on: it is told, not asked.
pub const SERVED: &str = "switchboard-served";
/// In an answer that is none: the machine to ask instead.
pub const ASK: &str = "switchboard-ask";

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
    /// Of this machine.
    name: HeaderValue,
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
    /// Who is to be asked instead.
    pub ask: Option<String>,
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
    /// `form` is a machine's address, with `{machine}` for its name and no slash at its end; `name` is this one's.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(form: String, name: &str, tls: &ClientConfig) -> Result<Self, reqwest::Error> {
        // A machine may be gone by the next question: no connection outlives its own.
        let client = super::http_client(tls).connect_timeout(CONNECT).pool_max_idle_per_host(0).build()?;
        let name = HeaderValue::from_str(name).unwrap_or_else(|_| HeaderValue::from_static(""));
        Ok(Self { client, name, form })
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
        headers.insert(FORWARDED, self.name.clone());
        let request =
            self.client.request(asked.method.clone(), url).headers(headers).body(asked.body.clone());
        let mut response = request.send().await.map_err(|error| match error.is_timeout() {
            true if !error.is_connect() => NoAnswer::Late,
            _ => NoAnswer::Unreachable,
        })?;
        let (status, content_type) =
            (response.status(), response.headers().get(header::CONTENT_TYPE).cloned());
        let ask = response.headers().get(ASK).and_then(machine_name);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|_| NoAnswer::Broken)? {
            if body.len() + chunk.len() > LARGEST {
                return Err(NoAnswer::Broken);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, content_type, body, ask })
    }
}

/// The machine that a header names, where it may stand in an address.
pub fn machine_name(header: &HeaderValue) -> Option<String> {
    header.to_str().ok().filter(|name| is_machine_name(name)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;

    fn peers(form: String) -> Peers {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let roots = rustls::RootCertStore::empty();
        Peers::new(form, "m2", &config.unwrap().with_root_certificates(roots).with_no_client_auth()).unwrap()
    }

    /// Gives this answer to one request, which it gives back; with none, it says nothing.
    async fn machine(answer: Option<String>) -> (String, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"CallSid=CA1") {
                assert!(socket.read_buf(&mut asked).await.unwrap() > 0);
            }
            match answer {
                Some(answer) => socket.write_all(answer.as_bytes()).await.unwrap(),
                None => std::future::pending().await,
            }
            String::from_utf8(asked).unwrap()
        });
        (address, serving)
    }

    fn asked() -> Asked {
        let headers = [
            ("host", "voice.example.com"),
            ("connection", "keep-alive"),
            ("content-length", "999"),
            ("x-twilio-signature", "c2ln"),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        let pair = |(name, value)| (header::HeaderName::from_static(name), HeaderValue::from_static(value));
        Asked {
            method: Method::POST,
            path: "/after-stream/t1?a=%20b".to_owned(),
            headers: headers.into_iter().map(pair).collect(),
            body: bytes::Bytes::from_static(b"CallSid=CA1"),
        }
    }

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_request_is_passed_on_as_it_came_and_marked() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 11\r\n\r\n<Response/>";
        let (address, serving) = machine(Some(answer.to_owned())).await;
        let form = format!("http://{}/{{machine}}", address);
        let answer = peers(form).ask("m1", &asked(), SOON).await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"<Response/>"[..]));
        assert_eq!(answer.content_type.unwrap(), "text/xml");
        let came = serving.await.unwrap();
        assert!(came.starts_with("POST /m1/after-stream/t1?a=%20b HTTP/1.1\r\n"), "{came}");
        let came = came.to_lowercase();
        for line in ["x-twilio-signature: c2ln", "switchboard-forwarded: m2", "content-length: 11"] {
            assert!(came.contains(&format!("\r\n{line}\r\n")), "`{line}` is not in {came}");
        }
        assert!(!came.contains("voice.example.com") && !came.contains("999"), "{came}");
    }

    #[tokio::test]
    async fn no_answer_is_told_apart() {
        let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n{}", "x".repeat(70_000));
        let short = "HTTP/1.1 200 OK\r\nContent-Length: 70\r\n\r\nx".to_owned();
        for (what, answer, patience, expected) in [
            ("none", None, Duration::from_millis(200), NoAnswer::Late),
            ("too long", Some(long), SOON, NoAnswer::Broken),
            ("broken off", Some(short), SOON, NoAnswer::Broken),
        ] {
            let (address, _serving) = machine(answer).await;
            let error = peers(format!("http://{address}")).ask("m1", &asked(), patience).await.unwrap_err();
            assert_eq!(error, expected, "{what}");
        }
        let error = peers("http://127.0.0.1:9".to_owned()).ask("m1", &asked(), SOON).await.unwrap_err();
        assert_eq!(error, NoAnswer::Unreachable, "nobody listens");
    }
}
