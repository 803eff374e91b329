use super::*;
use crate::problem;
use crate::provider::{Abilities, Auth, Dialect, TurnDetection};

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
    assert_eq!((settings.listens_on().to_string().as_str(), settings.port), ("0.0.0.0", 5050));
    assert_eq!(settings.assistants_dir, PathBuf::from("assistants"));
    assert_eq!((settings.max_calls, settings.drain.as_secs()), (1000, 280));
    assert_eq!((settings.log.as_str(), settings.log_format), ("info", None));
    assert_eq!((settings.metrics_port, settings.public_url, settings.on_fly), (None, None, false));
}

#[test]
fn no_machine_has_more_calls_than_it_could() {
    for (calls, right) in
        [("1", true), ("100000", true), ("0", false), ("100001", false), ("3000000000000000000", false)]
    {
        let read = read(None, &[("MAX_CALLS", calls)]);
        assert_eq!(read.is_ok(), right, "{calls}");
        if let Err(problems) = read {
            assert!(format!("{problems:?}").contains("1 to 100000"), "{problems:?}");
        }
    }
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
    // The private network is IPv6.
    assert_eq!(settings.listens_on().to_string(), "::");
    assert_eq!(settings.peer_url.as_deref(), Some("http://{machine}.vm.phone.internal:5050"));
    let own = read(None, &[fly[0], ("PUBLIC_URL", "https://a.example/")]).unwrap();
    assert_eq!(own.public_url.as_deref(), Some("https://a.example"));
    assert_eq!(own.fly_url.as_deref(), Some("https://phone.fly.dev"), "Twilio may know that one still");
    // Somebody who works with the app has its name, and runs no machine of it.
    assert!(!own.on_fly && own.listens_on().is_ipv4());
}

#[test]
fn on_fly_an_ipv4_address_is_a_warning() {
    let machine = ("FLY_MACHINE_ID", "m1");
    for (environment, warnings) in [
        (&[machine, ("HOST", "0.0.0.0")][..], 1),
        (&[machine, ("HOST", "::")][..], 0),
        (&[machine][..], 0),
        (&[("HOST", "0.0.0.0")][..], 0),
    ] {
        let told = read(None, environment).unwrap().warnings;
        assert_eq!(told.len(), warnings, "{environment:?}");
        assert!(told.iter().all(|told| told.line().contains("HOST")), "{environment:?}");
    }
}

#[test]
fn other_machines_are_where_the_form_says() {
    let fly = ("FLY_APP_NAME", "phone");
    assert_eq!(read(None, &[]).unwrap().peer_url, None, "off Fly nobody is asked");
    for (form, expected) in [
        ("http://{machine}.{app}.example.com:81/", "http://{machine}.phone.example.com:81"),
        ("https://example.com/peers/{machine}", "https://example.com/peers/{machine}"),
    ] {
        assert_eq!(read(None, &[fly, ("PEER_URL", form)]).unwrap().peer_url.as_deref(), Some(expected));
    }
    let port = read(Some("port: 81\n"), &[fly]).unwrap();
    assert_eq!(port.peer_url.as_deref(), Some("http://{machine}.vm.phone.internal:81"));
    for (form, words) in [
        ("http://example.com", "must hold `{machine}`"),
        ("http://{machine}.{app}.example.com", "FLY_APP_NAME is not set"),
        ("{machine}.example.com", "must be a URL such as"),
        ("ftp://{machine}.example.com", "must be a URL such as"),
        ("http://u:hunter2@{machine}.example.com", "must be a URL such as"),
        ("http://{machine}.example.com/?hunter2", "must be a URL such as"),
        ("http:/{machine}.example.com/hunter2", "must be a URL such as"),
    ] {
        let shown = problem::plain(&read(None, &[("PEER_URL", form)]).unwrap_err());
        assert!(shown.contains("PEER_URL") && shown.contains(words) && !shown.contains("hunter2"), "{shown}");
    }
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
    let file = "prot: 1\nhost: [a, b]\nport: 1\nport: 2\nproviders: []\nopenai_api_key: hunter2secret\n\
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
fn an_address_that_a_browser_would_mend_is_refused() {
    for name in ["PUBLIC_URL", "TWILIO_FUNCTIONS_URL", "TWILIO_API_URL", "ASSISTANTS_URL"] {
        for (url, told) in [
            ("https:/phone.example.com", "must start with https:// or http://, with two slashes"),
            ("https://phone.example.com wrong", "has a space in it"),
            ("https://…", "only holds the place of an address"),
        ] {
            let shown = problem::plain(&read(None, &[(name, url)]).unwrap_err());
            assert!(shown.contains(told) && shown.contains(name), "{shown}");
        }
    }
    let file = "providers: { house: { url: 'wss:/voice.example.com' } }";
    let shown = problem::plain(&read(Some(file), &[]).unwrap_err());
    assert!(shown.contains("`url` must start with wss:// or ws://, with two slashes"), "{shown}");
}

#[test]
fn serving_needs_three_things_and_says_which() {
    let problems = read(None, &[]).unwrap().for_serve().unwrap_err();
    insta::assert_snapshot!(problem::plain(&problems));
    let enough =
        [("OPENAI_API_KEY", "sk-1"), ("TWILIO_AUTH_TOKEN", "t"), ("PUBLIC_URL", "https://phone.example/")];
    let serve = read(None, &enough).unwrap().for_serve().unwrap();
    assert_eq!(serve.public_url, "https://phone.example");
    assert_eq!(serve.providers[0].key, Some(Secret::new("sk-1")));
    assert!(!format!("{serve:?}").contains("sk-1"));
}

#[test]
fn an_empty_file_is_no_problem() {
    assert_eq!(read(Some("# nothing\n"), &[]).unwrap(), read(None, &[]).unwrap());
}

#[test]
fn a_broken_file_shows_no_secret() {
    for text in [
        "twilio_auth_token: hunter2\nport: [1\n",
        "open_ai_key: hunter2\n  port: 1\n",
        "openai_token: hunter2\n  port: 1\n",
        "twilio_auth_token:\n- hunter2\n  a: b\n",
        "twilio_auth_token:\n  - a: hunter2\n - hunter2: b\n",
        "openai_api_key: |\nhunter2\nport: 1\n",
        "providers:\n  azure:\n    key: >-\n      hunter2\n     hunter2: x\n",
        // These are valid YAML.
        "open_ai: hunter2\n",
        "open_ai:\n- [hunter2]\n",
        "openai_api_key:\n  a: hunter2\n",
        "providers: { azure: { url: \"wss://a.example.com\", auth: \"Bearer hunter2\" } }\n",
        "providers: { azure: { url: \"wss://a.example.com\", abilities: { kee: hunter2 } } }\n",
    ] {
        let problems = read(Some(text), &[]).unwrap_err();
        let shown = format!("{}{}", problem::plain(&problems), problem::pretty(&problems));
        assert!(!shown.contains("hunter2"), "{text}: {shown}");
    }
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

const PROVIDERS: &str = r#"
providers:
  azure:
    url: wss://my.example.com/openai/v1/realtime?version=3
    key: "${AZURE_KEY}"
    auth: API-Key
    abilities:
      voices: [marin]
      models: [gpt-realtime-2.1, { name: reception, reasoning: true, context: 128_000 }]
      temperature: [0.6, 1.2]
      speed: none
      transcription: [whisper-1]
      reasoning: [low]
      turn_detection: semantic
      truncates: false
      interrupts: false
      noise_reduction: false
      session: 2h
  old:
    url: ws://127.0.0.1:8000/v1/realtime/
    key: "${OLD_KEY:-}"
    dialect: beta
"#;

#[test]
fn providers_are_read_with_their_abilities() {
    let settings = read(Some(PROVIDERS), &[("AZURE_KEY", "hunter2")]).unwrap();
    let [openai, azure, old] = &settings.providers()[..] else { panic!("three") };
    assert_eq!((openai.name.as_str(), openai.lacks_key()), ("openai", true));
    assert_eq!(azure.url, "wss://my.example.com/openai/v1/realtime?version=3");
    assert_eq!((azure.dialect, &azure.auth), (Dialect::Ga, &Auth::Header("api-key".to_owned())));
    assert_eq!((azure.key.clone(), azure.lacks_key()), (Some(Secret::new("hunter2")), false));
    let Abilities { voices, open_voices, temperature, speed, efforts, .. } = &azure.abilities;
    assert_eq!(
        (&voices[..], open_voices, temperature, speed),
        (&["marin".into()][..], &false, &Some(0.6..=1.2), &None)
    );
    assert_eq!(efforts, &["low"]);
    assert_eq!(azure.abilities.turn_detection, [TurnDetection::Semantic]);
    assert_eq!((azure.abilities.truncates, azure.abilities.interrupts_by_itself), (false, false));
    assert_eq!((azure.abilities.noise_reduction, azure.abilities.session_limit.as_secs()), (false, 7_200));
    assert_eq!(azure.default_transcriber(), Some("whisper-1"));
    assert!(azure.reasons("gpt-realtime-2.1") && azure.reasons("reception"));
    assert_eq!(azure.model("reception").and_then(|model| model.context), Some(128_000));
    assert_eq!((old.dialect, &old.key, old.lacks_key()), (Dialect::Beta, &None, false));
    assert_eq!(old.url, "ws://127.0.0.1:8000/v1/realtime");
    assert_eq!(old.abilities, Abilities::of(Dialect::Beta));
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[test]
fn a_providers_key_may_be_missing_until_it_serves() {
    let settings = read(Some(PROVIDERS), &[]).unwrap();
    assert!(settings.named_providers[0].lacks_key(), "`${{AZURE_KEY}}` is not set");
    // OPENAI_API_KEY is not asked for where another provider could serve.
    let missing = problem::plain(&settings.for_serve().unwrap_err());
    assert!(!missing.contains("OPENAI_API_KEY") && missing.contains("PUBLIC_URL"), "{missing}");
}

#[test]
fn all_that_is_wrong_with_providers_is_told_and_no_key_is_shown() {
    let file = r#"
provider: {}
providers:
  openai: { url: wss://a.example.com }
  Azure!: { url: wss://a.example.com }
  nothing:
  nowhere: { key: hunter2secret }
  listed: [a, b]
  web: { url: "https://a.example.com/?x=hunter2secret", key: hunter2secret }
  inside: { url: "wss://user:hunter2secret@a.example.com", key: "${HIDDEN}" }
  query: { url: "wss://a.example.com/?api_key=hunter2secret" }
  spelt: { url: wss://a.example.com, kye: hunter2secret, dialekt: ga, abilities: { truncate: true } }
  same: { url: wss://a.example.com }
  same: { url: wss://b.example.com }
  values:
    url: wss://a.example.com
    key: [hunter2secret]
    auth: two words
    dialect: gamma
    abilities:
      temperature: 0.8
      speed: [2, 1]
      threshold: [0, 7]
      voices: { a: b }
      models: [{ reasoning: true }, { name: a, resoning: true, context: much }]
      reasoning: [hard]
      turn_detection: [semantics]
      truncates: "yes"
      session: soon
"#;
    let problems = read(Some(file), &[("HIDDEN", "hunter2secret")]).unwrap_err();
    let shown = problem::plain(&problems);
    assert!(!shown.contains("hunter2secret"), "{shown}");
    assert!(!problem::pretty(&problems).contains("hunter2secret"));
    assert!(!format!("{problems:?}").contains("hunter2secret"));
    insta::assert_snapshot!(shown);
}

#[test]
fn a_broken_file_shows_no_providers_key() {
    for file in [
        "providers:\n  a:\n    key: hunter2\n    url: [1\n",
        "providers: { a: { \"key\" : hunter2, url: [1\n",
        "providers:\n  a: {url: x, key: hunter2}\n  b: [1\n",
    ] {
        let problems = read(Some(file), &[]).unwrap_err();
        assert!(!problem::pretty(&problems).contains("hunter2"), "{}", problem::pretty(&problems));
        assert!(!problem::plain(&problems).contains("hunter2"));
    }
}

#[test]
fn an_address_is_written_without_what_follows_it() {
    for (name, value, is_fine) in [
        ("PUBLIC_URL", "https://phone.example.com/incoming-call", false),
        ("PUBLIC_URL", "https://phone.example.com/voice", true),
        ("TWILIO_FUNCTIONS_URL", "https://switchboard-1234-dev.twil.io/allowlist-function", false),
        ("TWILIO_FUNCTIONS_URL", "https://switchboard-1234-dev.twil.io/fallback-function/", false),
        ("TWILIO_FUNCTIONS_URL", "https://switchboard-1234-dev.twil.io", true),
    ] {
        let settings = read(None, &[(name, value)]);
        assert_eq!(settings.is_ok(), is_fine, "{value}");
        let told = settings.err().unwrap_or_default();
        assert!(
            told.iter().all(|problem| problem.message().contains("must be written without /")),
            "{told:?}"
        );
    }
}
