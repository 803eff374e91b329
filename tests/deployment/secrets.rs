//! `switchboard secrets`: however `.env` is written, `fly secrets import` reads the same values as the program.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use switchboard::settings::env_file;

fn secrets(env: Option<&[u8]>, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    if let Some(env) = env {
        std::fs::write(folder.path().join(".env"), env).unwrap();
    }
    Command::new(env!("CARGO_BIN_EXE_switchboard"))
        .arg("secrets")
        .args(arguments)
        .current_dir(folder.path())
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

/// Parses as flyctl parses its standard input (superfly/flyctl: internal/command/secrets/parser.go).
fn flyctl(input: &str) -> BTreeMap<String, String> {
    const THREE: &str = "\"\"\"";
    let mut found = BTreeMap::new();
    let mut lines = input.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    while let Some(line) = lines.next() {
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let (name, value) = line.split_once('=').expect("flyctl rejects a line without =");
        let mut value = value.trim_start_matches(' ');
        if let Some((before, _)) = value.split_once('#')
            && before.matches('"').count() % 2 == 0
        {
            value = before.trim_end_matches(' ');
        }
        let within = |quote: &str| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        let read = if let Some(within) = within(THREE) {
            within.to_owned()
        } else if let Some(first) = value.strip_prefix(THREE) {
            let mut all = format!("{first}\n");
            loop {
                let line = lines.next().expect("flyctl drops an unterminated value");
                match line.strip_suffix(THREE) {
                    Some(last) => break all + last,
                    None => all += &format!("{line}\n"),
                }
            }
        } else {
            within("\"").or(within("'")).unwrap_or(value).to_owned()
        };
        found.insert(name.trim().to_owned(), read);
    }
    found
}

#[test]
fn flyctl_reads_the_same_values_as_the_program() {
    for line in [
        "A=x",
        "A=You are a friendly assistant. # mine",
        "A='x y' # mine",
        "A=\"x y\" # mine",
        "A='\"x\"'",
        "A=\"'x'\"",
        "A='tis me",
        "A=\"x\" and 'more'",
        "A=\"never closed",
        "export A = x",
        " A =\t x",
        "a_b.c=lower case",
        "\u{feff}A=x\r\nB=\"y\"\r\n",
        "A=' spaces '",
        "A=x#y",
        "A='x # y'",
        "A='x \" # y'",
        "A='#x'",
        "A=a=b$c${D}",
        "A=\"one\\ntwo\\r\"",
        "A=\"x\\r\"",
        "A='one\nTWO=2\n# three\n'\nB=1",
        "A='\none # \"two\"\n\"'",
        "A=\"-----BEGIN KEY-----\r\nabc==\r\n-----END KEY-----\r\n\"",
        "A=1\nA=2",
        "A='it''s'",
    ] {
        let output = secrets(Some(line.as_bytes()), &[], &[("PATH", "/bin"), ("FROM_THE_PROCESS", "x")]);
        assert_eq!(output.status.code(), Some(0), "{line:?}: {output:?}");
        let input = String::from_utf8(output.stdout).unwrap();
        let read: BTreeMap<_, _> = env_file::read(".env", line.as_bytes()).0.values().collect();
        assert_eq!(flyctl(&input), read, "{line:?} became {input:?}");
    }
    // flyctl has no syntax for these. The error names the variable and shows no value.
    for line in ["A='\"'", "A='\"\"\"hush'", "A='\"hush # x'", "A='hush\"\"\"\nx'", "A='hush \"# x\ny'"] {
        let output = secrets(Some(line.as_bytes()), &[], &[]);
        assert_eq!(output.status.code(), Some(1), "{line:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains("fly secrets set") && !message.contains("hush"), "{message}");
    }
}

#[test]
fn settings_of_this_machine_are_not_printed() {
    let env = "OPENAI_API_KEY=k\nVOICE=\nMETRICS_TOKEN=t\nDATABASE_URL=postgres://me:p@db.example.com/calls\n\
               SMTP_URL=smtps://me:p%23@mail.example.com\nSMTP_FROM='Phone <me@example.com>'\n";
    let local: String = [
        "PUBLIC_URL",
        "HOST",
        "PORT",
        "METRICS_PORT",
        "MAX_CALLS",
        "DRAIN_SECONDS",
        "PEER_URL",
        "ASSISTANTS_DIR",
        "STATE_DIR",
        "SSL_CERT_FILE",
        "RUST_LOG",
        "LOG_FORMAT",
        "TODOIST_API_KEY",
    ]
    .map(|name| format!("{name}=local\n"))
    .concat();
    let output = secrets(Some(format!("{env}{local}").as_bytes()), &[], &[]);
    let printed = String::from_utf8(output.stdout).unwrap();
    let deployed = "DATABASE_URL=postgres://me:p@db.example.com/calls\nMETRICS_TOKEN=t\nOPENAI_API_KEY=k\n\
                    SMTP_FROM=Phone <me@example.com>\nSMTP_URL=smtps://me:p%23@mail.example.com\n";
    assert_eq!(printed, deployed);
}

#[test]
fn the_environment_wins_over_the_file() {
    let env = "A='x # y' # mine\nEMPTY=\nB='one\ntwo'\n";
    for (name, environment, expected) in [
        ("A", &[][..], Some("x # y\n")),
        ("A", &[("A", "here")], Some("here\n")),
        ("A", &[("A", "")], None),
        ("B", &[], Some("one\ntwo\n")),
        ("C", &[("C", "here")], Some("here\n")),
        ("C", &[], None),
        ("EMPTY", &[], None),
    ] {
        let output = secrets(Some(env.as_bytes()), &[name], environment);
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            (output.status.code(), printed.as_str()),
            match expected {
                Some(value) => (Some(0), value),
                None => (Some(1), ""),
            }
        );
        assert!(output.stderr.is_empty(), "{name}: {:?}", output.stderr);
    }
    let wrong = secrets(Some(b"A=1\nhunter2\n"), &["A"], &[]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8(wrong.stderr).unwrap().contains(".env:2"), "it names the line");
    let nothing = secrets(Some(b"# PORT=1\nPORT=5050\nVOICE=\n"), &[], &[]);
    assert_eq!((nothing.status.code(), nothing.stdout), (Some(1), Vec::new()));
    let none = secrets(None, &[], &[]);
    assert_eq!(none.status.code(), Some(1));
    assert!(String::from_utf8(none.stderr).unwrap().contains(".env.example"));
}
