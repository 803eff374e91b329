//! One machine: the real program, as Fly starts it.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

pub struct Machine {
    pub id: String,
    /// `host:port`
    pub address: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Machine {
    /// Starts it in a folder, with this environment and no other, and waits until it is ready.
    pub async fn start(id: &str, folder: &Path, environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_switchboard"))
            .arg("serve")
            .current_dir(folder)
            .env_clear()
            .envs(environment.iter().copied())
            .env("FLY_MACHINE_ID", id)
            .env("LOG_FORMAT", "json")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = told.next_line().await.unwrap().expect("it says that it is ready");
            if line.contains("\"Ready\"") {
                let line: serde_json::Value = serde_json::from_str(&line).unwrap();
                break line["address"].as_str().unwrap().to_owned();
            }
        };
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = lines.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = told.next_line().await {
                kept.lock().unwrap().push(line);
            }
        });
        Self { id: id.to_owned(), address, child, lines }
    }

    /// Sends it a signal, as `kill` names it.
    pub async fn signal(&self, signal: &str) {
        let id = self.child.id().expect("it runs").to_string();
        assert!(Command::new("kill").args([signal, &id]).status().await.unwrap().success());
    }

    /// What kills it at once, from anywhere, and returns when nobody listens any more.
    pub fn killer(&self) -> impl FnOnce() + Send + 'static {
        let (id, address) = (self.child.id().expect("it runs").to_string(), self.address.clone());
        move || {
            assert!(std::process::Command::new("kill").args(["-KILL", &id]).status().unwrap().success());
            while std::net::TcpStream::connect(&address).is_ok() {
                std::thread::yield_now();
            }
        }
    }

    /// Its exit code, once it has ended by itself.
    pub async fn ended(&mut self, patience: Duration) -> Option<i32> {
        timeout(patience, self.child.wait()).await.expect("it ends in time").unwrap().code()
    }

    /// How many lines of its log hold this.
    pub fn told(&self, words: &str) -> usize {
        self.lines.lock().unwrap().iter().filter(|line| line.contains(words)).count()
    }

    /// Its log, for the message of a test that fails.
    pub fn log(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }
}
