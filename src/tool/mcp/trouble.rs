//! Why an MCP server cannot be used, and what its owner can do about it.
//!
//! No message holds a path or a query of an address, a token, or anything that the server sent.

use std::error::Error;
use std::io;

use rmcp::ServiceError;
use rmcp::model::ErrorCode;
use rmcp::service::ClientInitializeError;
use rmcp::transport::DynamicTransportError;
use rmcp::transport::streamable_http_client::StreamableHttpError;

use super::lines::{GARBLED, TOO_LONG};
use crate::link::network::Fault;

/// Why a server cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    #[error("{0}; {help}", help = .0.help())]
    Network(#[from] Fault),
    #[error("invalid header; check `headers`, `token`, `user` and `password`")]
    BadHeader,
    #[error("the program cannot be started ({0}); check `command`, and that it is installed here")]
    NoProgram(io::ErrorKind),
    #[error(
        "the program prints something that is not MCP; check `command`: it must start an MCP server that uses \
         standard input and output, and print nothing else there"
    )]
    Chatter,
    #[error("the program ended")]
    Exited,
    #[error("not authorized (401); check `token`, or `user` and `password`")]
    Unauthorized,
    #[error("forbidden (403); check the permissions of the token, and the server's list of allowed hosts")]
    Forbidden,
    #[error("not found ({0}); check the path of `url`: most servers answer at /mcp")]
    NotFound(u16),
    #[error(
        "redirected ({0}); if the target is the same host, set `url` to it: a slash at the end matters. Another host \
         means that something in between answers, such as a login page"
    )]
    Redirected(u16),
    #[error(
        "another client is connected (409), and a server made by `fly mcp launch` allows one at a time; trying again \
         every 10 s. Better run it as a `command`, or as a streamable HTTP server"
    )]
    Taken,
    #[error("requests are rejected ({0}){help}", help = rejected(*.0))]
    Rejected(u16),
    /// HTTP with SSE, which streamable HTTP replaced in 2025.
    #[error(
        "an old kind of server, which speaks HTTP with SSE; in place of `url` write \
         `command: [npx, -y, mcp-remote, URL]` with its address, which translates"
    )]
    OldSse,
    #[error("server error ({0})")]
    ServerError(u16),
    #[error("the answer is not MCP; check that `url` is the address of the MCP endpoint")]
    NotMcp,
    #[error("the answer is too large")]
    TooLarge,
    #[error("the server answers a mandatory request with JSON-RPC error {0}")]
    RpcError(i32),
    #[error("no common version of MCP")]
    NoCommonVersion,
    /// The session had ended before the request.
    #[error("the connection was lost")]
    Gone,
}

/// What follows from the status of a rejected request.
fn rejected(status: u16) -> &'static str {
    match status {
        405 => "; the address takes no POST, so it is not that of an MCP endpoint: check the path of `url`",
        421 => "; the server does not serve this host name: add the host of `url` to its allowed hosts",
        429 => "; there were too many: the server, or something before it, limits them",
        _ => "",
    }
}

/// Whether servers answer with this code if they do not know the session, for example after a restart.
pub fn is_unknown_session(code: ErrorCode) -> bool {
    matches!(code.0, -32600 | -32000 | -32001)
}

impl Trouble {
    pub const LOST: Trouble = Trouble::Network(Fault::ConnectionClosed);
    pub const LATE: Trouble = Trouble::Network(Fault::AnswerTimeout);

    /// From the status of an HTTP answer that is no success.
    pub fn from_status(status: u16) -> Trouble {
        match status {
            401 => Trouble::Unauthorized,
            403 => Trouble::Forbidden,
            404 | 410 => Trouble::NotFound(status),
            300..=399 => Trouble::Redirected(status),
            400..=499 => Trouble::Rejected(status),
            _ => Trouble::ServerError(status),
        }
    }

    /// Whether the server certainly did nothing: it rejected the request at once, or never received it.
    pub fn is_undone(self) -> bool {
        match self {
            Trouble::Network(fault) => fault.is_unsent(),
            Trouble::Unauthorized | Trouble::Forbidden | Trouble::NotFound(_) | Trouble::Redirected(_) => {
                true
            }
            Trouble::OldSse
            | Trouble::Taken
            | Trouble::Rejected(_)
            | Trouble::BadHeader
            | Trouble::NoProgram(_) => true,
            // A request meets these only before it is sent.
            Trouble::Chatter | Trouble::Exited | Trouble::Gone => true,
            Trouble::ServerError(_) | Trouble::NotMcp | Trouble::TooLarge => false,
            Trouble::RpcError(_) | Trouble::NoCommonVersion => false,
        }
    }

    /// Whether only this request failed, and the session still works.
    pub fn spares_session(self) -> bool {
        matches!(self, Trouble::Forbidden | Trouble::Rejected(413 | 429))
    }

    /// Whether a server that knows only sessions that begin with `initialize` may fail this way when it is asked for a
    /// newer version.
    pub fn may_be_legacy(self) -> bool {
        match self {
            Trouble::Network(fault) => !fault.is_unsent(),
            Trouble::Chatter | Trouble::Exited | Trouble::NotFound(_) | Trouble::Rejected(_) => true,
            Trouble::ServerError(_) | Trouble::NotMcp | Trouble::TooLarge => true,
            Trouble::RpcError(_) | Trouble::NoCommonVersion | Trouble::Gone => true,
            Trouble::BadHeader | Trouble::NoProgram(_) | Trouble::Unauthorized => false,
            Trouble::Forbidden | Trouble::Redirected(_) | Trouble::Taken | Trouble::OldSse => false,
        }
    }

    /// From a session that did not begin. `None`: the transport ended without an error of its own.
    pub fn from_start(error: &ClientInitializeError) -> Option<Trouble> {
        use ClientInitializeError as Error;
        Some(match error {
            Error::TransportError { error, .. } => return from_transport(error),
            Error::JsonRpcError(error) => Trouble::RpcError(error.code.0),
            Error::NoCompatibleProtocolVersion { .. } => Trouble::NoCommonVersion,
            Error::LegacyFallbackFailed { fallback, .. } => return Trouble::from_start(fallback),
            Error::ConnectionClosed(_) => return None,
            _ => Trouble::NotMcp,
        })
    }

    /// From a request without an answer.
    pub fn from_service(error: &ServiceError) -> Trouble {
        match error {
            ServiceError::McpError(error) => match error.code {
                TOO_LONG => Trouble::TooLarge,
                GARBLED => Trouble::NotMcp,
                code => Trouble::RpcError(code.0),
            },
            ServiceError::TransportSend(error) => from_transport(error).unwrap_or(Trouble::LOST),
            ServiceError::Timeout { .. } => Trouble::LATE,
            ServiceError::UnexpectedResponse => Trouble::NotMcp,
            _ => Trouble::LOST,
        }
    }
}

fn from_transport(error: &DynamicTransportError) -> Option<Trouble> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error.error.as_ref());
    while let Some(error) = cause {
        if let Some(trouble) = error.downcast_ref::<Trouble>() {
            return Some(*trouble);
        }
        match error.downcast_ref::<StreamableHttpError<Trouble>>() {
            Some(StreamableHttpError::Client(trouble)) => return Some(*trouble),
            Some(StreamableHttpError::AuthRequired(_)) => return Some(Trouble::Unauthorized),
            Some(StreamableHttpError::InsufficientScope(_)) => return Some(Trouble::Forbidden),
            _ => cause = error.source(),
        }
    }
    None
}
