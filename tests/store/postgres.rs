//! A real PostgreSQL in a folder of its own. It ends with the test.
#![allow(dead_code, reason = "the tests and the benchmark each use a part")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use switchboard::secret::Secret;
use switchboard::store::Place;
use tempfile::TempDir;

/// See the module.
pub struct Server {
    folder: TempDir,
    programs: PathBuf,
    process: Option<Child>,
}

impl Server {
    /// Makes a server without databases, and starts it.
    pub async fn start() -> Self {
        let programs = programs().expect("no PostgreSQL was found: on Debian, apt-get install postgresql");
        let folder = tempfile::Builder::new().prefix("pg").tempdir().unwrap();
        if let Some((user, group)) = other_user() {
            chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let mut server = Self { folder, programs, process: None };
        let made = server
            .command("initdb")
            .args([
                "--no-sync",
                "--no-instructions",
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
            ])
            // Another order of words than that of bytes.
            .args(["--locale=C.UTF-8", "--pgdata"])
            .arg(server.data())
            .stdout(Stdio::null())
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        server.run().await;
        server
    }

    /// Starts it again.
    pub async fn run(&mut self) {
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        let process = self
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            .args(["-k", self.folder.path().to_str().unwrap(), "-c", "listen_addresses="])
            .args(["-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=30"])
            .args(["-c", "autovacuum=off", "-c", "jit=off"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        for _ in 0..600 {
            if PgConnection::connect(&self.url("postgres")).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("PostgreSQL does not start:\n{}", fs::read_to_string(self.folder.path().join("log")).unwrap());
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        if let Some((user, group)) = other_user() {
            command.uid(user).gid(group);
        }
        command
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}", self.folder.path().display())
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join(".s.PGSQL.5432")
    }

    /// A new database.
    pub async fn database(&self, name: &str) -> Place {
        let mut connection = PgConnection::connect(&self.url("postgres")).await.unwrap();
        let sql = format!("CREATE DATABASE {name}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        Place::Postgres(Secret::new(self.url(name)))
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.process.as_ref().unwrap().id().try_into().unwrap())
    }

    /// Stops all of its processes where they are, or lets them go on.
    pub fn freeze(&self, is_frozen: bool) {
        let signal = if is_frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        // The first one first, so that it starts no others meanwhile.
        let _ = kill(self.pid(), signal);
        for child in children(self.pid()) {
            let _ = kill(child, signal);
        }
    }

    /// Ends it at once, as a machine that crashes.
    pub fn crash(&mut self) {
        let children = children(self.pid());
        let mut process = self.process.take().unwrap();
        for pid in children.into_iter().chain([Pid::from_raw(process.id().try_into().unwrap())]) {
            let _ = kill(pid, Signal::SIGKILL);
        }
        process.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.crash();
        }
    }
}

/// A process and its children, by Linux's list of processes.
fn children(parent: Pid) -> Vec<Pid> {
    let output = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let pair = |line: &str| {
        let mut numbers = line.split_whitespace().map(|number| number.parse::<i32>().unwrap());
        Some((numbers.next()?, numbers.next()?))
    };
    let of_parent = text.lines().filter_map(pair).filter(|(_, of)| *of == parent.as_raw());
    of_parent.map(|(pid, _)| Pid::from_raw(pid)).collect()
}

/// Whether a server can be made.
pub fn is_installed() -> bool {
    programs().is_some()
}

/// PostgreSQL does not run as root: then anybody else will do.
fn other_user() -> Option<(u32, u32)> {
    // A new file belongs to the user of this process.
    if tempfile::tempfile().unwrap().metadata().unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(ids("postgres").or_else(|| ids("nobody")).expect("root needs a user `postgres` or `nobody`"))
}

/// The folder of `initdb` and `postgres`. Debian keeps it out of `PATH`.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path);
    let mut debian: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|version| version.path().join("bin")).collect())
        .unwrap_or_default();
    debian.sort();
    let has_both = |folder: &PathBuf| ["initdb", "postgres"].iter().all(|name| is_file(&folder.join(name)));
    in_path.chain(debian.into_iter().rev()).find(has_both)
}

fn is_file(path: &Path) -> bool {
    path.is_file()
}
