//! The release binary as a separate process, and the kernel's figures for a process.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tempfile::TempDir;

pub const TOKEN: &str = "load";
/// The simulated model's key.
pub const KEY: &str = "sk-simulated";
/// The unit of `utime` and `stime` (`getconf CLK_TCK`).
const TICK: Duration = Duration::from_millis(10);

/// The program to measure, if it is not the one that was built with this benchmark.
pub static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// A running `switchboard serve`; dropping it ends it.
pub struct Server {
    child: Child,
    folder: TempDir,
    port: u16,
    /// The time from spawning to the first 200 of `/readyz`.
    pub ready_after: Duration,
}

impl Server {
    /// Starts the server with one assistant, which answers every number.
    pub fn start(model_url: &str, assistant: &str, max_calls: usize) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let assistants = folder.path().join("assistants");
        fs::create_dir(&assistants)?;
        fs::write(assistants.join("load.yaml"), assistant)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let log = File::create(folder.path().join("log"))?;
        let spawned = Instant::now();
        let built = || PathBuf::from(env!("CARGO_BIN_EXE_switchboard"));
        let child = Command::new(PROGRAM.get_or_init(built))
            .arg("serve")
            .current_dir(folder.path())
            .env_clear()
            .env("OPENAI_API_KEY", KEY)
            .env("OPENAI_REALTIME_URL", model_url)
            .env("TWILIO_AUTH_TOKEN", TOKEN)
            .env("PUBLIC_URL", format!("http://127.0.0.1:{port}"))
            .env("HOST", "127.0.0.1")
            .env("PORT", port.to_string())
            .env("ASSISTANTS_DIR", &assistants)
            .env("MAX_CALLS", max_calls.to_string())
            .env("RUST_LOG", "error")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("the server cannot be started")?;
        let mut server = Self { child, folder, port, ready_after: Duration::ZERO };
        while !server.is_ready() {
            if spawned.elapsed() > Duration::from_secs(10) || server.child.try_wait()?.is_some() {
                bail!("the server is not ready; it said:\n{}", server.log());
            }
            sleep(Duration::from_micros(500));
        }
        server.ready_after = spawned.elapsed();
        Ok(server)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// The last 2 kB of its log.
    pub fn log(&self) -> String {
        let all = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let from = all.char_indices().map(|(at, _)| at).find(|at| all.len() - at <= 2_000);
        all[from.unwrap_or(0)..].to_owned()
    }

    fn is_ready(&self) -> bool {
        let ask = || -> io::Result<bool> {
            let mut socket = TcpStream::connect(self.addr())?;
            socket.set_read_timeout(Some(Duration::from_secs(1)))?;
            socket.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            let mut head = [0; 12];
            socket.read_exact(&mut head)?;
            Ok(&head == b"HTTP/1.1 200")
        };
        ask().unwrap_or(false)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A service that accepts every request and answers none.
pub struct Mute {
    pub url: String,
    taken: Arc<AtomicUsize>,
}

impl Mute {
    /// Listens until the process ends.
    pub fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let url = format!("http://{}/", listener.local_addr()?);
        let taken = Arc::new(AtomicUsize::new(0));
        let counts = taken.clone();
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for mut socket in listener.incoming().flatten() {
                if socket.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {
                    counts.fetch_add(1, Ordering::Relaxed);
                    held.push(socket);
                }
            }
        });
        Ok(Self { url, taken })
    }

    /// The number of requests that wait for an answer.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// Measures what a process and the other processes use from now on.
pub struct Meter {
    pid: u32,
    began: Instant,
    process: [Duration; 2],
    driver: Duration,
    machine: Duration,
}

/// The reading of a [`Meter`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    pub lasted: Duration,
    /// Processor time in user and kernel mode.
    pub cpu: [Duration; 2],
    /// Cores used by other processes. Figures from a busy machine mean little.
    pub others: f64,
}

impl Meter {
    pub fn start(pid: u32) -> anyhow::Result<Self> {
        let driver = cpu(std::process::id())?.iter().sum();
        Ok(Self { pid, began: Instant::now(), process: cpu(pid)?, driver, machine: machine()? })
    }

    pub fn read(&self) -> anyhow::Result<Cost> {
        let now = Self::start(self.pid)?;
        let lasted = now.began - self.began;
        let cpu = [0, 1].map(|i| now.process[i] - self.process[i]);
        let ours = cpu[0] + cpu[1] + (now.driver - self.driver);
        let others = (now.machine - self.machine).saturating_sub(ours);
        Ok(Cost { lasted, cpu, others: others.as_secs_f64() / lasted.as_secs_f64() })
    }
}

impl Cost {
    /// The processor time per call-minute, for this number of calls.
    pub fn per_call_minute(&self, calls: usize) -> [Duration; 2] {
        self.cpu.map(|cpu| cpu.mul_f64(60.0 / (self.lasted.as_secs_f64() * calls as f64)))
    }
}

/// The processor time that a process has used so far, in user and kernel mode.
fn cpu(pid: u32) -> anyhow::Result<[Duration; 2]> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
    // The name may contain anything; the fields after it start with the third.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |nth: usize| -> Option<Duration> {
        fields.split_whitespace().nth(nth - 3)?.parse().ok().map(|ticks: u32| TICK * ticks)
    };
    ticks(14).zip(ticks(15)).map(Into::into).context("/proc/PID/stat is not as expected")
}

/// The processor time that this machine has been busy: everything except `idle` and `iowait`.
fn machine() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line =
        stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("no `cpu` in /proc/stat")?;
    let ticks: Vec<u32> = line.split_whitespace().take(8).filter_map(|field| field.parse().ok()).collect();
    let busy = ticks.iter().enumerate().filter(|(nth, _)| !matches!(nth, 3 | 4)).map(|(_, ticks)| ticks);
    Ok(TICK * busy.sum::<u32>())
}

/// Resident memory of a process in KiB.
pub fn resident(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).context("no VmRSS")
}

/// How many files this process may open.
pub fn file_limit() -> anyhow::Result<usize> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()).unwrap_or("unlimited");
    Ok(soft.parse().unwrap_or(usize::MAX))
}
