//! What the program is told: whether it can be read, whether it is enough, and whether secrets look as they should.
//!
//! A setting that is wrong is told, and left out: all other checks go on with the rest.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use url::Url;

use super::report::{Finding, Severity};
use crate::command::{self, ENV_FILE};
use crate::numbers;
use crate::problem::Problem;
use crate::serve;
use crate::settings::{Settings, Sources, env_file};
use crate::yaml::SourceFile;

/// How many lines of `.env` may be wrong before it is given up.
const MOST_WRONG: usize = 200;
/// What comes of a token that is not Twilio's.
const REFUSED: &str = "every request of Twilio's is refused with 403: Twilio tells of 11200, and callers hear the \
                       fallback URL or an application error";
/// What comes of a key that is not the provider's.
const NO_MODEL: &str = "every call ends `model.refused`: callers hear `on_failure`";

/// What the other checks go on with.
pub struct Read {
    pub settings: Settings,
    /// The environment, `.env` included.
    pub environment: BTreeMap<String, String>,
    pub file: Option<SourceFile>,
    pub tls: Arc<ClientConfig>,
    pub findings: Vec<Finding>,
    /// `.env` is to be closed to others.
    pub open_env_file: bool,
}

/// Reads all there is, in the folder where the program was started.
///
/// # Errors
/// When TLS cannot be set up at all.
pub fn read() -> anyhow::Result<Read> {
    let mut findings = Vec::new();
    let environment = environment(&mut findings);
    let file = command::settings_file().unwrap_or_else(|problems| {
        findings.extend(problems.iter().map(of_problem));
        None
    });
    let settings = lenient(&file, &environment, &mut findings);
    findings.extend(settings.warnings.iter().map(of_problem));
    if let Err(problems) = settings.for_serve() {
        findings.extend(problems.iter().map(of_missing));
    }
    findings.extend(secrets(&settings));
    findings.extend(address(&settings));
    let open_env_file = is_open(Path::new(ENV_FILE));
    if open_env_file {
        let message = format!("other users of this machine can read `{ENV_FILE}`, which holds secrets");
        findings.push(
            Finding::warning("settings.permissions", message)
                .causes("whoever reads it can call at your cost, and answer in your name")
                .fix(format!("run `chmod 600 {ENV_FILE}`, or `switchboard doctor --fix`")),
        );
    }
    let tls = certificates(&settings, &mut findings)?;
    if findings.iter().all(|finding| finding.severity == Severity::Ok) {
        findings.push(Finding::ok("settings.read", "all settings can be read, and look as they should"));
    }
    Ok(Read { settings, environment, file, tls, findings, open_env_file })
}

/// The process's environment, with what `.env` adds. Lines that are wrong are told and left out.
fn environment(findings: &mut Vec<Finding>) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    match command::read_or_none(ENV_FILE) {
        Ok(None) => {}
        Ok(Some(bytes)) => environment.extend(lines(bytes, findings)),
        Err(problems) => findings.extend(problems.iter().map(of_problem)),
    }
    environment.extend(command::own_environment());
    environment
}

fn lines(bytes: Vec<u8>, findings: &mut Vec<Finding>) -> Vec<(String, String)> {
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    let mut wrong = match env_file::read(ENV_FILE, &bytes) {
        Ok(found) => return found,
        Err(problems) => problems,
    };
    findings.extend(wrong.iter().map(of_problem));
    for _ in 0..MOST_WRONG {
        let places: Vec<usize> = wrong.iter().filter_map(|problem| Some(problem.span?.line)).collect();
        let kept = text.lines().enumerate();
        let kept = kept.map(|(at, line)| if places.contains(&(at + 1)) { "" } else { line });
        text = kept.collect::<Vec<_>>().join("\n");
        wrong = match env_file::read(ENV_FILE, text.as_bytes()) {
            Ok(found) => return found,
            Err(problems) => problems,
        };
    }
    Vec::new()
}

/// The settings without what is wrong with them.
fn lenient(
    file: &Option<SourceFile>,
    environment: &BTreeMap<String, String>,
    findings: &mut Vec<Finding>,
) -> Settings {
    let sources = |file: &Option<SourceFile>, environment: &BTreeMap<String, String>| Sources {
        file: file.clone(),
        environment: environment.clone(),
    };
    let problems = match Settings::read(&sources(file, environment)) {
        Ok(settings) => return settings,
        Err(problems) => problems,
    };
    findings.extend(problems.iter().filter(|problem| problem.is_error()).map(of_problem));
    // A problem of the environment begins with the name of its variable.
    let mut rest = environment.clone();
    rest.retain(|name, _| !problems.iter().any(|problem| problem.message.split(' ').next() == Some(name)));
    let without_file =
        || Settings::read(&sources(&None, &rest)).or_else(|_| Settings::read(&Sources::default()));
    Settings::read(&sources(file, &rest))
        .or_else(|_| without_file())
        .expect("the defaults are settings: a test of `settings` reads them")
}

fn of_problem(problem: &Problem) -> Finding {
    let place = match (&problem.span, problem.file.as_str()) {
        (Some(at), file) => format!("{file}:{}:{}: ", at.line, at.column),
        (None, "environment") => String::new(),
        (None, file) => format!("{file}: "),
    };
    let message = format!("{place}{}", problem.message);
    let finding = match (problem.is_error(), problem.code) {
        (true, _) => Finding::error("settings.read", message).causes("`switchboard serve` does not start"),
        (false, "setting.http") => Finding::warning("settings.odd", message)
            .causes("31922: a stream's address must begin with wss://"),
        (false, _) => Finding::warning("settings.odd", message),
    };
    match &problem.help {
        Some(help) => finding.fix(help.as_str()),
        None => finding,
    }
}

fn of_missing(problem: &Problem) -> Finding {
    let rest = match problem.message.split(' ').next() {
        Some("PUBLIC_URL") => "; the public address, the signature and the stream cannot be checked",
        Some("TWILIO_AUTH_TOKEN") => "; the signature cannot be checked",
        _ => "",
    };
    let finding = Finding::error("settings.missing", format!("{}{rest}", problem.message))
        .causes("`switchboard serve` does not start, so nobody answers: Twilio tells of 11200");
    match &problem.help {
        Some(help) => finding.fix(help.as_str()),
        None => finding,
    }
}

/// Whether secrets look as such things look. None is shown.
fn secrets(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut odd = |name: &str, why: &str, cause: &str, fix: &str| {
        let message = format!("{name} {why}");
        findings.push(Finding::error("settings.secret", message).causes(cause).fix(fix));
    };
    let console = "copy it again from the start page of Twilio's console, without spaces and quotes";
    for (at, token) in settings.twilio_auth_tokens.iter().enumerate() {
        let which = match settings.twilio_auth_tokens.len() {
            1 => "TWILIO_AUTH_TOKEN".to_owned(),
            _ => format!("TWILIO_AUTH_TOKEN, entry {},", at + 1),
        };
        let text = token.expose();
        if let Some(why) = spoilt(text) {
            odd(&which, why, REFUSED, console);
        } else if text.starts_with("AC") || text.starts_with("SK") {
            odd(&which, "is a SID: the token stands below it", REFUSED, console);
        } else if settings.twilio_api_secret.as_ref() == Some(token) {
            let why = "is the secret of the API key: that one signs no webhooks";
            odd(&which, why, REFUSED, console);
        } else if !is_hex(text, 32) {
            let why = format!(
                "is not an auth token: one has 32 digits and letters a to f, and this has {}",
                size(text)
            );
            odd(&which, &why, REFUSED, console);
        }
    }
    let rest = "no text message is sent, and the numbers at Twilio cannot be looked at: error 20003";
    for (name, value, prefix) in [
        ("TWILIO_ACCOUNT_SID", &settings.twilio_account_sid, "AC"),
        ("TWILIO_API_KEY", &settings.twilio_api_key, "SK"),
    ] {
        let Some(text) = value else { continue };
        if !text.strip_prefix(prefix).is_some_and(|digits| is_hex(digits, 32)) {
            let why = spoilt(text).map_or_else(
                || format!("must be `{prefix}` and 32 digits and letters a to f, and is not"),
                str::to_owned,
            );
            odd(name, &why, rest, console);
        }
    }
    match (&settings.twilio_api_key, &settings.twilio_api_secret) {
        (Some(_), None) => {
            let why = "is set, and TWILIO_API_SECRET is not: the auth token is used in their place";
            let fix = "set both: a key's secret is shown once, when it is made in Twilio's console";
            odd("TWILIO_API_KEY", why, rest, fix);
        }
        (None, Some(_)) => {
            let why = "is set, and TWILIO_API_KEY is not: the auth token is used in their place";
            odd("TWILIO_API_SECRET", why, rest, "set TWILIO_API_KEY to the SID of that key: SK…");
        }
        (Some(_), Some(secret)) => {
            if let Some(why) = spoilt(secret.expose()) {
                odd(
                    "TWILIO_API_SECRET",
                    why,
                    rest,
                    "make a new key in Twilio's console, and copy its secret",
                );
            }
        }
        (None, None) => {}
    }
    let make_one = "make a key at https://platform.openai.com/api-keys, and copy it whole, without quotes";
    if let Some(key) = &settings.openai_api_key {
        let ours = Url::parse(&settings.openai_realtime_url)
            .is_ok_and(|url| url.host_str().is_some_and(|host| host.ends_with("openai.com")));
        let text = key.expose();
        if let Some(why) = spoilt(text) {
            odd("OPENAI_API_KEY", why, NO_MODEL, make_one);
        } else if ours && !text.starts_with("sk-") && !text.starts_with("ek_") {
            odd("OPENAI_API_KEY", "does not begin with `sk-`, as OpenAI's keys do", NO_MODEL, make_one);
        }
    }
    for provider in &settings.named_providers {
        if let Some(why) = provider.key.as_ref().and_then(|key| spoilt(key.expose())) {
            let name = format!("the key of the provider `{}`", provider.name);
            odd(&name, why, NO_MODEL, "set the variable that its `key` in switchboard.yaml names");
        }
    }
    if settings.metrics_token.as_ref().is_some_and(|token| token.expose().len() < 16) {
        let message = "METRICS_TOKEN is short: it can be guessed";
        findings.push(
            Finding::warning("settings.secret", message).fix("set it to what `openssl rand -hex 24` prints"),
        );
    }
    findings
}

/// What is wrong with any secret that looks so: it was not copied as it is, or never replaced.
fn spoilt(text: &str) -> Option<&'static str> {
    let lower = text.to_lowercase();
    if text.starts_with(['"', '\'', '`', '“']) || text.ends_with(['"', '\'', '`', '”']) {
        return Some("has quotes around it that belong to the file, not to the value");
    }
    if text.chars().any(char::is_whitespace) {
        return Some("has a space or a line break in it");
    }
    let words =
        ["your", "changeme", "change_me", "change-me", "placeholder", "example", "replace", "todo", "xxxx"];
    let stands_for = text.contains(['…', '<', '>', '*', '•']) || text.contains("...") || text.contains("${");
    if stands_for || words.iter().any(|word| lower.contains(word)) {
        return Some("only holds the place of a value: nobody has put the real one there");
    }
    if !text.is_ascii() {
        return Some("has a sign in it that no such value has");
    }
    None
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// What may be told of a secret's length.
fn size(text: &str) -> String {
    match text.chars().count() {
        32 => "32 signs, with others among them".to_owned(),
        1 => "1 sign".to_owned(),
        count => format!("{count} signs"),
    }
}

/// Whether Twilio can call the public address at all. That it should be https is told by the settings themselves.
fn address(settings: &Settings) -> Option<Finding> {
    let url = settings.public_url.as_deref()?.replacen("http://", "https://", 1);
    let why = numbers::out_of_reach(&url)?;
    let finding = Finding::warning("settings.odd", format!("PUBLIC_URL {why}"));
    Some(finding.causes("11205: no call is answered through this address").fix(
        "for development run `switchboard serve --tunnel`; else set PUBLIC_URL to an address that the whole internet \
         can reach",
    ))
}

/// Whether everybody on this machine may read a file, or more. A group that may is somebody's choice.
fn is_open(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o007 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

/// Closes `.env` to all but its owner and its group.
///
/// # Errors
/// Those of the file system.
pub fn close_env_file() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(ENV_FILE)?.permissions().mode();
        std::fs::set_permissions(ENV_FILE, std::fs::Permissions::from_mode(mode & 0o770))
    }
    #[cfg(not(unix))]
    Ok(())
}

/// TLS towards everybody who is asked. Where nobody can be trusted it is said, and whoever is asked by TLS fails.
fn certificates(settings: &Settings, findings: &mut Vec<Finding>) -> anyhow::Result<Arc<ClientConfig>> {
    let bundle = settings.ssl_cert_file.as_deref();
    match serve::client_config(true, bundle) {
        Ok(tls) => Ok(tls),
        Err(error) => {
            let message = match bundle {
                Some(_) => {
                    "SSL_CERT_FILE names a file that cannot be read, or holds no certificate".to_owned()
                }
                None => error.to_string(),
            };
            findings.push(
                Finding::error("settings.certificates", message)
                    .causes("no provider is reached by TLS: every call ends `model.unreachable`")
                    .fix("install the system's ca-certificates, or name a bundle of certificates (PEM) in SSL_CERT_FILE"),
            );
            serve::client_config(false, bundle)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn read_with(variables: &[(&str, &str)]) -> (Settings, Vec<Finding>) {
        let environment =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut findings = Vec::new();
        let settings = lenient(&None, &environment, &mut findings);
        (settings, findings)
    }

    #[test]
    fn secrets_are_judged_by_their_looks_and_never_shown() {
        let sid = format!("AC{TOKEN}");
        let key = format!("SK{TOKEN}");
        let quoted = format!("\"{TOKEN}\"");
        let upper = TOKEN.to_uppercase();
        type Row<'a> = (&'a str, Vec<(&'a str, &'a str)>, &'a str);
        let rows: Vec<Row<'_>> = vec![
            ("a good token", vec![("TWILIO_AUTH_TOKEN", TOKEN)], ""),
            ("a good key of OpenAI", vec![("OPENAI_API_KEY", "sk-proj-A1_b2")], ""),
            (
                "any key for another's address",
                vec![("OPENAI_API_KEY", "any"), ("OPENAI_REALTIME_URL", "ws://127.0.0.1:9")],
                "",
            ),
            ("a short token", vec![("TWILIO_AUTH_TOKEN", "12345")], "this has 5 signs"),
            ("in capitals", vec![("TWILIO_AUTH_TOKEN", &upper)], "32 signs, with others"),
            ("quotes", vec![("TWILIO_AUTH_TOKEN", &quoted)], "has quotes"),
            ("a SID", vec![("TWILIO_AUTH_TOKEN", &sid)], "is a SID"),
            ("a space", vec![("OPENAI_API_KEY", "sk-a b")], "a space"),
            ("a placeholder", vec![("OPENAI_API_KEY", "sk-…")], "holds the place"),
            ("another placeholder", vec![("OPENAI_API_KEY", "your-key-here")], "holds the place"),
            ("no key of OpenAI's", vec![("OPENAI_API_KEY", "hunter2-value")], "does not begin with `sk-`"),
            (
                "one of two tokens",
                vec![("TWILIO_AUTH_TOKEN", "0123456789abcdef0123456789abcdef,hunter2")],
                "entry 2",
            ),
            ("a SID of something else", vec![("TWILIO_ACCOUNT_SID", &key)], "must be `AC`"),
            ("half a pair", vec![("TWILIO_API_KEY", &key)], "TWILIO_API_SECRET is not"),
            ("the other half", vec![("TWILIO_API_SECRET", "hunter2")], "TWILIO_API_KEY is not"),
            ("a short token for metrics", vec![("METRICS_TOKEN", "hunter2")], "can be guessed"),
        ];
        for (what, variables, told) in rows {
            let (settings, _) = read_with(&variables);
            let found = secrets(&settings);
            let messages: Vec<&str> = found.iter().map(|finding| finding.message.as_str()).collect();
            match told {
                "" => assert!(messages.is_empty(), "{what}: {messages:?}"),
                told => assert!(messages.len() == 1 && messages[0].contains(told), "{what}: {messages:?}"),
            }
            for (_, value) in variables.iter().filter(|(name, _)| *name != "OPENAI_REALTIME_URL") {
                assert!(!format!("{found:?}").contains(value), "{what} is shown");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_left_out_and_the_rest_stays() {
        let (settings, findings) =
            read_with(&[("PORT", "many"), ("PUBLIC_URL", "https://phone.example.com"), ("MAX_CALLS", "0")]);
        let messages: Vec<&str> = findings.iter().map(|finding| finding.message.as_str()).collect();
        assert_eq!(messages.len(), 2, "{messages:?}");
        assert!(messages.iter().any(|message| message.starts_with("PORT must be")), "{messages:?}");
        assert_eq!(settings.public_url.as_deref(), Some("https://phone.example.com"));
        assert_eq!((settings.port, settings.max_calls), (5050, 1000));
    }

    #[test]
    fn a_wrong_line_of_the_file_takes_no_other_away() {
        let mut findings = Vec::new();
        let found = lines(b"A=1\nwhat is this\nB=2\nand this\n".to_vec(), &mut findings);
        assert_eq!(found, [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())]);
        assert_eq!(findings.len(), 2);
        assert!(findings[0].message.starts_with(".env:2:1: "), "{findings:?}");
    }

    #[test]
    fn addresses_that_nobody_outside_can_reach_are_told() {
        for (url, told) in [
            ("https://phone.example.com", false),
            ("https://203.0.113.7", false),
            ("http://127.0.0.1:5050", true),
            ("http://localhost:5050", true),
            ("https://192.168.1.4", true),
            ("https://10.0.0.1:8443", true),
            ("https://[fd00::1]", true),
            ("https://phone.local", true),
            ("https://phone", true),
        ] {
            let (settings, _) = read_with(&[("PUBLIC_URL", url)]);
            assert_eq!(address(&settings).is_some(), told, "{url}");
        }
    }
}
