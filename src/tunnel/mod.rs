//! A tunnel for development: cloudflared gives this machine a public address.
//!
//! This module knows what cloudflared prints and how to end it. The address is a new one at each start.

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
use tokio::time::timeout;

use crate::link::quick_tunnel::address;
use crate::problem;
use crate::settings::is_secret;

const PROGRAM: &str = "cloudflared";
/// How long cloudflared may take to get an address; its own request times out after 15 s.
const ADDRESS: Duration = Duration::from_secs(30);
/// How long it may then take to connect. It tries another protocol after some seconds.
const CONNECTED: Duration = Duration::from_secs(20);
/// How long to wait for its end.
const END: Duration = Duration::from_secs(2);
/// How much of a line is kept, in bytes.
const LONGEST_LINE: usize = 400;
/// How many of its last lines an error shows.
const LAST_LINES: usize = 5;

/// The shell script that runs cloudflared and ends it when its standard input closes, which happens however we end.
/// Only cloudflared has its standard output, so that we see there when cloudflared ends.
const KEEPER: &str = r#""$@" </dev/null 2>&1 & child=$!
exec >/dev/null 2>&1
read -r _
kill -s KILL "$child"
wait "$child""#;

/// A tunnel to this machine. It ends when dropped.
pub struct Tunnel {
    url: String,
    keeper: Child,
    output: watch::Receiver<Output>,
    _reading: JoinSet<()>,
}

/// Why there is no tunnel, with what to do.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    #[error(
        "`cloudflared` is not installed, and `--tunnel` needs it. Run `brew install cloudflared`, or download it from \
         https://developers.cloudflare.com/cloudflare-one/networks/connectors/cloudflare-tunnel/downloads/ into a \
         folder of PATH"
    )]
    NotInstalled,
    #[error("`cloudflared` cannot be started: {0}")]
    NotStarted(std::io::Error),
    #[error(
        "`cloudflared` ended before the tunnel was open. Check that this machine reaches the internet, and try again \
         in a few minutes. Its last lines:{0}"
    )]
    EndedEarly(String),
    #[error(
        "`cloudflared` got no address in time. Check that this machine reaches the internet. Its last lines:{0}"
    )]
    NoAddress(String),
    #[error(
        "`cloudflared` ended and closed the tunnel. Start again; the address will be another one. Its last lines:{0}"
    )]
    Ended(String),
}

/// What cloudflared printed so far.
#[derive(Debug, Clone, Default)]
struct Output {
    url: Option<String>,
    connected: bool,
    ended: bool,
    last: VecDeque<String>,
}

impl Output {
    fn take(&mut self, line: &str) {
        if self.url.is_none() {
            self.url = address(line);
        }
        // Older versions print `Connection … registered`.
        self.connected |= line.contains("Registered tunnel connection")
            || (line.contains(" Connection ") && line.contains(" registered"));
        // A line with a request's address may hold a ticket.
        if !line.trim().is_empty() && !line.contains("dest=") {
            self.last.push_back(problem::masked(line.trim()));
            if self.last.len() > LAST_LINES {
                self.last.pop_front();
            }
        }
    }

    fn last_lines(&self) -> String {
        match self.last.is_empty() {
            true => " none".to_owned(),
            false => self.last.iter().map(|line| format!("\n  {line}")).collect(),
        }
    }
}

impl Tunnel {
    /// Starts cloudflared, and waits until the tunnel to `local` is open.
    pub async fn open(local: SocketAddr) -> Result<Self, TunnelError> {
        let program = installed(std::env::var_os("PATH")).ok_or(TunnelError::NotInstalled)?;
        Self::open_with(&program, local, ADDRESS, CONNECTED).await
    }

    async fn open_with(
        program: &Path,
        local: SocketAddr,
        for_address: Duration,
        for_connection: Duration,
    ) -> Result<Self, TunnelError> {
        let (mut keeper, stdout) = start(program, local)?;
        let (output_tx, mut output) = watch::channel(Output::default());
        let mut reading = JoinSet::new();
        reading.spawn(read(stdout, output_tx));
        let has_address = output.wait_for(|output| output.url.is_some() || output.ended);
        let _ = timeout(for_address, has_address).await.map(drop);
        let has_url = output.borrow().url.is_some();
        if has_url {
            let connected = output.wait_for(|output| output.connected || output.ended);
            if timeout(for_connection, connected).await.is_err() {
                tracing::warn!("cloudflared does not report a connection; calls may not arrive yet");
            }
        }
        let now = output.borrow().clone();
        match now {
            Output { url: Some(url), ended: false, .. } => {
                Ok(Self { url, keeper, output, _reading: reading })
            }
            Output { ended: true, .. } => {
                end(&mut keeper).await;
                Err(TunnelError::EndedEarly(now.last_lines()))
            }
            Output { url: None, .. } => {
                end(&mut keeper).await;
                Err(TunnelError::NoAddress(now.last_lines()))
            }
        }
    }

    /// The public address, `https://…`, without a trailing slash.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits until cloudflared ends by itself. Cancel-safe.
    pub async fn ended(&mut self) -> TunnelError {
        // An error means that the reader ended, which it does after cloudflared.
        let _ = self.output.wait_for(|output| output.ended).await;
        TunnelError::Ended(self.output.borrow().last_lines())
    }

    pub async fn close(mut self) {
        end(&mut self.keeper).await;
    }
}

/// The address to which a tunnel for this listener must lead.
pub fn local(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}

fn installed(path: Option<std::ffi::OsString>) -> Option<PathBuf> {
    std::env::split_paths(&path?).map(|folder| folder.join(PROGRAM)).find(|program| program.is_file())
}

fn start(program: &Path, local: SocketAddr) -> Result<(Child, ChildStdout), TunnelError> {
    let mut command = Command::new("sh");
    command.args(["-c", KEEPER, "sh"]).arg(program);
    // An update would restart it with another address. The owner's configuration is for other tunnels, and its rules
    // would answer in our place.
    command
        .args(["tunnel", "--no-autoupdate", "--config", "/dev/null", "--url"])
        .arg(format!("http://{local}"));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_secret) {
            command.env_remove(name);
        }
    }
    // Dropping the child closes its standard input; killing it would leave cloudflared running.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    // Ctrl-C must reach only us: calls under way still need the tunnel.
    #[cfg(unix)]
    command.process_group(0);
    let mut keeper = command.spawn().map_err(TunnelError::NotStarted)?;
    match keeper.stdout.take() {
        Some(stdout) => Ok((keeper, stdout)),
        None => Err(TunnelError::NotStarted(std::io::ErrorKind::BrokenPipe.into())),
    }
}

async fn end(keeper: &mut Child) {
    drop(keeper.stdin.take());
    // It ends even if we do not wait for it.
    let _ = timeout(END, keeper.wait()).await;
}

/// Reads all that cloudflared prints: a full pipe would block it.
async fn read(mut stdout: ChildStdout, output: watch::Sender<Output>) {
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
            output.send_modify(|output| output.take(&text));
            line.clear();
        }
    }
    output.send_modify(|output| {
        output.take(&String::from_utf8_lossy(&line));
        output.ended = true;
    });
}

#[cfg(test)]
mod tests;
