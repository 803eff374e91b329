//! The proxy between us and the internet: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, as curl reads them.
//!
//! It is an HTTP proxy. This machine and private networks of Fly are reached without one.

use std::io;
use std::sync::LazyLock;

use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use reqwest::{ClientBuilder, NoProxy, Proxy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio_tungstenite::tungstenite::http::Uri;

use super::{Fault, addresses};

/// Never behind a proxy.
const NEAR: &str = "localhost,127.0.0.0/8,::1,.internal,.flycast";
/// The longest answer of a proxy, in bytes.
const MAX_ANSWER: usize = 8 * 1024;

/// The proxies of this process.
pub static PROXIES: LazyLock<Proxies> = LazyLock::new(|| Proxies::read(|name| std::env::var(name).ok()));

/// See the module.
#[derive(Debug)]
pub struct Proxies {
    http: String,
    https: String,
    not_for: String,
    matcher: Matcher,
}

impl Proxies {
    /// Reads the variables, in lower case first.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Proxies {
        let first = |name: &str| {
            let value = variable(&name.to_ascii_lowercase()).or_else(|| variable(name));
            value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let address = |name: &str| {
            let value = first(name)?;
            let value = if value.contains("://") { value } else { format!("http://{value}") };
            let sound = value.parse::<Uri>().is_ok_and(|uri| uri.scheme_str() == Some("http"));
            if !sound {
                tracing::warn!(variable = name, "Ignoring a proxy: its address must start with http://");
            }
            sound.then_some(value)
        };
        let all = address("ALL_PROXY");
        let of = |name| address(name).or_else(|| all.clone()).unwrap_or_default();
        let (http, https) = (of("HTTP_PROXY"), of("HTTPS_PROXY"));
        let not_for = format!("{NEAR},{}", first("NO_PROXY").unwrap_or_default());
        let matcher = Matcher::builder().http(http.clone()).https(https.clone()).no(not_for.clone()).build();
        Proxies { http, https, not_for, matcher }
    }

    /// An HTTP client that uses them.
    pub fn client(&self, builder: ClientBuilder) -> ClientBuilder {
        let builder = builder.no_proxy();
        let proxies = [Proxy::http(&self.http), Proxy::https(&self.https)];
        let with = |builder: ClientBuilder, proxy: Proxy| {
            builder.proxy(proxy.no_proxy(NoProxy::from_string(&self.not_for)))
        };
        proxies.into_iter().flatten().fold(builder, with)
    }

    /// Connects to a host for TLS (`secure`) or for a WebSocket without.
    pub async fn connect(&self, host: &str, port: u16, secure: bool) -> Result<TcpStream, Fault> {
        let scheme = if secure { "https" } else { "http" };
        let shown = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let target = format!("{shown}:{port}");
        let uri: Uri = format!("{scheme}://{target}/").parse().map_err(|_| Fault::BadUrl)?;
        let Some(proxy) = self.matcher.intercept(&uri) else {
            return open(host, port).await.map_err(|fault| fault.unwrap_or(Fault::DnsFailed));
        };
        tunnel(&proxy, &target).await
    }
}

/// Connects. `Err(None)`: the host is not known.
async fn open(host: &str, port: u16) -> Result<TcpStream, Option<Fault>> {
    let found: Vec<_> = lookup_host((host, port)).await.map_err(|_| None)?.collect();
    let tcp = addresses::connect(found).await.map_err(Fault::from)?;
    tcp.set_nodelay(true).map_err(Fault::from)?;
    Ok(tcp)
}

/// Asks a proxy for a connection (`CONNECT`).
async fn tunnel(proxy: &Intercept, target: &str) -> Result<TcpStream, Fault> {
    let host = proxy.uri().host().unwrap_or_default().trim_matches(['[', ']']);
    let mut tcp =
        open(host, proxy.uri().port_u16().unwrap_or(80)).await.map_err(|_| Fault::ProxyUnreachable)?;
    let login = proxy.basic_auth().and_then(|value| value.to_str().ok());
    let login = login.map(|value| format!("Proxy-Authorization: {value}\r\n")).unwrap_or_default();
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{login}\r\n");
    let status = async {
        tcp.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        // The other end of a tunnel waits for us, so nothing follows the answer.
        while !answer.ends_with(b"\r\n\r\n") {
            if tcp.read_buf(&mut answer).await? == 0 || answer.len() > MAX_ANSWER {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        let status =
            answer.get(9..12).and_then(|status| std::str::from_utf8(status).ok()?.parse::<u16>().ok());
        status.ok_or(io::Error::from(io::ErrorKind::InvalidData))
    };
    match status.await {
        Ok(200..=299) => Ok(tcp),
        Ok(407) => Err(Fault::ProxyLogin),
        Ok(_) => Err(Fault::ProxyRefused),
        Err(_) => Err(Fault::ProxyUnreachable),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;

    /// A proxy for one connection, which gives this answer and then what follows. It returns what it read.
    async fn stub(answer: &'static str) -> (String, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = tokio::spawn(async move {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                assert!(tcp.read_buf(&mut asked).await.unwrap() > 0);
            }
            tcp.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(asked).unwrap()
        });
        (address, serving)
    }

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        Proxies::read(|name| {
            let found = variables.iter().find(|(there, _)| *there == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[tokio::test]
    async fn a_websocket_goes_through_the_proxy() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\nVia: x\r\n\r\n", None),
            ("HTTP/1.1 407 No\r\n\r\n", Some(Fault::ProxyLogin)),
            ("HTTP/1.1 403 No\r\n\r\n", Some(Fault::ProxyRefused)),
            ("nonsense\r\n\r\n", Some(Fault::ProxyUnreachable)),
        ] {
            let (address, serving) = stub(answer).await;
            let proxies = proxies(&[("HTTPS_PROXY", &format!("http://me:secret@{address}"))]);
            let opened = proxies.connect("model.example.com", 443, true).await;
            assert_eq!(opened.err(), expected);
            let asked = serving.await.unwrap();
            assert!(asked.starts_with("CONNECT model.example.com:443 HTTP/1.1\r\n"), "{asked}");
            assert!(asked.contains("\r\nProxy-Authorization: Basic bWU6c2VjcmV0\r\n"), "{asked}");
        }
        let gone = proxies(&[("ALL_PROXY", "127.0.0.1:9")]);
        assert_eq!(gone.connect("model.example.com", 443, true).await.err(), Some(Fault::ProxyUnreachable));
    }

    #[tokio::test]
    async fn a_request_goes_through_the_proxy_unless_it_is_near() {
        let (address, serving) = stub("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
        let all = proxies(&[("http_proxy", &address), ("NO_PROXY", "direct.example.com")]);
        let tls = crate::link::tls::client_config(false, None).unwrap();
        let client = all.client(reqwest::Client::builder().tls_backend_preconfigured((*tls).clone()));
        let client = client.build().unwrap();
        let answer = client.get("http://api.example.com/path").send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "hi");
        assert!(serving.await.unwrap().starts_with("GET http://api.example.com/path HTTP/1.1\r\n"));
        let gone = proxies(&[("ALL_PROXY", "127.0.0.1:9")]).client(reqwest::Client::builder());
        let gone = gone.tls_backend_preconfigured((*tls).clone()).build().unwrap();
        let error = gone.get("https://api.example.com/").send().await.unwrap_err();
        assert_eq!(Fault::from(error), Fault::ProxyUnreachable);
        for (answer, fault) in
            [("HTTP/1.1 407 No\r\n\r\n", Fault::ProxyLogin), ("HTTP/1.1 403 No\r\n\r\n", Fault::ProxyRefused)]
        {
            let (address, _serving) = stub(answer).await;
            let client = proxies(&[("https_proxy", &address)]).client(reqwest::Client::builder());
            let client = client.tls_backend_preconfigured((*tls).clone()).build().unwrap();
            let error = client.get("https://api.example.com/").send().await.unwrap_err();
            assert_eq!(Fault::from(error), fault);
        }
        for host in ["localhost", "127.0.0.1", "[::1]", "app.internal", "app.flycast", "direct.example.com"] {
            let uri: Uri = format!("http://{host}/").parse().unwrap();
            assert!(all.matcher.intercept(&uri).is_none(), "{host}");
        }
        let (address, serving) = stub("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
        assert_eq!(
            client.get(format!("http://{address}/")).send().await.unwrap().text().await.unwrap(),
            "hi"
        );
        assert!(serving.await.unwrap().starts_with("GET / HTTP/1.1\r\n"));
    }

    #[test]
    fn an_address_that_is_not_of_an_http_proxy_is_ignored() {
        for value in ["", " ", "socks5://127.0.0.1:1080", "https://proxy.example.com", "http://"] {
            let none = proxies(&[("HTTPS_PROXY", value)]);
            let uri = Uri::from_static("https://api.example.com/");
            assert!(none.matcher.intercept(&uri).is_none(), "{value:?}");
        }
    }
}
