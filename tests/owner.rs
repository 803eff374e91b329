//! The commands for the folder of assistants: `check`, `show`, `who`, `new`.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use switchboard_simulator::model::{ModelOptions, ModelServer, Speech};

/// No output may contain it.
const SECRET: &str = "hunter2-value";

fn run(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
    command.args(arguments).current_dir(folder).env_clear().envs(environment.iter().copied());
    command.stdin(Stdio::null()).output().unwrap()
}

fn printed(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

const DESK: &str = r#"description: Answers the front desk
numbers: ["+15550100001"]
variables: { code: "${DOOR_CODE}" }
instructions: |
  The code is {{ code }}. The caller is {{ caller.spoken }}. It is {{ now | date }}.
fragments: [house-rules]
mcp:
  todoist:
    url: http://127.0.0.1:9/mcp
    token: "${TODOIST_TOKEN}"
    instructions: Add a task when the caller asks for one.
  off: { url: "${NOWHERE:-}", instructions: Never seen. }
  hosted: { url: "https://mcp.example.com/hosted", via: provider, token: "${TODOIST_TOKEN}", allow: [search] }
functions:
  book:
    description: Books a table.
    http: { url: "https://api.example.com/tables?key=${TODOIST_TOKEN}", headers: { Authorization: "Bearer ${TODOIST_TOKEN}" } }
    approval: always
call_control:
  end_call: true
  send_sms: true
  transfer_to: { boss: "+15550100002" }
  take_message: { to: { email: owner@example.com, sms: "+15550100002", webhook: { url: "https://hooks.example.com/messages?key=${TODOIST_TOKEN}", secret: "${MESSAGES_SECRET}" }, file: messages.jsonl } }
greeting: { say: Hello. }
on_failure: { say: Sorry., dial: "+15550100002" }
fallback: [{ provider: openai, model: gpt-realtime-2, voice: cedar }]
"#;

const ENVIRONMENT: [(&str, &str); 5] = [
    ("MESSAGES_SECRET", "whsec_aHVudGVyMi12YWx1ZWh1bnRlcjItdmFsdWU="),
    ("DOOR_CODE", "4711"),
    ("TODOIST_TOKEN", SECRET),
    ("OPENAI_API_KEY", SECRET),
    ("ASSISTANT_PASSWORD", SECRET),
];

fn desk() -> tempfile::TempDir {
    folder_with(&[("assistants/desk.yaml", DESK), ("assistants/fragments/house-rules.md", "Be kind.\n")])
}

#[test]
fn show_prints_what_the_model_gets() {
    let folder = desk();
    let (code, out, err) =
        printed(&run(folder.path(), &["show", "desk", "--from", "+15550109999"], &ENVIRONMENT));
    assert_eq!(code, 0, "{err}");
    let mut rest = out.as_str();
    for part in [
        "desk: Answers the front desk",
        "  # Your role\n\n  The code is 4711. The caller is 1 5 5 5 0 1 0 9 9 9 9.",
        "  # House rules\n\n  Be kind.\n",
    ] {
        let at = rest.find(part).unwrap_or_else(|| panic!("no {part:?} in {rest}"));
        rest = &rest[at + part.len()..];
    }
    for part in [
        "openai, with a key, gpt-realtime-2, voice cedar\n",
        "`boss`",
        "e-mail to owner@example.com, a text message to +15550100002, a signed request to hooks.example.com, the file messages.jsonl",
        "api.example.com",
        "`search`",
        "send_sms: off: ",
        "todoist: off: ",
    ] {
        assert!(out.contains(part), "no {part:?} in {out}");
    }
    assert!(out.contains("\n  tool        off: off: ") && out.contains("`boss` (+15550100002)"), "{out}");
    assert!(out.contains("then dials +15550100002") && out.contains("answers     +15550100001\n"), "{out}");
    assert!(out.contains("for a call from +15550109999:"), "{out}");
    for never in ["Never seen", "Add a task", "•••0", SECRET] {
        assert!(!format!("{out}{err}").contains(never), "{never} in {out}{err}");
    }
    let json = &out[out.find("\n{").unwrap()..];
    let update: Value = serde_json::from_str(json).unwrap();
    assert_eq!(update["type"], "session.update");
    assert_eq!(update["session"]["audio"]["output"]["voice"], "marin");
    assert!(update["session"].get("temperature").is_none());
    let instructions = update["session"]["instructions"].as_str().unwrap();
    assert!(instructions.starts_with("# Your role\n\nThe code is 4711."), "{instructions}");
    let tools: Vec<&str> = update["session"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|tool| tool["name"].as_str())
        .collect();
    assert_eq!(tools, ["end_call", "transfer_call", "take_message", "book"]);
    assert_eq!(err, "");
}

#[test]
fn show_prints_what_is_kept_and_what_callers_are_told() {
    let loud = "instructions: Hi.\nrecord: { audio: true, keep: 90d, numbers: masked }\n\
                recording_notice: \"{{ assistant.name }} records.\"\n";
    let quiet = "instructions: Hi.\ntranscription: none\nrecord: { tools: true, numbers: none }\n";
    let secret = "instructions: Hi.\nrecord: { transcript: false, audio: true }\n";
    let folder = folder_with(&[
        ("assistants/loud.yaml", loud),
        ("assistants/quiet.yaml", quiet),
        ("assistants/secret.yaml", secret),
        ("switchboard.yaml", "record: { keep: 7d }\n"),
    ]);
    for (name, parts, never) in [
        (
            "loud",
            &["the transcript", "the audio", "keyed hash", "90d", "notice      \"loud records.\""][..],
            "tools,",
        ),
        (
            "quiet",
            &["the assistant's words", "results of tools", "no number of the caller", "7d"],
            "notice  ",
        ),
        ("secret", &["the audio", "the caller's number", "7d", "notice      none"], "words"),
    ] {
        let (code, out, err) = printed(&run(folder.path(), &["show", name], &ENVIRONMENT));
        assert_eq!(code, 0, "{err}");
        let about = out.split("The instructions").next().unwrap();
        for part in parts {
            assert!(about.contains(part), "no {part:?} in {about}");
        }
        assert!(!about.contains(never), "{about}");
    }
}

#[test]
fn show_prints_what_reaches_the_owner_and_what_is_limited() {
    let full = "instructions: Hi.\nnumbers: [\"+15550100001\"]\n\
                call_control: { take_message: { to: { file: messages.jsonl } } }\n\
                notify: { to: { email: owner@example.com, sms: \"+15550100099\" }, when: [refused, message] }\n\
                after_call: { summary: true, fields: { wish: { type: string } }, \
                webhook: { url: \"https://hooks.example.com/forms?key=${MESSAGES_SECRET}\", secret: \"${MESSAGES_SECRET}\" } }\n\
                limits: { cost_per_call: 0.5, cost_per_day: 5, calls: 3, \
                calls_per_caller: { per_hour: 4, per_day: 20, withheld: true } }\n\
                block: [\"+15550100666\", \"+155501007*\", withheld]\nbusy: { say: Later., dial: \"+15550100011\" }\n";
    let folder =
        folder_with(&[("assistants/full.yaml", full), ("assistants/bare.yaml", "instructions: Hi.\n")]);
    let about = |name: &str| {
        let (code, out, err) = printed(&run(folder.path(), &["show", name], &ENVIRONMENT));
        assert_eq!((code, err.as_str()), (0, ""));
        out.split("The instructions").next().unwrap().to_owned()
    };
    let row = |about: &str, label: &str| {
        let rows = about.lines().filter_map(|line| line.trim_start().strip_prefix(label));
        rows.map(|row| row.trim().to_owned()).collect::<Vec<_>>()
    };
    let full = about("full");
    for (label, parts) in [
        ("notify", &["message", "refused", "owner@example.com", "+15550100099"][..]),
        ("after call", &["summary", "wish", "hooks.example.com"]),
        (
            "limits",
            &["$0.5 a call", "$5 a day", "3 calls at once", "4 calls from", "20 calls from", "withheld"],
        ),
        ("block", &["+15550100666", "+155501007*", "withheld"]),
        ("busy", &["\"Later.\"", "+15550100011"]),
    ] {
        let [row] = &row(&full, label)[..] else { panic!("{label}: {full}") };
        parts.iter().for_each(|part| assert!(row.contains(part), "no {part} in {label}: {row}"));
    }
    assert!(!full.contains("whsec_") && !full.contains("key="), "{full}");
    let bare = about("bare");
    for label in ["notify", "after call", "block"] {
        assert!(row(&bare, label).is_empty(), "{label}: {bare}");
    }
    assert!(!bare.contains('$') && !bare.contains("at once") && !bare.contains("dials"), "{bare}");
}

#[test]
fn show_quotes_the_last_words_of_a_program_that_ends() {
    let folder = folder_with(&[(
        "assistants/a.yaml",
        "instructions: Hi.\nmcp: { crm: { command: [sh, -c, 'echo \"no $KEY by $no_proxy $HTTPS_PROXY\" >&2; exit 3'], \
         env: { KEY: \"${TODOIST_TOKEN}\" } } }\n",
    )]);
    let proxy = [
        ("no_proxy", "direct.example.com"),
        ("HTTPS_PROXY", "http://me:pass@127.0.0.1:9"),
        ("PATH", "/usr/bin:/bin"),
    ];
    let (code, out, err) = printed(&run(folder.path(), &["show", "a"], &[&ENVIRONMENT[..], &proxy].concat()));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("no ••• by direct.example.com •••"), "{out}{err}");
}

#[test]
fn show_prints_the_prompt_of_a_time_and_a_caller() {
    let folder = folder_with(&[(
        "assistants/a.yaml",
        "timezone: Europe/Berlin\ncallers: { \"+15550109999\": Anna }\n\
         instructions: \"It is {{ now }}. {% if caller.name %}Greet {{ caller.name }}.{% else %}Ask who calls.{% endif %}\"\n",
    )]);
    for (arguments, expected) in [
        (["--at", "2026-12-24T18:30"], "Thursday, 24 December 2026, 18:30. Ask who calls."),
        (["--at", "2026-12-24T18:30:00Z"], "Thursday, 24 December 2026, 19:30. Ask who calls."),
        (["--from", "+15550109999"], "Greet Anna."),
        (["--from", "anonymous"], "Ask who calls."),
    ] {
        let (code, out, err) = printed(&run(folder.path(), &[&["show", "a"], &arguments[..]].concat(), &[]));
        assert!(code == 0 && out.contains(expected), "{arguments:?}: {out}{err}");
    }
    for command in ["show", "rehearse"] {
        let (code, _, err) = printed(&run(folder.path(), &[command, "a", "--at", "soon"], &[]));
        assert!(code == 2 && err.contains("2026-12-24T18:30"), "{err}");
    }
}

#[test]
fn show_hides_a_secret_in_a_text() {
    let folder = folder_with(&[(
        "assistants/a.yaml",
        "instructions: \"The key is ${ASSISTANT_PASSWORD}.\"\ngreeting: { say: \"${OPENAI_API_KEY}\" }\n",
    )]);
    let (code, out, err) = printed(&run(folder.path(), &["show", "a"], &ENVIRONMENT));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("The key is •••.") && !format!("{out}{err}").contains(SECRET), "{out}{err}");
}

#[test]
fn who_prints_the_assistant_that_answers_a_number() {
    let folder = desk();
    let who = |number: &str| printed(&run(folder.path(), &["who", number], &ENVIRONMENT));
    let (code, out, err) = who("+15550100001");
    assert!(code == 0 && out.starts_with("desk ") && err.is_empty(), "{out}{err}");
    assert_eq!(who("+15550100009").0, 1);
    for wrong in [
        "15550100001",
        "555 010 0001",
        "",
        "salon",
        "anonymous",
        "030",
        "+1555\u{200b}0100001",
        "sip:desk@example.com",
        "client:bob",
    ] {
        let (code, _, err) = who(wrong);
        assert!(code == 2 && err.contains("+15550100001"), "{wrong}: {err}");
        assert!(wrong.is_ascii() || err.contains("U+200B zero width space at character 6"), "{err}");
        let (code, _, err) = printed(&run(folder.path(), &["show", "desk", "--from", wrong], &ENVIRONMENT));
        assert!(code == if wrong == "anonymous" { 0 } else { 2 }, "{wrong}: {err}");
    }
    std::fs::write(folder.path().join("assistants/rest.yaml"), "numbers: [\"*\"]\ninstructions: Hi.\n")
        .unwrap();
    let (code, out, err) = who("+15550100009");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("rest "), "{out}");
}

#[test]
fn a_new_assistant_passes_and_answers_its_number() {
    for (files, schema) in [
        (&[][..], "./assistant.schema.json"),
        (&[("docs/assistant.schema.json", "{}")][..], "../docs/assistant.schema.json"),
    ] {
        let folder = folder_with(files);
        let (code, out, err) = printed(&run(folder.path(), &["new", "front-desk"], &[]));
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.contains("FRONT_DESK_NUMBER") && out.contains("`switchboard serve --tunnel`"), "{out}");
        let path = folder.path().join("assistants/front-desk.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().next().unwrap(), format!("# yaml-language-server: $schema={schema}"));
        assert!(folder.path().join("assistants").join(schema).exists());
        let (code, out, err) = printed(&run(folder.path(), &["check"], &[]));
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        let (code, out, _) = printed(&run(folder.path(), &["show", "front-desk"], &[]));
        assert!(code == 0 && out.contains("the file messages.jsonl"), "{out}");
        let number = [("FRONT_DESK_NUMBER", "+15550100007")];
        let (code, out, _) = printed(&run(folder.path(), &["who", "+15550100007"], &number));
        assert!(code == 0 && out.starts_with("front-desk "), "{out}");
        // It never overwrites a file.
        std::fs::write(&path, "mine").unwrap();
        assert_eq!(printed(&run(folder.path(), &["new", "front-desk"], &[])).0, 1);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
    for address in [("PUBLIC_URL", "https://phone.example.com"), ("FLY_APP_NAME", "phone")] {
        let (_, out, _) = printed(&run(folder_with(&[]).path(), &["new", "front-desk"], &[address]));
        assert!(out.contains("`switchboard serve`"), "{out}");
    }
    let folder = folder_with(&[]);
    // Names that contain words of the template, and one that is not a valid variable.
    for (name, variable) in
        [("surname", "SURNAME_NUMBER"), ("name-number", "NAME_NUMBER_NUMBER"), ("9-lives", "N9_LIVES_NUMBER")]
    {
        let (code, out, _) = printed(&run(folder.path(), &["new", name], &[]));
        assert!(code == 0 && out.contains(variable), "{out}");
        let number = [(variable, "+15550100007")];
        let (code, out, _) = printed(&run(folder.path(), &["who", "+15550100007"], &number));
        assert!(code == 0 && out.starts_with(&format!("{name} ")), "{out}");
    }
    assert_eq!(printed(&run(folder.path(), &["new", "Front Desk"], &[])).0, 2);
    assert_eq!(printed(&run(folder.path(), &["new", "../x"], &[])).0, 2);
}

#[test]
fn check_has_formats_for_people_programs_and_github() {
    let folder = folder_with(&[(
        "assistants/a.yaml",
        "instructions: Hi.\nnumbers: [\"+15550100001\"]\ntemprature: 1\n",
    )]);
    let check = |format: &str| printed(&run(folder.path(), &["check", "--format", format], &[]));
    let (code, out, err) = check("text");
    assert!(code == 1 && out.is_empty() && err.contains("assistants/a.yaml:3:1: error: "), "{out}{err}");
    let (code, out, err) = check("json");
    assert_eq!((code, err.as_str()), (1, ""));
    let mut problems: Value = serde_json::from_str(&out).unwrap();
    let words = ["message", "help"].map(|key| problems[0].as_object_mut().unwrap().remove(key).unwrap());
    assert!(words.iter().all(Value::is_string), "{words:?}");
    assert_eq!(
        problems,
        serde_json::json!([{"file": "assistants/a.yaml", "line": 3, "column": 1, "severity": "error",
            "code": "key.unknown"}])
    );
    let (code, out, _) = check("github");
    let start = "::error file=assistants/a.yaml,line=3,col=1,title=key.unknown::";
    assert!(code == 1 && out.starts_with(start) && out.lines().count() == 1, "{out}");
    assert_eq!(check("xml").0, 2);
    // A program looks for the file, whatever its name.
    let shop = folder.path().join("assistants/shop-15550100001.yaml");
    std::fs::write(&shop, "instructions: Hi.\ntemprature: 1\n").unwrap();
    let (named, text) = ("assistants/shop-15550100001.yaml", check("text").2);
    assert!(check("json").1.contains(&format!("\"file\": \"{named}\"")));
    assert!(check("github").1.contains(&format!("file={named},")) && !text.contains("0100001"), "{text}");
    std::fs::remove_file(shop).unwrap();
    // With warnings the exit code is 0. Without problems the array is empty.
    std::fs::write(folder.path().join("assistants/a.yaml"), "instructions: Hi.\ntemperature: 1\n").unwrap();
    let (code, out, _) = check("json");
    let problems: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, problems[0]["severity"].as_str()), (0, Some("warning")));
    std::fs::write(folder.path().join("assistants/a.yaml"), "instructions: Hi.\n").unwrap();
    assert_eq!(check("json"), (0, "[]\n".to_owned(), String::new()));
    let (code, out, _) = printed(&run(folder.path(), &["check", "nowhere", "--format", "json"], &[]));
    let problems: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, problems[0]["code"].as_str()), (1, Some("folder.unreadable")));
}

#[test]
fn a_problem_with_the_value_of_a_variable_names_the_variable() {
    let desk = "instructions: Hi.\nnumbers: [\"${DESK_NUMBER:-*}\"]\nvoice: \"${VOICE:-marin}\"\n";
    for value in [
        "2025550143",
        "+1 202 555 0143",
        "(202) 555-0143",
        "0012025550143",
        "+1555…",
        "+12025550143,+12025550144",
    ] {
        let env = format!("# Mine\n\nDESK_NUMBER={value}\nVOICE={SECRET}\n");
        let folder = folder_with(&[("assistants/desk.yaml", desk), (".env", &env)]);
        let (code, _, err) = printed(&run(folder.path(), &["check"], &[]));
        assert_eq!(code, 1);
        let lines: Vec<&str> = err.lines().filter(|line| line.contains(": error: ")).collect();
        assert!(lines[0].contains("DESK_NUMBER (.env, line 3)"), "{err}");
        assert!(lines[1].contains("VOICE (.env, line 4)"), "{err}");
        assert!((value == "+1555…" || !err.contains(value)) && !err.contains(SECRET), "{err}");
        // The environment wins over `.env`.
        let (_, out, _) =
            printed(&run(folder.path(), &["check", "--format", "json"], &[("DESK_NUMBER", "hunter2")]));
        assert!(out.contains("DESK_NUMBER\"") && !out.contains("hunter2"), "{out}");
    }
}

#[test]
fn lines_of_env_without_effect_are_reported() {
    let env = "OPENAI_API_KEY=sk-hunter2-value\nDESK_NUMBR=+15550100001\nTODOIST_API_KEY=x\nPROGRAM_KEY=x\n\nOPENAI_API_KEY=\n";
    let desk = "instructions: Hi.\nnumbers: [\"${DESK_NUMBER:-}\"]\nmcp: { desk: { command: [desk], env: { KEY: \"${PROGRAM_KEY}\" } } }\n";
    let folder = folder_with(&[
        ("assistants/desk.yaml", desk),
        (".env", env),
        ("switchboard.yaml", "port: ${MY_PORT:-}\n"),
    ]);
    let check = |variables: &[(&str, &str)]| -> Vec<(i64, String)> {
        let (code, out, _) = printed(&run(folder.path(), &["check", "--format", "json"], variables));
        assert_eq!(code, 0, "{out}");
        let problems: Vec<Value> = serde_json::from_str(&out).unwrap();
        assert!(
            !out.contains("hunter2") && problems.iter().all(|problem| problem["file"] == ".env"),
            "{out}"
        );
        let row = |row: &Value| (row["line"].as_i64().unwrap(), row["code"].as_str().unwrap().to_owned());
        problems.iter().map(row).collect()
    };
    let expected = [(2, "env.unread".to_owned()), (6, "env.double".to_owned())];
    assert_eq!(check(&[("NOT_IN_ENV", "hunter2-value")]), expected);
    // The line with a value wins over the empty one.
    let (code, out, _) = printed(&run(folder.path(), &["secrets", "OPENAI_API_KEY"], &[]));
    assert_eq!((code, out.as_str()), (0, "sk-hunter2-value\n"));
    std::fs::write(folder.path().join(".env"), "OPEN_AI_KEY=sk-hunter2-value\nMY_PORT=0\nPROGRAM_KEY=x\n")
        .unwrap();
    let (code, _, err) = printed(&run(folder.path(), &["serve"], &[]));
    assert!(code == 1 && err.contains(".env:1:1: warning: ") && err.contains("OPEN_AI_KEY"), "{err}");
    assert!(!err.contains("MY_PORT") && !err.contains("PROGRAM_KEY") && !err.contains("hunter2"), "{err}");
}

#[test]
fn unused_names_are_reported_for_the_folder_in_force_only() {
    let env = "CLINIC_NUMBER=+15550100002\nFLY_APP=voice\nDESK_NUMBER=+15550100001\nDESK_NUMBER=\n";
    let folder = folder_with(&[
        ("assistants/desk.yaml", "instructions: Hi.\nnumbers: [\"${DESK_NUMBER:-}\"]\n"),
        ("other/clinic.yaml", "instructions: Hi.\n"),
        (".env", env),
    ]);
    let remote_folder = [("ASSISTANTS_URL", "https://host.example.com/assistants.tar.gz")];
    let away = [("ASSISTANTS_DIR", "other")];
    for (arguments, variables, unused) in [
        (&["check"][..], &[][..], &[1, 2][..]),
        (&["check", "assistants/"], &[], &[1, 2]),
        (&["check", "other"], &away, &[1, 2, 3]),
        (&["show", "desk"], &[], &[1, 2]),
        // Without a key it stops there.
        (&["rehearse", "desk", "--live"], &[], &[1, 2]),
        // Another folder does not use these variables.
        (&["check", "other"], &[], &[]),
        (&["check", "assistants"], &away, &[]),
        // The remote folder may use them.
        (&["check"], &remote_folder, &[]),
        (&["show", "desk"], &remote_folder, &[]),
        (&["serve"], &remote_folder, &[]),
    ] {
        let (_, _, err) = printed(&run(folder.path(), arguments, variables));
        // The duplicate on line 4 is reported for every folder.
        let lines: Vec<u32> =
            (1..=4).filter(|line| err.contains(&format!(".env:{line}:1: warning"))).collect();
        assert_eq!(lines, [unused, &[4]].concat(), "{arguments:?}: {err}");
    }
}

#[test]
fn a_problem_with_a_setting_names_the_file_that_sets_it() {
    let file = "twilio_auth_token: hunter2\nopenai_realtime_url: ws://192.0.2.3/v1\nopenai_api_key: sk-…\n\
                providers: { lan: { url: \"ws://192.0.2.4/v1\", key: \"${LAN_KEY}\" } }\n";
    let folder = folder_with(&[("switchboard.yaml", file), ("assistants/a.yaml", "instructions: Hi.\n")]);
    let environment = [
        ("LAN_KEY", "your-key"),
        ("TWILIO_API_KEY", "hunter2"),
        ("TWILIO_API_URL", "http://192.0.2.5"),
        ("PUBLIC_URL", "https://phone.example.com"),
        ("PORT", "99"),
        ("HOST", "192.0.2.6"),
    ];
    // It cannot listen there, and reports the warnings before it tries.
    let (code, out, err) = printed(&run(folder.path(), &["serve"], &environment));
    let all = format!("{out}{err}");
    assert_eq!(code, 1, "{all}");
    for line in [
        "switchboard.yaml: warning: TWILIO_AUTH_TOKEN ",
        "switchboard.yaml:2:22: warning: OPENAI_REALTIME_URL ",
        "switchboard.yaml: warning: OPENAI_API_KEY ",
        "switchboard.yaml: warning: `url` of `lan` ",
        "switchboard.yaml: warning: the key of the provider `lan` ",
        "environment: warning: TWILIO_API_KEY ",
        "environment: warning: TWILIO_API_URL ",
    ] {
        assert!(all.contains(line), "{line}: {all}");
    }
    assert!(!all.contains("hunter2") && !all.contains("your-key"), "{all}");
}

#[test]
fn every_name_in_the_example_is_used() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let sets = |line: &&str| line.split_once('=').is_some_and(|(name, _)| is_name(name));
    let example = read(".env.example");
    let lines = example.lines().map(|line| line.strip_prefix('#').filter(sets).unwrap_or(line));
    let env: String = lines.map(|line| format!("{line}\n")).collect();
    assert!(env.contains("\nPIZZERIA_NUMBER=+1555") && env.contains("\nSTATE_DIR=state"), "{env}");
    let files = ["personal", "clinic", "pizzeria"].map(|name| format!("assistants/{name}.yaml"));
    let texts = files.clone().map(|file| read(&file));
    let mut all: Vec<(&str, &str)> =
        files.iter().map(String::as_str).zip(texts.iter().map(String::as_str)).collect();
    all.push((".env", &env));
    let folder = folder_with(&all);
    // The example names a remote folder, for which unused names are unknown.
    let here = [("ASSISTANTS_URL", "")];
    let (_, _, err) = printed(&run(folder.path(), &["check"], &here));
    assert!(!err.contains(".env:"), "{err}");
    std::fs::write(folder.path().join(".env"), format!("{env}PIZZERIA_NUMBR=+15550100009\n")).unwrap();
    let (_, _, err) = printed(&run(folder.path(), &["check"], &here));
    assert!(err.contains("PIZZERIA_NUMBR"), "{err}");
}

#[test]
fn a_number_that_nobody_can_own_is_a_warning() {
    let folder = folder_with(&[("assistants/a.yaml", "instructions: Hi.\nnumbers: [\"+99955501000\"]\n")]);
    let (code, out, _) = printed(&run(folder.path(), &["check", "--format", "json"], &[]));
    let problems: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, problems[0]["code"].as_str()), (0, Some("number.doubt")), "{out}");
    assert!(!out.contains("99955501000"), "{out}");
}

#[test]
fn a_command_for_one_assistant_reports_its_warnings() {
    let warned = "instructions: Hi.\ntemperature: 1\n";
    let folder = folder_with(&[
        ("assistants/desk.yaml", &format!("{warned}fragments: [shared]\ngreeting: {{ say: Hello. }}\n")),
        ("assistants/other.yaml", &format!("{warned}fragments: [shared, others]\n")),
        ("assistants/fragments/shared.md", "Be kind.\n"),
        ("assistants/fragments/others.md", "Be brief.\n"),
        ("assistants/notes.YAML", ""),
    ]);
    let files = |err: &str| -> Vec<String> {
        let problems = err.lines().filter(|line| line.contains(": warning: ") || line.contains(": error: "));
        problems.map(|line| line.split(": ").next().unwrap().to_owned()).collect()
    };
    let (code, _, err) = printed(&run(folder.path(), &["show", "desk"], &[]));
    assert_eq!(
        (code, files(&err)),
        (0, vec!["assistants/desk.yaml:2:14".into(), "assistants/notes.YAML".into()])
    );
    // The recording cannot be written there, so the rehearsal ends before the call.
    let (code, _, err) =
        printed(&run(folder.path(), &["rehearse", "desk", "--out", "assistants/desk.yaml"], &[]));
    assert_eq!(
        (code, files(&err)),
        (1, vec!["assistants/desk.yaml:2:14".into(), "assistants/notes.YAML".into()]),
        "{err}"
    );
    // With an error, the whole folder does not pass.
    std::fs::write(folder.path().join("assistants/other.yaml"), format!("{warned}zebra: 1\n")).unwrap();
    for command in ["show", "rehearse"] {
        let (code, _, err) = printed(&run(folder.path(), &[command, "desk"], &[]));
        let expected = ["assistants/desk.yaml:2:14", "assistants/notes.YAML", "assistants/other.yaml:3:1"];
        assert_eq!((code, files(&err)), (1, expected.map(str::to_owned).to_vec()), "{command}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_lines_are_prepared_with_the_providers_key() {
    let options = ModelOptions {
        speech: Speech::Stamped,
        think: Duration::from_millis(10),
        burst: 50.0,
        ..ModelOptions::default()
    };
    let model = ModelServer::start(options).await.unwrap();
    let url = model.url();
    let folder = folder_with(&[
        ("assistants/one.yaml", "instructions: Hi.\n"),
        (
            "assistants/two.yaml",
            "instructions: Hi.\nlanguage: hr\nsounds: { moment: Trenutak. }\nbusy: { say: x }\non_failure: { say: x }\n",
        ),
    ]);
    let sounds = |arguments: &[&str], key: &str, state: &str| {
        let environment = [("OPENAI_API_KEY", key), ("OPENAI_REALTIME_URL", &url), ("STATE_DIR", state)];
        let arguments = [&["sounds"], arguments].concat();
        tokio::task::block_in_place(|| printed(&run(folder.path(), &arguments, &environment)))
    };
    let states = |out: &str| -> Vec<&'static str> {
        let states = ["recorded", "captured", "missing", "no text"];
        out.lines().map(|line| states.into_iter().find(|state| line.contains(state)).unwrap()).collect()
    };
    let (code, out, _) = sounds(&[], "", "state");
    assert_eq!((code, states(&out)), (0, vec!["missing", "missing", "missing", "no text"]));
    assert_eq!(sounds(&["three"], "", "state").0, 1);
    assert_eq!(sounds(&["--prepare"], "", "state").0, 1, "there is no key");
    assert_eq!(sounds(&["--prepare"], "sk-simulated", "/proc/state").0, 1, "the lines would be lost");
    assert_eq!(sounds(&["--prepare"], "sk-wrong", "state").0, 1);
    let (code, out, err) = sounds(&["one", "--prepare"], "sk-simulated", "state");
    assert_eq!((code, states(&out)), (0, vec!["captured", "captured"]), "{err}");
    // They are there from now on, and another assistant's are not.
    let (code, out, _) = sounds(&[], "", "state");
    assert_eq!((code, states(&out)), (0, vec!["captured", "captured", "missing", "no text"]));
    // Saved among the assistants, they are recordings.
    let (code, out, err) = sounds(&["--prepare", "--out", "assistants/sounds"], "sk-simulated", "");
    assert_eq!((code, states(&out)), (0, vec!["captured", "captured", "captured", "no text"]), "{err}");
    let (code, out, err) = sounds(&[], "", "");
    assert_eq!((code, states(&out)), (0, vec!["recorded", "recorded", "recorded", "no text"]), "{err}");
    let (_, shown, _) = tokio::task::block_in_place(|| printed(&run(folder.path(), &["show", "one"], &[])));
    assert!(shown.contains("a recording: \"One moment, please.\""), "{shown}");
    assert!(model.sessions().iter().all(|session| session.errors.is_empty() || !session.authorization_good));
    model.stop().await;
}
