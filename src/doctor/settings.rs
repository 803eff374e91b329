//! What the program is told: whether it can be read, whether it is enough, and whether secrets look as they should.
//!
//! A setting that is wrong is told, and left out: all other checks go on with the rest.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;

use super::local;
use super::report::{Finding, Severity};
use crate::command::{self, ENV_FILE};
use crate::link::tls;
use crate::numbers;
use crate::problem::Problem;
use crate::settings::{Settings, Sources, env_file};
use crate::yaml::SourceFile;

/// How often `.env` or the settings are read without what was wrong before; then they are given up.
const MOST_ROUNDS: usize = 200;
/// The parser's own complaint about a file.
const SYNTAX: &str = "yaml.syntax";
/// What comes of a token that is not Twilio's.
const REFUSED: &str = "every request of Twilio's is refused with 403: Twilio tells of 11200, and callers hear the \
                       fallback URL or an application error";
/// What comes of a key that is not the provider's.
const NO_MODEL: &str = "every call ends `model.refused`: callers hear `on_failure`";
/// What comes of what cannot be right.
const NO_START: &str = "`switchboard serve` does not start";
/// What comes of credentials that are not the account's.
const NO_ACCOUNT: &str =
    "no text message is sent, and the numbers at Twilio cannot be looked at: error 20003";

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
    /// ASSISTANTS_URL says where the folder is, rightly or wrongly.
    pub is_remote: bool,
}

/// What is wrong, as it was found.
#[derive(Default)]
struct Told {
    findings: Vec<Finding>,
    /// The settings that were left out for it: they are not missing besides.
    left_out: Vec<String>,
}

impl Told {
    /// Tells what was not told yet: what is read once more finds some of it again.
    fn tell<'a>(&mut self, problems: impl IntoIterator<Item = &'a Problem>) {
        for problem in problems {
            let finding = of_problem(problem);
            if self.findings.iter().any(|told| told.message == finding.message) {
                continue;
            }
            self.findings.push(finding);
            // A problem of a setting begins with its name.
            self.left_out.extend(first_word(problem).map(str::to_owned));
        }
    }

    /// A line that is not read, whatever it was to set.
    fn leave_out(&mut self, line: &str) {
        let line = line.trim_start();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let name = &line[..line.find(|letter| !is_name(letter)).unwrap_or(line.len())];
        self.left_out.push(name.to_uppercase());
    }

    /// The same of each line.
    fn leave_out_all(&mut self, bytes: &[u8]) {
        String::from_utf8_lossy(bytes).lines().for_each(|line| self.leave_out(line));
    }
}

/// Reads all there is, in the folder where the program was started.
///
/// # Errors
/// When TLS cannot be set up at all.
pub fn read() -> anyhow::Result<Read> {
    let mut told = Told::default();
    let environment = environment(&mut told);
    let file = command::settings_file().unwrap_or_else(|problems| {
        told.tell(&problems);
        None
    });
    let settings = lenient(&file, &environment, &mut told);
    let Told { mut findings, left_out } = told;
    let is_remote = settings.assistants_url.is_some() || left_out.iter().any(|name| name == "ASSISTANTS_URL");
    findings.extend(settings.warnings.iter().map(of_problem));
    if let Err(problems) = settings.for_serve() {
        findings.extend(problems.iter().filter(|problem| !is_left_out(problem, &left_out)).map(of_missing));
    }
    findings.extend(secrets(&settings));
    findings.extend(address(&settings));
    findings.extend(local::check(&settings));
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
    Ok(Read { settings, environment, file, tls, findings, open_env_file, is_remote })
}

/// The process's environment, with what `.env` adds. Lines that are wrong are told and left out.
fn environment(told: &mut Told) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    match command::read_or_none(ENV_FILE) {
        Ok(None) => {}
        Ok(Some(bytes)) => environment.extend(lines(bytes, told)),
        Err(problems) => told.tell(&problems),
    }
    environment.extend(command::own_environment());
    environment
}

fn lines(mut bytes: Vec<u8>, told: &mut Told) -> Vec<(String, String)> {
    for _ in 0..MOST_ROUNDS {
        let wrong = match env_file::read(ENV_FILE, &bytes) {
            Ok(found) => return found,
            Err(problems) => problems,
        };
        told.tell(&wrong);
        for at in wrong.iter().filter_map(|problem| problem.span()) {
            bytes = without(&bytes, at.line..at.line + 1, told);
        }
    }
    told.leave_out_all(&bytes);
    Vec::new()
}

/// The settings without what is wrong with them. Each round tells what the one before had hidden.
fn lenient(file: &Option<SourceFile>, environment: &BTreeMap<String, String>, told: &mut Told) -> Settings {
    let mut sources = Sources { file: file.clone(), environment: environment.clone() };
    let mut is_garbled = false;
    for _ in 0..MOST_ROUNDS {
        let mut wrong = match Settings::read(&sources) {
            Ok(settings) => return settings,
            Err(problems) => problems,
        };
        wrong.retain(Problem::is_error);
        // Where the parser stumbles again, it may be over what the first time left.
        let is_new = |problem: &&Problem| !(is_garbled && problem.code() == SYNTAX);
        told.tell(wrong.iter().filter(is_new));
        is_garbled |= wrong.iter().any(|problem| problem.code() == SYNTAX);
        if !take_away(&wrong, &mut sources, told) {
            // What the file sets is not known, and not missing.
            let Some(file) = sources.file.take() else { break };
            told.leave_out_all(&file.bytes);
        }
    }
    defaults()
}

/// Takes away what is wrong; whether anything could be.
fn take_away(wrong: &[Problem], sources: &mut Sources, told: &mut Told) -> bool {
    let before = sources.environment.len();
    for problem in wrong.iter().filter(|problem| problem.path() == "environment") {
        first_word(problem).and_then(|name| sources.environment.remove(name));
    }
    let mut is_less = sources.environment.len() < before;
    if let Some(file) = &mut sources.file {
        for problem in wrong {
            let lines = match problem.span() {
                Some(at) => setting_at(&file.bytes, at.line),
                None if problem.code() == "file.encoding" => first_garbled(&file.bytes),
                None => None,
            };
            let Some(lines) = lines else { continue };
            file.bytes = without(&file.bytes, lines, told);
            is_less = true;
        }
    }
    is_less
}

/// The same with empty lines in the place of these, so that all others stay where they are. Lines count from 1.
fn without(bytes: &[u8], lines: Range<usize>, told: &mut Told) -> Vec<u8> {
    let kept = bytes.split(|byte| *byte == b'\n').zip(1..).map(|(line, at)| {
        if !lines.contains(&at) {
            return line;
        }
        told.leave_out(&String::from_utf8_lossy(line));
        &[]
    });
    kept.collect::<Vec<&[u8]>>().join(&b'\n')
}

/// The first line that is not UTF-8.
fn first_garbled(bytes: &[u8]) -> Option<Range<usize>> {
    let mut lines = bytes.split(|byte| *byte == b'\n').zip(1..);
    let (_, at) = lines.find(|(line, _)| std::str::from_utf8(line).is_err())?;
    Some(at..at + 1)
}

/// The lines of the whole setting that a line is a part of; of `providers`, those of the one provider. What is left of a
/// setting without one of its lines would be wrong in another way.
fn setting_at(bytes: &[u8], line: usize) -> Option<Range<usize>> {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.split('\n').collect();
    // The item of a list may stand right below its name, and so may what closes a map. Empty lines and comments belong
    // to what is around them.
    let depth = |line: &&str| {
        let written = line.trim_start_matches(' ');
        let is_item = written.starts_with("- ");
        let says = !written.trim().is_empty() && !written.starts_with(['#', '}', ']']);
        says.then_some(line.len() - written.len() + usize::from(is_item))
    };
    let is_providers = |line: &str| line.trim_end() == "providers:";
    let at = line.checked_sub(1)?;
    let mut least = depth(lines.get(at)?)?;
    let mut first = at;
    for above in (0..at).rev() {
        match depth(&lines[above]) {
            Some(0) if least > 0 && lines[above].split('#').next().is_some_and(is_providers) => break,
            Some(depth) if depth < least => (first, least) = (above, depth),
            Some(_) | None => {}
        }
    }
    let below = lines[at + 1..].iter().take_while(|line| depth(line).is_none_or(|depth| depth > least));
    Some(first + 1..at + 2 + below.count())
}

/// What a file and an environment set that are not this process's: without what is wrong with them, which is told
/// elsewhere.
pub fn readable(file: Option<&SourceFile>, environment: &BTreeMap<String, String>) -> Settings {
    lenient(&file.cloned(), environment, &mut Told::default())
}

fn defaults() -> Settings {
    Settings::read(&Sources::default()).expect("the defaults are settings: a test of `settings` reads them")
}

/// Whether what is missing is there, and wrong: that is told already.
fn is_left_out(missing: &Problem, left_out: &[String]) -> bool {
    first_word(missing).is_some_and(|name| left_out.iter().any(|out| out == name))
}

fn first_word(problem: &Problem) -> Option<&str> {
    problem.of_setting()
}

/// A problem of a setting, or of `.env`.
pub fn of_problem(problem: &Problem) -> Finding {
    let place = match (problem.span(), problem.path()) {
        (Some(at), file) => format!("{file}:{}:{}: ", at.line, at.column),
        (None, "environment") => String::new(),
        (None, file) => format!("{file}: "),
    };
    let message = format!("{place}{}{}", problem.message(), unchecked(problem));
    let finding = match (problem.is_error(), problem.code()) {
        (true, _) => Finding::error("settings.read", message).causes(NO_START),
        (false, "setting.http") => Finding::warning("settings.odd", message)
            .causes("31922: a stream's address must begin with wss://"),
        (false, _) => Finding::warning("settings.odd", message),
    };
    finding.fix(match (&problem.fix(), problem.code()) {
        (Some(help), _) => help.clone(),
        (None, "file.unreadable") => {
            "have whoever runs the program be able to read that file, or take it away".to_owned()
        }
        (None, "setting.double") => "take one of the two away".to_owned(),
        (None, _) if place.is_empty() => {
            "write it so where it is set, in `.env` or the environment; or take it out there".to_owned()
        }
        (None, _) => "write it so at that place, or take it out there".to_owned(),
    })
}

fn of_missing(problem: &Problem) -> Finding {
    let finding = Finding::error("settings.missing", format!("{}{}", problem.message(), unchecked(problem)))
        .causes("`switchboard serve` does not start, so nobody answers: Twilio tells of 11200");
    let mut fix = problem.fix().unwrap_or_else(|| "set it in `.env`".to_owned());
    fix.push_str(match problem.of_setting() {
        Some("TWILIO_AUTH_TOKEN") => "; write it into `.env`, as TWILIO_AUTH_TOKEN=…",
        _ => "",
    });
    finding.fix(fix)
}

/// What cannot be looked at for want of this setting.
fn unchecked(problem: &Problem) -> &'static str {
    match (problem.is_error(), problem.of_setting()) {
        (true, Some("PUBLIC_URL")) => "; the public address, the signature and the stream cannot be checked",
        (true, Some("TWILIO_AUTH_TOKEN")) => "; the signature cannot be checked",
        _ => "",
    }
}

/// What comes of secrets that do not look as they should.
fn secrets(settings: &Settings) -> Vec<Finding> {
    let odd = settings.odd_secrets().into_iter().map(|odd| {
        let severity = if odd.harmless { Severity::Warning } else { Severity::Error };
        let finding = Finding::of("settings.secret", severity, odd.message);
        let finding = match odd.setting {
            _ if odd.hopeless => finding.causes(NO_START),
            "METRICS_TOKEN" => finding,
            "TWILIO_AUTH_TOKEN" if odd.harmless => finding.causes(
                "none where another entry is Twilio's token; otherwise 403 for each of its requests (11200)",
            ),
            "OPENAI_API_KEY" | "providers" if odd.harmless => finding
                .causes("none where whoever answers takes any key, or another provider answers all calls; otherwise they end \
                 `model.refused`"),
            "TWILIO_AUTH_TOKEN" => finding.causes(REFUSED),
            "OPENAI_API_KEY" | "providers" => finding.causes(NO_MODEL),
            _ => finding.causes(NO_ACCOUNT),
        };
        finding.fix(odd.help)
    });
    odd.collect()
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
    match tls::client_config(true, bundle) {
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
            tls::client_config(false, bundle)
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
        let mut told = Told::default();
        let settings = lenient(&None, &environment, &mut told);
        (settings, told.findings)
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
    fn a_secret_with_which_calls_may_work_is_no_error() {
        let two = format!("{TOKEN},hunter2");
        let elsewhere = ("OPENAI_REALTIME_URL", "ws://127.0.0.1:9");
        for (what, variables, severity) in [
            ("any word elsewhere", vec![("OPENAI_API_KEY", "placeholder"), elsewhere], Severity::Warning),
            ("no key of OpenAI's", vec![("OPENAI_API_KEY", "hunter2-value")], Severity::Error),
            ("one good token", vec![("TWILIO_AUTH_TOKEN", &*two)], Severity::Warning),
            ("no good token", vec![("TWILIO_AUTH_TOKEN", "hunter1,hunter2")], Severity::Error),
        ] {
            let found = secrets(&read_with(&variables).0);
            assert!(!found.is_empty(), "{what}");
            let every_call = |finding: &Finding| {
                finding.cause.as_ref().is_some_and(|cause| [REFUSED, NO_MODEL].contains(&&**cause))
            };
            let is_error = severity == Severity::Error;
            let fits = |finding: &Finding| finding.severity == severity && every_call(finding) == is_error;
            assert!(found.iter().all(fits), "{what}: {found:?}");
        }
        let file =
            SourceFile::new("switchboard.yaml", "providers: { house: { url: \"wss://voice.example.com\" } }");
        let environment = [("OPENAI_API_KEY".to_owned(), "sk-…".to_owned())].into();
        let settings = Settings::read(&Sources { file: Some(file), environment }).unwrap();
        assert_eq!(secrets(&settings)[0].severity, Severity::Warning, "another provider may answer all");
        let file = "providers: { house: { url: \"ws://127.0.0.1:9\", key: placeholder } }";
        let file = Some(SourceFile::new("switchboard.yaml", file));
        let settings = Settings::read(&Sources { file, environment: Default::default() }).unwrap();
        assert_eq!(secrets(&settings)[0].severity, Severity::Warning, "a server may take any word");
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
        let mut told = Told::default();
        let found = lines(b"A=1\nwhat is this\nB=2\nand this\n".to_vec(), &mut told);
        assert_eq!(found, [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())]);
        let findings = told.findings;
        assert_eq!(findings.len(), 2);
        assert!(findings[0].message.starts_with(".env:2:1: "), "{findings:?}");
    }

    /// What is told, in the order in which it is.
    fn messages(told: &Told) -> Vec<&str> {
        told.findings.iter().map(|finding| finding.message.as_str()).collect()
    }

    #[test]
    fn what_a_wrong_line_hid_is_told_too() {
        let mut told = Told::default();
        let text = b"# caf\xe9\nTWILIO_AUTH_TOKEN abc\nB=2\nGREETING=caf\xe9\nC=3\n";
        let found = lines(text.to_vec(), &mut told);
        assert_eq!(found, [("B".to_owned(), "2".to_owned()), ("C".to_owned(), "3".to_owned())]);
        let [first, second, third] = messages(&told)[..] else { panic!("{:?}", messages(&told)) };
        assert!(first.starts_with(".env:1:1: this line holds bytes that are not UTF-8"), "{first}");
        assert_eq!(told.findings[0].fix.as_deref(), Some("save the file as UTF-8"));
        assert!(second.starts_with(".env:4:1: this line holds bytes that are not UTF-8"), "{second}");
        assert!(third.starts_with(".env:2:1: this line has no `=`"), "{third}");
        assert!(
            ["TWILIO_AUTH_TOKEN", "GREETING"].iter().all(|name| told.left_out.iter().any(|out| out == name))
        );
    }

    /// The settings that are left of `switchboard.yaml`, and what is told of the others.
    fn left_of(file: &[u8], variables: &[(&str, &str)]) -> (Settings, Told) {
        let environment =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut told = Told::default();
        let file = Some(SourceFile::new("switchboard.yaml", file));
        (lenient(&file, &environment, &mut told), told)
    }

    #[test]
    fn of_the_file_only_errors_are_left_out_and_each_is_told() {
        let file = b"# caf\xe9\nmax_calls: many\npublic_url: http://phone.example.com\nstate_dir: caf\xe9\nport: 6060\n\
            drain_seconds: \"${DRAIN}\"\n";
        let (settings, told) = left_of(file, &[("DRAIN", "long")]);
        let told_of = |words: &str| messages(&told).iter().filter(|message| message.contains(words)).count();
        for words in
            ["line 1 holds bytes", "line 4 holds bytes", "yaml:2:12: MAX_CALLS", "yaml:6:16: DRAIN_SECONDS"]
        {
            assert_eq!(told_of(words), 1, "{words}: {:?}", messages(&told));
        }
        assert_eq!(told.findings.len(), 4, "{:?}", messages(&told));
        assert_eq!(settings.public_url.as_deref(), Some("http://phone.example.com"));
        assert_eq!(settings.warnings[0].code(), "setting.http", "it is told as what it is");
        assert_eq!((settings.port, settings.state_dir), (6060, None));
    }

    #[test]
    fn a_setting_is_left_out_whole_and_once() {
        let providers =
            b"providers:\n  # Ours.\n  switchboard:\n    url: ftp://house.example.com\n    key: any\n\n  \
            azure:\n    url: wss://azure.example.com\nprot:\n- 1\n- 2\nport: 6060\n";
        let (settings, told) = left_of(providers, &[]);
        assert_eq!(told.findings.len(), 2, "nothing comes of what is missing since: {:?}", messages(&told));
        let names: Vec<&str> = settings.named_providers.iter().map(|provider| &*provider.name).collect();
        assert_eq!((names, settings.port), (vec!["azure"], 6060));
        let braces = b"providers: { house: {\n    url: ftp://house.example.com\n} }\nport: 6060\n";
        let (settings, told) = left_of(braces, &[]);
        assert_eq!((messages(&told).len(), settings.port), (1, 6060), "{:?}", messages(&told));
        // What the file sets in place of what was wrong in the environment may be wrong as well.
        let (settings, told) = left_of(b"port: few\nmax_calls: 7\n", &[("PORT", "many")]);
        let [first, second] = messages(&told)[..] else { panic!("{:?}", messages(&told)) };
        assert!(
            first.starts_with("PORT must be") && second.starts_with("switchboard.yaml:1:7: PORT must be")
        );
        assert_eq!((settings.port, settings.max_calls), (5050, 7));
        // No line is to blame: what the environment sets stays.
        let (settings, told) = left_of(b"- port\n", &[("PORT", "many"), ("MAX_CALLS", "7")]);
        assert_eq!((told.findings.len(), settings.port, settings.max_calls), (2, 5050, 7));
        // The parser stumbles over each line after an open quote; one of them is told.
        let (settings, told) =
            left_of(b"port: 6060\nrust_log: \"info\nstate_dir: \"x\"\nhost: \"::\"\n", &[]);
        assert_eq!(told.findings.len(), 1, "{:?}", messages(&told));
        assert!(
            ["RUST_LOG", "STATE_DIR", "HOST"].iter().any(|name| told.left_out.iter().any(|out| out == name))
        );
        assert!([5050, 6060].contains(&settings.port));
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
