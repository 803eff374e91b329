//! What `--fix` may do, and does: the permissions of `.env`, and what numbers ring at Twilio.

use super::report::{Finding, Severity};
use super::twilio::{self, Mend};
use super::{Examined, settings};
use crate::command::ENV_FILE;
use crate::command::say::complain;
use crate::link::twilio_rest::NotSet;

impl Examined {
    /// How many numbers and files `--fix` mends.
    pub fn mendable(&self) -> usize {
        usize::from(self.open_env_file) + self.settable().map_or(0, <[Mend]>::len)
    }

    /// What `--fix` may set at Twilio, or why it leaves the numbers as they are.
    fn settable(&self) -> Result<&[Mend], Finding> {
        if self.mends.is_empty() {
            return Ok(&[]);
        }
        if self.has_tunnel {
            let message = "the numbers are left as they are: a tunnel is open, and one of them may ring it";
            return Err(Finding::warning("doctor.mend", message)
                .fix("end the tunnel, and run `switchboard doctor --fix` again"));
        }
        // Where nobody would answer, or it is not sure who should answer, a number is better left as it is.
        const IN_THE_WAY: [&str; 5] = ["settings.read", "public.", "function.", "twilio.", "doctor.late"];
        let is_in_the_way = |finding: &&Finding| {
            finding.severity == Severity::Error
                && IN_THE_WAY.iter().any(|part| finding.check.starts_with(part))
        };
        let Some(finding) = self.findings.iter().find(is_in_the_way) else { return Ok(&self.mends) };
        const SETTING: &str = "a setting";
        let what = match finding.check.split('.').next() {
            Some("settings") => SETTING,
            Some("twilio") => "the account",
            _ => "what they would ring",
        };
        let message = format!("the numbers are left as they are: {what} is not right ({})", finding.check);
        let again = "mend that first, and run `switchboard doctor --fix` again";
        Err(Finding::warning("doctor.mend", message).fix(match what {
            // That reads the settings as strictly as the server.
            SETTING => again.to_owned(),
            _ => format!("{again}; or run `switchboard numbers sync --apply`"),
        }))
    }
}

/// Mends what is safe to mend: each thing is shown before it is done.
pub async fn mend(examined: &Examined) -> Vec<Finding> {
    let mut done = Vec::new();
    if examined.open_env_file {
        complain(&format!("Closing {ENV_FILE} to other users of this machine …"));
        done.push(match settings::close_env_file() {
            Ok(()) => {
                Finding::ok("doctor.mend", format!("{ENV_FILE} is closed to other users of this machine"))
            }
            Err(error) => Finding::error("doctor.mend", format!("{ENV_FILE} cannot be closed: {error}"))
                .fix(format!("run `chmod 600 {ENV_FILE}` as its owner")),
        });
    }
    let Some(account) = &examined.account else { return done };
    let mends = match examined.settable() {
        Ok(mends) => mends,
        Err(why) => {
            done.push(why);
            return done;
        }
    };
    for (at, mend) in mends.iter().enumerate() {
        let steps = mend.steps();
        let shown =
            steps.iter().map(|step| format!("\n  {}", examined.veil.hide_whole(step))).collect::<String>();
        complain(&format!("Setting {} …{shown}", mend.told));
        let mended = twilio::mend(account, mend).await;
        // Whatever is tried next would fare no better.
        let is_stopped = matches!(&mended, Err(NotSet::Refused(error)) if error.is_of_all());
        let finding = match mended {
            Ok(()) => Finding::ok("doctor.mend", format!("set at Twilio: {}", mend.told)),
            Err(NotSet::Refused(error)) => {
                let message = format!("not set at Twilio: {}: {error}", mend.told);
                Finding::error("doctor.mend", message).fix(error.help())
            }
            Err(NotSet::NotDone) => {
                let message =
                    format!("not set at Twilio: {}: it took the request, and did not do it", mend.told);
                Finding::error("doctor.mend", message).fix("try again, or set the number in Twilio's console")
            }
        };
        done.push(finding.changing(steps));
        let untried = mends.len() - at - 1;
        if is_stopped && untried > 0 {
            let count =
                if untried == 1 { "1 number was".to_owned() } else { format!("{untried} numbers were") };
            done.push(
                Finding::warning(
                    "doctor.mend",
                    format!("{count} not tried any more: nothing can be set now"),
                )
                .fix("mend that first, and run `switchboard doctor --fix` again"),
            );
        }
        if is_stopped {
            break;
        }
    }
    done
}
