//! The ways to owners: the mail server, and what the files ask for that this server cannot do.

use super::Findings;
use crate::assistant::Roster;
use crate::assistant::plan::Mailbox;
use crate::disk;
use crate::link::mail::BadMailer;
use crate::notice::Purpose;
use crate::problem::Problem;
use crate::problem::catalogue::{Delivery, Setting};
use crate::serve;
use crate::settings::{Need, Settings};

/// What is wrong with the settings of the mail server, without asking it.
pub fn wrong(settings: &Settings) -> Option<Problem> {
    let why = serve::mailer(settings).err()?;
    let name = match why {
        BadMailer::From => "SMTP_FROM",
        _ => "SMTP_URL",
    };
    Some(Problem::setting(name, Setting::MailServer { error: why.to_string() }))
}

/// Logs in at the mail server. No mail is sent.
pub async fn probe(settings: &Settings) -> Findings {
    // One that is wrong is reported with the settings.
    let Ok(Some(mailer)) = serve::mailer(settings) else { return Vec::new().into() };
    let found = match mailer.probe().await {
        Ok(()) => Delivery::MailGood,
        Err(why) => Delivery::MailFailed { error: why.to_string(), help: why.help() },
    };
    vec![Problem::setting("SMTP_URL", found)].into()
}

/// What the files and `alerts` ask for, and this server cannot do.
pub fn deliveries(settings: &Settings, roster: &Roster) -> Vec<Problem> {
    let mut problems = Vec::new();
    let has_account = settings.twilio_account_sid.is_some() && settings.missing(Need::Account).is_empty();
    let has_folder = settings.state_dir.as_deref().is_some_and(|dir| disk::try_to_write(dir).is_ok());
    let mut judge = |what: String, to: &Mailbox| {
        if to.email.is_some() && settings.smtp_url.is_none() {
            problems.push(Problem::setting("SMTP_URL", Delivery::NoMailServer { what: what.clone() }));
        }
        if to.sms.is_some() && !has_account {
            let found = Delivery::NoAccount { what: what.clone() };
            problems.push(Problem::setting("TWILIO_ACCOUNT_SID", found));
        }
        if to.file.is_some() && !has_folder {
            problems.push(Problem::setting("STATE_DIR", Delivery::NoFolder { what }));
        }
    };
    for assistant in roster.iter() {
        let name = assistant.name();
        for (purpose, words) in [(Purpose::Message, "messages"), (Purpose::Notification, "notifications")] {
            if let Some(to) = serve::mailbox(roster, name, purpose) {
                judge(format!("{words} of `{name}`"), &to);
            }
        }
    }
    if let Some(alerts) = &settings.alerts {
        judge("alerts".to_owned(), &alerts.to);
        let has_number = roster.iter().any(|assistant| !assistant.numbers().is_empty());
        if alerts.to.sms.is_some() && !has_number {
            problems.push(Problem::setting("TWILIO_ACCOUNT_SID", Delivery::NoSender));
        }
    }
    problems
}
