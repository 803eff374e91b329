use super::*;
use crate::assistant::plan::KeptNumbers;
use crate::problem;
use crate::provider::prices::{Price, Prices};
use crate::provider::{Abilities, Auth, Dialect, TurnDetection};

fn sources(file: Option<&str>, environment: &[(&str, &str)]) -> Sources {
    Sources {
        file: file.map(|text| SourceFile::new("switchboard.yaml", text)),
        environment: environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
    }
}

/// The settings; or all problems, if one is an error.
fn read(file: Option<&str>, environment: &[(&str, &str)]) -> Result<Settings, Vec<Problem>> {
    Settings::checked(&sources(file, environment))
}

/// The codes of all problems, with the settings that they are about.
fn codes(file: Option<&str>, environment: &[(&str, &str)]) -> Vec<(&'static str, String)> {
    let (_, problems) = Settings::read(&sources(file, environment));
    problems
        .iter()
        .map(|problem| (problem.code(), problem.of_setting().unwrap_or_default().to_owned()))
        .collect()
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
    assert_eq!((settings.metrics_port, settings.public_url.clone(), settings.on_fly()), (None, None, false));
}

#[test]
fn max_calls_is_bounded() {
    for (calls, right) in
        [("1", true), ("100000", true), ("0", false), ("100001", false), ("3000000000000000000", false)]
    {
        assert_eq!(read(None, &[("MAX_CALLS", calls)]).is_ok(), right, "{calls}");
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
    assert_eq!((settings.machine.as_deref(), settings.on_fly()), (Some("m1"), true));
    // Fly's private network is IPv6.
    assert_eq!(settings.listens_on().to_string(), "::");
    assert_eq!(settings.peer_url.as_deref(), Some("http://{machine}.vm.phone.internal:5050"));
    let own = read(None, &[fly[0], ("PUBLIC_URL", "https://a.example/")]).unwrap();
    assert_eq!(own.public_url.as_deref(), Some("https://a.example"));
    assert_eq!(own.fly_url.as_deref(), Some("https://phone.fly.dev"), "Twilio may still know it");
    // FLY_APP_NAME alone is set wherever somebody works with the app.
    assert!(!own.on_fly() && own.listens_on().is_ipv4());
}

#[test]
fn an_ipv4_host_on_fly_is_a_warning() {
    let machine = ("FLY_MACHINE_ID", "m1");
    for (environment, warnings) in [
        (&[machine, ("HOST", "0.0.0.0")][..], 1),
        (&[machine, ("HOST", "::")][..], 0),
        (&[machine][..], 0),
        (&[("HOST", "0.0.0.0")][..], 0),
    ] {
        let expected = vec![("setting.ipv4", "HOST".to_owned()); warnings];
        assert_eq!(codes(None, environment), expected, "{environment:?}");
    }
}

#[test]
fn peer_url_is_a_pattern_for_other_machines() {
    let fly = ("FLY_APP_NAME", "phone");
    assert_eq!(read(None, &[]).unwrap().peer_url, None, "off Fly no machine is asked");
    for (form, expected) in [
        ("http://{machine}.{app}.example.com:81/", "http://{machine}.phone.example.com:81"),
        ("https://example.com/peers/{machine}", "https://example.com/peers/{machine}"),
    ] {
        assert_eq!(read(None, &[fly, ("PEER_URL", form)]).unwrap().peer_url.as_deref(), Some(expected));
    }
    let port = read(Some("port: 81\n"), &[fly]).unwrap();
    assert_eq!(port.peer_url.as_deref(), Some("http://{machine}.vm.phone.internal:81"));
    for form in [
        "http://example.com",
        "http://{machine}.{app}.example.com",
        "{machine}.example.com",
        "ftp://{machine}.example.com",
        "http://u:hunter2@{machine}.example.com",
        "http://{machine}.example.com/?hunter2",
        "http:/{machine}.example.com/hunter2",
    ] {
        let variable = [("PEER_URL", form)];
        assert_eq!(codes(None, &variable), [("setting.value", "PEER_URL".to_owned())], "{form}");
        let shown = problem::plain(&read(None, &variable).unwrap_err());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn http_is_a_warning_unless_it_is_loopback() {
    for (url, warnings) in [
        ("http://phone.example", 1),
        ("http://127.0.0.1:5050", 0),
        ("http://localhost:5050", 0),
        ("http://[::1]:5050", 0),
        ("https://phone.example/sub/", 0),
    ] {
        let expected = vec![("setting.http", "PUBLIC_URL".to_owned()); warnings];
        assert_eq!(codes(None, &[("PUBLIC_URL", url)]), expected, "{url}");
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
fn the_folder_may_be_remote() {
    let url = "https://x.example/a.tar.gz?path=assistants/";
    let settings = read(None, &[("ASSISTANTS_URL", url), ("ASSISTANTS_TOKEN", "t")]).unwrap();
    assert_eq!(settings.assistants_url, Some(Secret::new(url)));
    assert_eq!(settings.assistants_token, Some(Secret::new("t")));
    assert!(codes(None, &[("ASSISTANTS_URL", url), ("ASSISTANTS_TOKEN", "t")]).is_empty());
    assert!(read(None, &[("ASSISTANTS_URL", "http://127.0.0.1:8000/a.tar.gz")]).is_ok());
}

#[test]
fn an_invalid_assistants_url_shows_no_secret() {
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
            assert!(problems.iter().any(|problem| problem.of_setting() == Some("ASSISTANTS_URL")), "{shown}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}

#[test]
fn alerts_go_where_the_file_says_and_are_all_kinds_unless_it_names_some() {
    let file = "alerts: { to: { email: owner@example.com, webhook: { url: \"https://example.com/\", secret: \"${HOOK}\" } } }\n\
                limits: { cost_per_day: 20 }\n";
    let settings =
        read(Some(file), &[("HOOK", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")]).unwrap();
    let alerts = settings.alerts.as_ref().unwrap();
    assert_eq!(alerts.to.email.as_deref(), Some("owner@example.com"));
    assert_eq!((alerts.when.as_slice(), settings.cost_per_day), (&AlertKind::ALL[..], Some(20.0)));
    assert!(
        settings
            .secrets()
            .any(|secret| secret.expose() == "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
    );
    let some = "alerts: { to: { email: owner@example.com }, when: [quota, store_down, quota] }\n";
    let settings = read(Some(some), &[]).unwrap();
    assert_eq!(settings.alerts.as_ref().unwrap().when, [AlertKind::Quota, AlertKind::StoreDown]);
    let one = "alerts: { to: { email: owner@example.com }, when: quota }\n";
    assert_eq!(read(Some(one), &[]).unwrap().changed(&settings), ["alerts"]);
    let other = read(Some("limits: { cost_per_day: 1 }\n"), &[]).unwrap();
    assert_eq!(other.changed(&read(None, &[]).unwrap()), ["limits"]);
    // Turned off for this environment.
    assert_eq!(read(Some("alerts: { to: { email: \"${MAIL:-}\" } }\n"), &[]).unwrap().alerts, None);
    assert_eq!(read(Some("alerts:\nlimits:\n"), &[]).unwrap().cost_per_day, None);
    assert_eq!(read(Some("limits: {}\n"), &[]).unwrap().cost_per_day, None);
}

#[test]
fn wrong_alerts_and_limits_are_explained() {
    for (file, code) in [
        ("alerts: soon\n", "setting.type"),
        ("alerts: {}\n", "alerts.to"),
        ("alerts: { when: [quota] }\n", "alerts.to"),
        ("alerts: { to: { email: owner@example.com }, wen: [quota] }\n", "key.unknown"),
        ("alerts: { to: { email: owner@example.com }, when: [qota] }\n", "alerts.when"),
        ("alerts: { to: { email: owner } }\n", "message.email"),
        ("limits: { cost_per_day: 0 }\n", "limits.dollars"),
        ("limits: { cost_per_day: much }\n", "limits.dollars"),
        ("limits: { cost_per_day: -1 }\n", "limits.dollars"),
        ("limits: { cost_per_call: 1 }\n", "key.unknown"),
        ("limits: 20\n", "setting.type"),
        ("limits: { cost_per_day: 1 }\nlimits: { cost_per_day: 1 }\n", "setting.double"),
    ] {
        assert_eq!(codes(Some(file), &[]), [(code, String::new())], "{file}");
        assert!(read(Some(file), &[]).is_err(), "{file}");
    }
}

#[test]
fn a_sender_without_a_mail_server_is_a_warning() {
    let from = ("SMTP_FROM", "phone@example.com");
    assert_eq!(codes(None, &[from]), [("setting.unused", "SMTP_FROM".to_owned())]);
    let settings = read(None, &[from, ("SMTP_URL", "smtps://me:hunter2@mail.example.com")]).unwrap();
    assert_eq!(settings.smtp_from.as_deref(), Some("phone@example.com"));
    assert!(is_secret("SMTP_URL") && !format!("{settings:?}").contains("hunter2"));
}

#[test]
fn a_token_without_an_address_is_a_warning() {
    assert_eq!(
        codes(None, &[("ASSISTANTS_TOKEN", "t")]),
        [("setting.unused", "ASSISTANTS_TOKEN".to_owned())]
    );
}

#[test]
fn an_address_that_a_browser_would_repair_is_invalid() {
    for name in ["PUBLIC_URL", "TWILIO_FUNCTIONS_URL", "TWILIO_API_URL", "ASSISTANTS_URL"] {
        for url in ["https:/phone.example.com", "https://phone.example.com wrong", "https://…"] {
            assert_eq!(codes(None, &[(name, url)]), [("setting.value", name.to_owned())], "{url}");
        }
    }
    let file = "providers: { house: { url: 'wss:/voice.example.com' } }";
    assert_eq!(codes(Some(file), &[]), [("provider.url", String::new())]);
}

#[test]
fn clear_text_is_a_warning_unless_it_stays_on_this_machine() {
    let file = "providers: { lan: { url: \"ws://192.0.2.3/v1\" }, own: { url: \"ws://[::1]:8000\" } }\n";
    let environment =
        [("OPENAI_REALTIME_URL", "ws://model.example.com/v1"), ("TWILIO_API_URL", "http://192.0.2.2:8080")];
    let expected = ["OPENAI_REALTIME_URL", "TWILIO_API_URL", ""];
    assert_eq!(codes(Some(file), &environment), expected.map(|name| ("setting.clear_text", name.to_owned())));
    for (name, url) in [
        ("OPENAI_REALTIME_URL", "wss://model.example.com/v1"),
        ("OPENAI_REALTIME_URL", "ws://localhost:8000/v1"),
        ("TWILIO_API_URL", "http://127.0.0.1:8080"),
    ] {
        assert!(codes(None, &[(name, url)]).is_empty(), "{url}");
    }
}

#[test]
fn a_setting_with_an_error_keeps_its_default_and_the_others_are_read() {
    let file = "max_calls: many\nport: 6060\nprot: 1\n";
    let environment = [("DRAIN_SECONDS", "long"), ("PUBLIC_URL", "https://phone.example.com")];
    let (settings, problems) = Settings::read(&sources(Some(file), &environment));
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert_eq!((settings.max_calls, settings.port, settings.drain.as_secs()), (1000, 6060, 280));
    assert_eq!(settings.public_url.as_deref(), Some("https://phone.example.com"));
}

#[test]
fn serve_reports_each_missing_setting() {
    let settings = read(None, &[("TWILIO_AUTH_TOKEN", ",")]).unwrap();
    assert!(settings.for_serve().is_none());
    insta::assert_snapshot!(problem::plain(&settings.missing(Need::Serve)));
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
fn changed_settings_are_named() {
    let read = |text: &str| {
        let file = Some(crate::yaml::SourceFile::new("switchboard.yaml", text));
        Settings::checked(&Sources { file, environment: BTreeMap::new() }).unwrap()
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
    auth: BEARER
    dialect: beta
"#;

#[test]
fn providers_are_read_with_their_abilities() {
    let settings = read(Some(PROVIDERS), &[("AZURE_KEY", "hunter2")]).unwrap();
    let [openai, azure, old] = &settings.providers()[..] else { panic!("three") };
    assert_eq!((openai.name.as_str(), openai.lacks_key()), ("openai", true));
    assert_eq!(azure.url, "wss://my.example.com/openai/v1/realtime?version=3");
    assert_eq!((azure.dialect, &azure.auth), (Dialect::Ga, &Auth::Header("api-key".to_owned())));
    assert_eq!(old.auth, Auth::Bearer);
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
    // OPENAI_API_KEY is not required if there is another provider.
    let missing = settings.missing(Need::Serve);
    let missing: Vec<_> = missing.iter().filter_map(Problem::of_setting).collect();
    assert_eq!(missing, ["TWILIO_AUTH_TOKEN", "PUBLIC_URL"]);
}

#[test]
fn all_problems_of_providers_are_reported_and_no_key_is_shown() {
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
fn an_address_must_not_end_with_our_own_path() {
    for (name, value, is_fine) in [
        ("PUBLIC_URL", "https://phone.example.com/incoming-call", false),
        ("PUBLIC_URL", "https://phone.example.com/voice", true),
        ("TWILIO_FUNCTIONS_URL", "https://switchboard-1234-dev.twil.io/allowlist-function", false),
        ("TWILIO_FUNCTIONS_URL", "https://switchboard-1234-dev.twil.io/fallback-function/", false),
        ("TWILIO_FUNCTIONS_URL", "https://switchboard-1234-dev.twil.io", true),
    ] {
        assert_eq!(read(None, &[(name, value)]).is_ok(), is_fine, "{value}");
    }
}

#[test]
fn what_is_kept_has_defaults_for_all_assistants() {
    let file = "record: { audio: true, keep: 7d, numbers: masked }\n";
    let settings = read(Some(file), &[]).unwrap();
    let week = Duration::from_secs(7 * 24 * 3600);
    let expected =
        RecordPolicy { audio: true, keep: week, numbers: KeptNumbers::Masked, ..RecordPolicy::default() };
    assert_eq!(settings.record, expected);
    assert_eq!(settings.changed(&read(None, &[]).unwrap()), ["record"]);
    assert_eq!(read(Some("record:\n"), &[]).unwrap().record, RecordPolicy::default());
    let wrong = "record: { keep: 30 }\nrecord: {}\n";
    let codes = codes(Some(wrong), &[]);
    assert_eq!(codes.iter().map(|(code, _)| *code).collect::<Vec<_>>(), ["type.duration", "setting.double"]);
    for (file, code) in [("record: false", "record.map"), ("record: { recrod: 1 }", "key.unknown")] {
        let problems = read(Some(file), &[]).unwrap_err();
        assert_eq!(problems.iter().map(Problem::code).collect::<Vec<_>>(), [code], "{file}");
    }
}

#[test]
fn prices_replace_those_of_the_built_in_table() {
    let file = "prices:\n  date: 2027-01-15\n  carrier: { inbound: 0.01 }\n  \
                gpt-realtime-2.1: { audio_out: 70 }\n  azure/reception: { minute: 0.06 }\n";
    let settings = read(Some(file), &[]).unwrap();
    let Prices { date, carrier, .. } = &settings.prices;
    assert_eq!((date.as_str(), carrier.inbound), ("2027-01-15", Price::dollars(0.01)));
    assert_eq!(carrier.streams, Prices::default().carrier.streams);
    let of = |provider, model| settings.prices.of(provider, model).unwrap();
    assert_eq!(of("openai", "gpt-realtime-2.1").audio_out, Some(Price::dollars(70.0)));
    assert_eq!(of("openai", "gpt-realtime-2.1").audio_in, Some(Price::dollars(32.0)));
    assert_eq!(of("azure", "reception").minute, Some(Price::dollars(0.06)));
    assert_eq!(settings.changed(&read(None, &[]).unwrap()), ["prices"]);
    assert_eq!(read(Some("prices:\n"), &[]).unwrap().prices, Prices::default());
}

#[test]
fn prices_that_cannot_be_meant_are_problems() {
    for (file, code) in [
        ("prices: 4", "setting.type"),
        ("prices: { gpt-realtime-2.1: 4 }", "setting.type"),
        ("prices: { gpt-realtime-2.1: { audio: 4 } }", "key.unknown"),
        ("prices: { gpt-realtime-2.1: { audio_in: -1 } }", "setting.price"),
        ("prices: { gpt-realtime-2.1: { audio_in: cheap } }", "setting.price"),
        ("prices: { gpt-realtime-2.1: { audio_in: 1000000 } }", "setting.price"),
        ("prices: { carrier: { outgoing: 1 } }", "key.unknown"),
        ("prices: { date: yesterday }", "setting.price"),
        ("prices: { date: 2026-11-30, date: 2026-11-30 }", "setting.double"),
        ("prices: {}\nprices: {}", "setting.double"),
    ] {
        let problems = read(Some(file), &[]).unwrap_err();
        assert_eq!(problems.iter().map(Problem::code).collect::<Vec<_>>(), [code], "{file}");
    }
}
