//! One request and its answer: as much of HTTP/1.1 as a webhook needs.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Twilio tries twice for 5 s to connect, and waits 15 s in total.
const CONNECT: Duration = Duration::from_secs(5);
const TOTAL: Duration = Duration::from_secs(15);
const LONGEST_HEAD: usize = 32 * 1_024;
const LONGEST_BODY: usize = 256 * 1_024;

#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub content_type: Option<String>,
    pub body: Vec<u8>,
}

/// A request, complete with its signature.
pub(super) struct Request<'a> {
    /// `host:port` to connect to.
    pub server: &'a str,
    /// The `Host` header.
    pub host: &'a str,
    pub method: &'a str,
    pub target: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a str,
}

/// Sends the request and reads the whole answer; the error describes what went wrong.
pub(super) async fn send(request: &Request<'_>) -> Result<Answer, String> {
    timeout(TOTAL, exchange(request)).await.map_err(|_| "no answer in 15 s".to_owned())?
}

/// Connects as Twilio does: two tries of 5 s.
pub(super) async fn connect(server: &str) -> Result<TcpStream, String> {
    let mut why = String::new();
    for _ in 0..2 {
        match timeout(CONNECT, TcpStream::connect(server)).await {
            Ok(Ok(socket)) => {
                socket.set_nodelay(true).map_err(|error| error.to_string())?;
                return Ok(socket);
            }
            Ok(Err(error)) => why = error.to_string(),
            Err(_) => why = "no connection in 5 s".to_owned(),
        }
    }
    Err(why)
}

async fn exchange(request: &Request<'_>) -> Result<Answer, String> {
    let mut socket = connect(request.server).await?;
    let mut head = format!(
        "{} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
        request.method, request.target, request.host
    );
    for (name, value) in request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if request.method == "POST" {
        head.push_str("Content-Type: application/x-www-form-urlencoded; charset=UTF-8\r\n");
        head.push_str(&format!("Content-Length: {}\r\n", request.body.len()));
    }
    head.push_str("\r\n");
    head.push_str(request.body);
    socket.write_all(head.as_bytes()).await.map_err(|error| error.to_string())?;

    let mut read = Vec::with_capacity(2_048);
    let length = loop {
        if let Some(at) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if read.len() > LONGEST_HEAD {
            return Err("the head of the answer is longer than 32 KiB".to_owned());
        }
        if !more(&mut socket, &mut read).await? {
            return Err("the connection ended before the answer".to_owned());
        }
    };
    let body = read.split_off(length + 4);
    let head = String::from_utf8(read).map_err(|_| "the head of the answer is not text")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
    let status = status.and_then(|rest| rest.get(..3)?.parse().ok());
    let status = status.ok_or("the answer is not HTTP/1.1")?;
    let headers = lines.filter_map(|line| line.split_once(':'));
    let header = |name: &str| {
        headers.clone().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim())
    };
    let content_type = header("content-type").map(str::to_owned);
    let chunked = header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"));
    let content_length = header("content-length").map(str::parse::<usize>);
    let content_length = content_length.transpose().map_err(|_| "the length is not a number")?;
    let body = if chunked {
        unchunk(&mut socket, body).await?
    } else {
        read_body(&mut socket, body, content_length).await?
    };
    Ok(Answer { status, content_type, body })
}

async fn more(socket: &mut TcpStream, read: &mut Vec<u8>) -> Result<bool, String> {
    Ok(socket.read_buf(read).await.map_err(|error| error.to_string())? > 0)
}

/// A body of known length, or one that ends with the connection.
async fn read_body(
    socket: &mut TcpStream,
    mut body: Vec<u8>,
    length: Option<usize>,
) -> Result<Vec<u8>, String> {
    let wanted = length.unwrap_or(usize::MAX);
    while body.len() < wanted && body.len() <= LONGEST_BODY {
        if !more(socket, &mut body).await? {
            if length.is_some() {
                return Err("the answer ends in the middle".to_owned());
            }
            break;
        }
    }
    body.truncate(wanted);
    Ok(body)
}

async fn unchunk(socket: &mut TcpStream, mut raw: Vec<u8>) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        let line = loop {
            if let Some(at) = raw.windows(2).position(|window| window == b"\r\n") {
                break at;
            }
            if raw.len() > LONGEST_HEAD || !more(socket, &mut raw).await? {
                return Err("a chunk has no length".to_owned());
            }
        };
        let written = str::from_utf8(&raw[..line]).unwrap_or_default();
        let digits = written.split(';').next().unwrap_or_default().trim();
        let length = usize::from_str_radix(digits, 16).map_err(|_| "a chunk has no length")?;
        if length == 0 || body.len() + length > LONGEST_BODY {
            return Ok(body);
        }
        while raw.len() < line + 2 + length + 2 {
            if !more(socket, &mut raw).await? {
                return Err("the answer ends in the middle".to_owned());
            }
        }
        body.extend_from_slice(&raw[line + 2..][..length]);
        raw.drain(..line + 2 + length + 2);
    }
}
