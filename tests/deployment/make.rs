//! The Makefile: what `make help` lists, what each target runs, what it says where a tool is absent, and that it shows
//! no secret. The tools are scripts that write down how they were called.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use tempfile::TempDir;

use crate::path;

const SECRET: &str = "hush-hush";

/// The Functions' settings.
const FILLED_IN: &str = "WEBHOOK_URL=https://phone.example.com/incoming-call\nALLOWED_NUMBERS=+44*\n";

/// A copy of what the Makefile reads, beside a `PATH` of stand-ins.
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
        for tool in ["sh", "sed", "awk", "grep", "cat", "echo", "node"] {
            std::os::unix::fs::symlink(found(tool), bench.at("bin").join(tool)).unwrap();
        }
        for tool in tools {
            let log = bench.at("log");
            let (log, program) = (log.display(), env!("CARGO_BIN_EXE_switchboard"));
            let script = format!(
                "#!/bin/sh\n{{ printf {tool}; for each; do printf ' [%s]' \"$each\"; done; echo; }} >> {log}\n\
                 case \"$1 $2\" in\n'secrets import') cat >> {log};;\n\
                 'secrets list') cat list;;\n\
                 'plugins ') echo '@twilio-labs/plugin-serverless 3.3.0';;\nesac\n\
                 # What cargo runs for a value is the program itself.\n\
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

    /// Whether `make` went well, what it said, and how the tools were called.
    fn make(&self, arguments: &[&str]) -> (bool, String, String) {
        let _ = std::fs::remove_file(self.at("log"));
        let output = Command::new(found("make"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", self.at("bin"))
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let log = std::fs::read_to_string(self.at("log")).unwrap_or_default();
        (output.status.success(), String::from_utf8(said).unwrap(), log)
    }
}

/// Where a tool of this machine is.
fn found(tool: &str) -> std::path::PathBuf {
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
fn help_is_what_make_says_and_it_names_every_target() {
    let bench = Bench::with(&[]);
    let (fine, said, _) = bench.make(&[]);
    assert!(fine, "{said}");
    let listed: Vec<&str> = said.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(listed[0], "help");
    let mut listed: Vec<String> = listed.into_iter().map(str::to_owned).collect();
    let mut targets = targets();
    listed.sort();
    targets.sort();
    assert_eq!(listed, targets);
    assert!(said.contains("\ndev               serve, with what .env says\n"), "{said}");
}

#[test]
fn a_target_without_its_tool_says_which_and_how_to_get_it() {
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
        let (fine, said, _) = Bench::with(&[]).make(&[&target]);
        assert!(!fine, "{target}: {said}");
        let sentence = format!("make {target} needs {tool}, which is not installed: ");
        assert!(said.contains(&sentence), "{target}: {said}");
        assert!(said.contains(how), "{target}: {said}");
    }
    let (_, said, _) = Bench::with(&["cargo"]).make(&["tunnel"]);
    assert!(said.contains("make tunnel needs cloudflared"), "{said}");
    let (_, said, log) = Bench::with(&["cargo"]).make(&["deploy"]);
    assert!(said.contains("make deploy needs fly") && log.is_empty(), "{said}");
    for (tools, missing) in [(&["cargo"][..], "npm"), (&["cargo", "npm"], "git")] {
        let (_, said, log) = Bench::with(tools).make(&["test"]);
        assert!(said.contains(&format!("make test needs {missing}")) && log.is_empty(), "{said}{log}");
    }
    let (_, said, _) = Bench::with(&["fly"]).make(&["inspect-mcp"]);
    assert!(said.contains("make inspect-mcp needs npx"), "{said}");
}

#[test]
fn each_target_calls_its_tools_as_they_want_to_be_called() {
    let bench = Bench::with(&["cargo", "fly", "twilio", "cloudflared", "npx"]);
    let inspector = "npx [-y] [@modelcontextprotocol/inspector@";
    let fly = bench.at("bin/fly");
    let fly = fly.display();
    for (arguments, expected) in [
        (&["demo"][..], "cargo [run] [--quiet] [--] [rehearse]\n".to_owned()),
        (&["dev"], "cargo [run] [--] [serve]\n".to_owned()),
        (&["tunnel"], "cargo [run] [--] [serve] [--tunnel]\n".to_owned()),
        (
            &["tunnel-quick", "PORT=6060"],
            "cloudflared [tunnel] [--no-autoupdate] [--url] [http://localhost:6060]\n".to_owned(),
        ),
        (&["doctor", "ARGS=--fix"], "cargo [run] [--quiet] [--] [doctor] [--fix]\n".to_owned()),
        (&["numbers"], "cargo [run] [--quiet] [--] [numbers] [list]\n".to_owned()),
        (
            &["deploy-function"],
            "twilio [plugins]\ntwilio [serverless:deploy] [--env] [.env] [--override-existing-project]\n"
                .to_owned(),
        ),
        (&["deploy"], "cargo [run] [--quiet] [--] [check]\nfly [deploy] [--app] [acme-phone]\n".to_owned()),
        (&["status"], "fly [status] [--app] [acme-phone]\n".to_owned()),
        (&["logs"], "fly [logs] [--app] [acme-phone]\n".to_owned()),
        (&["logs-mcp"], "fly [logs] [--app] [acme-phone-todoist]\n".to_owned()),
        (
            &["secrets"],
            format!(
                "cargo [run] [--quiet] [--] [secrets]\nfly [secrets] [import] [--stage] [--app] [acme-phone]\n\
                 KEY=\"\"\"{SECRET}\n{SECRET}=3\"\"\"\nOPENAI_API_KEY={SECRET}\n\
                 TODOIST_MCP_PASSWORD={SECRET} 2\nTODOIST_MCP_URL=https://todo.example.com\n\
                 fly [secrets] [list] [--app] [acme-phone]\n"
            ),
        ),
        (
            &["launch-mcp"],
            format!(
                "fly [mcp] [launch] [npx -y @doist/todoist-mcp] [--server] [todoist] [--name] [acme-phone-todoist] \
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
        let (fine, said, log) = bench.make(arguments);
        assert!(fine, "{arguments:?}: {said}");
        let asked = |line: &&str| !line.starts_with("cargo [run] [--quiet] [--] [secrets] [");
        let log: String = log.split_inclusive('\n').filter(asked).collect();
        match arguments[0] {
            "inspect-mcp" => {
                let pinned = log.strip_prefix(inspector).and_then(|rest| rest.strip_suffix(&expected));
                assert!(pinned.is_some_and(|version| version.split('.').count() == 3), "{log}");
            }
            _ => assert_eq!(log, expected, "{arguments:?}"),
        }
        assert!(!said.contains(SECRET), "{arguments:?} shows a secret: {said}");
    }
    let (_, said, _) = bench.make(&["secrets"]);
    let names: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    assert_eq!(names, ["KEY", "OPENAI_API_KEY", "TODOIST_MCP_PASSWORD", "TODOIST_MCP_URL"], "{said}");
    assert!(
        said.ends_with("TWILIO_AUTH_TOKEN is set neither in .env nor at Fly, and the server needs it.\n"),
        "{said}"
    );
    // What .env has lost is in force at Fly: a number's old name, a tool that is to be off. As old and new flyctl list.
    for list in [
        "NAME\tDIGEST\tCREATED AT\nKEY\tAB12\t1h ago\nVOICE\tCD34\t2h ago\nPERSONAL_NUMBER\tEF56\t2h ago\n",
        " NAME            │ DIGEST\n────────┼─────\n* KEY             │ AB12\n  VOICE           │ CD34\n  PERSONAL_NUMBER │ E\n",
    ] {
        bench.write("list", &format!("{list}TWILIO_AUTH_TOKEN\tAB\t\n"));
        let (fine, said, _) = bench.make(&["secrets"]);
        let left = "Also set at Fly, and not among these: VOICE PERSONAL_NUMBER TWILIO_AUTH_TOKEN. Where that is not wanted:\n  \
                    fly secrets unset --stage --app acme-phone VOICE PERSONAL_NUMBER TWILIO_AUTH_TOKEN\n";
        assert!(!said.contains("neither"), "{said}");
        assert!(fine && said.contains(&left.replace("fly secrets", &format!("{} secrets", fly))), "{said}");
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
    let one = "in twilio/.env, ALLOWED_NUMBERS ";
    for (what, text, words) in [
        (
            "untouched",
            example.clone(),
            &["WEBHOOK_URL is still the example", "ALLOWED_NUMBERS is still an example"][..],
        ),
        ("all of it", all_set, &["ALLOWED_NUMBERS_15550100001 is still", "FALLBACK_NUMBER is still"]),
        ("empty", String::new(), &["WEBHOOK_URL is not https://", "ALLOWED_NUMBERS names nobody"]),
        ("no TLS", webhook("http://phone.example.com/incoming-call"), &["WEBHOOK_URL is not https://"]),
        ("the server alone", webhook("https://phone.example.com"), &["WEBHOOK_URL is not https://"]),
        ("a query", webhook("https://phone.example.com/incoming-call?x=1"), &["WEBHOOK_URL is not https://"]),
        ("this machine", webhook("https://localhost/incoming-call"), &["WEBHOOK_URL is not https://"]),
        ("nobody", allowed("ALLOWED_NUMBERS="), &[one]),
        ("only a note", allowed("ALLOWED_NUMBERS= # +442079460000"), &[one]),
        ("only notes", allowed("ALLOWED_NUMBERS=\"# 1\\n# 2\""), &[one]),
        // What Twilio's tools would make something else of.
        (
            "export",
            format!("export {URL}ALLOWED_NUMBERS=*\n"),
            &["line 1 is no NAME=value", "WEBHOOK_URL is not https://"],
        ),
        (
            "a note behind quotes",
            allowed("ALLOWED_NUMBERS=\"+442079460000\" # Ada"),
            &["ALLOWED_NUMBERS: a quote"],
        ),
        (
            "a real line end",
            allowed("ALLOWED_NUMBERS=\"+44*\n+33*\""),
            &["ALLOWED_NUMBERS: a quote", "line 3 is no NAME"],
        ),
        // What the Functions say themselves.
        (
            "no number",
            allowed("ALLOWED_NUMBERS=+44*, 442079460000"),
            &["entry 2 of ALLOWED_NUMBERS is no number"],
        ),
        (
            "no prefix",
            allowed("ALLOWED_NUMBERS=*\nALLOWED_NUMBERS_442079460000=x44*"),
            &["entry 1 of ALLOWED_NUMBERS_442079460000"],
        ),
        (
            "no digits",
            allowed("ALLOWED_NUMBERS=*\nALLOWED_NUMBERS_CLINIC=*"),
            &["ALLOWED_NUMBERS_CLINIC is not so"],
        ),
        (
            "nobody to ring",
            allowed("ALLOWED_NUMBERS=*\nFALLBACK_NUMBER=2079460000"),
            &["FALLBACK_NUMBER is no number"],
        ),
        (
            "nobody for one",
            allowed("ALLOWED_NUMBERS=*\nALLOWED_NUMBERS_442079460000=''"),
            &["ALLOWED_NUMBERS_44"],
        ),
        ("the last holds", allowed("ALLOWED_NUMBERS=*\nALLOWED_NUMBERS="), &[one]),
    ] {
        bench.write("twilio/.env", &text);
        let (fine, said, log) = bench.make(&["deploy-function"]);
        assert!(!fine && log.is_empty(), "{what}: {said}{log}");
        for words in words {
            assert!(said.contains(words), "{what}: {words} is not in {said}");
        }
        assert_eq!(
            said.matches("in twilio/.env, ").count(),
            words.len().max(if what == "all of it" { 4 } else { 1 }),
            "{what}: {said}"
        );
    }
    for text in [
        FILLED_IN.to_owned(),
        "WEBHOOK_URL = 'https://phone.example.com:8443/a/incoming-call'\r\nALLOWED_NUMBERS=\"# me\\n+44*\"\r\n".to_owned(),
        "REJECT_MESSAGE='Tis a private number.\nWEBHOOK_URL=https://phone.example.com/incoming-call # here\nALLOWED_NUMBERS=*\n".to_owned(),
        allowed("#ALLOWED_NUMBERS=\nALLOWED_NUMBERS=\"# +15550100100\\n+44*\"\nREJECT_MESSAGE=#1 = <none>"),
    ] {
        bench.write("twilio/.env", &text);
        let (fine, said, log) = bench.make(&["deploy-function"]);
        assert!(fine && log.contains("serverless:deploy"), "{text}: {said}{log}");
    }
}

#[test]
fn what_is_not_filled_in_is_said_before_anything_is_called() {
    let bench = Bench::with(&["cargo", "fly", "twilio", "npx"]);
    bench.write("fly.toml", &std::fs::read_to_string(path("fly.toml")).unwrap());
    for target in ["deploy", "secrets", "status", "logs", "launch-mcp", "logs-mcp"] {
        let (fine, said, log) = bench.make(&[target]);
        assert!(!fine && said.contains("fly apps create NAME") && log.is_empty(), "{target}: {said}{log}");
    }
    for odd in ["app = acme-phone\n", "app = “acme-phone”\n"] {
        bench.write("fly.toml", odd);
        let (fine, said, log) = bench.make(&["deploy"]);
        assert!(!fine && said.contains("app = \"NAME\"") && log.is_empty(), "{odd}: {said}{log}");
    }
    bench.write("fly.toml", "# no name\n");
    let (fine, said, log) = bench.make(&["status"]);
    assert!(!fine && said.contains("fly apps create NAME") && log.is_empty(), "{said}{log}");
    // As `fly launch` writes it.
    bench.write("fly.toml", "app = 'acme-phone'\n");
    let (fine, said, log) = bench.make(&["status"]);
    assert!(fine && log == "fly [status] [--app] [acme-phone]\n", "{said}{log}");
    bench.write(".env", "");
    let gone = |name: &str| std::fs::remove_file(bench.at(name)).unwrap();
    gone("twilio/.env");
    for (target, words) in [
        ("launch-mcp", "needs TODOIST_API_KEY"),
        ("inspect-mcp", "needs TODOIST_MCP_URL"),
        ("deploy-function", "copy twilio/.env.example to it"),
    ] {
        let (fine, said, log) = bench.make(&[target]);
        assert!(!fine && said.contains(words), "{target}: {said}");
        assert!(!log.contains("mcp") && !log.contains("serverless"), "{target}: {log}");
    }
    // Without a password fly asks for one; none is on its command line.
    bench.write(".env", "TODOIST_API_KEY=k\n");
    let (fine, said, log) = bench.make(&["launch-mcp"]);
    assert!(fine && said.contains("asks for a password") && !log.contains("--password"), "{said}{log}");
    gone(".env");
    let (fine, said, log) = bench.make(&["secrets"]);
    assert!(!fine && said.contains("copy .env.example to it") && !log.contains("fly"), "{said}{log}");
}
