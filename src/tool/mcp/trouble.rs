//! Why an MCP server cannot be reached, and what its owner can do about it.
//!
//! No sentence holds an address's path or query, a token, or anything that the server said.

use std::error::Error;
use std::io;

use rmcp::ServiceError;
use rmcp::model::ErrorCode;
use rmcp::service::ClientInitializeError;
use rmcp::transport::DynamicTransportError;
use rmcp::transport::streamable_http_client::StreamableHttpError;
use rustls::CertificateError;

use super::lines::{GARBLED, TOO_LONG};

/// Why a server cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    #[error("`url` is no address of a web server; it must start with https:// or http://")]
    NoAddress,
    #[error("a header cannot be sent as it is written; check `headers`, `token`, `user` and `password`")]
    BadHeader,
    #[error("its program cannot be started ({0}); check `command`, and that it is installed here")]
    NoProgram(io::ErrorKind),
    #[error(
        "what its program prints is not MCP; check `command`: it must start an MCP server that speaks on standard \
             input and output, and prints nothing else there"
    )]
    Chatter,
    #[error("its program ended by itself; what it wrote is in the log, up to its first call")]
    Ended,
    #[error("it does not accept who we are (401); check `token`, or `user` and `password`")]
    NotAccepted,
    #[error("we may not use it (403); check what the token may do, and the server's list of allowed hosts")]
    Forbidden,
    #[error("there is nothing at that address (404); check the path of `url`: most servers answer at /mcp")]
    NotFound,
    #[error(
        "it sends us elsewhere ({0}); if that is the same host, set `url` to where it leads: a slash at its end \
             matters. Another host means that something in between answers, such as a login page"
    )]
    Elsewhere(u16),
    #[error(
        "somebody else listens to it already (409), and a server made by `fly mcp launch` lets one in at a \
             time; it is tried every 10 s. Better run it as a `command`, or as a true streamable HTTP server"
    )]
    Taken,
    #[error("it refuses our requests ({0}); it may have been restarted, or it is no MCP server")]
    Refuses(u16),
    #[error("it has a fault of its own ({0})")]
    Fault(u16),
    #[error("nobody knows its host's name; check the spelling of `url`, and this machine's DNS")]
    NoSuchName,
    #[error("no connection to it can be made ({0}); check host and port of `url`, and that it runs")]
    Unreachable(io::ErrorKind),
    #[error("its certificate is not trusted: {0}")]
    Untrusted(&'static str),
    #[error("it takes too long to answer; check that it is an MCP server, and that it is well")]
    Slow,
    #[error("what it answers is not MCP; check that `url` is the address of its MCP endpoint")]
    Garbage,
    #[error("its answer is larger than we take")]
    TooLarge,
    #[error("it answers what every MCP server must with an error (JSON-RPC {0})")]
    Rejects(i32),
    #[error("we speak no version of MCP that it speaks")]
    NoCommonVersion,
    #[error("the connection to it broke off")]
    Lost,
    #[error("the connection to it had broken off before")]
    Gone,
}

/// Whether a code is one with which servers turn a session away that they do not know, after a restart say.
pub fn of_strangers(code: ErrorCode) -> bool {
    matches!(code.0, -32600 | -32000 | -32001)
}

impl Trouble {
    /// From the status of an HTTP answer that is no success.
    pub fn of_status(status: u16) -> Trouble {
        match status {
            401 => Trouble::NotAccepted,
            403 => Trouble::Forbidden,
            404 | 410 => Trouble::NotFound,
            300..=399 => Trouble::Elsewhere(status),
            400..=499 => Trouble::Refuses(status),
            _ => Trouble::Fault(status),
        }
    }

    /// Whether the server surely did nothing with the request: it turned it away at the door, or never had it.
    pub fn before_the_door(self) -> bool {
        match self {
            Trouble::NotAccepted | Trouble::Forbidden | Trouble::NotFound | Trouble::Elsewhere(_) => true,
            Trouble::Taken | Trouble::Refuses(_) | Trouble::NoSuchName | Trouble::Untrusted(_) => true,
            Trouble::NoAddress | Trouble::BadHeader | Trouble::NoProgram(_) | Trouble::Chatter => true,
            // A request meets these only before it is sent.
            Trouble::Ended | Trouble::Gone => true,
            // A connection from the pool may break after the request was read.
            Trouble::Unreachable(kind) => kind == io::ErrorKind::ConnectionRefused,
            Trouble::Fault(_) | Trouble::Slow | Trouble::Garbage | Trouble::TooLarge => false,
            Trouble::Rejects(_) | Trouble::NoCommonVersion | Trouble::Lost => false,
        }
    }

    /// Whether it is about the one request: the server may be as well as before.
    pub fn of_the_request(self) -> bool {
        matches!(self, Trouble::Forbidden | Trouble::Refuses(413 | 429))
    }

    /// Whether a server that knows only sessions that begin with `initialize` may end up so when it is asked for its
    /// era.
    pub fn of_the_era(self) -> bool {
        match self {
            Trouble::Chatter | Trouble::Ended | Trouble::NotFound | Trouble::Refuses(_) => true,
            Trouble::Fault(_) | Trouble::Slow | Trouble::Garbage | Trouble::TooLarge => true,
            Trouble::Rejects(_) | Trouble::NoCommonVersion | Trouble::Lost | Trouble::Gone => true,
            Trouble::NoAddress | Trouble::BadHeader | Trouble::NoProgram(_) | Trouble::NotAccepted => false,
            Trouble::Forbidden | Trouble::Elsewhere(_) | Trouble::Taken | Trouble::NoSuchName => false,
            Trouble::Unreachable(_) | Trouble::Untrusted(_) => false,
        }
    }

    /// From the depth of what the HTTP client says: its own words may quote the URL.
    pub fn of_client(error: &reqwest::Error) -> Trouble {
        if error.is_timeout() {
            return Trouble::Slow;
        }
        let mut cause = error.source();
        let mut kind = None;
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<rustls::Error>() {
                return Trouble::Untrusted(distrust(error));
            }
            // These errors have no types that could be seen.
            let text = error.to_string();
            if text.starts_with("dns error") || text == "invalid dns name" {
                return Trouble::NoSuchName;
            }
            let io = error.downcast_ref::<io::Error>();
            kind = io.map(io::Error::kind).or(kind);
            // What an I/O error wraps is not its source.
            cause = match io.and_then(io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        match (error.is_builder(), error.is_connect(), kind) {
            (true, ..) => Trouble::NoAddress,
            (_, true, kind) => Trouble::Unreachable(kind.unwrap_or(io::ErrorKind::NotConnected)),
            _ => Trouble::Lost,
        }
    }

    /// From a session that did not begin. Where the transport ended without a word, `None`: it may have told its
    /// reason elsewhere.
    pub fn of_start(error: &ClientInitializeError) -> Option<Trouble> {
        use ClientInitializeError as Error;
        Some(match error {
            Error::TransportError { error, .. } => return of_transport(error),
            Error::JsonRpcError(error) => Trouble::Rejects(error.code.0),
            Error::NoCompatibleProtocolVersion { .. } => Trouble::NoCommonVersion,
            Error::LegacyFallbackFailed { fallback, .. } => return Trouble::of_start(fallback),
            Error::ConnectionClosed(_) => return None,
            _ => Trouble::Garbage,
        })
    }

    /// From a request that was not answered.
    pub fn of_service(error: &ServiceError) -> Trouble {
        match error {
            ServiceError::McpError(error) => match error.code {
                TOO_LONG => Trouble::TooLarge,
                GARBLED => Trouble::Garbage,
                code => Trouble::Rejects(code.0),
            },
            ServiceError::TransportSend(error) => of_transport(error).unwrap_or(Trouble::Lost),
            ServiceError::Timeout { .. } => Trouble::Slow,
            ServiceError::UnexpectedResponse => Trouble::Garbage,
            _ => Trouble::Lost,
        }
    }
}

fn of_transport(error: &DynamicTransportError) -> Option<Trouble> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error.error.as_ref());
    while let Some(error) = cause {
        if let Some(trouble) = error.downcast_ref::<Trouble>() {
            return Some(*trouble);
        }
        match error.downcast_ref::<StreamableHttpError<Trouble>>() {
            Some(StreamableHttpError::Client(trouble)) => return Some(*trouble),
            Some(StreamableHttpError::AuthRequired(_)) => return Some(Trouble::NotAccepted),
            Some(StreamableHttpError::InsufficientScope(_)) => return Some(Trouble::Forbidden),
            _ => cause = error.source(),
        }
    }
    None
}

fn distrust(error: &rustls::Error) -> &'static str {
    use CertificateError as Bad;
    match error {
        rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "it has expired; renew it"
        }
        rustls::Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            "it is for another name; check the host in `url`"
        }
        rustls::Error::InvalidCertificate(_) => {
            "nobody we trust vouches for it; name its authority in SSL_CERT_FILE"
        }
        _ => "TLS does not come about; check that `url` has the port of an https server",
    }
}
