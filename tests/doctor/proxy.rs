//! A proxy in front of the server, which does to requests what proxies do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

/// What it does. `…At` is for paths that start so; it forwards the rest unchanged.
#[derive(Clone)]
pub enum Habit {
    /// It forwards everything unchanged.
    Plain,
    /// It removes the headers of an upgrade.
    NoUpgrades,
    /// It removes this header.
    Loses(&'static str),
    /// It replaces the header `Host`.
    OtherHost,
    /// It puts a prefix before the path.
    MovesAt(&'static str),
    /// It waits before it forwards.
    SlowAt(&'static str, Duration),
    /// It replaces the header `Date` of the answers.
    Dates(&'static str),
    /// It answers everything with this status, these headers and this body.
    Says(&'static str, &'static str, &'static str),
    /// It answers with this status and body.
    SaysAt(&'static str, &'static str, &'static str),
    /// It answers a request for a WebSocket with this status and body.
    SaysToUpgrades(&'static str, &'static str),
    /// It closes the connection without an answer.
    DropsAt(&'static str),
    /// It closes every connection without an answer.
    Drops,
    /// It answers with a body that never ends.
    EndlessBody,
    /// It answers with headers that never end.
    EndlessHeaders,
    /// Its answers are not HTTP.
    Garbage,
    /// It never answers.
    Silent,
}

/// A running proxy; it ends when it is dropped.
pub struct Proxy {
    pub url: String,
    server: Arc<AtomicU16>,
    task: AbortHandle,
}

impl Proxy {
    pub async fn start(habit: Habit) -> Proxy {
        Proxy::listen(habit, None).await
    }

    /// The same with TLS, and its self-signed certificate for this name as PEM.
    pub async fn secure(habit: Habit, name: &str) -> (Proxy, String) {
        let own = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key.into())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        (Proxy::listen(habit, Some(acceptor)).await, own.cert.pem())
    }

    async fn listen(habit: Habit, tls: Option<TlsAcceptor>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = match tls {
            Some(_) => format!("https://localhost:{port}"),
            None => format!("http://127.0.0.1:{port}"),
        };
        let server = Arc::new(AtomicU16::new(0));
        let to = server.clone();
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (habit, tls, to) = (habit.clone(), tls.clone(), to.load(Ordering::SeqCst));
                tokio::spawn(async move {
                    match tls {
                        None => serve(socket, habit, to).await,
                        Some(tls) => match tls.accept(socket).await {
                            Ok(socket) => serve(socket, habit, to).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        Proxy { url, server, task: task.abort_handle() }
    }

    /// Sets the port to which it forwards.
    pub fn forward_to(&self, port: u16) {
        self.server.store(port, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves one connection. `None`: it was closed.
async fn serve(mut client: impl AsyncRead + AsyncWrite + Unpin, habit: Habit, to: u16) -> Option<()> {
    match habit {
        Habit::Drops => return None,
        Habit::Silent => std::future::pending().await,
        _ => {}
    }
    let mut head = head(&mut client).await?;
    let path = head.split(' ').nth(1)?.to_owned();
    let says = match habit {
        Habit::EndlessBody => {
            client.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n").await.ok()?;
            loop {
                client.write_all(b"drip ").await.ok()?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Habit::EndlessHeaders => {
            client.write_all(b"HTTP/1.1 200 OK\r\n").await.ok()?;
            loop {
                client.write_all(format!("X-More: {}\r\n", "more ".repeat(200)).as_bytes()).await.ok()?;
            }
        }
        Habit::Garbage => return client.write_all(b"SSH-2.0-OpenSSH_9\r\n\r\n").await.ok(),
        Habit::Says(status, headers, body) => Some((status, headers, body)),
        Habit::SaysAt(start, status, body) if path.starts_with(start) => Some((status, "", body)),
        Habit::SaysToUpgrades(status, body) if head.to_lowercase().contains("\r\nupgrade:") => {
            Some((status, "", body))
        }
        Habit::DropsAt(start) if path.starts_with(start) => return None,
        Habit::SlowAt(start, pause) if path.starts_with(start) => {
            tokio::time::sleep(pause).await;
            None
        }
        _ => None,
    };
    if let Some((status, headers, body)) = says {
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
        );
        // Closing while the client still sends would reset the connection and lose the answer.
        client.write_all(answer.as_bytes()).await.ok()?;
        client.flush().await.ok()?;
        client.shutdown().await.ok()?;
        let _ = tokio::time::timeout(Duration::from_secs(1), client.read(&mut [0; 1024])).await;
        return Some(());
    }
    let drop_lines = |head: &str, names: &[&str]| {
        let keep =
            |line: &&str| !names.iter().any(|name| line.to_lowercase().starts_with(&format!("{name}:")));
        head.split("\r\n").filter(keep).collect::<Vec<_>>().join("\r\n")
    };
    match habit {
        Habit::NoUpgrades => head = drop_lines(&head, &["upgrade", "connection"]),
        Habit::Loses(name) => head = drop_lines(&head, &[name]),
        Habit::OtherHost => {
            head = drop_lines(&head, &["host"]).replacen("\r\n", "\r\nHost: inside.example.com\r\n", 1);
        }
        Habit::MovesAt(start) if path.starts_with(start) => {
            head = head.replacen(&format!(" {path} "), &format!(" /inside{path} "), 1);
        }
        _ => {}
    }
    let mut server = TcpStream::connect(("127.0.0.1", to)).await.ok()?;
    server.write_all(head.as_bytes()).await.ok()?;
    if let Habit::Dates(date) = habit {
        // The server answers once it has the body.
        let lower = head.to_lowercase();
        let length = lower.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        client.read_exact(&mut body).await.ok()?;
        server.write_all(&body).await.ok()?;
        let mut answer = self::head(&mut server).await?;
        answer = drop_lines(&answer, &["date"]).replacen("\r\n", &format!("\r\nDate: {date}\r\n"), 1);
        client.write_all(answer.as_bytes()).await.ok()?;
    }
    copy_bidirectional(&mut client, &mut server).await.ok().map(drop)
}

/// Everything up to the first empty line, which is included.
async fn head(socket: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}
