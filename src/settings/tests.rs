use super::*;

fn read(file: Option<&str>, environment: &[(&str, &str)]) -> Result<Settings, Vec<Problem>> {
    Settings::read(&Sources {
        file: file.map(|text| SourceFile::new("switchboard.yaml", text)),
        environment: environment.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
    })
}

#[test]
fn defaults_are_the_contract() {
    let settings = read(None, &[]).unwrap();
    assert_eq!(settings.openai_realtime_url, "wss://api.openai.com/v1/realtime");
    assert_eq!(settings.twilio_api_url, "https://api.twilio.com");
    assert_eq!((settings.host.to_string().as_str(), settings.port), ("0.0.0.0", 5050));
    assert_eq!(settings.assistants_dir, PathBuf::from("assistants"));
    assert_eq!((settings.max_calls, settings.drain.as_secs()), (1000, 280));
    assert_eq!((settings.log.as_str(), settings.log_format), ("info", None));
    assert_eq!((settings.metrics_port, settings.public_url, settings.on_fly), (None, None, false));
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_defaults() {
    let file = "port: 6000\nmax_calls: 7\nopenai_api_key: ${KEY}\ntwilio_auth_token: [one, two]\n";
    let environment = [("PORT", "0"), ("KEY", "sk-1"), ("MAX_CALLS", "")];
    let settings = read(Some(file), &environment).unwrap();
    assert_eq!((settings.port, settings.max_calls), (0, 7));
    assert_eq!(settings.openai_api_key, Some(Secret::new("sk-1")));
    assert_eq!(settings.twilio_auth_tokens.len(), 2);
}

#[test]
fn a_token_of_digits_is_a_token() {
    let settings = read(None, &[("TWILIO_AUTH_TOKEN", "0012345678, 42"), ("METRICS_TOKEN", "1e3")]);
    let settings = settings.unwrap();
    assert_eq!(settings.twilio_auth_tokens, [Secret::new("0012345678"), Secret::new("42")]);
    assert_eq!(settings.metrics_token, Some(Secret::new("1e3")));
    let from_file = read(Some("twilio_auth_token: 0012345678\n"), &[]).unwrap();
    assert_eq!(from_file.twilio_auth_tokens, [Secret::new("0012345678")]);
}

#[test]
fn on_fly_the_address_is_known() {
    let fly = [("FLY_APP_NAME", "phone"), ("FLY_MACHINE_ID", "m1")];
    let settings = read(None, &fly).unwrap();
    assert_eq!(settings.public_url.as_deref(), Some("https://phone.fly.dev"));
    assert_eq!((settings.machine.as_deref(), settings.on_fly), (Some("m1"), true));
    let own = read(None, &[fly[0], ("PUBLIC_URL", "https://a.example/")]).unwrap();
    assert_eq!(own.public_url.as_deref(), Some("https://a.example"));
}

#[test]
fn http_is_a_warning_unless_it_is_this_machine() {
    for (url, warnings) in [
        ("http://phone.example", 1),
        ("http://127.0.0.1:5050", 0),
        ("http://localhost:5050", 0),
        ("http://[::1]:5050", 0),
        ("https://phone.example/sub/", 0),
    ] {
        assert_eq!(read(None, &[("PUBLIC_URL", url)]).unwrap().warnings.len(), warnings, "{url}");
    }
}

#[test]
fn all_problems_come_at_once_and_show_no_secret() {
    let file = "prot: 1\nhost: [a, b]\nport: 1\nport: 2\nproviders: {}\nopenai_api_key: hunter2secret\n\
                log_format: ${FORMAT}\nstate_dir: ${NOWHERE}\nmetrics_port: {a: b}\n";
    let environment = [
        ("MAX_CALLS", "0"),
        ("DRAIN_SECONDS", "soon"),
        ("PUBLIC_URL", "phone.example"),
        ("OPENAI_REALTIME_URL", "https://x.example"),
        ("TWILIO_API_URL", "https://user:hunter2secret@x.example"),
        ("TWILIO_SHARED_KEYS", "a=hunter2secret,hunter2secret"),
        ("ASSISTANTS_URL", "http://x.example/a.tar.gz?token=hunter2secret"),
        ("FORMAT", "hunter2secret"),
        ("METRICS_TOKEN", "hunter2secret"),
    ];
    let problems = read(Some(file), &environment).unwrap_err();
    let shown = problem::plain(&problems);
    assert!(!shown.contains("hunter2secret"), "{shown}");
    assert!(!problem::pretty(&problems).contains("hunter2secret"));
    assert!(!format!("{problems:?}").contains("hunter2secret"));
    insta::assert_snapshot!(shown);
}

#[test]
fn debug_shows_no_secret() {
    let settings = read(
        None,
        &[
            ("OPENAI_API_KEY", "hunter2"),
            ("TWILIO_AUTH_TOKEN", "hunter2"),
            ("TWILIO_SHARED_KEYS", "id=hunter2"),
            ("TWILIO_API_SECRET", "hunter2"),
            ("METRICS_TOKEN", "hunter2"),
            ("ASSISTANTS_URL", "https://x.example/a.tar.gz?token=hunter2"),
            ("ASSISTANTS_TOKEN", "hunter2"),
        ],
    )
    .unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"), "{settings:?}");
}

#[test]
fn the_folder_may_be_elsewhere() {
    let url = "https://x.example/a.tar.gz?path=assistants/";
    let settings = read(None, &[("ASSISTANTS_URL", url), ("ASSISTANTS_TOKEN", "t")]).unwrap();
    assert_eq!(settings.assistants_url, Some(Secret::new(url)));
    assert_eq!(settings.assistants_token, Some(Secret::new("t")));
    assert_eq!(settings.warnings, []);
    assert!(read(None, &[("ASSISTANTS_URL", "http://127.0.0.1:8000/a.tar.gz")]).is_ok());
}

#[test]
fn a_bad_address_of_the_folder_shows_nothing_of_its_secrets() {
    for url in [
        "http://x.example/a.tar.gz?token=hunter2",
        "ftp://x:hunter2@x.example/a.tar.gz",
        "https://hunter2@x.example/a.tar.gz",
        "https//x:hunter2hunter2hunter2hunter2hunter2hunter2hunter2@x.example/a.tar.gz",
        "https://x.example/a.tar.gz?hunter2#x",
        "x.example/?hunter2",
    ] {
        let file = format!("assistants_url: {url}\n");
        for problems in [read(None, &[("ASSISTANTS_URL", url)]), read(Some(&file), &[])] {
            let problems = problems.unwrap_err();
            let shown = problem::plain(&problems) + &problem::pretty(&problems);
            assert!(shown.contains("error: ASSISTANTS_URL "), "{shown}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}

#[test]
fn a_token_without_an_address_is_a_warning() {
    let warnings = read(None, &[("ASSISTANTS_TOKEN", "t")]).unwrap().warnings;
    assert_eq!(
        problem::plain(&warnings),
        "environment: warning: ASSISTANTS_TOKEN is set, and ASSISTANTS_URL is not: nothing is fetched\n  \
         help: set ASSISTANTS_URL, or unset the token\n"
    );
}

#[test]
fn serving_needs_three_things_and_says_which() {
    let problems = read(None, &[]).unwrap().for_serve().unwrap_err();
    insta::assert_snapshot!(problem::plain(&problems));
    let enough =
        [("OPENAI_API_KEY", "sk-1"), ("TWILIO_AUTH_TOKEN", "t"), ("PUBLIC_URL", "https://phone.example/")];
    let serve = read(None, &enough).unwrap().for_serve().unwrap();
    assert_eq!(serve.public_url, "https://phone.example");
    assert_eq!(serve.provider.key, Some(Secret::new("sk-1")));
    assert!(!format!("{serve:?}").contains("sk-1"));
}

#[test]
fn an_empty_file_is_no_problem() {
    assert_eq!(read(Some("# nothing\n"), &[]).unwrap(), read(None, &[]).unwrap());
}

#[test]
fn a_broken_file_shows_no_secret() {
    let problems = read(Some("twilio_auth_token: hunter2\nport: [1\n"), &[]).unwrap_err();
    assert!(!problem::pretty(&problems).contains("hunter2"), "{}", problem::pretty(&problems));
}

#[test]
fn changed_settings_are_told_by_name() {
    let read = |text: &str| {
        let file = Some(crate::yaml::SourceFile::new("switchboard.yaml", text));
        Settings::read(&Sources { file, environment: BTreeMap::new() }).unwrap()
    };
    let before = read("port: 5050\n");
    assert_eq!(before.changed(&read("# The default\n")), [""; 0]);
    let after =
        read("port: 1\nmax_calls: 2\ndrain_seconds: 3\nmetrics_token: four\ntwilio_shared_keys: [a=b]\n");
    assert_eq!(
        before.changed(&after),
        ["twilio_shared_keys", "port", "max_calls", "drain_seconds", "metrics_token"]
    );
}
