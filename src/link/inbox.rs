//! Receives the frames of a WebSocket. It asks the library only when bytes have come: before each attempt to read, the
//! library fills its buffer with zeros, and a session asks both its sockets whenever one of them has something.

use std::task::{Context, Poll, ready};

use futures_util::StreamExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// See the module.
#[derive(Debug, Default)]
pub struct Inbox {
    /// The library has returned every frame that it read.
    drained: bool,
}

/// A stream that knows whether a read would get bytes, an end or an error.
pub trait Readable {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()>;
}

impl Readable for TcpStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_read_ready(cx).map(drop)
    }
}

impl Readable for MaybeTlsStream<TcpStream> {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(tcp) => tcp.poll_readable(cx),
            // Once a read has waited for the network, no plaintext is left.
            Self::Rustls(tls) => tls.get_ref().0.poll_readable(cx),
            _ => Poll::Ready(()),
        }
    }
}

impl Inbox {
    /// The next frame; `None` once the socket is closed.
    pub fn poll_next<S>(
        &mut self,
        socket: &mut WebSocketStream<S>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, Error>>>
    where
        S: AsyncRead + AsyncWrite + Readable + Unpin,
    {
        if self.drained {
            ready!(socket.get_ref().poll_readable(cx));
        }
        let next = socket.poll_next_unpin(cx);
        self.drained = next.is_pending();
        next
    }
}
