//! A real mail server, `aiosmtpd`, as a program of its own.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

/// It ends when it is dropped.
pub struct MailServer {
    pub port: u16,
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl MailServer {
    /// The arguments are those of `server.py`.
    pub async fn start(arguments: &[&str]) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/smtp");
        let python = folder.join(".venv/bin/python");
        assert!(
            python.exists(),
            "aiosmtpd is not installed: run `make tests/smtp/.venv/installed`, or `make test`, which does it"
        );
        let mut child = Command::new(python)
            .arg(folder.join("server.py"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = timeout(PATIENCE, lines.next_line()).await.expect("a port").unwrap();
        let port = port.expect("the mail server starts").parse().unwrap();
        Self { port, lines, _child: child }
    }

    /// The next message, which the server may not have answered yet.
    pub async fn next(&mut self) -> Value {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("a message").unwrap();
        serde_json::from_str(&line.expect("the mail server runs")).unwrap()
    }

    /// Whether there is no other message. One that was sent was printed before its answer.
    pub async fn is_idle(&mut self) -> bool {
        timeout(Duration::from_millis(50), self.lines.next_line()).await.is_err()
    }
}
