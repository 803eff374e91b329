//! Alerts: the owner hears what is wrong with the server, as `alerts` in the settings says.
//!
//! One task watches the providers, the folder and the store, and takes reports of everything else. `engine` decides what
//! is news. Alerts are delivered like all letters, so they are on a disk before anything is sent.

mod engine;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::engine::{Engine, News, PAUSE};
use crate::assistant::Roster;
use crate::assistant::plan::Reader;
use crate::notice::{self, Alert, Purpose};
use crate::post::{GivenUp, Letter, Post, Taken};
use crate::reload::Standing;
use crate::session::Switchboard;
use crate::settings;
use crate::store::Store;

pub use self::engine::State;
pub use crate::settings::AlertKind;

/// How often the providers and the store are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A store that is away for less time is no news: databases restart.
const STORE_PATIENCE: Duration = Duration::from_secs(5);
/// Reports that may wait. One more is not reported: there are news enough.
const MOST_REPORTS: usize = 256;
/// For how long an alert is kept once nothing more is tried.
const KEEP: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Takes reports. Without `alerts` in the settings, it forgets them.
#[derive(Clone)]
pub struct Reporter(Option<mpsc::Sender<Report>>);

/// How something is.
struct Report {
    kind: AlertKind,
    /// What it is about: the name of a provider or an assistant. Empty: there is only one.
    about: String,
    state: State,
    details: String,
}

impl Reporter {
    /// How something is, or that something happened. `about` is the name of a provider or an assistant, or empty; `details`
    /// are codes and figures. Nothing personal may be in either. Never waits.
    pub fn report(&self, kind: AlertKind, about: &str, state: State, details: &str) {
        let Some(reports) = &self.0 else { return };
        let report = Report { kind, about: about.to_owned(), state, details: details.to_owned() };
        if reports.try_send(report).is_err() {
            tracing::warn!(alert = kind.code(), "Too many reports; there is no alert about this one");
        }
    }
}

impl Reporter {
    /// Something for an owner was given up.
    pub fn given_up(&self, GivenUp { to, error }: &GivenUp) {
        let details = format!(
            "{} by {}: {error}. `switchboard messages list --state given_up` shows all, and `switchboard messages retry` \
             tries them again.",
            to.purpose.code(),
            to.via.code()
        );
        self.report(AlertKind::MessageFailed, &to.assistant, State::Happened, &details);
    }
}

/// The task of the alerts.
pub struct Alerts {
    reporter: Reporter,
    /// A server that fails takes it along.
    task: Option<AbortOnDropHandle<()>>,
    closing: CancellationToken,
}

/// What is watched.
pub struct Watched {
    pub switchboard: Arc<Switchboard>,
    pub standing: watch::Receiver<Standing>,
    pub roster: watch::Receiver<Arc<Roster>>,
    /// `None`: the records go elsewhere.
    pub store: Option<Store>,
}

impl Alerts {
    /// Begins to watch, if the settings have `alerts`.
    pub fn start(settings: Option<settings::Alerts>, post: Post, watched: Watched) -> Self {
        let closing = CancellationToken::new();
        let Some(settings) = settings else { return Self { reporter: Reporter(None), task: None, closing } };
        let (reports_tx, reports) = mpsc::channel(MOST_REPORTS);
        let engine = Engine::new(settings.when.clone(), Instant::now());
        let desk = Desk { settings, post, watched, engine, began: Timestamp::now(), store_since: None };
        let task = AbortOnDropHandle::new(tokio::spawn(desk.run(reports, closing.clone())));
        Self { reporter: Reporter(Some(reports_tx)), task: Some(task), closing }
    }

    pub fn reporter(&self) -> Reporter {
        self.reporter.clone()
    }

    /// Takes what was reported until now, without a pause, and ends.
    pub async fn close(self) {
        self.closing.cancel();
        if let Some(task) = self.task {
            let _ = task.await;
        }
    }
}

/// What the task has.
struct Desk {
    settings: settings::Alerts,
    post: Post,
    watched: Watched,
    engine: Engine,
    /// When the engine began.
    began: Timestamp,
    /// Since when the store has not answered.
    store_since: Option<Instant>,
}

impl Desk {
    async fn run(mut self, mut reports: mpsc::Receiver<Report>, closing: CancellationToken) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.engine.deadline().unwrap_or_else(|| Instant::now() + PAUSE);
            tokio::select! {
                () = closing.cancelled() => break,
                Some(report) = reports.recv() => self.take(&report),
                _ = look.tick() => self.look(),
                () = sleep_until(due) => {}
            }
            for news in self.engine.due(Instant::now()) {
                self.send(&news).await;
            }
        }
        while let Ok(report) = reports.try_recv() {
            self.take(&report);
        }
        for news in self.engine.last_words(Instant::now()) {
            self.send(&news).await;
        }
    }

    fn take(&mut self, Report { kind, about, state, details }: &Report) {
        self.engine.report(*kind, about, *state, details);
    }

    /// Learns how everything is that is watched.
    fn look(&mut self) {
        let state = |wrong| if wrong { State::Wrong } else { State::Well };
        let Watched { switchboard, standing, store, .. } = &self.watched;
        let (providers, credit) = (switchboard.providers(), switchboard.out_of_credit());
        let down = providers.iter().filter(|(_, is_up)| !**is_up).map(|(name, _)| name.as_str());
        self.engine.only(AlertKind::ProviderDown, down);
        let out = credit.iter().filter(|(_, is_out)| **is_out).map(|(name, _)| name.as_str());
        self.engine.only(AlertKind::Quota, out);
        let near = switchboard.limits().days_near().borrow().clone();
        self.engine.only(AlertKind::CostDay80, near.0.iter().map(String::as_str));
        let errors = standing.borrow().problems;
        let details = crate::problem::counted(errors, "error");
        self.engine.report(AlertKind::EditRejected, "", state(errors > 0), &details);
        if let Some(store) = store {
            let now = Instant::now();
            let status = store.status();
            self.store_since = status.is_err().then(|| self.store_since.unwrap_or(now));
            let is_down = self.store_since.is_some_and(|since| now >= since + STORE_PATIENCE);
            if is_down == status.is_err() {
                let why = status.err().map(|why| why.to_string()).unwrap_or_default();
                self.engine.report(AlertKind::StoreDown, "", state(is_down), &why);
            }
        }
    }

    async fn send(&self, news: &News) {
        let News { kind, subject, detail, well, times, .. } = news;
        let id = id(news, self.began);
        let details = match times {
            0 | 1 => detail.clone(),
            times => format!("{detail} ({times} times)").trim_start().to_owned(),
        };
        let content = notice::alert(&Alert {
            id: &id,
            code: kind.code(),
            well: *well,
            about: Some(subject.as_str()).filter(|subject| !subject.is_empty()),
            details: &details,
            at: Timestamp::now(),
            reader: &Reader::default(),
        });
        // An assistant's number sends text messages.
        let called = self.watched.roster.borrow().iter().find_map(|one| one.numbers().first().cloned());
        let taken = self.post.take(Letter {
            id,
            purpose: Purpose::Alert,
            assistant: String::new(),
            call: None,
            caller: None,
            called,
            to: self.settings.to.clone(),
            content,
            keep: KEEP,
        });
        match taken.await {
            Taken::Kept | Taken::Delivered => tracing::warn!(alert = kind.code(), well, "Alerted the owner"),
            Taken::Undelivered | Taken::NoRoom => {
                tracing::error!(alert = kind.code(), well, "The owner may not hear of an alert");
            }
        }
    }
}

/// The same for all machines that notice the same within the pause, so that one database has the alert once. What takes an
/// alert back has its id, too.
fn id(News { kind, subject, well, since, .. }: &News, began: Timestamp) -> String {
    let began = began.as_second().saturating_add_unsigned(since.as_secs());
    let pauses = began / PAUSE.as_secs().cast_signed();
    let hash = Sha256::digest(format!("{}|{subject}|{pauses}", kind.code()));
    let hash: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("alr_{hash}{}", if *well { "_well" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assistant::Folder;
    use crate::assistant::plan::Mailbox;
    use crate::link::tls;
    use crate::notice::Via;
    use crate::session::tests::leaving;
    use crate::store::Recipient;

    /// A desk for every kind of alert, and the standing of its folder. There is no way to the owner.
    fn desk() -> (Desk, watch::Sender<Standing>) {
        let standing = watch::Sender::new(Standing { generation: 1, problems: 0 });
        let (folder, environment) = (Folder::default(), Default::default());
        let roster = Roster::check(&folder, &environment, &[]).roster.unwrap_or_default();
        let watched = Watched {
            switchboard: leaving(true).0,
            standing: standing.subscribe(),
            roster: watch::Sender::new(Arc::new(roster)).subscribe(),
            store: None,
        };
        let tls = tls::client_config(false, None).unwrap();
        let desk = Desk {
            settings: settings::Alerts { to: Mailbox::default(), when: AlertKind::ALL.to_vec() },
            post: Post::new(&tls, None, None, None).unwrap(),
            watched,
            engine: Engine::new(AlertKind::ALL.to_vec(), Instant::now()),
            began: Timestamp::now(),
            store_since: None,
        };
        (desk, standing)
    }

    #[tokio::test]
    async fn a_rejected_edit_and_a_fixed_one_are_news() {
        let (mut desk, standing) = desk();
        let mut news = |problems| {
            standing.send_modify(|standing| standing.problems = problems);
            desk.look();
            let news = desk.engine.due(Instant::now());
            news.into_iter().map(|news| (news.kind, news.well, news.detail)).collect::<Vec<_>>()
        };
        assert_eq!(news(0), []);
        assert_eq!(news(2), [(AlertKind::EditRejected, false, "2 errors".to_owned())]);
        assert_eq!(news(3), []);
        assert_eq!(news(0).first().map(|news| (news.0, news.1)), Some((AlertKind::EditRejected, true)));
    }

    #[tokio::test]
    async fn reports_never_wait_and_say_what_was_given_up() {
        let (reports_tx, mut reports) = mpsc::channel(1);
        let reporter = Reporter(Some(reports_tx));
        let to =
            Recipient { assistant: "clinic".to_owned(), purpose: Purpose::Notification, via: Via::Email };
        for _ in 0..3 {
            reporter.given_up(&GivenUp { to: to.clone(), error: "smtp.550".to_owned() });
        }
        let Report { kind, about, state, details } = reports.recv().await.unwrap();
        assert_eq!((kind, about.as_str(), state), (AlertKind::MessageFailed, "clinic", State::Happened));
        assert!(details.starts_with("notification by email: smtp.550"), "{details}");
        Reporter(None).report(kind, &about, state, &details);
    }

    #[test]
    fn machines_that_notice_the_same_within_the_pause_say_it_once() {
        let news = |seconds, subject: &str, well| News {
            kind: AlertKind::ProviderDown,
            subject: subject.to_owned(),
            detail: String::new(),
            well,
            times: 1,
            since: Duration::from_secs(seconds),
        };
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = id(&news(5, "openai", false), at(6_000));
        assert_eq!(id(&news(500, "openai", false), at(5_990)), first, "another machine");
        assert_ne!(id(&news(5 + 600, "openai", false), at(6_000)), first, "the next one of this machine");
        assert_ne!(id(&news(5, "house", false), at(6_000)), first);
        assert_eq!(id(&news(5, "openai", true), at(6_000)), format!("{first}_well"));
    }
}
