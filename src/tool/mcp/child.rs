//! An MCP server that is a program of ours: started, spoken to in lines, and ended with us.
//!
//! It finds in its environment what the owner gives it and what every program needs, and nothing else: our own
//! secrets stand there. What it writes to standard error is in our log until its first tool is called; from then on
//! it may hold what people said.

use std::collections::BTreeSet;
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

/// What a program finds of our environment.
const INHERITED: [&str; 18] = [
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
];
/// How long a program may take to end once it is asked to, and again once it is told to.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long standard error is read when standard output has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How much of a line of standard error is logged, in letters.
const LONGEST_LINE: usize = 500;
/// The longest line of which anything is logged, in bytes: one that is cut may end within a secret.
const LONGEST_READ: usize = 64 * 1024;
/// How many lines of standard error are logged for one start.
const MOST_LINES: usize = 200;

/// The process groups of all programs that run.
static GROUPS: Mutex<BTreeSet<Pid>> = Mutex::new(BTreeSet::new());

/// Kills all programs with their children, at once: for a process that ends without dropping anything.
pub fn kill_all() {
    for group in groups().iter() {
        // It may be gone.
        let _ = killpg(*group, Signal::SIGKILL);
    }
}

fn groups() -> MutexGuard<'static, BTreeSet<Pid>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a program prints besides messages, where it may print nothing else.
#[derive(Default)]
pub struct Chatter {
    heard: watch::Sender<bool>,
    /// It is in the log.
    told: AtomicBool,
}

impl Chatter {
    /// A program is about to be started: nothing is heard of it.
    pub fn begin(&self) {
        self.heard.send_replace(false);
    }

    /// Whether the program has printed what is no message.
    pub fn is_heard(&self) -> bool {
        *self.heard.borrow()
    }

    /// Waits until the program prints what is no message.
    pub async fn heard(&self) {
        // The sender is ours: this never fails.
        let _ = self.heard.subscribe().wait_for(|heard| *heard).await;
    }
}

/// What becomes of what a program says besides messages.
pub struct Hearers {
    /// What its owner gives it, and may stand in no line of the log.
    pub secrets: Vec<Secret>,
    /// A tool was called: nothing of it is logged any more.
    pub private: Arc<AtomicBool>,
    /// Hears what it prints where it may print messages only.
    pub chatter: Arc<Chatter>,
}

/// A running program, as a transport.
pub struct Program {
    /// The server's name, for the log.
    name: String,
    hearers: Arc<Hearers>,
    child: Guarded,
    /// Lines to be written. `None` once it is closed, which is the program's sign to end.
    outgoing: Option<mpsc::Sender<Vec<u8>>>,
    stdout: ChildStdout,
    lines: Lines,
    piece: Vec<u8>,
    /// What reads its standard error. It ends with the program.
    last_words: JoinSet<()>,
    /// What writes to its standard input.
    _writing: JoinSet<()>,
}

/// A child with its process group: dropped, both are killed.
struct Guarded {
    child: Child,
    group: Option<Pid>,
    _folder: Option<Folder>,
}

/// A folder that a program is started in: empty, and its own. In ours there may be a `.env`, and many programs take in
/// the one that they find. Dropped, it is gone with all that is in it.
struct Folder(PathBuf);

/// Starts a program. `name` is the server's, for the log.
///
/// # Errors
/// When it cannot be started.
pub fn start(
    name: &str,
    command: &[String],
    env: &[(String, Secret)],
    hearers: Hearers,
) -> Result<Program, Trouble> {
    let (program, arguments) = command.split_first().ok_or(Trouble::NoProgram(io::ErrorKind::NotFound))?;
    let hearers = Arc::new(hearers);
    let folder = Folder::new().ok();
    // A program without a folder in its name is looked for in PATH.
    let mut command = Command::new(from_here(program, &['/']));
    command.args(arguments.iter().map(|argument| from_here(argument, &['/', '.']))).env_clear();
    command.current_dir(folder.as_ref().map_or(Path::new("/"), |folder| &folder.0));
    command.envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.envs(env.iter().map(|(name, value)| (name, value.expose())));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // Its own children end with it, and a Ctrl-C at our terminal is ours to handle.
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
    // Whoever sends may give up in the middle of a line: it is written whole all the same.
    let mut writing = JoinSet::new();
    writing.spawn(async move {
        while let Some(line) = lines.recv().await {
            if stdin.write_all(&line).await.is_err() {
                return;
            }
        }
    });
    let mut last_words = JoinSet::new();
    last_words.spawn(log(stderr, name.to_owned(), hearers.clone()));
    Ok(Program {
        name: name.to_owned(),
        hearers,
        child,
        outgoing: Some(outgoing),
        stdout,
        lines: Lines::default(),
        piece: Vec::with_capacity(64 * 1024),
        last_words,
        _writing: writing,
    })
}

/// A word of a command as it is meant where we run, which is not where the program does: where it has one of `signs`
/// and names what is there, it becomes a whole path.
fn from_here(word: &str, signs: &[char]) -> PathBuf {
    let path = Path::new(word);
    let there = word.contains(signs) && path.is_relative() && path.exists();
    std::path::absolute(path).ok().filter(|_| there).unwrap_or_else(|| path.to_owned())
}

impl Folder {
    /// A new one, that nobody else may put anything into.
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
                    None => self.hear(message.to_string().as_bytes()),
                }
            }
            if let Some(line) = self.lines.stray() {
                self.hear(&line);
            }
            self.piece.clear();
            // Cancel-safe: what is read is in `lines` before anything else is awaited.
            match self.stdout.read_buf(&mut self.piece).await {
                Ok(0) | Err(_) => {
                    // Why it ended is the last that it says.
                    let _ = timeout(LAST_WORDS, self.last_words.join_next()).await;
                    return None;
                }
                Ok(_) => self.lines.feed(&self.piece),
            }
        }
    }

    /// Asks the program to end by closing its standard input, then tells it to, then kills it.
    async fn close(&mut self) -> Result<(), Trouble> {
        self.outgoing = None;
        if timeout(PATIENCE, self.child.child.wait()).await.is_err() {
            self.child.signal(Signal::SIGTERM);
            let _ = timeout(PATIENCE, self.child.child.wait()).await;
        }
        self.child.signal(Signal::SIGKILL);
        let _ = timeout(PATIENCE, self.child.child.wait()).await;
        let _ = timeout(PATIENCE, self.last_words.join_next()).await;
        Ok(())
    }
}

impl Guarded {
    /// Signals the whole group: it may be gone, and then nothing happens.
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
    /// Hears a line that is no message. The first one is told: a program that prints such things is seldom a server.
    fn hear(&self, line: &[u8]) {
        self.hearers.chatter.heard.send_replace(true);
        if self.hearers.chatter.told.swap(true, Ordering::Relaxed) {
            return;
        }
        let text = if self.hearers.is_private() { String::new() } else { self.hearers.visible(line) };
        tracing::warn!(server = self.name, text, "An MCP server's program prints what is no message of MCP");
    }
}

/// Writes what the program says into our log, line by line, until it may hold what people said.
async fn log(mut stderr: ChildStderr, server: String, hearers: Arc<Hearers>) {
    let mut piece = [0; 4096];
    let mut line = Vec::new();
    let mut left = MOST_LINES;
    // The pipe is read to its end whatever becomes of it: a full one would stop the program.
    while let Ok(read @ 1..) = stderr.read(&mut piece).await {
        for &byte in &piece[..read] {
            if byte != b'\n' {
                if line.len() <= LONGEST_READ {
                    line.push(byte);
                }
                continue;
            }
            if left > 0 && hearers.is_private() {
                left = 0;
                tracing::info!(
                    server,
                    "What an MCP server's program says after its first call is not logged"
                );
            }
            if left > 0 {
                left -= 1;
                say(&server, &hearers.visible(&line));
            }
            line.clear();
        }
    }
    if left > 0 && !hearers.is_private() {
        say(&server, &hearers.visible(&line));
    }
}

fn say(server: &str, text: &str) {
    if !text.is_empty() {
        tracing::info!(server, text, "An MCP server's program says");
    }
}

impl Hearers {
    fn is_private(&self) -> bool {
        self.private.load(Ordering::Relaxed)
    }

    /// A line as it may stand in the log. It is cut once no secret can be cut with it.
    fn visible(&self, line: &[u8]) -> String {
        if line.len() > LONGEST_READ {
            return "(a very long line)".to_owned();
        }
        let mut text = String::from_utf8_lossy(line).into_owned();
        // A secret of several lines is said line by line.
        let parts = self.secrets.iter().flat_map(|secret| secret.expose().lines());
        for part in parts.filter(|part| part.len() >= 4) {
            text = text.replace(part, "•••");
        }
        problem::masked(text.trim()).chars().take(LONGEST_LINE).collect()
    }
}
