use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, Header};

use super::*;

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A header with exactly this name; the builder would refuse some names.
fn header(name: &[u8], kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

struct Tar(Builder<Vec<u8>>);

fn tar() -> Tar {
    Tar(Builder::new(Vec::new()))
}

impl Tar {
    fn file(self, name: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) -> Tar {
        self.raw(name.as_ref(), EntryType::Regular, bytes.as_ref())
    }

    fn raw(mut self, name: &[u8], kind: EntryType, bytes: &[u8]) -> Tar {
        self.0.append(&header(name, kind, bytes.len() as u64), bytes).unwrap();
        self
    }

    fn link(mut self, name: &str, kind: EntryType, target: &str) -> Tar {
        let mut header = header(name.as_bytes(), kind, 0);
        header.set_link_name_literal(target).unwrap();
        header.set_cksum();
        self.0.append(&header, io::empty()).unwrap();
        self
    }

    fn gz(self) -> Vec<u8> {
        gz(&self.0.into_inner().unwrap())
    }

    fn unpack(self) -> Result<Folder, ArchiveError> {
        unpack(&self.gz())
    }
}

fn names(folder: &Folder) -> Vec<&str> {
    let files = folder.assistants.iter().chain(&folder.fragments).chain(&folder.greetings);
    files.map(|file| file.path.as_str()).collect()
}

#[test]
fn the_folder_is_found_where_hosts_put_it() {
    let table: [(&str, &[&str], &[&str]); 9] = [
        (
            "at the top",
            &["b.yaml", "a.yml", "fragments/x.md", "greetings/hi.wav"],
            &["a.yml", "b.yaml", "fragments/x.md", "greetings/hi.wav"],
        ),
        ("with ./", &["./", "./a.yaml", "./fragments/x.md"], &["a.yaml", "fragments/x.md"]),
        (
            "one folder",
            &["repo-main/", "repo-main/a.yaml", "repo-main/fragments/x.md"],
            &["a.yaml", "fragments/x.md"],
        ),
        (
            "`assistants` wins",
            &["docker-compose.yml", "assistants/a.yaml", "assistants/fragments/x.md"],
            &["assistants/a.yaml", "assistants/fragments/x.md"],
        ),
        (
            "a Git host's",
            &[
                "repo-main/",
                "repo-main/ci.yaml",
                "repo-main/assistants/a.yaml",
                "repo-main/assistants/greetings/h.wav",
            ],
            &["assistants/a.yaml", "assistants/greetings/h.wav"],
        ),
        ("only `assistants`", &["assistants/", "assistants/a.yaml"], &["assistants/a.yaml"]),
        (
            "a system's own files",
            &["._repo", ".DS_Store", "repo/a.yaml", "repo/._a.yaml", "repo/.#b.yaml"],
            &["a.yaml"],
        ),
        (
            "other files",
            &["a.yaml", "README.md", "fragments/x.yaml", "greetings/x.md", "deep/b.yaml"],
            &["a.yaml"],
        ),
        ("a folder called a.yaml", &["a.yaml/", "a.yaml/x", "b.yaml"], &["b.yaml"]),
    ];
    for (what, files, expected) in table {
        let archive = files.iter().fold(tar(), |archive, name| match name.ends_with('/') {
            true => archive.raw(name.as_bytes(), EntryType::Directory, b""),
            false => archive.file(name, name),
        });
        let folder = archive.unpack().unwrap_or_else(|error| panic!("{what}: {error}"));
        let expected: Vec<_> = expected.iter().map(|name| format!("ASSISTANTS_URL/{name}")).collect();
        assert_eq!(names(&folder), expected, "{what}");
    }
}

#[test]
fn content_is_not_changed() {
    let text = b"\xef\xbb\xbfnumbers: []\r\n\xff\0";
    let folder = tar().file("a.yaml", text).unpack().unwrap();
    assert_eq!(folder.assistants[0].bytes, text);
}

#[test]
fn the_last_of_two_entries_counts() {
    let folder = tar().file("a.yaml", "old").file("a.yaml", "new").unpack().unwrap();
    assert_eq!(folder.assistants[0].bytes, b"new");
}

#[test]
fn the_headers_of_git_and_of_long_names_are_read() {
    let mut archive = tar().raw(b"pax_global_header", EntryType::XGlobalHeader, b"19 comment=0123456\n");
    let long = format!("repository-{}/assistants/a.yaml", "x".repeat(150));
    archive.0.append_data(&mut header(b"", EntryType::Regular, 1), &long, &b"x"[..]).unwrap();
    let folder = archive.unpack().unwrap();
    assert_eq!(names(&folder), ["ASSISTANTS_URL/assistants/a.yaml"]);
    let pax = b"31 path=repo/assistants/b.yaml\n";
    let folder = tar().raw(b"x", EntryType::XHeader, pax).file("short", "x").unpack().unwrap();
    assert_eq!(names(&folder), ["ASSISTANTS_URL/assistants/b.yaml"]);
}

#[test]
fn a_hostile_name_refuses_the_archive() {
    let table: [(&[u8], &str); 9] = [
        (b"../x.yaml", "../x.yaml"),
        (b"a/../../x.yaml", "a/../../x.yaml"),
        (b"..", ".."),
        (b"/etc/x.yaml", "/etc/x.yaml"),
        (b"..\\x.yaml", "..\\x.yaml"),
        (b"a\nb.yaml", "a\u{fffd}b.yaml"),
        (b"a\x1b[2J.yaml", "a\u{fffd}[2J.yaml"),
        (b"caf\xe9.yaml", "caf\u{fffd}.yaml"),
        (b"../+15550100001", "../+1555*"),
    ];
    for (name, shown) in table {
        let error = tar().file("a.yaml", "x").file(name, "x").unpack().unwrap_err();
        assert!(matches!(&error, ArchiveError::Hostile { name, .. } if name.starts_with(shown)), "{error}");
        assert!(!error.to_string().contains("15550100001"), "{error}");
    }
    // A name in an extended header can hold what a plain one cannot.
    let error = tar().raw(b"x", EntryType::XHeader, b"16 path=a\0.yaml\n").file("b.yaml", "x").unpack();
    assert!(matches!(error, Err(ArchiveError::Hostile { .. })));
}

#[test]
fn no_link_is_followed() {
    for kind in [EntryType::Symlink, EntryType::Link] {
        for name in ["b.yaml", "fragments", "fragments/x.md", "greetings/x.wav", "assistants"] {
            for target in ["/etc/passwd", "../../secret", "a.yaml"] {
                let error = tar().file("a.yaml", "x").link(name, kind, target).unpack().unwrap_err();
                let shown = format!("ASSISTANTS_URL/{name}");
                assert!(matches!(&error, ArchiveError::Link(link) if *link == shown), "{error}");
            }
        }
        let folder = tar().file("assistants/a.yaml", "x").link("docs/latest", kind, "/etc").unpack().unwrap();
        assert_eq!(names(&folder), ["ASSISTANTS_URL/assistants/a.yaml"], "a link elsewhere does not matter");
    }
}

#[test]
fn devices_and_pipes_are_ignored() {
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo] {
        let folder = tar().file("a.yaml", "x").raw(b"b.yaml", kind, b"").unpack().unwrap();
        assert_eq!(names(&folder), ["ASSISTANTS_URL/a.yaml"]);
    }
}

#[test]
fn an_archive_without_assistants_is_reported_with_its_content() {
    let listed = |archive: Tar| match archive.unpack() {
        Err(ArchiveError::Empty(listed)) => listed,
        other => panic!("{other:?}"),
    };
    assert_eq!(listed(tar()), "no files");
    assert_eq!(listed(tar().file("r/README.md", "").file("r/src/x.yaml", "")), "`README.md`, `src/`");
    assert_eq!(listed(tar().file("ci.yaml", "").file("assistants/x.txt", "")), "`x.txt`");
    let many = (0..9).fold(tar(), |archive, at| archive.file(format!("{at}"), ""));
    assert_eq!(listed(many), "`0`, `1`, `2`, `3`, `4`, `5`, and more");
}

#[test]
fn what_is_not_a_whole_archive_is_an_error() {
    use ArchiveError::{Damaged, NotAnArchive, Truncated};
    let text = gz(&b"not a tar, but longer than the header of one, which has 512 bytes: ".repeat(9));
    for bytes in [&b""[..], b"<html>", &text] {
        assert!(matches!(unpack(bytes), Err(NotAnArchive)));
    }
    // It does not compress, so every cut falls into it.
    let noise: Vec<u8> = (0..20_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let whole = tar().file("a.yaml", &noise).file("b.yaml", &noise).gz();
    assert!(unpack(&whole).is_ok());
    for cut in [3, 30, whole.len() / 2, whole.len() - 1] {
        assert!(matches!(unpack(&whole[..cut]), Err(Truncated)), "cut at {cut}");
    }
    let mut bad = whole.clone();
    *bad.last_mut().unwrap() ^= 1;
    assert!(matches!(unpack(&bad), Err(Damaged)), "the length at the end is wrong");
    let mut sum = whole.clone();
    let at = sum.len() - 8;
    sum[at] ^= 1;
    assert!(matches!(unpack(&sum), Err(Damaged)), "the checksum is wrong");
    // A whole gzip around half a tar.
    let half = tar().file("a.yaml", &noise).0.into_inner().unwrap();
    assert!(matches!(unpack(&gz(&half[..5_000])), Err(Truncated)));
}

#[test]
fn bombs_do_not_go_off() {
    let zeros = vec![0; 70 * 1024 * 1024];
    let bomb = tar().file("a.yaml", "x").file("zeros", &zeros).gz();
    assert!(bomb.len() < 1024 * 1024, "the bomb is small");
    assert!(matches!(unpack(&bomb), Err(ArchiveError::TooLarge)));
    // Only the checksum reads what follows the archive's end.
    let mut behind = tar().file("a.yaml", "x").0.into_inner().unwrap();
    behind.extend_from_slice(&zeros);
    assert!(matches!(unpack(&gz(&behind)), Err(ArchiveError::TooLarge)));

    for size in [u64::MAX / 2, 65 * 1024 * 1024] {
        let mut declared = header(b"a.yaml", EntryType::Regular, size).as_bytes().to_vec();
        declared.extend_from_slice(&[0; 2048]);
        assert!(matches!(unpack(&gz(&declared)), Err(ArchiveError::TooLarge)), "{size}");
    }
    let mut declared = header(b"a.yaml", EntryType::Regular, 100 * 1024).as_bytes().to_vec();
    declared.extend_from_slice(&[0; 2048]);
    assert!(matches!(unpack(&gz(&declared)), Err(ArchiveError::Truncated)));

    // One name of 30 million parts, compressed to some kilobytes.
    let endless = b"a/".repeat(30 * 1024 * 1024);
    let pax = |value: &[u8]| {
        // The length counts itself.
        let rest = value.len() + " path=\n".len();
        let digits = (rest + rest.to_string().len()).to_string().len();
        [format!("{} path=", rest + digits).as_bytes(), value, b"\n"].concat()
    };
    for (kind, short, long) in [
        (EntryType::GNULongName, endless[..5000].to_vec(), endless.clone()),
        (EntryType::XHeader, pax(&endless[..5000]), pax(&endless)),
    ] {
        let named = |bytes: &[u8]| {
            let bomb = tar().raw(b"x", kind, bytes).file("b.yaml", "x").gz();
            assert!(bomb.len() < 1024 * 1024, "the bomb is small");
            unpack(&bomb)
        };
        assert!(matches!(named(&short), Err(ArchiveError::LongName)), "{kind:?}");
        assert!(matches!(named(&long), Err(ArchiveError::LongName)), "{kind:?}");
    }
    let mut sparse = Header::new_gnu();
    sparse.set_path("b.yaml").unwrap();
    sparse.set_entry_type(EntryType::GNUSparse);
    sparse.set_size(0);
    sparse.as_gnu_mut().unwrap().realsize = *b"00000000000\0";
    sparse.set_cksum();
    let mut archive = tar().file("a.yaml", "x");
    archive.0.append(&sparse, io::empty()).unwrap();
    let error = Tar::unpack(archive);
    assert!(matches!(error, Err(ArchiveError::Hostile { name, .. }) if name == "b.yaml"));

    let many = |count| (0..count).fold(tar(), |archive, at| archive.file(format!("{at}.txt"), ""));
    assert!(matches!(many(10_001).unpack(), Err(ArchiveError::TooMany)));
    assert!(many(MOST_ENTRIES - 1).file("a.yaml", "x").unpack().is_ok());
}

#[test]
fn files_have_the_same_limits_as_on_a_disk() {
    // The check reports a text that is too large.
    let folder = tar().file("a.yaml", vec![b'#'; 300 * 1024]).unpack().unwrap();
    assert_eq!((folder.assistants[0].size(), folder.assistants[0].bytes.len()), (300 * 1024, 0));
    let wav = vec![0; 21 * 1024 * 1024];
    for name in ["greetings/hi.wav", "sounds/moment.wav"] {
        let error = tar().file("a.yaml", "x").file(name, &wav).unpack();
        assert!(matches!(
            error,
            Err(ArchiveError::Recording(crate::problem::catalogue::ReadFolder::LargeRecording { .. }))
        ));
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        changes in proptest::collection::vec((0..4096usize, proptest::prelude::any::<u8>()), 0..12),
        cut in 0..4096usize,
    ) {
        let mut bytes = tar()
            .raw(b"x", EntryType::XHeader, b"31 path=repo/assistants/b.yaml\n")
            .file("a.yaml", "x")
            .file("fragments/a.md", "x")
            .0
            .into_inner()
            .unwrap();
        for (at, byte) in changes {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        let _ = unpack(&gz(&bytes[..cut.min(bytes.len())]));
        let _ = unpack(&gz(&bytes));
        let packed = gz(&bytes);
        let _ = unpack(&packed[..cut.min(packed.len())]);
    }
}
