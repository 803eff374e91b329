//! Scripted servers on this machine.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};
use switchboard::reload::fetch::{FetchError, Remote};
use switchboard::secret::Secret;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::{QUERY, TOKEN, watch_the_log};

/// What a server answers to one request.
pub enum Answer {
    /// The head without its empty line, and the body. `content-length` is added.
    Whole(String, Vec<u8>),
    /// The announced length, and the bytes that are sent.
    Half(usize, Vec<u8>),
    /// Bytes one by one, forever.
    Drip,
    /// Never answers.
    Silence,
}

pub fn whole(status: &str, headers: &str, body: impl Into<Vec<u8>>) -> Answer {
    Answer::Whole(format!("HTTP/1.1 {status}\r\n{headers}"), body.into())
}

pub fn to(location: &str) -> Answer {
    whole("302 Found", &format!("Location: {location}\r\n"), "")
}

/// A server with one connection per request. It ends when it is dropped.
pub struct Host {
    /// `https://localhost:PORT`
    pub origin: String,
    heads: Arc<Mutex<Vec<String>>>,
    _serving: JoinSet<()>,
}

impl Host {
    pub async fn start(script: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Host {
        Host::with(true, script).await
    }

    /// The script receives the request's head and the number of earlier requests.
    pub async fn with(tls: bool, script: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Host {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let mut serving = JoinSet::new();
        let (seen, script) = (heads.clone(), Arc::new(script));
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (seen, script) = (seen.clone(), script.clone());
                connections.spawn(async move {
                    if !tls {
                        return answer(socket, &seen, script.as_ref()).await;
                    }
                    if let Ok(socket) = ours().acceptor.accept(socket).await {
                        answer(socket, &seen, script.as_ref()).await;
                    }
                });
            }
        });
        let scheme = if tls { "https" } else { "http" };
        Host { origin: format!("{scheme}://localhost:{port}"), heads, _serving: serving }
    }

    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// This host's archive, with a secret query and a token.
    pub fn remote(&self) -> Remote {
        self.remote_at(&format!("/shop/repo.tar.gz?{QUERY}"), Some(TOKEN))
    }

    pub fn remote_at(&self, path: &str, token: Option<&str>) -> Remote {
        let token = token.map(Secret::new);
        Remote::new(&format!("{}{path}", self.origin), token.as_ref(), &trusting()).unwrap()
    }

    /// Fetches the archive, which must fail.
    pub async fn error(&self) -> String {
        kind(&self.remote().fetch().await.unwrap_err())
    }
}

/// The name of an error's variant, or its network fault. Fails if the error contains a secret.
pub fn kind(error: &FetchError) -> String {
    let (text, debug) = (error.to_string(), format!("{error:?}"));
    for secret in [TOKEN, QUERY] {
        assert!(!text.contains(secret) && !debug.contains(secret), "{text} {debug}");
    }
    match error {
        FetchError::Network { fault, .. } => format!("{fault:?}"),
        _ => debug.chars().take_while(|c| c.is_alphanumeric()).collect(),
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: S,
    seen: &Mutex<Vec<String>>,
    script: &(impl Fn(&str, usize) -> Answer + ?Sized),
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
        // The client speaks TLS to a server without it.
        if head[0] != b'G' {
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            return;
        }
    }
    let head = String::from_utf8(head).unwrap();
    let before = {
        let mut seen = seen.lock().unwrap();
        seen.push(head.clone());
        seen.len() - 1
    };
    let (head, length, body) = match script(&head, before) {
        Answer::Whole(head, body) => (head, body.len(), body),
        Answer::Half(length, body) => ("HTTP/1.1 200 OK\r\n".to_owned(), length, body),
        Answer::Drip => {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n").await;
            while socket.write_all(b".").await.is_ok() && socket.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            return;
        }
        Answer::Silence => return Notify::new().notified().await,
    };
    let head = format!("{head}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    let _ = socket.write_all(head.as_bytes()).await;
    let _ = socket.write_all(&body).await;
    let _ = socket.shutdown().await;
}

/// The certificate of all hosts.
pub struct Ours {
    certificate: CertificateDer<'static>,
    acceptor: TlsAcceptor,
}

pub fn ours() -> &'static Ours {
    static OURS: OnceLock<Ours> = OnceLock::new();
    OURS.get_or_init(|| {
        watch_the_log();
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key.into())
            .unwrap();
        Ours { certificate: own.cert.der().clone(), acceptor: TlsAcceptor::from(Arc::new(config)) }
    })
}

pub fn tls(roots: RootCertStore) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

pub fn trusting() -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(ours().certificate.clone()).unwrap();
    tls(roots)
}
