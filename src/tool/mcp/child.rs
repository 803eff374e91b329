//! An MCP server that is a child process: we start it, exchange lines with it, and end it.
//!
//! Its environment has what the owner gives it and what every program needs, but not our own secrets. We log its
//! standard error until its first tool call; after that, it may contain what people said.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rmcp::RoleClient;
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::lines::{self, Lines};
use super::trouble::Trouble;
use crate::problem;
use crate::secret::Secret;

/// The variables that a program inherits from us.
const INHERITED: [&str; 26] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TERM",
    "TZ",
    "TMPDIR",
    "TMP",
    "TEMP",
    "SYSTEMROOT",
    "XDG_CACHE_HOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
];
/// How long a program may take to exit after each way of ending it.
const EXIT: Duration = Duration::from_secs(2);
/// How long standard error is read after standard output has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How much of a line of standard error is logged, in characters.
const MAX_LOGGED: usize = 500;
/// Longer lines are not logged, in bytes: they are cut, perhaps within a secret.
const MAX_READ: usize = 64 * 1024;
/// How many of its last lines are quoted when it ends, and how much of each, in characters.
const LAST_LINES: usize = 4;
const MAX_QUOTED: usize = 200;
/// How many lines of standard error are logged for one start.
const MAX_LINES: usize = 200;

/// The process groups of all running programs.
static GROUPS: Mutex<BTreeSet<Pid>> = Mutex::new(BTreeSet::new());

/// Kills all programs with their children at once, for a process that exits without dropping anything.
pub fn kill_all() {
    for group in groups().iter() {
        let _ = killpg(*group, Signal::SIGKILL);
    }
}

fn groups() -> MutexGuard<'static, BTreeSet<Pid>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a program prints besides messages.
#[derive(Default)]
pub struct Chatter {
    /// It printed something else to standard output.
    heard: watch::Sender<bool>,
    /// It was logged.
    logged: AtomicBool,
    /// The last lines, as they are logged.
    last: Mutex<VecDeque<String>>,
}

impl Chatter {
    /// Resets it for a new start.
    pub fn begin(&self) {
        self.heard.send_replace(false);
        self.last().clear();
    }

    /// Its last lines. `None`: there are none that may be shown.
    pub fn last_words(&self) -> Option<String> {
        let lines: Vec<String> = self.last().iter().cloned().collect();
        (!lines.is_empty()).then(|| lines.join(" / "))
    }

    fn keep(&self, line: &str) {
        if line.is_empty() {
            return;
        }
        let mut last = self.last();
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line.chars().take(MAX_QUOTED).collect());
    }

    fn last(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_heard(&self) -> bool {
        *self.heard.borrow()
    }

    pub async fn heard(&self) {
        // The sender is ours, so this cannot fail.
        let _ = self.heard.subscribe().wait_for(|heard| *heard).await;
    }
}

/// How the output of a program is logged.
pub struct Output {
    /// Values that must not appear in the log.
    pub secrets: Vec<Secret>,
    /// A tool was called: nothing is logged from then on.
    pub private: Arc<AtomicBool>,
    pub chatter: Arc<Chatter>,
}

/// A running program, as a transport.
pub struct Program {
    /// The server's name, for the log.
    name: String,
    output: Arc<Output>,
    child: Guarded,
    /// Lines for its standard input. `None`: it is closed, which asks the program to exit.
    outgoing: Option<mpsc::Sender<Vec<u8>>>,
    stdout: ChildStdout,
    lines: Lines,
    piece: Vec<u8>,
    /// Reads its standard error, and ends with the program.
    last_words: JoinSet<()>,
    /// Writes to its standard input.
    _writing: JoinSet<()>,
}

/// A child with its process group. Both are killed when this is dropped.
struct Guarded {
    child: Child,
    group: Option<Pid>,
    _folder: Option<Folder>,
}

/// The empty working directory of a program. In ours there may be a `.env`, and many programs load one that they find.
/// It is deleted when this is dropped.
struct Folder(PathBuf);

/// Starts a program. `name` is the server's, for the log.
pub fn start(
    name: &str,
    command: &[String],
    env: &[(String, Secret)],
    mut output: Output,
) -> Result<Program, Trouble> {
    let (program, arguments) = command.split_first().ok_or(Trouble::NoProgram(io::ErrorKind::NotFound))?;
    // The address of a proxy may contain a login.
    let logins =
        inherited().filter_map(|(_, value)| value.into_string().ok().filter(|value| value.contains('@')));
    output.secrets.extend(logins.map(Secret::new));
    output.chatter.last().clear();
    let output = Arc::new(output);
    let folder = Folder::new().ok();
    // Without a slash, the program is found in PATH.
    let mut command = Command::new(from_here(program, &['/']));
    command.args(arguments.iter().map(|argument| from_here(argument, &['/', '.']))).env_clear();
    command.current_dir(folder.as_ref().map_or(Path::new("/"), |folder| &folder.0));
    command.envs(inherited());
    command.envs(env.iter().map(|(name, value)| (name, value.expose())));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // Its children end with it, and a Ctrl-C at the terminal reaches only us.
    command.process_group(0);
    let mut child = command.spawn().map_err(|error| Trouble::NoProgram(error.kind()))?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    groups().extend(group);
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let child = Guarded { child, group, _folder: folder };
    let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(Trouble::NoProgram(io::ErrorKind::BrokenPipe));
    };
    let (outgoing, mut lines) = mpsc::channel::<Vec<u8>>(64);
    // In a task, so that a cancelled request does not leave half a line.
    let mut writing = JoinSet::new();
    writing.spawn(async move {
        while let Some(line) = lines.recv().await {
            if stdin.write_all(&line).await.is_err() {
                return;
            }
        }
    });
    let mut last_words = JoinSet::new();
    last_words.spawn(log(stderr, name.to_owned(), output.clone()));
    Ok(Program {
        name: name.to_owned(),
        output,
        child,
        outgoing: Some(outgoing),
        stdout,
        lines: Lines::default(),
        piece: Vec::with_capacity(64 * 1024),
        last_words,
        _writing: writing,
    })
}

/// The variables that a program inherits.
fn inherited() -> impl Iterator<Item = (&'static str, OsString)> {
    INHERITED.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)))
}

/// Makes a word of a command absolute if it contains one of `characters` and names an existing file: the program runs in
/// another folder.
fn from_here(word: &str, characters: &[char]) -> PathBuf {
    let path = Path::new(word);
    let is_file = word.contains(characters) && path.is_relative() && path.exists();
    std::path::absolute(path).ok().filter(|_| is_file).unwrap_or_else(|| path.to_owned())
}

impl Folder {
    /// Creates one that only we may write to.
    fn new() -> io::Result<Folder> {
        let path = std::env::temp_dir().join(format!("switchboard-{:016x}", rand::random::<u64>()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Transport<RoleClient> for Program {
    type Error = Trouble;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Trouble>> + Send + 'static {
        let outgoing = self.outgoing.clone();
        async move {
            let mut line = serde_json::to_vec(&message).map_err(|_| Trouble::NotMcp)?;
            line.push(b'\n');
            outgoing.ok_or(Trouble::Exited)?.send(line).await.map_err(|_| Trouble::Exited)
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            while let Some(message) = self.lines.next() {
                match lines::read(&message) {
                    Some(message) => return Some(message),
                    None => self.log_chatter(message.to_string().as_bytes()),
                }
            }
            if let Some(line) = self.lines.stray() {
                self.log_chatter(&line);
            }
            self.piece.clear();
            // Cancel-safe: what was read is in `lines` before the next await.
            match self.stdout.read_buf(&mut self.piece).await {
                Ok(0) | Err(_) => {
                    // The last lines often have the reason.
                    let _ = timeout(LAST_WORDS, self.last_words.join_next()).await;
                    return None;
                }
                Ok(_) => self.lines.feed(&self.piece),
            }
        }
    }

    /// Closes its standard input, then sends SIGTERM, then SIGKILL.
    async fn close(&mut self) -> Result<(), Trouble> {
        self.outgoing = None;
        if timeout(EXIT, self.child.child.wait()).await.is_err() {
            self.child.signal(Signal::SIGTERM);
            let _ = timeout(EXIT, self.child.child.wait()).await;
        }
        self.child.signal(Signal::SIGKILL);
        let _ = timeout(EXIT, self.child.child.wait()).await;
        let _ = timeout(EXIT, self.last_words.join_next()).await;
        Ok(())
    }
}

impl Guarded {
    /// Signals the group, if it still exists.
    fn signal(&self, signal: Signal) {
        let _ = self.group.map(|group| killpg(group, signal));
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        if let Some(group) = self.group {
            groups().remove(&group);
        }
    }
}

impl Program {
    /// Notes a line that is not a message, and logs the first one.
    fn log_chatter(&self, line: &[u8]) {
        self.output.chatter.heard.send_replace(true);
        let text = if self.output.is_private() { String::new() } else { self.output.visible(line) };
        self.output.chatter.keep(&text);
        if self.output.chatter.logged.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::warn!(
            server = self.name,
            text,
            "The program of an MCP server prints something that is not MCP"
        );
    }
}

/// Logs standard error line by line, until it may contain what people said.
async fn log(mut stderr: ChildStderr, server: String, output: Arc<Output>) {
    let mut piece = [0; 4096];
    let mut line = Vec::new();
    let mut left = MAX_LINES;
    // Reads to the end even if nothing is logged: a full pipe would block the program.
    while let Ok(read @ 1..) = stderr.read(&mut piece).await {
        for &byte in &piece[..read] {
            if byte != b'\n' {
                if line.len() <= MAX_READ {
                    line.push(byte);
                }
                continue;
            }
            if left > 0 && output.is_private() {
                left = 0;
                output.chatter.last().clear();
                tracing::info!(
                    server,
                    "Output of an MCP server's program is not logged after its first call"
                );
            }
            if !output.is_private() {
                log_line(&server, &output, &line, &mut left);
            }
            line.clear();
        }
    }
    if !output.is_private() {
        log_line(&server, &output, &line, &mut left);
    }
}

fn log_line(server: &str, output: &Output, line: &[u8], left: &mut usize) {
    let text = output.visible(line);
    output.chatter.keep(&text);
    if *left > 0 && !text.is_empty() {
        *left -= 1;
        tracing::info!(server, text, "Output of an MCP server's program");
    }
}

impl Output {
    fn is_private(&self) -> bool {
        self.private.load(Ordering::Relaxed)
    }

    /// The line as it is logged. Secrets are replaced before it is cut.
    fn visible(&self, line: &[u8]) -> String {
        if line.len() > MAX_READ {
            return "(a very long line)".to_owned();
        }
        let mut text = String::from_utf8_lossy(line).into_owned();
        // A secret may have several lines.
        let parts = self.secrets.iter().flat_map(|secret| secret.expose().lines());
        for part in parts.filter(|part| part.len() >= 4) {
            text = text.replace(part, "•••");
        }
        problem::masked(text.trim()).chars().take(MAX_LOGGED).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_docs_name_every_variable_that_a_program_inherits() {
        let docs = include_str!("../../../docs/tools.md");
        for name in INHERITED {
            assert!(docs.contains(&format!("`{}`", name.to_ascii_uppercase())), "{name}");
        }
        for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
            assert!(
                INHERITED.contains(&proxy) && INHERITED.contains(&&*proxy.to_ascii_lowercase()),
                "{proxy}"
            );
        }
    }
}
