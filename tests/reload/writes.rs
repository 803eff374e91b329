//! The ways in which editors and tools write.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use switchboard::reload::Pace;

use crate::server::{BURST, SAVE, Switchboard, assistant, write};

#[tokio::test]
async fn a_file_is_truncated_and_written() {
    let mut switchboard = Switchboard::open().await;
    fs::write(switchboard.dir.join("a.yaml"), assistant("two")).unwrap();
    switchboard.says("a", "two", Instant::now(), SAVE).await;
    switchboard.generation(3).await;
    switchboard.quit().await;
}

#[tokio::test]
async fn a_file_is_renamed_over() {
    let mut switchboard = Switchboard::open().await;
    // As editors do: a swap file, a name to try, a backup.
    for (file, text) in [(".a.yaml.swp", "b0VIM"), ("4913", ""), ("a.yaml~", "old"), ("a.yaml.tmp", "")] {
        fs::write(switchboard.dir.join(file), text).unwrap();
    }
    fs::write(switchboard.dir.join("a.yaml.tmp"), assistant("two")).unwrap();
    fs::rename(switchboard.dir.join("a.yaml.tmp"), switchboard.dir.join("a.yaml")).unwrap();
    switchboard.says("a", "two", Instant::now(), SAVE).await;
    fs::write(switchboard.root().join("outside.yaml"), assistant("three")).unwrap();
    fs::rename(switchboard.root().join("outside.yaml"), switchboard.dir.join("a.yaml")).unwrap();
    switchboard.says("a", "three", Instant::now(), SAVE).await;
    switchboard.generation(4).await;
    switchboard.quit().await;
}

#[tokio::test]
async fn a_file_is_deleted_and_created() {
    let mut switchboard = Switchboard::open().await;
    fs::remove_file(switchboard.dir.join("a.yaml")).unwrap();
    fs::write(switchboard.dir.join("a.yaml"), assistant("two")).unwrap();
    switchboard.says("a", "two", Instant::now(), SAVE).await;
    assert_eq!(switchboard.count("WARN") + switchboard.count("ERROR"), 0, "{:#?}", switchboard.lines());
    switchboard.generation(3).await;
    switchboard.quit().await;
}

#[tokio::test]
async fn a_file_comes_in_two_halves() {
    let mut switchboard = Switchboard::open().await;
    let mut file = fs::File::create(switchboard.dir.join("a.yaml")).unwrap();
    file.write_all(assistant("one half").as_bytes()).unwrap();
    file.sync_all().unwrap();
    // The writer pauses; that is what this tests.
    tokio::time::sleep(Duration::from_millis(300)).await;
    file.write_all(b"fragments: [shop-rules]\nvoice: cedar\n").unwrap();
    write(&switchboard.dir.join("fragments/shop-rules.md"), "Be brief.");
    drop(file);
    switchboard.says("a", "Be brief.", Instant::now(), SAVE).await;
    switchboard.generation(3).await;
    assert_eq!(switchboard.lines().len(), 1, "the first half was not read: {:#?}", switchboard.lines());
    switchboard.quit().await;
}

#[tokio::test]
async fn a_checkout_of_many_files_is_one_reload() {
    let git = |root: &Path, arguments: &[&str]| {
        let done = Command::new("git")
            .args(["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"])
            .args(arguments)
            .current_dir(root)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let mut switchboard = Switchboard::with(Pace::default(), |root| {
        let dir = root.join("assistants");
        git(root, &["init", "--quiet", "--initial-branch=one"]);
        for (branch, count) in [("one", 60), ("two", 80)] {
            git(root, &["checkout", "--quiet", "-B", branch]);
            for number in 0..count {
                let text = assistant(branch) + "fragments: [rules]\n";
                write(&dir.join(format!("a{number}.yaml")), text);
            }
            write(&dir.join("fragments/rules.md"), format!("Rules of {branch}."));
            git(root, &["add", "."]);
            git(root, &["commit", "--quiet", "-m", branch]);
        }
        git(root, &["checkout", "--quiet", "one"]);
        dir
    })
    .await;
    assert_eq!(switchboard.roster.borrow().len(), 60);
    git(switchboard.root(), &["checkout", "--quiet", "two"]);
    let done = Instant::now();
    switchboard.says("a79", "Rules of two.", done, SAVE).await;
    switchboard.generation(3).await;
    assert_eq!(switchboard.roster.borrow().len(), 80);
    git(switchboard.root(), &["checkout", "--quiet", "one"]);
    switchboard.says("a0", "Rules of one.", Instant::now(), SAVE).await;
    switchboard.generation(4).await;
    assert_eq!(switchboard.roster.borrow().len(), 60);
    assert_eq!(switchboard.count("WARN") + switchboard.count("ERROR"), 0, "{:#?}", switchboard.lines());
    switchboard.quit().await;
}

#[tokio::test]
async fn a_linked_folder_is_swapped_at_once() {
    let mut switchboard = Switchboard::with(Pace::default(), |root| {
        for (release, words) in [("releases/1", "one"), ("releases/2", "two")] {
            write(&root.join(release).join("a.yaml"), assistant(words));
        }
        symlink("releases/1", root.join("assistants")).unwrap();
        root.join("assistants")
    })
    .await;
    let swap = |target: &str| {
        symlink(target, switchboard.root().join("new")).unwrap();
        fs::rename(switchboard.root().join("new"), switchboard.root().join("assistants")).unwrap();
        Instant::now()
    };
    let swapped = swap("releases/2");
    switchboard.says("a", "two", swapped, SAVE).await;
    // The new place is watched, the old one is not.
    fs::write(switchboard.root().join("releases/2/a.yaml"), assistant("three")).unwrap();
    switchboard.says("a", "three", Instant::now(), SAVE).await;
    fs::write(switchboard.root().join("releases/1/a.yaml"), assistant("four")).unwrap();
    switchboard.nothing_happens().await;
    // And where the link leads to may be replaced as well.
    fs::rename(switchboard.root().join("releases/2"), switchboard.root().join("releases/0")).unwrap();
    fs::rename(switchboard.root().join("releases/1"), switchboard.root().join("releases/2")).unwrap();
    switchboard.says("a", "four", Instant::now(), SAVE).await;
    assert_eq!(switchboard.count("WARN") + switchboard.count("ERROR"), 0, "{:#?}", switchboard.lines());
    switchboard.quit().await;
}

#[tokio::test]
async fn links_to_a_parent_folder_and_to_files_are_followed() {
    // The layouts of deploy tools (`current`) and Kubernetes (`..data`).
    let mut switchboard = Switchboard::with(Pace::default(), |root| {
        let dir = root.join("releases/7/assistants");
        write(&dir.join("..v1/a.yaml"), assistant("one"));
        write(&dir.join("..v2/a.yaml"), assistant("two"));
        write(&root.join("releases/8/assistants/a.yaml"), assistant("three"));
        symlink("..v1", dir.join("..data")).unwrap();
        symlink("..data/a.yaml", dir.join("a.yaml")).unwrap();
        symlink("releases/7", root.join("current")).unwrap();
        root.join("current/assistants")
    })
    .await;
    let dir = switchboard.root().join("releases/7/assistants");
    symlink("..v2", dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    switchboard.says("a", "two", Instant::now(), SAVE).await;
    fs::write(dir.join("..v2/a.yaml"), assistant("two and a half")).unwrap();
    switchboard.says("a", "two and a half", Instant::now(), SAVE).await;
    symlink("releases/8", switchboard.root().join("next")).unwrap();
    fs::rename(switchboard.root().join("next"), switchboard.root().join("current")).unwrap();
    switchboard.says("a", "three", Instant::now(), SAVE).await;
    switchboard.quit().await;
}

#[tokio::test]
async fn a_burst_of_saves_ends_in_the_last_one() {
    let mut switchboard = Switchboard::open().await;
    let dir = switchboard.dir.clone();
    let began = Instant::now();
    let burst = Burst::begin(move |save| {
        fs::write(dir.join("a.yaml"), assistant(&format!("save {save}."))).unwrap();
        write(&dir.join(format!("b{}.yaml", save % 7)), assistant("others"));
        std::thread::sleep(Duration::from_millis(10));
    });
    // A disk that does not rest is read too.
    switchboard.generation(3).await;
    let (last, done) = burst.end().await;
    switchboard.says("a", &format!("save {last}."), done, BURST).await;
    assert_eq!(switchboard.roster.borrow().len(), 8);
    let reloads = switchboard.count("Assistants reloaded");
    let most = 2 + began.elapsed().as_secs() as usize;
    assert!((1..=most).contains(&reloads), "{:#?}", switchboard.lines());
    switchboard.quit().await;
}

/// The bursts are longer than it takes until a disk that does not rest is read, and read again.
#[tokio::test]
async fn a_burst_of_deleted_created_and_empty_files_takes_no_assistant_away() {
    const LONG: Duration = Duration::from_secs(5);
    let mut switchboard = Switchboard::with(Pace::default(), |root| {
        for name in ["a", "b", "c"] {
            write(&root.join(format!("assistants/{name}.yaml")), assistant("one"));
        }
        root.join("assistants")
    })
    .await;
    let mut roster = switchboard.roster.clone();
    let gone = tokio::spawn(async move {
        while roster.wait_for(|roster| roster.by_name("a").is_none()).await.is_err() {}
    });
    let dir = switchboard.dir.clone();
    let burst = Burst::begin(move |save| {
        let file = dir.join("a.yaml");
        if save % 2 == 0 {
            fs::remove_file(&file).unwrap();
            std::thread::sleep(Duration::from_millis(8));
        }
        let mut file = fs::File::create(&file).unwrap();
        std::thread::sleep(Duration::from_millis(8));
        file.write_all(assistant(&format!("save {save}")).as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(6));
        if save == 1 {
            fs::remove_file(dir.join("c.yaml")).unwrap();
        }
    });
    tokio::time::sleep(LONG).await;
    assert_eq!(switchboard.roster.borrow().len(), 3, "a deletion counts when the disk is at rest");
    let (last, done) = burst.end().await;
    switchboard.says("a", &format!("save {last}."), done, BURST).await;
    assert_eq!(switchboard.roster.borrow().len(), 2);
    assert!(!gone.is_finished(), "{:#?}", switchboard.lines());
    gone.abort();
    assert_eq!(switchboard.count("WARN") + switchboard.count("ERROR"), 0, "{:#?}", switchboard.lines());
    switchboard.quit().await;
}

/// Saves again and again until it is ended.
struct Burst {
    stop: Arc<AtomicBool>,
    saving: tokio::task::JoinHandle<(u32, Instant)>,
}

impl Burst {
    fn begin(mut save: impl FnMut(u32) + Send + 'static) -> Burst {
        let stop = Arc::<AtomicBool>::default();
        let stopped = stop.clone();
        let saving = tokio::task::spawn_blocking(move || {
            let mut last = 0;
            while !stopped.load(Ordering::Relaxed) {
                last += 1;
                save(last);
            }
            (last, Instant::now())
        });
        Burst { stop, saving }
    }

    /// The number of the last save, and when it was done.
    async fn end(self) -> (u32, Instant) {
        self.stop.store(true, Ordering::Relaxed);
        self.saving.await.unwrap()
    }
}

#[tokio::test]
async fn the_folder_is_replaced() {
    let mut switchboard = Switchboard::open().await;
    write(&switchboard.root().join("next/a.yaml"), assistant("two"));
    fs::rename(&switchboard.dir, switchboard.root().join("old")).unwrap();
    fs::rename(switchboard.root().join("next"), &switchboard.dir).unwrap();
    switchboard.says("a", "two", Instant::now(), SAVE).await;
    fs::write(switchboard.dir.join("a.yaml"), assistant("three")).unwrap();
    switchboard.says("a", "three", Instant::now(), SAVE).await;
    // A folder that stays away is a problem, and the roster in force stays.
    fs::remove_dir_all(&switchboard.dir).unwrap();
    switchboard.problems(1).await;
    assert!(switchboard.text("a").contains("three"));
    switchboard.line("ERROR").await;
    write(&switchboard.dir.join("a.yaml"), assistant("four"));
    switchboard.says("a", "four", Instant::now(), SAVE).await;
    switchboard.problems(0).await;
    switchboard.quit().await;
}

#[tokio::test]
async fn folders_of_fragments_come_and_go() {
    let mut switchboard = Switchboard::open().await;
    write(&switchboard.dir.join("fragments/rules.md"), "Rules of one.");
    fs::write(switchboard.dir.join("a.yaml"), assistant("two") + "fragments: [rules]\n").unwrap();
    switchboard.says("a", "Rules of one.", Instant::now(), SAVE).await;
    fs::write(switchboard.dir.join("fragments/rules.md"), "Rules of two.").unwrap();
    switchboard.says("a", "Rules of two.", Instant::now(), SAVE).await;
    fs::rename(switchboard.dir.join("fragments"), switchboard.dir.join("..v1")).unwrap();
    symlink("..v1", switchboard.dir.join("fragments")).unwrap();
    fs::write(switchboard.dir.join("..v1/rules.md"), "Rules of three.").unwrap();
    switchboard.says("a", "Rules of three.", Instant::now(), SAVE).await;
    switchboard.quit().await;
}

#[tokio::test]
async fn without_events_the_poll_finds_every_edit_even_if_the_clock_goes_back() {
    let pace = Pace { events: false, poll: Duration::from_millis(100), ..Pace::default() };
    let mut switchboard = Switchboard::with(pace, |root| {
        write(&root.join("assistants/a.yaml"), assistant("one"));
        root.join("assistants")
    })
    .await;
    let path = switchboard.dir.join("a.yaml");
    let save = |words: &str, time: SystemTime| {
        fs::write(&path, assistant(words)).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        Instant::now()
    };
    // The clock is set back, then stands still; the length stays the same.
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
    let saved = save("two", old);
    switchboard.says("a", "two", saved, SAVE).await;
    let saved = save("six", old);
    switchboard.says("a", "six", saved, SAVE).await;
    fs::remove_file(&path).unwrap();
    switchboard.problems(1).await;
    let saved = save("ten", old);
    switchboard.says("a", "ten", saved, SAVE).await;
    switchboard.quit().await;
}

#[tokio::test]
async fn an_idle_watcher_opens_no_file() {
    let poll = Duration::from_millis(50);
    let mut switchboard = Switchboard::with(Pace { poll, ..Pace::default() }, |root| {
        write(&root.join("assistants/a.yaml"), assistant("one"));
        root.join("assistants")
    })
    .await;
    let opened = Arc::<std::sync::atomic::AtomicU32>::default();
    let count = opened.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let file = |event: notify::Event| event.paths.iter().any(|path| path.ends_with("a.yaml"));
        if event.is_ok_and(file) {
            count.fetch_add(1, Ordering::SeqCst);
        }
    })
    .unwrap();
    notify::Watcher::watch(&mut watcher, &switchboard.dir, notify::RecursiveMode::NonRecursive).unwrap();
    fs::read(switchboard.dir.join("a.yaml")).unwrap();
    // The second read, which confirms the first, may come now; the next thirty polls only take stamps.
    switchboard.nothing_happens().await;
    let before = opened.swap(0, Ordering::SeqCst);
    assert!(before > 0, "the test sees that a file is opened");
    switchboard.nothing_happens().await;
    assert_eq!(opened.load(Ordering::SeqCst), 0);
    switchboard.quit().await;
}

#[tokio::test]
async fn the_clock_is_set_back() {
    let mut switchboard = Switchboard::open().await;
    let path = switchboard.dir.join("a.yaml");
    fs::write(&path, assistant("two")).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
    fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
    switchboard.says("a", "two", Instant::now(), SAVE).await;
    switchboard.quit().await;
}

#[tokio::test]
async fn permission_is_lost_and_regained() {
    // Root may read everything.
    if as_user(NOBODY, "writes::permission_is_lost_and_regained") {
        return;
    }
    let mut switchboard = Switchboard::open().await;
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let file = switchboard.dir.join("a.yaml");
    let dir = switchboard.dir.clone();
    let mut since = Instant::now();
    for (path, lost, regained, words) in
        [(&file, 0o000, 0o644, "two"), (&dir, 0o000, 0o755, "three"), (&dir, 0o600, 0o700, "four")]
    {
        mode(path, lost);
        switchboard.problems(1).await;
        assert!(since.elapsed() < SAVE + switchboard.slack(), "{:?}", since.elapsed());
        switchboard.line("cannot be read").await;
        mode(path, regained);
        switchboard.problems(0).await;
        switchboard.line("passes again").await;
        fs::write(&file, assistant(words)).unwrap();
        switchboard.says("a", words, Instant::now(), SAVE).await;
        since = Instant::now();
    }
    assert_eq!(switchboard.count("errors=1"), 3, "{:#?}", switchboard.lines());
    switchboard.quit().await;
}

#[tokio::test]
async fn a_system_without_file_events_is_logged_once() {
    // The limit is per user: no other test may run into it.
    if as_user(NOBODY - 1, "writes::a_system_without_file_events_is_logged_once") {
        return;
    }
    let pace = Pace { poll: Duration::from_millis(100), ..Pace::default() };
    let mut taken = Vec::new();
    while let Ok(watcher) = notify::recommended_watcher(|_| {}) {
        taken.push(watcher);
        assert!(taken.len() < 2_000, "this system has no limit that a test can reach");
    }
    let mut switchboard = Switchboard::with(pace, |root| {
        write(&root.join("assistants/a.yaml"), assistant("one"));
        root.join("assistants")
    })
    .await;
    for words in ["two", "three"] {
        fs::write(switchboard.dir.join("a.yaml"), assistant(words)).unwrap();
        switchboard.says("a", words, Instant::now(), SAVE).await;
    }
    // It was logged before the first read, whose lines are not kept.
    assert_eq!(switchboard.count("cannot be watched"), 0, "{:#?}", switchboard.lines());
    drop(taken);
    switchboard.line("watched again").await;
    switchboard.quit().await;
}

/// An unprivileged user.
const NOBODY: u32 = 65_534;

/// Runs this test again as this user. `false` if the user is unprivileged already.
fn as_user(user: u32, test: &str) -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0);
    if !root {
        return false;
    }
    // Other users may not read the build folder.
    let temp = tempfile::tempdir().unwrap();
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = temp.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new(program);
    command.args(["--exact", test, "--nocapture"]).current_dir("/").env_remove("NEXTEST");
    command.uid(user).gid(user);
    let done = loop {
        match command.output() {
            // Another test has just forked, and its child still holds the copy open.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            done => break done.unwrap(),
        }
    };
    let stdout = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{stdout}\n{}", String::from_utf8_lossy(&done.stderr));
    assert!(stdout.contains("1 passed"), "{stdout}");
    true
}
