//! The upgrade of a connection to a WebSocket (RFC 6455 §4.2), up to the socket itself.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

use super::listen::Impatient;
use crate::link::caller::Upgraded;

/// A request that asks for a WebSocket, as it should.
pub struct Upgrade {
    answer: Response,
    connection: OnUpgrade,
}

impl Upgrade {
    /// `None` if the request does not ask for a WebSocket, or in a way that the standard does not allow.
    pub fn requested(request: &mut Request) -> Option<Self> {
        let connection = request.extensions_mut().remove::<OnUpgrade>()?;
        let answer = create_response_with_body(request, Body::empty).ok()?;
        Some(Self { answer, connection })
    }

    /// The answer that accepts it. The socket goes to `stream` once the answer is sent; if nobody waits for it any more,
    /// it closes.
    pub fn accept(self, stream: oneshot::Sender<Upgraded>) -> Response {
        let Self { answer, connection } = self;
        tokio::spawn(async move {
            let parts = connection.await.ok()?.downcast::<TokioIo<Impatient<TcpStream>>>().ok()?;
            let tcp = parts.io.into_inner().into_inner().into_std().ok()?;
            stream.send(Upgraded::new(tcp, parts.read_buf)).ok()
        });
        answer
    }
}
