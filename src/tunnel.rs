//! A tunnel for development: cloudflared gives this machine a public address, and a number may ring it meanwhile.
//!
//! It knows what cloudflared prints, how it is ended, and that its address is a new one each time it starts.

pub mod pointing;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::problem;
use crate::settings::is_secret;

/// What is started.
const PROGRAM: &str = "cloudflared";
/// How long cloudflared may take to get an address; its own request has 15 s.
const ADDRESS: Duration = Duration::from_secs(30);
/// How long it may take, with an address, to be connected. It tries another protocol after some seconds.
const CONNECTED: Duration = Duration::from_secs(20);
/// How long its end is waited for.
const END: Duration = Duration::from_secs(2);
/// How much of a line is kept, in bytes.
const LONGEST_LINE: usize = 400;
/// How many of the last lines are told when it ends.
const LAST_LINES: usize = 5;

/// What starts it and ends it with us, however we end: standard input is ours, and closes with us. Standard output is
/// cloudflared's alone, so that its end is seen there.
const KEEPER: &str = r#""$@" </dev/null 2>&1 & child=$!
exec >/dev/null 2>&1
read -r _
kill -s KILL "$child"
wait "$child""#;

/// A tunnel to this machine. Dropped, it ends.
pub struct Tunnel {
    url: String,
    keeper: Child,
    said: watch::Receiver<Said>,
    _reading: JoinSet<()>,
}

/// Why there is no tunnel, or none any more. Says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    #[error(
        "`cloudflared` is not installed: `--tunnel` needs it. Get it by `brew install cloudflared`, or from \
         https://developers.cloudflare.com/cloudflare-one/networks/connectors/cloudflare-tunnel/downloads/, and put \
         it into a folder of PATH"
    )]
    NotInstalled,
    #[error("`cloudflared` cannot be started: {0}")]
    NotStarted(std::io::Error),
    #[error(
        "`cloudflared` ended before there was a tunnel: look whether this machine reaches the internet, and try again \
         in some minutes. Its last words:{0}"
    )]
    EndedEarly(String),
    #[error(
        "`cloudflared` gave no address in time; does this machine reach the internet? Its last words:{0}"
    )]
    NoAddress(String),
    #[error(
        "`cloudflared` ended, and the tunnel with it: start again, for an address of its own each time. Its last \
         words:{0}"
    )]
    Ended(String),
}

/// What cloudflared said so far.
#[derive(Debug, Clone, Default)]
struct Said {
    url: Option<String>,
    connected: bool,
    ended: bool,
    last: VecDeque<String>,
}

impl Said {
    fn take(&mut self, line: &str) {
        if self.url.is_none() {
            self.url = address(line);
        }
        // Older ones say `Connection … registered`.
        self.connected |= line.contains("Registered tunnel connection")
            || (line.contains(" Connection ") && line.contains(" registered"));
        // What names a request's address may hold a ticket.
        if !line.trim().is_empty() && !line.contains("dest=") {
            self.last.push_back(problem::masked(line.trim()));
            if self.last.len() > LAST_LINES {
                self.last.pop_front();
            }
        }
    }

    fn last_words(&self) -> String {
        match self.last.is_empty() {
            true => " (it said nothing)".to_owned(),
            false => self.last.iter().map(|line| format!("\n  {line}")).collect(),
        }
    }
}

impl Tunnel {
    /// Starts cloudflared, and waits until the tunnel to `local` stands.
    ///
    /// # Errors
    /// When there is no cloudflared, or no tunnel in time.
    pub async fn open(local: SocketAddr) -> Result<Self, TunnelError> {
        let program = installed(std::env::var_os("PATH")).ok_or(TunnelError::NotInstalled)?;
        Self::open_with(&program, local, ADDRESS, CONNECTED).await
    }

    async fn open_with(
        program: &Path,
        local: SocketAddr,
        address: Duration,
        patience: Duration,
    ) -> Result<Self, TunnelError> {
        let (mut keeper, stdout) = start(program, local)?;
        let (said_tx, mut said) = watch::channel(Said::default());
        let mut reading = JoinSet::new();
        reading.spawn(read(stdout, said_tx));
        let begun = Instant::now();
        let seen = timeout_at(begun + address, said.wait_for(|said| said.url.is_some() || said.ended)).await;
        // A sender that is gone has said `ended` before.
        let now = seen.ok().and_then(Result::ok).map(|said| said.clone());
        let Some(Said { url: Some(url), .. }) = now else {
            let said = said.borrow().clone();
            end(&mut keeper).await;
            return Err(match said.ended {
                true => TunnelError::EndedEarly(said.last_words()),
                false => TunnelError::NoAddress(said.last_words()),
            });
        };
        let connected = said.wait_for(|said| said.connected || said.ended);
        let now =
            timeout_at(Instant::now() + patience, connected).await.map(|now| now.map(|now| now.clone()));
        match now {
            Ok(Ok(now)) if now.ended => {
                end(&mut keeper).await;
                return Err(TunnelError::EndedEarly(now.last_words()));
            }
            Ok(_) => {}
            Err(_) => {
                tracing::warn!("cloudflared does not say that it is connected: calls may not arrive yet")
            }
        }
        Ok(Self { url, keeper, said, _reading: reading })
    }

    /// The public address, `https://…`, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits until cloudflared ends by itself. Cancel-safe.
    pub async fn ended(&mut self) -> TunnelError {
        // Either it ended, or its reader did: both are the end.
        let _ = self.said.wait_for(|said| said.ended).await;
        TunnelError::Ended(self.said.borrow().last_words())
    }

    /// Ends it.
    pub async fn close(mut self) {
        end(&mut self.keeper).await;
    }
}

/// Where a tunnel to this listener leads.
pub fn local(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}

/// Whether an address is that of a quick tunnel.
pub fn is_tunnel(url: &str) -> bool {
    address(url).is_some_and(|tunnel| url.starts_with(&tunnel))
}

/// The program in the first folder of PATH that has it.
fn installed(path: Option<std::ffi::OsString>) -> Option<PathBuf> {
    std::env::split_paths(&path?).map(|folder| folder.join(PROGRAM)).find(|program| program.is_file())
}

fn start(program: &Path, local: SocketAddr) -> Result<(Child, ChildStdout), TunnelError> {
    let mut command = Command::new("sh");
    command.args(["-c", KEEPER, "sh"]).arg(program);
    // An update would start it anew, with another address; a configuration of the owner's is for other tunnels, and
    // its rules would answer in our place.
    command
        .args(["tunnel", "--no-autoupdate", "--config", "/dev/null", "--url"])
        .arg(format!("http://{local}"));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_secret) {
            command.env_remove(name);
        }
    }
    // It is not killed when it is dropped: then its standard input closes, and it ends cloudflared first.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    // A Ctrl-C at our terminal is ours to handle: calls under way go on through the tunnel.
    #[cfg(unix)]
    command.process_group(0);
    let mut keeper = command.spawn().map_err(TunnelError::NotStarted)?;
    match keeper.stdout.take() {
        Some(stdout) => Ok((keeper, stdout)),
        None => Err(TunnelError::NotStarted(std::io::ErrorKind::BrokenPipe.into())),
    }
}

/// Closes what keeps it alive, and waits for its end.
async fn end(keeper: &mut Child) {
    drop(keeper.stdin.take());
    // It ends without us as well, a moment later.
    let _ = timeout(END, keeper.wait()).await;
}

/// Reads what it says, to the end: a full pipe would stop it.
async fn read(mut stdout: ChildStdout, said: watch::Sender<Said>) {
    let mut piece = [0; 4096];
    let mut line = Vec::new();
    while let Ok(read @ 1..) = stdout.read(&mut piece).await {
        for &byte in &piece[..read] {
            if byte != b'\n' {
                if line.len() < LONGEST_LINE {
                    line.push(byte);
                }
                continue;
            }
            let text = String::from_utf8_lossy(&line);
            said.send_modify(|said| said.take(&text));
            line.clear();
        }
    }
    said.send_modify(|said| {
        said.take(&String::from_utf8_lossy(&line));
        said.ended = true;
    });
}

/// The address of a quick tunnel in a line, such as `INF |  https://four-random-words-here.trycloudflare.com  |`.
fn address(line: &str) -> Option<String> {
    const DOMAIN: &str = ".trycloudflare.com";
    line.match_indices("https://").find_map(|(at, scheme)| {
        let rest = &line[at + scheme.len()..];
        let is_host = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.');
        let host = &rest[..rest.find(|letter| !is_host(letter)).unwrap_or(rest.len())];
        let name = host.strip_suffix(DOMAIN)?;
        // What it asks for a tunnel is no tunnel.
        (!name.is_empty() && !name.contains('.') && name != "api").then(|| format!("https://{host}"))
    })
}

#[cfg(test)]
mod tests;
