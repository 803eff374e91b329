//! The program in a process of its own, with a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

pub const TOKEN: &str = "chaos";
/// The simulated models' key.
pub const KEY: &str = "sk-simulated";

/// The program to test, if it is not the one that was built with this one.
pub static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// A running `switchboard serve`; dropping it ends it.
pub struct Process {
    /// `http://host:port`
    pub url: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    _folder: TempDir,
}

impl Process {
    /// Starts it with one assistant, which answers every number. `other` is the address of a second provider.
    pub async fn start(model: &str, other: Option<&str>, assistant: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let assistants = folder.path().join("assistants");
        fs::create_dir(&assistants)?;
        fs::write(assistants.join("chaos.yaml"), assistant)?;
        if let Some(url) = other {
            let providers =
                format!("providers: {{ other: {{ url: \"{url}\", key: \"${{OTHER_KEY}}\" }} }}\n");
            fs::write(folder.path().join("switchboard.yaml"), providers)?;
        }
        // A port of its own, so that it can be named in the settings.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let url = format!("http://127.0.0.1:{port}");
        let built = || PathBuf::from(env!("CARGO_BIN_EXE_switchboard"));
        let program: &Path = PROGRAM.get_or_init(built);
        let mut child = Command::new(program)
            .arg("serve")
            .current_dir(folder.path())
            .env_clear()
            .env("OPENAI_API_KEY", KEY)
            .env("OTHER_KEY", KEY)
            .env("OPENAI_REALTIME_URL", model)
            .env("TWILIO_AUTH_TOKEN", TOKEN)
            .env("PUBLIC_URL", &url)
            .env("HOST", "127.0.0.1")
            .env("PORT", port.to_string())
            .env("LOG_FORMAT", "json")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the server cannot be started")?;
        let output = child.stderr.take().context("stderr is piped")?;
        let mut output = BufReader::new(output).lines();
        let mut said = Vec::new();
        let ready = async {
            while let Some(line) = output.next_line().await? {
                let is_ready = serde_json::from_str(&line).is_ok_and(|line: Value| {
                    line.get("address").is_some() && line.get("assistants").is_some()
                });
                said.push(line);
                if is_ready {
                    return Ok(());
                }
            }
            bail!("the server did not start")
        };
        // A machine that builds something else is slow.
        if let Err(error) =
            timeout(Duration::from_secs(30), ready).await.context("not ready in 30 s").flatten()
        {
            bail!("{error:#}; it said:\n{}", said.join("\n"));
        }
        let lines = Arc::new(Mutex::new(said));
        let kept = lines.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = output.next_line().await {
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Ok(Self { url, child, lines, _folder: folder })
    }

    /// Sends a signal, by its `kill` option. A process that has ended gets none.
    pub async fn signal(&self, signal: &str) {
        if let Some(id) = self.child.id() {
            // It fails if the process has just ended.
            let _ = Command::new("kill").args([signal, &id.to_string()]).status().await;
        }
    }

    /// What the line at the end of the call says went wrong, and how the call ended; waits for it.
    pub async fn end_line(&self, patience: Duration) -> Option<Value> {
        let look = async {
            loop {
                let found = self
                    .lines()
                    .into_iter()
                    .find(|line| line["reason"].is_string() && line["seconds"].is_number());
                if found.is_some() {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(patience, look).await.ok().flatten()
    }

    /// The log, as JSON.
    pub fn lines(&self) -> Vec<Value> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}
