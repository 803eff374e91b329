//! No file of the project contains anything real: a phone number that could be somebody's, an e-mail address, an owner's
//! domain, a key, or a path of somebody's machine. The test reads every file that git has or would add.

use std::process::Command;

use switchboard::phone::PhoneNumber;

use crate::path;

/// Hosts of the services Switchboard works with, and of pages its documentation links to.
const PUBLIC: [&str; 44] = [
    "api.openai.com",
    "platform.openai.com",
    "status.openai.com",
    "openai.com",
    "api.x.ai",
    "console.x.ai",
    "api.twilio.com",
    "www.twilio.com",
    "console.twilio.com",
    "demo.twilio.com",
    "status.twilio.com",
    "twilio.com",
    "fly.io",
    "www.fly.io",
    "community.fly.io",
    "status.fly.io",
    "fly.dev",
    "twil.io",
    "trycloudflare.com",
    "cloudflare.com",
    "www.cloudflare.com",
    "developers.cloudflare.com",
    "pkg.cloudflare.com",
    "github.com",
    "raw.githubusercontent.com",
    "docs.github.com",
    "docs.rs",
    "doc.rust-lang.org",
    "rust-lang.org",
    "www.rust-lang.org",
    "rustup.rs",
    "sh.rustup.rs",
    "nexte.st",
    "registry.npmjs.org",
    "nodejs.org",
    "docs.docker.com",
    "www.todoist.com",
    "json-schema.org",
    "www.standardwebhooks.com",
    "modelcontextprotocol.io",
    "keepachangelog.com",
    "semver.org",
    "www.apache.org",
    "www.w3.org",
];

/// Placeholders for an owner's names under the domains of Fly and of Twilio's Functions.
const PLACEHOLDERS: [&str; 8] = [
    "app.fly.dev",
    "name.fly.dev",
    "phone.fly.dev",
    "your-app.fly.dev",
    "switchboard-example.fly.dev",
    "todoist-mcp-example.fly.dev",
    "switchboard-1234-dev.twil.io",
    "name-1234.twil.io",
];

/// Numbers that stand for withheld ones, and numbers reserved for drama.
const UNASSIGNED: [&str; 11] = [
    "+266696687",
    "+1266696687",
    "+7378742833",
    "+17378742833",
    "+8656696",
    "+86282452253",
    "+2562533",
    "+441632960",  // and three digits
    "+447700900",  // and three digits
    "+442079460",  // and three digits
    "+4420794600", // too long on purpose
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Real {
    Number,
    Host,
    Email,
    Key,
    Path,
}

#[test]
fn no_file_contains_anything_real() {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("git is installed");
    assert!(listed.status.success(), "not a git clone: {}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).unwrap();
    let (mut files, mut found) = (0, Vec::new());
    for name in names.split_terminator('\0') {
        let sound = [".wav", ".ulaw", ".mp3"].iter().any(|ending| name.ends_with(ending));
        // A file may be deleted in the work tree and still be in the index.
        let Ok(bytes) = std::fs::read(path(name)) else { continue };
        if sound {
            continue;
        }
        files += 1;
        // A lock file names registries, which another test checks, and funding pages.
        let lock = name.ends_with("package-lock.json");
        let text = String::from_utf8_lossy(&bytes);
        for (at, line) in text.lines().enumerate() {
            for (kind, what) in real(line) {
                if !(lock && kind == Real::Host) {
                    found.push(format!("{name}:{}: {kind:?} {what}", at + 1));
                }
            }
        }
    }
    assert!(files > 400, "only {files} files were read");
    assert!(found.is_empty(), "these look real:\n{}", found.join("\n"));
}

#[test]
fn real_things_are_found_and_examples_are_not() {
    // Assembled here, so that this file does not contain them.
    let plus = |digits: &str| format!("+{digits}");
    let at = |name: &str, domain: &str| format!("{name}@{domain}");
    let hex = "3f9ac1".repeat(6);
    for (kind, text) in [
        (Real::Number, plus("14158586273")),
        (Real::Number, plus(&["1 (415) 858-", "6273"].concat())),
        (Real::Number, plus("49 30 20253030")),
        (Real::Number, format!("call {} now", plus("442072343456"))),
        (Real::Number, format!("From=%2B{}", "14158586273")),
        (Real::Number, ["(415)", " 858", "-6273"].concat()),
        (Real::Number, ["415", ".858", ".6273"].concat()),
        (Real::Host, ["https://switchboard-acme", ".fly.dev/x"].concat()),
        (Real::Host, ["wss://phone", ".acme.net"].concat()),
        (Real::Host, ["the server is phone.acme", ".com, and"].concat()),
        (Real::Host, ["http://203", ".0.114.7:5050"].concat()),
        (Real::Host, ["acme-4711-dev", ".twil.io"].concat()),
        (Real::Host, ["https://example.com", ".acme.org/"].concat()),
        (Real::Email, at("ada", "acme.net")),
        (Real::Email, at("ada.l", "openai.com")),
        (Real::Key, format!("sk-{}", "proj-aB3dE5gH7jK9mN1pQ3s")),
        (Real::Key, format!("AC{}", &hex[..32])),
        (Real::Key, format!("token: \"{}\"", &hex[..32])),
        (Real::Key, format!("ghp_{}", "aB3dE5gH7jK9mN1pQ3saB3dE5gH7jK9mN1pQ")),
        (Real::Key, format!("AKIA{}", "J7Q2M4X6Z8B1C3D5")),
        (Real::Key, format!("-----BEGIN RSA PRIVATE {}", "KEY-----")),
        (Real::Key, format!("fm2_{}", "lJPECAAAAAAAAy1axBBTR7")),
        (Real::Path, format!("/{}/ada/switchboard", "home")),
        (Real::Path, format!("/{}/ada", "Users")),
        (Real::Path, format!("C:\\{}\\ada", "Users")),
        (Real::Path, format!("/{}/.npmrc", "root")),
    ] {
        let kinds: Vec<Real> = real(&text).into_iter().map(|(kind, _)| kind).collect();
        assert!(kinds.contains(&kind), "{text}: {kinds:?}");
    }
    for text in [
        "+15550100001 +1 (202) 555-0123 +447700900123 +266696687 +44* a+1234567b 1+2",
        "https://phone.example.com/incoming-call ws://127.0.0.1:9 http://{machine}.vm.{app}.internal:5050",
        "https://<your-app>.fly.dev https://{app}.fly.dev a.trycloudflare.com foo.com_total settings.app meta.dev",
        "smtps://ada%40example.com:x@mail.example.com:465",
        "ada@example.com @doist/todoist-mcp@11.0.0 sk-simulated sk-… AC00000000000000000000000000000001",
        "CA0123456789abcdef0123456789abcdef 2026-11-23 15:04 10.0.0.5 1.2.3.4.5",
    ] {
        assert_eq!(real(text), [], "{text}");
    }
}

/// Everything in a line that looks real.
fn real(line: &str) -> Vec<(Real, String)> {
    let line = line.replace("%2B", "+");
    let mut found = Vec::new();
    numbers(&line, &mut found);
    hosts(&line, &mut found);
    keys(&line, &mut found);
    let homes =
        [concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("\\Us", "ers\\"), concat!("/ro", "ot/")];
    for home in homes {
        if line.contains(home) {
            found.push((Real::Path, line.trim().to_owned()));
        }
    }
    found
}

fn numbers(line: &str, found: &mut Vec<(Real, String)>) {
    let bytes = line.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        let before = at.checked_sub(1).map_or(b' ', |at| bytes[at]);
        if before.is_ascii_alphanumeric() || matches!(before, b'+' | b'/' | b'_' | b'.' | b'-') {
            continue;
        }
        let international = byte == b'+';
        if !international && !byte.is_ascii_digit() && byte != b'(' {
            continue;
        }
        let start = at + usize::from(international);
        let groups = groups(&line[start..]);
        let digits: String = groups.concat();
        // Without a plus, only the North American grouping identifies a number.
        let written_so = groups.iter().map(String::len).collect::<Vec<_>>() == [3, 3, 4];
        let number = match international {
            true => format!("+{digits}"),
            false if written_so => format!("+1{digits}"),
            false => continue,
        };
        if could_be_assigned(&number) {
            found.push((Real::Number, number));
        }
    }
}

/// Groups of digits at the start of a text, separated by at most two of ` ().-`; none if a letter follows.
fn groups(text: &str) -> Vec<String> {
    let mut groups = vec![String::new()];
    let mut between = 0;
    for c in text.chars() {
        match c {
            '0'..='9' => {
                if between > 0 && !groups.last().is_some_and(String::is_empty) {
                    groups.push(String::new());
                }
                between = 0;
                groups.last_mut().expect("one at least").push(c);
            }
            ' ' | '(' | ')' | '.' | '-' if between < 2 => between += 1,
            c if between == 0 && (c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '_')) => {
                return Vec::new();
            }
            _ => break,
        }
    }
    groups
}

fn could_be_assigned(number: &str) -> bool {
    let Ok(parsed) = PhoneNumber::parse(number) else { return false };
    let fiction = number.len() == 12 && number.starts_with("+1") && &number[5..10] == "55501";
    !number.starts_with("+1555")
        && !fiction
        && !UNASSIGNED.iter().any(|start| number.starts_with(start) && number.len() <= start.len() + 3)
        && parsed.implausible().is_none()
}

fn hosts(line: &str, found: &mut Vec<(Real, String)>) {
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let mut begin = 0;
    for piece in line.split(|c| !is_host(c)) {
        let at = begin;
        begin += piece.len() + line[at + piece.len()..].chars().next().map_or(0, char::len_utf8);
        let before = &line[..at];
        // An `@` in the user of a URL.
        let piece = piece.strip_prefix("40").filter(|_| before.ends_with('%')).unwrap_or(piece);
        let host = piece.trim_matches(['.', '-', '_']).to_lowercase();
        let labels: Vec<&str> = host.split('.').collect();
        if labels.len() < 2 || labels.iter().any(|label| label.is_empty()) {
            continue;
        }
        // `{app}.fly.dev` and `<app>.fly.dev` are placeholders.
        if piece.starts_with('.') {
            continue;
        }
        let last = labels[labels.len() - 1];
        // `a:b@host` in a URL is not an e-mail address.
        let user = before
            .strip_suffix('@')
            .map(|name| name.rsplit([' ', '"', '\'', '<', '(', '=', ',']).next().unwrap_or(""));
        let in_url = before.ends_with("://") || user.is_some_and(|user| user.contains("://"));
        let email = !in_url && user.is_some_and(|user| user.ends_with(|c: char| c.is_ascii_alphanumeric()));
        let known_end = ["com", "org"].contains(&last) && !host.contains('_')
            || host.ends_with(".fly.dev")
            || host.ends_with(".twil.io")
            || host.contains(".ngrok");
        let named = last.chars().all(|c| c.is_ascii_alphabetic()) && last.len() > 1;
        if email && named {
            if !is_reserved(&host) {
                found.push((Real::Email, host));
            }
        } else if (in_url || known_end) && !is_reserved(&host) && !is_known(&host) {
            found.push((Real::Host, host));
        }
    }
}

/// Reserved for examples, or reachable only locally.
fn is_reserved(host: &str) -> bool {
    let under = |domain: &str| host == domain || host.ends_with(&format!(".{domain}"));
    [
        "example.com",
        "example.org",
        "example.net",
        "example",
        "test",
        "invalid",
        "localhost",
        "local",
        "internal",
    ]
    .into_iter()
    .any(under)
        || host.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| {
            ip.is_loopback()
                || ip.is_private()
                || ip.is_unspecified()
                || ip.is_documentation()
                || ip.is_link_local()
        })
}

fn is_known(host: &str) -> bool {
    PUBLIC.contains(&host) || PLACEHOLDERS.contains(&host) || host.ends_with(".trycloudflare.com")
}

fn keys(line: &str, found: &mut Vec<(Real, String)>) {
    if line.contains("-----BEGIN ") && line.contains(concat!("PRIVATE ", "KEY-----")) {
        found.push((Real::Key, "a private key".to_owned()));
    }
    for word in line.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_')) {
        let secret = |start: &str, length: usize| {
            word.strip_prefix(start)
                .is_some_and(|rest| rest.len() >= length && rest.contains(|c: char| c.is_ascii_digit()))
        };
        let opaque =
            [("sk-", 20), ("sk_live_", 16), ("ghp_", 30), ("github_pat_", 30), ("xoxb-", 20), ("fm2_", 16)];
        let amazon = word.len() == 20 && word.starts_with("AKIA");
        let token = word.len() > 40 && word.starts_with("eyJ");
        let hex = match word.len() {
            32 => word,
            34 if word[..2].chars().all(|c| c.is_ascii_uppercase()) => &word[2..],
            _ => "",
        };
        // A Twilio id or token; those made up for a test repeat themselves.
        let distinct: std::collections::BTreeSet<char> = hex.chars().collect();
        let drawn = hex.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
            && distinct.len() > 4
            && !["0123456789", "fedcba98"].iter().any(|row| hex.contains(row));
        if opaque.iter().any(|(start, length)| secret(start, *length)) || amazon || token || drawn {
            found.push((Real::Key, format!("{}…", &word[..4])));
        }
    }
}
