//! One machine: the real program, started as Fly does.

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
    /// Starts the program in a folder with only this environment and waits until it is ready.
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
        let mut output = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = output.next_line().await.unwrap().expect("it logs that it is ready");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if let (Some(address), true) = (line["address"].as_str(), line.get("assistants").is_some()) {
                break address.to_owned();
            }
        };
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = lines.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = output.next_line().await {
                kept.lock().unwrap().push(line);
            }
        });
        Self { id: id.to_owned(), address, child, lines }
    }

    /// Sends a signal, by its `kill` option.
    pub async fn signal(&self, signal: &str) {
        let id = self.child.id().expect("the process runs").to_string();
        assert!(Command::new("kill").args([signal, &id]).status().await.unwrap().success());
        // The signal is only pending at first.
        while signal == "-STOP" && !is_stopped(&id) {
            tokio::task::yield_now().await;
        }
    }

    /// A function that kills the machine from anywhere and returns when its port is closed.
    pub fn killer(&self) -> impl FnOnce() + Send + 'static {
        let (id, address) = (self.child.id().expect("the process runs").to_string(), self.address.clone());
        move || {
            assert!(std::process::Command::new("kill").args(["-KILL", &id]).status().unwrap().success());
            while std::net::TcpStream::connect(&address).is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Waits for the process to end; returns its exit code.
    pub async fn ended(&mut self, patience: Duration) -> Option<i32> {
        timeout(patience, self.child.wait()).await.expect("it ends in time").unwrap().code()
    }

    /// The number of log lines that contain this.
    pub fn logged(&self, words: &str) -> usize {
        self.lines.lock().unwrap().iter().filter(|line| line.contains(words)).count()
    }

    /// The log, for failure messages.
    pub fn log(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }
}

/// Whether all threads of the process stand still.
fn is_stopped(id: &str) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).expect("the process runs");
    threads.flatten().all(|thread| {
        let status = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        status.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    })
}
