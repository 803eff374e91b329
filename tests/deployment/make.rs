//! The Makefile: what `make help` lists, what each target runs, what it reports if a tool is missing, and that it prints
//! no secret. The tools are scripts that record how they were called.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use tempfile::TempDir;

use crate::path;

const SECRET: &str = "hush-hush";

/// Valid settings of the Functions.
const FILLED_IN: &str = "WEBHOOK_URL=https://phone.example.com/incoming-call\nALLOWED_NUMBERS=+44*\n";

/// A folder with everything the Makefile reads, and a `PATH` of recording tools.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn with(tools: &[&str]) -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        let copy = |name: &str| bench.write(name, &std::fs::read_to_string(path(name)).unwrap());
        copy("Makefile");
        bench.write("fly.toml", "app = \"acme-phone\" # ours\n");
        bench.write(
            ".env",
            &format!(
                "# a note\nOPENAI_API_KEY={SECRET} # mine\nPUBLIC_URL=https://x.example.com\nVOICE=\nHOST=::\n\
                 TODOIST_API_KEY=\"{SECRET} 1\"\nexport TODOIST_MCP_PASSWORD = '{SECRET} 2'\r\n\
                 KEY='{SECRET}\n{SECRET}=3'\nTODOIST_MCP_URL=https://todo.example.com # there\n"
            ),
        );
        bench.write("twilio/.env", FILLED_IN);
        for file in ["settings.js", "allowlist-function.js", "fallback-function.js"] {
            bench.write(
                &format!("twilio/{file}"),
                &std::fs::read_to_string(path(&format!("twilio/{file}"))).unwrap(),
            );
        }
        bench.write("list", " NAME           │ DIGEST           │ STATUS\n────────────────┼────\n OPENAI_API_KEY │ 73EB694E │ Staged\n");
        std::fs::create_dir(bench.at("bin")).unwrap();
        for tool in ["sh", "sed", "expand", "grep", "cat", "echo", "node"] {
            std::os::unix::fs::symlink(installed(tool), bench.at("bin").join(tool)).unwrap();
        }
        for tool in tools {
            let log = bench.at("log");
            let (log, program) = (log.display(), env!("CARGO_BIN_EXE_switchboard"));
            let script = format!(
                "#!/bin/sh\n{{ printf {tool}; for each; do printf ' [%s]' \"$each\"; done; echo; }} >> {log}\n\
                 case \"$1 $2\" in\n'secrets import') cat >> {log};;\n\
                 'secrets list') cat list;;\n\
                 'plugins ') echo '@twilio-labs/plugin-serverless 3.3.0';;\nesac\n\
                 # `cargo run -- secrets` runs the real program.\n\
                 case \"$4\" in secrets) shift 3; exec '{program}' \"$@\";; esac\n"
            );
            bench.write(&format!("bin/{tool}"), &script);
            let executable = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(bench.at("bin").join(tool), executable).unwrap();
        }
        bench
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let file = self.at(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    /// Whether `make` succeeded, what it printed, and how the tools were called.
    fn make(&self, arguments: &[&str]) -> (bool, String, String) {
        let _ = std::fs::remove_file(self.at("log"));
        let output = Command::new(installed("make"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", self.at("bin"))
            .output()
            .unwrap();
        let printed = [output.stdout, output.stderr].concat();
        let log = std::fs::read_to_string(self.at("log")).unwrap_or_default();
        (output.status.success(), String::from_utf8(printed).unwrap(), log)
    }
}

/// The path of a tool on this machine.
fn installed(tool: &str) -> std::path::PathBuf {
    let dirs = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&dirs)
        .map(|dir| dir.join(tool))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{tool} is not installed"))
}

fn targets() -> Vec<String> {
    let makefile = std::fs::read_to_string(path("Makefile")).unwrap().replace("\\\n", " ");
    let phony = makefile.lines().find_map(|line| line.strip_prefix(".PHONY:")).unwrap();
    phony.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn make_alone_lists_every_target() {
    let bench = Bench::with(&[]);
    let (passed, printed, _) = bench.make(&[]);
    assert!(passed, "{printed}");
    let listed = printed.lines().map(|line| line.split_once(' ').expect("a target and its description"));
    assert!(listed.clone().all(|(_, description)| !description.trim().is_empty()), "{printed}");
    let mut listed: Vec<String> = listed.map(|(target, _)| target.to_owned()).collect();
    assert_eq!(listed[0], "help");
    let mut targets = targets();
    listed.sort();
    targets.sort();
    assert_eq!(listed, targets);
}

#[test]
fn a_missing_tool_is_named_with_how_to_get_it() {
    let cargo = ("cargo", "https://rustup.rs");
    let fly = ("fly", "https://fly.io/docs/flyctl/install");
    let twilio = ("twilio", "npm install -g twilio-cli");
    let cloudflared = ("cloudflared", "https://developers.cloudflare.com/");
    for target in targets() {
        let (tool, how) = match target.as_str() {
            "help" => continue,
            "tunnel-quick" => cloudflared,
            "deploy-function" => twilio,
            "secrets" | "status" | "logs" | "logs-mcp" | "launch-mcp" | "inspect-mcp" => fly,
            _ => cargo,
        };
        let (passed, printed, _) = Bench::with(&[]).make(&[&target]);
        assert!(!passed, "{target}: {printed}");
        for words in [&format!("make {target}"), tool, how] {
            assert!(printed.contains(words), "{target}: {words} is not in {printed}");
        }
    }
    let (_, printed, _) = Bench::with(&["cargo"]).make(&["tunnel"]);
    assert!(printed.contains("cloudflared"), "{printed}");
    let (_, printed, log) = Bench::with(&["cargo"]).make(&["deploy"]);
    assert!(printed.contains("fly") && log.is_empty(), "{printed}");
    for (tools, missing) in [(&["cargo"][..], "npm"), (&["cargo", "npm"], "git")] {
        let (_, printed, log) = Bench::with(tools).make(&["test"]);
        assert!(printed.contains(missing) && log.is_empty(), "{printed}{log}");
    }
    let (_, printed, _) = Bench::with(&["fly"]).make(&["inspect-mcp"]);
    assert!(printed.contains("npx"), "{printed}");
}

#[test]
fn each_target_calls_its_tools_with_the_right_arguments() {
    let bench = Bench::with(&["cargo", "fly", "twilio", "cloudflared", "npx"]);
    let inspector = "cargo [build]\nnpx [-y] [@modelcontextprotocol/inspector@";
    let fly = bench.at("bin/fly");
    let fly = fly.display();
    for (arguments, expected) in [
        (&["demo"][..], "cargo [run] [--] [rehearse]\n".to_owned()),
        (&["dev"], "cargo [run] [--] [serve]\n".to_owned()),
        (&["tunnel"], "cargo [run] [--] [serve] [--tunnel]\n".to_owned()),
        (
            &["tunnel-quick", "PORT=6060"],
            "cloudflared [tunnel] [--no-autoupdate] [--url] [http://localhost:6060]\n".to_owned(),
        ),
        (&["doctor", "ARGS=--fix"], "cargo [run] [--] [doctor] [--fix]\n".to_owned()),
        (&["numbers"], "cargo [run] [--] [numbers] [list]\n".to_owned()),
        (
            &["deploy-function"],
            "twilio [plugins]\ntwilio [serverless:deploy] [--env] [.env] [--override-existing-project]\n"
                .to_owned(),
        ),
        (&["deploy"], "cargo [run] [--] [check]\nfly [deploy] [--app] [acme-phone]\n".to_owned()),
        (&["status"], "fly [status] [--app] [acme-phone]\n".to_owned()),
        (&["logs"], "fly [logs] [--app] [acme-phone]\n".to_owned()),
        (&["logs-mcp"], "fly [logs] [--app] [acme-phone-todoist]\n".to_owned()),
        (
            &["secrets"],
            format!(
                "cargo [build]\ncargo [run] [--quiet] [--] [secrets]\nfly [secrets] [import] [--stage] [--app] [acme-phone]\n\
                 KEY=\"\"\"{SECRET}\n{SECRET}=3\"\"\"\nOPENAI_API_KEY={SECRET}\n\
                 TODOIST_MCP_PASSWORD={SECRET} 2\nTODOIST_MCP_URL=https://todo.example.com\n\
                 fly [secrets] [list] [--app] [acme-phone]\n"
            ),
        ),
        (
            &["launch-mcp"],
            format!(
                "cargo [build]\nfly [mcp] [launch] [npx -y @doist/todoist-mcp] [--server] [todoist] [--name] [acme-phone-todoist] \
                 [--user] [todoist] [--password] [{SECRET} 2] [--vm-memory] [256] [--auto-stop] [suspend] [--claude] \
                 [--secret] [TODOIST_API_KEY={SECRET} 1]\n"
            ),
        ),
        (
            &["inspect-mcp"],
            format!(
                "] [{fly}] [mcp] [proxy] [--url] [https://todo.example.com] [--user] [todoist] \
                 [--password] [{SECRET} 2]\n"
            ),
        ),
    ] {
        let (passed, printed, log) = bench.make(arguments);
        assert!(passed, "{arguments:?}: {printed}");
        let asked = |line: &&str| !line.starts_with("cargo [run] [--quiet] [--] [secrets] [");
        let log: String = log.split_inclusive('\n').filter(asked).collect();
        match arguments[0] {
            "inspect-mcp" => {
                let pinned = log.strip_prefix(inspector).and_then(|rest| rest.strip_suffix(&expected));
                assert!(pinned.is_some_and(|version| version.split('.').count() == 3), "{log}");
            }
            _ => assert_eq!(log, expected, "{arguments:?}"),
        }
        assert!(!printed.contains(SECRET), "{arguments:?} shows a secret: {printed}");
    }
    let (_, printed, _) = bench.make(&["secrets"]);
    let names: Vec<&str> = printed.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    assert_eq!(names, ["KEY", "OPENAI_API_KEY", "TODOIST_MCP_PASSWORD", "TODOIST_MCP_URL"], "{printed}");
    let last = printed.lines().last().unwrap();
    assert!(last.contains("TWILIO_AUTH_TOKEN"), "it is required, but set nowhere: {printed}");
    // Secrets that .env does not set remain at Fly. Old and new flyctl print different tables.
    for list in [
        "NAME\tDIGEST\tCREATED AT\nKEY\tAB12\t1h ago\nVOICE\tCD34\t2h ago\nPERSONAL_NUMBER\tEF56\t2h ago\n",
        " NAME            │ DIGEST\n────────┼─────\n* KEY             │ AB12\n  VOICE           │ CD34\n  PERSONAL_NUMBER │ E\n",
    ] {
        bench.write("list", &format!("{list}TWILIO_AUTH_TOKEN\tAB\t\n"));
        let (passed, printed, _) = bench.make(&["secrets"]);
        let remove = "fly secrets unset --stage PERSONAL_NUMBER TWILIO_AUTH_TOKEN VOICE";
        assert!(passed && printed.lines().last().is_some_and(|last| last.ends_with(remove)), "{printed}");
    }
}

#[test]
fn functions_that_would_refuse_everybody_are_not_deployed() {
    const URL: &str = "WEBHOOK_URL=https://phone.example.com/incoming-call\n";
    let example = std::fs::read_to_string(path("twilio/.env.example")).unwrap();
    let all_set = example.replace("\n#ALLOWED", "\nALLOWED").replace("\n#FALLBACK", "\nFALLBACK");
    let webhook = |url: &str| format!("WEBHOOK_URL={url}\nALLOWED_NUMBERS=*\n");
    let allowed = |rest: &str| format!("{URL}{rest}\n");
    let bench = Bench::with(&["twilio"]);
    const NUMBERS: &str = "ALLOWED_NUMBERS";
    // Each problem names one of these.
    for (what, text, names) in [
        ("untouched", example.clone(), &["WEBHOOK_URL", NUMBERS][..]),
        (
            "all uncommented",
            all_set,
            &["WEBHOOK_URL", NUMBERS, "ALLOWED_NUMBERS_15550100001", "FALLBACK_NUMBER"],
        ),
        ("empty", String::new(), &["WEBHOOK_URL", NUMBERS]),
        ("no TLS", webhook("http://phone.example.com/incoming-call"), &["WEBHOOK_URL"]),
        ("no path", webhook("https://phone.example.com"), &["WEBHOOK_URL"]),
        ("a query", webhook("https://phone.example.com/incoming-call?x=1"), &["WEBHOOK_URL"]),
        ("this machine", webhook("https://localhost/incoming-call"), &["WEBHOOK_URL"]),
        ("nobody", allowed("ALLOWED_NUMBERS="), &[NUMBERS]),
        ("only a note", allowed("ALLOWED_NUMBERS= # +442079460000"), &[NUMBERS]),
        ("only notes", allowed("ALLOWED_NUMBERS=\"# 1\\n# 2\""), &[NUMBERS]),
        // Twilio's tools would read these differently.
        ("export", format!("export {URL}ALLOWED_NUMBERS=*\n"), &["Line 1", "WEBHOOK_URL"]),
        ("a note after quotes", allowed("ALLOWED_NUMBERS=\"+442079460000\" # Ada"), &[NUMBERS]),
        ("two lines", allowed("ALLOWED_NUMBERS=\"+44*\n+33*\""), &[NUMBERS, "Line 3"]),
        // The Functions report these.
        ("not a number", allowed("ALLOWED_NUMBERS=+44*, 442079460000"), &["Entry 2 of ALLOWED_NUMBERS"]),
        (
            "not a prefix",
            allowed("ALLOWED_NUMBERS=*\nALLOWED_NUMBERS_442079460000=x44*"),
            &["Entry 1 of ALLOWED_NUMBERS_442079460000"],
        ),
        ("no digits", allowed("ALLOWED_NUMBERS=*\nALLOWED_NUMBERS_CLINIC=*"), &["ALLOWED_NUMBERS_CLINIC"]),
        ("a bad fallback", allowed("ALLOWED_NUMBERS=*\nFALLBACK_NUMBER=2079460000"), &["FALLBACK_NUMBER"]),
        (
            "nobody for one number",
            allowed("ALLOWED_NUMBERS=*\nALLOWED_NUMBERS_442079460000=''"),
            &["ALLOWED_NUMBERS_442079460000"],
        ),
        ("the last one counts", allowed("ALLOWED_NUMBERS=*\nALLOWED_NUMBERS="), &[NUMBERS]),
    ] {
        bench.write("twilio/.env", &text);
        let (passed, printed, log) = bench.make(&["deploy-function"]);
        assert!(!passed && log.is_empty(), "{what}: {printed}{log}");
        let problems: Vec<&str> = printed.lines().filter(|line| line.contains("twilio/.env: ")).collect();
        assert_eq!(problems.len(), names.len(), "{what}: {printed}");
        for name in names {
            let is_named =
                |line: &&str| line.contains(&format!(" {name} ")) || line.contains(&format!(" {name}:"));
            assert!(problems.iter().any(is_named), "{what}: {name} is not in {printed}");
        }
    }
    for text in [
        FILLED_IN.to_owned(),
        "WEBHOOK_URL = 'https://phone.example.com:8443/a/incoming-call'\r\nALLOWED_NUMBERS=\"# me\\n+44*\"\r\n".to_owned(),
        "REJECT_MESSAGE='Tis a private number.\nWEBHOOK_URL=https://phone.example.com/incoming-call # here\nALLOWED_NUMBERS=*\n".to_owned(),
        allowed("#ALLOWED_NUMBERS=\nALLOWED_NUMBERS=\"# +15550100100\\n+44*\"\nREJECT_MESSAGE=#1 = <none>"),
    ] {
        bench.write("twilio/.env", &text);
        let (passed, printed, log) = bench.make(&["deploy-function"]);
        assert!(passed && log.contains("serverless:deploy"), "{text}: {printed}{log}");
    }
}

#[test]
fn missing_settings_are_reported_before_any_tool_is_called() {
    let bench = Bench::with(&["cargo", "fly", "twilio", "npx"]);
    bench.write("fly.toml", &std::fs::read_to_string(path("fly.toml")).unwrap());
    for target in ["deploy", "secrets", "status", "logs", "launch-mcp", "logs-mcp"] {
        let (passed, printed, log) = bench.make(&[target]);
        assert!(!passed && printed.contains("fly apps create") && log.is_empty(), "{target}: {printed}{log}");
    }
    for app in ["app = acme-phone\n", "app = “acme-phone”\n"] {
        bench.write("fly.toml", app);
        let (passed, printed, log) = bench.make(&["deploy"]);
        assert!(!passed && printed.contains("app = \"NAME\"") && log.is_empty(), "{app}: {printed}{log}");
    }
    bench.write("fly.toml", "# no name\n");
    let (passed, printed, log) = bench.make(&["status"]);
    assert!(!passed && printed.contains("fly apps create") && log.is_empty(), "{printed}{log}");
    // The quotes that `fly launch` writes.
    bench.write("fly.toml", "app = 'acme-phone'\n");
    let (passed, printed, log) = bench.make(&["status"]);
    assert!(passed && log == "fly [status] [--app] [acme-phone]\n", "{printed}{log}");
    bench.write(".env", "");
    let gone = |name: &str| std::fs::remove_file(bench.at(name)).unwrap();
    gone("twilio/.env");
    for (target, words) in [
        ("launch-mcp", "TODOIST_API_KEY"),
        ("inspect-mcp", "TODOIST_MCP_URL"),
        ("deploy-function", "twilio/.env.example"),
    ] {
        let (passed, printed, log) = bench.make(&[target]);
        assert!(!passed && printed.contains(words), "{target}: {printed}");
        assert!(!log.contains("mcp") && !log.contains("serverless"), "{target}: {log}");
    }
    // Without a password, fly asks for one, and none is on its command line.
    bench.write(".env", "TODOIST_API_KEY=k\n");
    let (passed, printed, log) = bench.make(&["launch-mcp"]);
    assert!(passed && !log.contains("--password"), "{printed}{log}");
    gone(".env");
    let (passed, printed, log) = bench.make(&["secrets"]);
    assert!(!passed && printed.contains(".env.example") && !log.contains("fly"), "{printed}{log}");
}
