//! Opening a media stream's socket, as strictly as Twilio does.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, http};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::address::resolve;
use super::http::connect;
use super::options::{Fault, PhoneOptions};
use super::sign::sign;

/// The timeout of the handshake. Twilio documents none; a longer one is unsafe.
const HANDSHAKE: Duration = Duration::from_secs(5);

const CONNECT_TIMEOUT: u32 = 31_901;
const NO_TLS: u32 = 31_910;
const HANDSHAKE_FAILED: u32 = 31_920;
const NOT_SECURE: u32 = 31_922;
const MALFORMED_URL: u32 = 31_923;

pub(super) type Socket = WebSocketStream<TcpStream>;

/// Why the stream could not be opened.
pub(super) struct Refusal {
    /// Twilio's error code.
    pub code: u32,
    /// The status that answered the upgrade, if one came.
    pub status: Option<u16>,
    pub what: String,
}

fn refusal(code: u32, what: impl Into<String>) -> Refusal {
    Refusal { code, status: None, what: what.into() }
}

/// Opens the socket with the headers of reference §1.1.
pub(super) async fn open(options: &PhoneOptions, written: &str, base: &str) -> Result<Socket, Refusal> {
    let has = |fault| options.faults.contains(&fault);
    let absolute = match resolve(base, written) {
        // A relative URL takes the scheme that goes with the document's.
        url if !written.contains("://") => url.replacen("http", "ws", 1),
        url => url,
    };
    // Twilio drops a query string.
    let mut url = absolute.split(['?', '#']).next().unwrap_or_default().to_owned();
    if has(Fault::QueryOnTicket) {
        url.push_str("?retry=1");
    }
    let loopback = url::Url::parse(&options.public_url).is_ok_and(|public| {
        public.scheme() == "http"
            && match public.host() {
                Some(url::Host::Domain(name)) => name == "localhost",
                Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
                Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
                None => false,
            }
    });
    // Twilio accepts only `wss`; a server under test on this machine has no certificate.
    match url.split_once("://") {
        Some(("wss", _)) if loopback => return Err(refusal(NO_TLS, "wss to a server without TLS")),
        Some(("wss", _)) => {}
        Some(("ws", _)) if loopback => {}
        Some(_) => return Err(refusal(NOT_SECURE, "the stream URL is not wss")),
        None => return Err(refusal(MALFORMED_URL, "the stream URL is malformed")),
    }
    let address = options.address(&url).map_err(|why| refusal(CONNECT_TIMEOUT, why))?;
    let mut request = http::Request::builder()
        .uri(format!("ws://{}{}", address.host, address.path))
        .header("Host", &address.host)
        .header("User-Agent", "Twilio.TmeWs/1.0")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", generate_key())
        .header("Accept-Encoding", "gzip");
    if !has(Fault::NoStreamSignature) {
        let token = if has(Fault::BadStreamSignature) { "wrong" } else { &options.auth_token };
        request = request.header("X-Twilio-Signature", sign(token, &url, &[]));
    }
    let request = request.body(()).map_err(|error| refusal(MALFORMED_URL, error.to_string()))?;
    let socket = connect(&address.server).await.map_err(|why| refusal(CONNECT_TIMEOUT, why))?;
    // The library's default buffer of 128 KiB would be zeroed at every read.
    let config = WebSocketConfig::default()
        .read_buffer_size(4 * 1_024)
        .write_buffer_size(0)
        .max_message_size(Some(1 << 20))
        .max_frame_size(Some(1 << 20));
    let shaken = client_async_with_config(request, socket, Some(config));
    match timeout(HANDSHAKE, shaken).await {
        Ok(Ok((_, answer))) if answer.headers().contains_key("sec-websocket-extensions") => {
            Err(refusal(HANDSHAKE_FAILED, "the server accepted an extension that was not offered"))
        }
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(Error::Http(answer))) => Err(Refusal {
            code: HANDSHAKE_FAILED,
            status: Some(answer.status().as_u16()),
            what: format!("the upgrade was answered with status {}", answer.status().as_u16()),
        }),
        Ok(Err(error)) => Err(refusal(HANDSHAKE_FAILED, error.to_string())),
        Err(_) => Err(refusal(HANDSHAKE_FAILED, "no answer to the upgrade in 5 s")),
    }
}
