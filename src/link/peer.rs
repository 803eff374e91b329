//! The other machines of this server, over the private network: forwards a request of Twilio's that reached the wrong
//! machine, with its signature.
//!
//! It knows the addresses of machines, not the meaning of requests and answers. A forwarded request has the header
//! [`FORWARDED`], and is never forwarded again; its answer may name the right machine.

use std::time::Duration;

use reqwest::Client;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use rustls::ClientConfig;

use super::network::{self, Fault};
use crate::wire::ticket::is_machine_name;

/// Marks a forwarded request, and names the machine that forwarded it. It is not trusted: it only removes a right.
pub const FORWARDED: &str = "switchboard-forwarded";
/// The forwarding machine already serves the call of the request, and only informs this one.
pub const SERVED: &str = "switchboard-served";
/// In an answer: the machine to ask instead.
pub const ASK: &str = "switchboard-ask";

/// How long a connection may take. The machines are close to each other.
const CONNECT: Duration = Duration::from_secs(1);
/// The largest answer, in bytes: Twilio accepts no larger document.
const MAX_BODY: usize = 64 * 1024;
/// Headers that belong to one connection, or are written again for the next one.
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
    /// The name of this machine.
    name: HeaderValue,
    /// With the placeholder `{machine}`.
    form: String,
}

/// A request as it was received.
#[derive(Clone)]
pub struct Asked {
    pub method: Method,
    /// The signed path and query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: bytes::Bytes,
}

/// The answer of another machine.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub content_type: Option<HeaderValue>,
    pub body: Vec<u8>,
    /// The machine to ask instead.
    pub ask: Option<String>,
}

impl Peers {
    /// `form` is the address of a machine, with the placeholder `{machine}` and without a slash at its end. `name` is the
    /// name of this machine.
    pub fn new(form: String, name: &str, tls: &ClientConfig) -> Result<Self, reqwest::Error> {
        // A machine may be gone by the next request, so no connection is kept.
        let client =
            super::http_client(tls).no_proxy().connect_timeout(CONNECT).pool_max_idle_per_host(0).build()?;
        let name = HeaderValue::from_str(name).unwrap_or_else(|_| HeaderValue::from_static(""));
        Ok(Self { client, name, form })
    }

    /// Forwards a request and waits for the whole answer. The name of the machine must be valid in a host name.
    pub async fn ask(&self, machine: &str, asked: &Asked, patience: Duration) -> Result<Answer, Fault> {
        tokio::time::timeout(patience, self.exchange(machine, asked))
            .await
            .unwrap_or(Err(Fault::AnswerTimeout))
    }

    async fn exchange(&self, machine: &str, asked: &Asked) -> Result<Answer, Fault> {
        let url = format!("{}{}", self.form.replace("{machine}", machine), asked.path);
        let mut headers = asked.headers.clone();
        for name in HOP_BY_HOP {
            headers.remove(name);
        }
        headers.insert(FORWARDED, self.name.clone());
        let request =
            self.client.request(asked.method.clone(), url).headers(headers).body(asked.body.clone());
        let response = request.send().await?;
        let (status, content_type) =
            (response.status(), response.headers().get(header::CONTENT_TYPE).cloned());
        let ask = response.headers().get(ASK).and_then(machine_name);
        let body = network::body(response, MAX_BODY).await?.ok_or(Fault::TooSlow)?;
        Ok(Answer { status, content_type, body, ask })
    }
}

/// The machine that a header names, if its name is valid.
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

    /// Gives this answer to one request, and returns the request. `None`: never answers.
    async fn machine(answer: Option<String>) -> (String, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"CallSid=CA00000000000000000000000000000001") {
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
            body: bytes::Bytes::from_static(b"CallSid=CA00000000000000000000000000000001"),
        }
    }

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_request_is_forwarded_unchanged_and_marked() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 11\r\n\r\n<Response/>";
        let (address, serving) = machine(Some(answer.to_owned())).await;
        let form = format!("http://{}/{{machine}}", address);
        let answer = peers(form).ask("m1", &asked(), SOON).await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"<Response/>"[..]));
        assert_eq!(answer.content_type.unwrap(), "text/xml");
        let came = serving.await.unwrap();
        assert!(came.starts_with("POST /m1/after-stream/t1?a=%20b HTTP/1.1\r\n"), "{came}");
        let came = came.to_lowercase();
        for line in ["x-twilio-signature: c2ln", "switchboard-forwarded: m2", "content-length: 42"] {
            assert!(came.contains(&format!("\r\n{line}\r\n")), "`{line}` is not in {came}");
        }
        assert!(!came.contains("voice.example.com") && !came.contains("999"), "{came}");
    }

    #[tokio::test]
    async fn reasons_for_no_answer_are_distinguished() {
        let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n{}", "x".repeat(70_000));
        let short = "HTTP/1.1 200 OK\r\nContent-Length: 70\r\n\r\nx".to_owned();
        for (what, answer, patience, expected) in [
            ("none", None, Duration::from_millis(200), Fault::AnswerTimeout),
            ("too long", Some(long), SOON, Fault::TooSlow),
            ("incomplete", Some(short), SOON, Fault::ConnectionClosed),
        ] {
            let (address, _serving) = machine(answer).await;
            let error = peers(format!("http://{address}")).ask("m1", &asked(), patience).await.unwrap_err();
            assert_eq!(error, expected, "{what}");
        }
        let error = peers("http://127.0.0.1:9".to_owned()).ask("m1", &asked(), SOON).await.unwrap_err();
        assert_eq!(error, Fault::ConnectionRefused, "closed port");
    }
}
