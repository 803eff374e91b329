//! What was found, and how it is told: a plain list for people, an array for programs, an exit code for both.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::veil::Veil;
use crate::problem;

/// Every name that a finding may have, and what is looked at under it. The word before the dot is the group. Names of
/// numbers are those of [`crate::numbers::Finding::code`], but for the tunnel's.
pub const CHECKS: &[(&str, &str)] = &[
    ("settings.read", "settings, `.env` and `switchboard.yaml` can be read, and hold what they should"),
    ("settings.missing", "what `serve` cannot do without is there"),
    ("settings.odd", "a setting that works and is hardly meant so"),
    ("settings.secret", "keys, tokens and SIDs look as such things look"),
    ("settings.permissions", "`.env` is for its owner's eyes only"),
    ("settings.certificates", "certificates are there to trust by"),
    ("settings.state", "STATE_DIR is a folder that can be written to"),
    ("folder.check", "the folder passes `switchboard check`"),
    ("folder.fetch", "the folder comes from ASSISTANTS_URL"),
    ("folder.numbers", "some number rings some assistant"),
    ("provider.session", "a session of the model begins, as at the start of a call"),
    ("provider.reach", "the provider's address answers, by TLS where it should, as a Realtime server does"),
    ("provider.key", "the provider accepts the key"),
    ("provider.credit", "the provider's account is open and has credit"),
    ("provider.model", "the model is known, and the key may use it"),
    ("provider.shutdown", "the model is not about to be shut down"),
    ("twilio.account", "the account answers by REST, is active and is paid for"),
    ("twilio.credentials", "there are credentials, and Twilio accepts them"),
    ("twilio.reach", "Twilio's REST interface answers"),
    ("number.list", "the account's numbers can be listed and compared"),
    ("number.ok", "a number rings what it should"),
    ("number.not_owned", "the account owns the numbers of the folder"),
    ("number.example", "numbers of the folder that are an example's, which nobody can own"),
    ("number.function_in_front", "it is known where the Function is that stands in front of a number"),
    ("number.no_voice", "a number can be called"),
    ("number.application", "no TwiML application answers in the place of the voice URL"),
    ("number.trunk", "no SIP trunk does"),
    ("number.voice_url", "the voice URL is this server's, or the Function's in front of it"),
    ("number.rings_nobody", "an assistant answers what rings this server"),
    ("number.unanswered", "numbers of the account that are no business of the folder's"),
    ("number.fallback", "the Function that speaks when this server is down is the fallback URL"),
    ("number.no_fallback", "something speaks when this server is down"),
    ("number.status_callback", "the server is told of the ends of calls"),
    ("number.by_get", "the voice URL is asked by POST"),
    ("number.tunnel", "no tunnel that was killed left a number ringing it"),
    ("function.allowlist", "the Function in front answers, and sends callers here"),
    ("function.fallback", "the Function that speaks when this server is down answers"),
    ("public.reach", "PUBLIC_URL can be reached from here"),
    ("public.server", "what answers there is Switchboard, and it takes calls"),
    ("public.slow", "it answers long before Twilio gives up"),
    ("public.signature", "a signed request comes through as it was signed"),
    ("public.stream", "a WebSocket upgrade comes through as one"),
    ("tool.server", "each MCP server can be reached and lists its tools"),
    ("tool.wrapped", "no MCP server lets only one listener in at a time"),
    ("tool.off", "every tool that a file names is to be had"),
    ("clock.skew", "this machine's clock agrees with the others'"),
    ("fly.file", "`fly.toml` can be read"),
    ("fly.app", "the app in `fly.toml` is the owner's own"),
    ("fly.stop", "Fly leaves calls the time that draining takes, and sends a signal that is understood"),
    ("fly.deploy", "a deploy keeps calls alive"),
    ("fly.service", "Fly's proxy reaches the server, checks that it is ready, and does not stop it"),
    ("fly.metrics", "Fly finds the metrics where they are"),
    ("doctor.late", "a check ended in its time"),
    ("doctor.mend", "what `--fix` did"),
];

/// The groups in the order of their checks, with their headings.
const GROUPS: [(&str, &str); 11] = [
    ("settings", "Settings"),
    ("folder", "Assistants"),
    ("provider", "Speech model"),
    ("twilio", "Twilio account"),
    ("number", "Numbers"),
    ("function", "Twilio Functions"),
    ("public", "Public address"),
    ("tool", "Tools"),
    ("clock", "Clock"),
    ("fly", "Fly"),
    ("doctor", "This check-up"),
];

/// How wide the text is, in characters, where no single word is wider.
const WIDTH: usize = 100;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Ok,
    /// Calls go through, and something is missing or about to be.
    Warning,
    /// Calls do not go through, or not as the files say.
    Error,
}

impl Severity {
    /// As it is written everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Ok => "ok",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// One thing that was looked at. No text in it holds a secret, and none but a change a whole phone number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// One of [`CHECKS`]; it does not change with the words.
    pub check: &'static str,
    pub severity: Severity,
    /// What was found; several lines where it lists something.
    pub message: String,
    /// What comes of it: what callers hear, and the errors that Twilio or the model's provider would tell of.
    pub cause: Option<String>,
    /// What to do, with the command where there is one.
    pub fix: Option<String>,
    /// What was changed for it, or was to be: old → new. In full, so that it can be put back.
    pub changes: Vec<String>,
}

/// A finding that does not say yet what to do about it. It is none before it does.
#[must_use]
pub struct Wrong(Finding);

impl Wrong {
    /// The same, with what comes of it.
    pub fn causes(mut self, cause: impl Into<String>) -> Wrong {
        self.0.cause = Some(problem::masked(&cause.into()));
        self
    }

    /// With what to do.
    pub fn fix(self, fix: impl Into<String>) -> Finding {
        self.0.fix(fix)
    }
}

impl Finding {
    /// A finding of this severity. What stands in `message` may come from others: control characters and phone
    /// numbers do not survive.
    fn new(check: &'static str, severity: Severity, message: impl Into<String>) -> Finding {
        debug_assert!(CHECKS.iter().any(|(known, _)| *known == check), "`{check}` is not in CHECKS");
        Finding {
            check,
            severity,
            message: problem::masked(&message.into()),
            cause: None,
            fix: None,
            changes: Vec::new(),
        }
    }

    pub fn ok(check: &'static str, message: impl Into<String>) -> Finding {
        Finding::new(check, Severity::Ok, message)
    }

    pub fn warning(check: &'static str, message: impl Into<String>) -> Wrong {
        Wrong(Finding::new(check, Severity::Warning, message))
    }

    pub fn error(check: &'static str, message: impl Into<String>) -> Wrong {
        Wrong(Finding::new(check, Severity::Error, message))
    }

    /// A finding of any severity, by whoever has it say what to do also where nothing has to be done.
    pub fn of(check: &'static str, severity: Severity, message: impl Into<String>) -> Wrong {
        Wrong(Finding::new(check, severity, message))
    }

    /// The same, with what to do.
    pub fn fix(mut self, fix: impl Into<String>) -> Finding {
        self.fix = Some(problem::masked(&fix.into()));
        self
    }

    /// The same, with what was changed, or was to be.
    pub fn changing(mut self, changes: Vec<String>) -> Finding {
        self.changes = changes;
        self
    }

    /// The same, without what nobody may see.
    pub fn veiled(mut self, veil: &Veil) -> Finding {
        self.message = veil.hide(&self.message);
        self.cause = self.cause.map(|cause| veil.hide(&cause));
        self.fix = self.fix.map(|fix| veil.hide(&fix));
        self.changes.iter_mut().for_each(|change| *change = veil.hide_whole(change));
        self
    }

    fn group(&self) -> &'static str {
        self.check.split('.').next().unwrap_or(self.check)
    }

    fn json(&self) -> Value {
        let mut written = json!({
            "check": self.check,
            "severity": self.severity.name(),
            "message": self.message,
        });
        for (name, text) in [("cause", &self.cause), ("fix", &self.fix)] {
            if let Some(text) = text {
                written[name] = text.as_str().into();
            }
        }
        if !self.changes.is_empty() {
            written["changes"] = self.changes.as_slice().into();
        }
        written
    }
}

/// The exit code that findings deserve: 1 with an error, and where `strict`, also with a warning.
pub fn is_fine(findings: &[Finding], strict: bool) -> bool {
    let worst = findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok);
    worst == Severity::Ok || (worst == Severity::Warning && !strict)
}

/// An array of objects `{"check","severity","message","cause"?,"fix"?,"changes"?}`, in the order of the groups.
pub fn json(findings: &[Finding]) -> String {
    let all: Vec<Value> = grouped(findings).into_values().flatten().map(|finding| finding.json()).collect();
    format!("{:#}\n", Value::from(all))
}

/// What a person reads: grouped, aligned, in plain signs, and at the end how it stands.
pub fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for (group, findings) in grouped(findings) {
        let title = GROUPS.get(group).map_or("Others", |(_, title)| *title);
        text.push_str(&format!("{title}\n"));
        for finding in findings {
            let label = finding.severity.name();
            text.push_str(&paragraph(&format!("  {label:<9}"), &finding.message));
            // To be copied, so each in one line.
            for (at, change) in finding.changes.iter().enumerate() {
                let label = if at == 0 { "change" } else { "" };
                text.push_str(&format!("           {label:<9}{change}\n"));
            }
            for (label, words) in [("causes", &finding.cause), ("to mend", &finding.fix)] {
                if let Some(words) = words {
                    text.push_str(&paragraph(&format!("           {label:<9}"), words));
                }
            }
        }
        text.push('\n');
    }
    text.push_str(&summary(findings));
    text
}

/// One line that says how it stands.
fn summary(findings: &[Finding]) -> String {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let of = |count: usize, what: &str| match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    let fine = count(Severity::Ok);
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    format!("{}, {}, {fine} fine.\n", of(errors, "error"), of(warnings, "warning"))
}

/// By the place of their group; within one, as they came.
fn grouped(findings: &[Finding]) -> BTreeMap<usize, Vec<&Finding>> {
    let mut groups: BTreeMap<usize, Vec<&Finding>> = BTreeMap::new();
    for finding in findings {
        let at = GROUPS.iter().position(|(name, _)| *name == finding.group());
        groups.entry(at.unwrap_or(GROUPS.len())).or_default().push(finding);
    }
    groups
}

/// Words behind a label, in lines that begin below each other. What stands in backticks is to be copied, and stays
/// in one line.
fn paragraph(label: &str, words: &str) -> String {
    let indent = label.chars().count();
    let mut out = label.to_owned();
    for (number, line) in words.lines().enumerate() {
        if number > 0 {
            out.push_str(&format!("\n{:indent$}", ""));
        }
        let mut column = indent;
        for word in unbroken(line) {
            let width = word.chars().count();
            if column > indent && column + 1 + width > WIDTH {
                out.push_str(&format!("\n{:indent$}", ""));
                column = indent;
            } else if column > indent {
                out.push(' ');
                column += 1;
            }
            out.push_str(&word);
            column += width;
        }
    }
    out.push('\n');
    out
}

/// The words of a line; a stretch in backticks is one word.
fn unbroken(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut quoted = false;
    for word in line.split(' ').filter(|word| !word.is_empty()) {
        let within = quoted;
        quoted ^= word.matches('`').count() % 2 == 1;
        match words.last_mut() {
            Some(last) if within => {
                last.push(' ');
                last.push_str(word);
            }
            _ => words.push(word.to_owned()),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Vec<Finding> {
        vec![
            Finding::warning("fly.stop", "kill_signal is not set").fix("write `kill_signal = \"SIGTERM\"`"),
            Finding::ok("settings.read", "all settings can be read"),
            Finding::error("provider.key", "it does not accept the key")
                .causes("model.refused")
                .fix("set OPENAI_API_KEY"),
        ]
    }

    #[test]
    fn the_text_is_grouped_aligned_and_narrow() {
        let long = "word ".repeat(40) + "`a command that is to be copied and therefore stays together` end";
        let mut findings = some();
        findings.push(Finding::ok("folder.check", format!("two\nlines\n{long}")));
        let text = text(&findings);
        insta::assert_snapshot!(text);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH && line.trim_end() == line));
    }

    #[test]
    fn the_array_has_stable_keys_and_leaves_out_what_is_not_there() {
        let parsed: Value = serde_json::from_str(&json(&some())).unwrap();
        assert_eq!(
            parsed,
            json!([
                {"check": "settings.read", "severity": "ok", "message": "all settings can be read"},
                {"check": "provider.key", "severity": "error", "message": "it does not accept the key",
                 "cause": "model.refused", "fix": "set OPENAI_API_KEY"},
                {"check": "fly.stop", "severity": "warning", "message": "kill_signal is not set",
                 "fix": "write `kill_signal = \"SIGTERM\"`"},
            ])
        );
    }

    #[test]
    fn the_worst_finding_decides_and_strict_counts_warnings() {
        let [warning, ok, error] = some().try_into().unwrap();
        for (what, findings, fine, strictly) in [
            ("nothing", vec![], true, true),
            ("fine", vec![ok.clone()], true, true),
            ("a warning", vec![ok.clone(), warning.clone()], true, false),
            ("an error", vec![warning, error, ok], false, false),
        ] {
            assert_eq!((is_fine(&findings, false), is_fine(&findings, true)), (fine, strictly), "{what}");
        }
    }

    #[test]
    fn every_check_has_a_group_and_a_name_of_its_own() {
        for (at, (check, _)) in CHECKS.iter().enumerate() {
            let group = check.split('.').next().unwrap();
            assert!(GROUPS.iter().any(|(name, _)| *name == group), "{check}");
            assert!(CHECKS[..at].iter().all(|(other, _)| other != check), "{check} stands twice");
        }
    }

    #[test]
    fn what_others_say_writes_no_lines_and_no_numbers() {
        let finding = Finding::ok("public.server", "`\u{1b}[31m` from +15550100001");
        assert_eq!(finding.message, "`?[31m` from +1555*****01");
    }
}
