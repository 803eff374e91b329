//! E-mail: one message at a time to the mail server of the settings.
//!
//! It knows SMTP's encryption, login and time limits, and how a message is written. A message never goes over a network
//! in the clear. No error contains an address, a password, or what a server said: that may quote either.

use std::path::Path;
use std::time::{Duration, SystemTime};

use lettre::address::Envelope;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, SinglePart};
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::commands;
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, Message};
use percent_encoding::percent_decode_str;
use rustls::RootCertStore;
use tokio::net::lookup_host;
use tokio::time::timeout;
use url::{Host, Url};

use super::network::{self, CONNECT, Fault};
use super::tls;
use crate::secret::Secret;

/// How long the server may take until it has let us in.
const LOGIN: Duration = Duration::from_secs(20);
/// How long sending one message may take in all. Servers that look into messages take their time, and one that is given
/// up too early arrives twice.
pub const LIMIT: Duration = Duration::from_secs(60);
/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// The longest subject, in characters.
const LONGEST_SUBJECT: usize = 200;

/// A mail server, and who we are there.
pub struct Mailer {
    host: Host<String>,
    port: u16,
    security: Security,
    tls: TlsParameters,
    login: Option<Credentials>,
    from: Mailbox,
    hello: ClientId,
}

/// How a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Security {
    /// From its first byte.
    Tls,
    /// Before anything else is said, or not at all.
    StartTls,
    /// Not at all: it does not leave this machine.
    Plain,
}

/// Why SMTP_URL or SMTP_FROM is wrong, as the second half of a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMailer {
    #[error("SMTP_URL must be like smtps://user:password@mail.example.com:465, or smtp://… for STARTTLS")]
    Scheme,
    #[error("SMTP_URL is not a URL: {0}; special characters in a password must be percent-encoded")]
    Syntax(url::ParseError),
    #[error("SMTP_URL has no host")]
    NoHost,
    #[error("SMTP_URL must end with the port: a path, `?` or `#` in a password must be percent-encoded")]
    Rest,
    #[error("SMTP_URL has a user without a password")]
    NoPassword,
    #[error("the user of SMTP_URL is not an e-mail address: set SMTP_FROM")]
    NoFrom,
    #[error("SMTP_FROM must be one e-mail address")]
    From,
    #[error("TLS cannot be set up")]
    Tls,
}

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotMailed {
    #[error("{0}")]
    Network(Fault),
    #[error("the mail server offers no encryption (STARTTLS)")]
    NoStartTls,
    #[error("the mail server offers no login with a password")]
    NoLogin,
    #[error("the mail server rejected the user or the password ({0})")]
    Login(u16),
    #[error("the mail server answered {0}")]
    Status(u16),
    #[error("the server closed the connection, or does not speak SMTP")]
    NotSmtp,
    #[error("the address is not one for e-mail")]
    BadAddress,
    #[error("the mail server takes no addresses with letters beyond ASCII")]
    NotAscii,
}

impl NotMailed {
    pub fn code(self) -> String {
        match self {
            Self::Network(fault) => fault.code().to_owned(),
            Self::NoStartTls => "smtp.no_starttls".to_owned(),
            Self::NoLogin => "smtp.no_login".to_owned(),
            Self::Login(_) => "smtp.login".to_owned(),
            Self::Status(status) => format!("smtp.{status}"),
            Self::NotSmtp => "smtp.no_answer".to_owned(),
            Self::BadAddress => "smtp.bad_address".to_owned(),
            Self::NotAscii => "smtp.not_ascii".to_owned(),
        }
    }

    /// What the owner can do, as the second half of a sentence.
    pub fn help(self) -> &'static str {
        match self {
            Self::Network(fault @ (Fault::Untrusted(_) | Fault::DnsFailed)) => fault.help(),
            Self::Network(Fault::NotTls | Fault::TlsFailed) => {
                "check the port: smtps:// is for TLS from the start, mostly at 465, and smtp:// for STARTTLS, mostly at 587"
            }
            Self::Network(_) | Self::NotSmtp => {
                "check host and port (smtps:// mostly has 465, smtp:// 587), the firewall, and whether this machine's \
                 network allows outgoing mail"
            }
            Self::NoStartTls => "use smtps://, or another mail server: messages never go in the clear",
            Self::NoLogin => "use another mail server, or one that needs no login",
            Self::Login(_) => {
                "check the user and the password in SMTP_URL; many services want a password made for programs"
            }
            Self::Status(_) => {
                "check SMTP_FROM: the mail server may accept only some senders. Its log says more"
            }
            Self::BadAddress => "correct the address",
            Self::NotAscii => "use another address",
        }
    }
}

/// A message to the owner.
#[derive(Debug, Clone, Copy)]
pub struct Mail<'a> {
    /// The same in every attempt: the part of `Message-ID` before the `@`.
    pub id: &'a str,
    pub to: &'a str,
    pub subject: &'a str,
    pub text: &'a str,
    /// When it was written.
    pub at: SystemTime,
}

impl Mailer {
    /// Reads `smtps://user:password@host:465` (TLS) or `smtp://user:password@host:587` (STARTTLS, except on this
    /// machine). `from` is an address, with or without a name; without one, the user is the sender. Trusts the system's
    /// certificates, or those in `bundle`. Connects to nothing.
    pub fn new(url: &Secret, from: Option<&str>, bundle: Option<&Path>) -> Result<Self, BadMailer> {
        let url = url.expose().trim();
        let is_tls = match url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase()).as_deref() {
            Some("smtps") => true,
            Some("smtp") => false,
            _ => return Err(BadMailer::Scheme),
        };
        let url = Url::parse(url).map_err(|error| match error {
            url::ParseError::EmptyHost => BadMailer::NoHost,
            error => BadMailer::Syntax(error),
        })?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(BadMailer::Rest);
        }
        let host = url.host().filter(|host| *host != Host::Domain("")).ok_or(BadMailer::NoHost)?.to_owned();
        // The URL's own parser knows no numbers as hosts of this scheme.
        let host = match &host {
            Host::Domain(name) => name.parse().map(Host::Ipv4).unwrap_or(host),
            _ => host,
        };
        let security = match is_tls {
            true => Security::Tls,
            false if is_here(&host) => Security::Plain,
            false => Security::StartTls,
        };
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user = decoded(url.username());
        let login = match url.password() {
            Some(password) => Some(Credentials::new(user.clone(), decoded(password))),
            None if user.is_empty() => None,
            None => return Err(BadMailer::NoPassword),
        };
        let from: Mailbox = match from.map(str::trim).filter(|from| !from.is_empty()) {
            Some(from) => from.parse().map_err(|_| BadMailer::From)?,
            None => user.parse().map_err(|_| BadMailer::NoFrom)?,
        };
        let domain = from.email.domain();
        // Some servers refuse the name that lettre gives itself.
        let hello = match domain.contains('.') && !domain.starts_with('[') && domain.is_ascii() {
            true => ClientId::Domain(domain.to_owned()),
            false => ClientId::default(),
        };
        let tls = parameters(&host, bundle).ok_or(BadMailer::Tls)?;
        let port = url.port().unwrap_or(if is_tls { 465 } else { 587 });
        Ok(Self { host, port, security, tls, login, from, hello })
    }

    /// Sends a message to one address. It has arrived when this returns `Ok`; otherwise it may have.
    pub async fn send(&self, mail: Mail<'_>) -> Result<(), NotMailed> {
        let to: Address = mail.to.trim().parse().map_err(|_| NotMailed::BadAddress)?;
        let message = self.message(mail, to).ok_or(NotMailed::BadAddress)?;
        let sent = timeout(LIMIT, async {
            let mut connection = self.connect().await?;
            let envelope: &Envelope = message.envelope();
            let answer = connection.send(envelope, &message.formatted()).await.map_err(not_mailed)?;
            // Anything else is the answer to something else.
            match answer.has_code(250) {
                true => Ok(connection),
                false => Err(NotMailed::NotSmtp),
            }
        });
        let connection = sent.await.unwrap_or(Err(NotMailed::Network(Fault::AnswerTimeout)))?;
        goodbye(connection).await;
        Ok(())
    }

    /// Logs in, and asks whether the sender may send. Sends nothing.
    pub async fn probe(&self) -> Result<(), NotMailed> {
        let tried = timeout(LOGIN, async {
            let mut connection = self.connect().await?;
            let from = commands::Mail::new(Some(self.from.email.clone()), Vec::new());
            connection.command(from).await.map_err(not_mailed)?;
            Ok(connection)
        });
        goodbye(tried.await.unwrap_or(Err(NotMailed::Network(Fault::AnswerTimeout)))?).await;
        Ok(())
    }

    /// A connection that is encrypted and logged in.
    async fn connect(&self) -> Result<AsyncSmtpConnection, NotMailed> {
        let logged_in = timeout(LOGIN, async {
            let host = self.host.to_string();
            let name = host.trim_matches(['[', ']']);
            let addresses = lookup_host((name, self.port)).await;
            let addresses: Vec<_> = addresses.map_err(|_| NotMailed::Network(Fault::DnsFailed))?.collect();
            let from_the_start = (self.security == Security::Tls).then(|| self.tls.clone());
            let connection = AsyncSmtpConnection::connect_tokio1(
                &addresses[..],
                Some(CONNECT),
                &self.hello,
                from_the_start,
                None,
            );
            let mut connection = connection.await.map_err(not_mailed)?;
            if self.security == Security::StartTls {
                if !connection.can_starttls() {
                    return Err(NotMailed::NoStartTls);
                }
                connection.starttls(self.tls.clone(), &self.hello).await.map_err(not_mailed)?;
            }
            if let Some(login) = &self.login {
                let known = connection.server_info().get_auth_mechanism(DEFAULT_MECHANISMS);
                if known.is_none() {
                    return Err(NotMailed::NoLogin);
                }
                let answer = connection.auth(DEFAULT_MECHANISMS, login).await;
                answer.map_err(|error| match not_mailed(error) {
                    NotMailed::Status(status @ 500..) => NotMailed::Login(status),
                    other => other,
                })?;
            }
            Ok(connection)
        });
        logged_in.await.unwrap_or(Err(NotMailed::Network(Fault::AnswerTimeout)))
    }

    /// Every attempt writes the same.
    fn message(&self, mail: Mail<'_>, to: Address) -> Option<Message> {
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        let part = SinglePart::builder().header(ContentType::TEXT_PLAIN).body(readable(mail.text));
        Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(one_line(mail.subject))
            .date(mail.at)
            .message_id(Some(format!("<{}@{}>", mail.id, self.from.email.domain())))
            // So that nobody's holiday notice answers.
            .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()))
            .singlepart(part)
            .ok()
    }
}

/// Nobody needs an answer to it.
async fn goodbye(mut connection: AsyncSmtpConnection) {
    let _ = timeout(GOODBYE, connection.quit()).await;
}

fn is_here(host: &Host<String>) -> bool {
    match host {
        Host::Domain(name) => name.eq_ignore_ascii_case("localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// `None`: the server's name cannot be in a certificate.
fn parameters(host: &Host<String>, bundle: Option<&Path>) -> Option<TlsParameters> {
    let name = host.to_string().trim_matches(['[', ']']).to_owned();
    let mut builder = TlsParameters::builder(name).certificate_store(CertificateStore::None);
    let mut parsable = RootCertStore::empty();
    for certificate in tls::certificates(bundle) {
        if parsable.add(certificate.clone()).is_ok() {
            builder = builder.add_root_certificate(Certificate::from_der(certificate.to_vec()).ok()?);
        }
    }
    builder.build_rustls().ok()
}

fn not_mailed(error: smtp::Error) -> NotMailed {
    if let Some(status) = error.status() {
        return NotMailed::Status(status.into());
    }
    if error.is_client() {
        return NotMailed::NotAscii;
    }
    if error.is_response() {
        return NotMailed::NotSmtp;
    }
    NotMailed::Network(match network::classify(&error) {
        Some(fault) => fault,
        None if error.is_timeout() => Fault::ConnectTimeout,
        None => Fault::Unreachable(std::io::ErrorKind::NotConnected),
    })
}

/// A header is one line, and a caller's words are not read as one that is encoded.
fn one_line(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut line: String = text.replace("=?", "= ?").trim().chars().take(LONGEST_SUBJECT).collect();
    if text.chars().count() > LONGEST_SUBJECT {
        line.push('…');
    }
    line
}

/// A text has no control characters but the ends of its lines.
fn readable(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
