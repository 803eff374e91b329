//! Which alerts the owner gets, and when: once for each change, and not all the time.
//!
//! It knows no clock: every question brings the time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::settings::AlertKind;

/// The least time between two alerts of a kind. That something is well again is not one of them.
pub const PAUSE: Duration = Duration::from_secs(10 * 60);
/// The most things that are known of a kind. They are providers and assistants, so there are never so many.
const MOST: usize = 1_000;

/// How something is, or what happened to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is wrong from now on.
    Wrong,
    /// It is well.
    Well,
    /// It happened, and nothing follows from it.
    Happened,
}

/// What the owner hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    pub kind: AlertKind,
    /// What it is about, such as a provider's name. Empty: there is only one.
    pub subject: String,
    /// More about it: codes and figures, nothing personal.
    pub detail: String,
    /// It is well again.
    pub well: bool,
    /// How often it happened since the last alert; at least 1.
    pub times: u64,
    /// When this alert, or the one that it takes back, became due, since the engine began.
    pub since: Duration,
}

/// What is known of one thing.
#[derive(Debug, Default)]
struct Thing {
    wrong: bool,
    /// When the owner heard that it is wrong. `None`: the owner did not, or heard that it is well.
    told: Option<Duration>,
    /// How often it happened since the owner heard of it.
    times: u64,
    detail: String,
}

/// See the module.
pub struct Engine {
    when: Vec<AlertKind>,
    began: Instant,
    things: BTreeMap<(AlertKind, String), Thing>,
    /// The last alert of each kind.
    last: BTreeMap<AlertKind, Instant>,
}

impl Engine {
    /// For these kinds of alerts.
    pub fn new(when: Vec<AlertKind>, now: Instant) -> Self {
        Self { when, began: now, things: BTreeMap::new(), last: BTreeMap::new() }
    }

    /// Learns how something is. The same again changes nothing.
    pub fn report(&mut self, kind: AlertKind, subject: &str, state: State, detail: &str) {
        if !self.when.contains(&kind) {
            return;
        }
        let key = (kind, subject.to_owned());
        if state == State::Well && !self.things.contains_key(&key) {
            return;
        }
        if self.things.len() >= MOST && !self.things.contains_key(&key) {
            return;
        }
        let thing = self.things.entry(key).or_default();
        match state {
            State::Wrong => {
                if !thing.wrong {
                    thing.detail = detail.to_owned();
                }
                thing.wrong = true;
            }
            State::Well => thing.wrong = false,
            State::Happened => {
                thing.times = thing.times.saturating_add(1);
                thing.detail = detail.to_owned();
            }
        }
    }

    /// Learns that these are wrong, and that everything else of this kind is well.
    pub fn only<'a>(&mut self, kind: AlertKind, wrong: impl IntoIterator<Item = &'a str>) {
        let wrong: BTreeSet<&str> = wrong.into_iter().collect();
        let of_kind = self.things.iter_mut().filter(|((other, _), _)| *other == kind);
        for ((_, subject), thing) in of_kind {
            thing.wrong &= wrong.contains(subject.as_str());
        }
        wrong.into_iter().for_each(|subject| self.report(kind, subject, State::Wrong, ""));
    }

    /// What the owner is to hear now.
    pub fn due(&mut self, now: Instant) -> Vec<News> {
        self.news(now, false)
    }

    /// The same without pauses: there will be no later.
    pub fn last_words(&mut self, now: Instant) -> Vec<News> {
        self.news(now, true)
    }

    /// When [`Self::due`] has something that it has not now.
    pub fn deadline(&self) -> Option<Instant> {
        let waits = self.things.iter().filter(|(_, thing)| thing.is_news() || thing.is_well_again());
        waits.map(|((kind, _), _)| self.free(*kind).unwrap_or(self.began)).min()
    }

    /// When the pause of this kind is over.
    fn free(&self, kind: AlertKind) -> Option<Instant> {
        self.last.get(&kind).map(|last| *last + PAUSE)
    }

    fn news(&mut self, now: Instant, at_once: bool) -> Vec<News> {
        let mut news = Vec::new();
        let began = now.saturating_duration_since(self.began);
        // Several at a time of one kind are one change, such as two providers behind one cable.
        let free: Vec<AlertKind> = AlertKind::ALL
            .into_iter()
            .filter(|kind| at_once || self.free(*kind).is_none_or(|free| free <= now))
            .collect();
        for ((kind, subject), thing) in &mut self.things {
            let mut say = |thing: &Thing, well, since| {
                let (subject, detail) = (subject.clone(), thing.detail.clone());
                news.push(News { kind: *kind, subject, detail, well, times: thing.times.max(1), since });
            };
            if thing.is_well_again() {
                if let Some(told) = thing.told.take().filter(|_| kind.recovers()) {
                    say(thing, true, told);
                }
            } else if thing.is_news() && free.contains(kind) {
                say(thing, false, began);
                thing.told = thing.wrong.then_some(began);
                thing.times = 0;
                self.last.insert(*kind, now);
            }
        }
        self.things.retain(|_, thing| thing.wrong || thing.times > 0 || thing.told.is_some());
        news
    }
}

impl Thing {
    /// The owner does not know yet what is wrong, or what happened.
    fn is_news(&self) -> bool {
        (self.wrong && self.told.is_none()) || self.times > 0
    }

    /// The owner knows that it was wrong.
    fn is_well_again(&self) -> bool {
        !self.wrong && self.told.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AlertKind::{MessageFailed, ProviderDown, Quota};
    use State::{Happened, Well, Wrong};

    /// An engine for every kind, and its clock.
    struct Desk {
        engine: Engine,
        start: Instant,
    }

    impl Desk {
        fn new() -> Self {
            let start = Instant::now();
            Self { engine: Engine::new(AlertKind::ALL.to_vec(), start), start }
        }

        fn report(&mut self, kind: AlertKind, subject: &str, state: State) -> &mut Self {
            self.engine.report(kind, subject, state, "");
            self
        }

        /// What is due after so many seconds: subject, whether it is well, and how often it happened.
        fn at(&mut self, seconds: u64) -> Vec<(String, bool, u64)> {
            let news = self.engine.due(self.start + Duration::from_secs(seconds));
            news.into_iter().map(|news| (news.subject, news.well, news.times)).collect()
        }

        fn deadline(&self) -> Option<u64> {
            self.engine.deadline().map(|at| at.saturating_duration_since(self.start).as_secs())
        }
    }

    fn wrong(subject: &str) -> Vec<(String, bool, u64)> {
        vec![(subject.to_owned(), false, 1)]
    }

    fn well(subject: &str) -> Vec<(String, bool, u64)> {
        vec![(subject.to_owned(), true, 1)]
    }

    #[test]
    fn a_change_is_news_once_and_so_is_that_it_is_well_again() {
        let mut desk = Desk::new();
        desk.report(ProviderDown, "openai", Well);
        assert_eq!((desk.at(0), desk.deadline()), (vec![], None), "it was never wrong");
        desk.report(ProviderDown, "openai", Wrong).report(ProviderDown, "openai", Wrong);
        assert_eq!(desk.at(1), wrong("openai"));
        desk.report(ProviderDown, "openai", Wrong);
        assert_eq!((desk.at(2), desk.at(100_000)), (vec![], vec![]), "it is wrong still");
        desk.report(ProviderDown, "openai", Well);
        assert_eq!(desk.at(100_001), well("openai"));
        desk.report(ProviderDown, "openai", Well);
        assert_eq!(desk.at(200_000), []);
    }

    #[test]
    fn between_two_alerts_of_a_kind_is_a_pause_in_which_changes_cancel_out() {
        let mut desk = Desk::new();
        assert_eq!(desk.report(ProviderDown, "openai", Wrong).at(0), wrong("openai"));
        assert_eq!(desk.report(ProviderDown, "openai", Well).at(5), well("openai"));
        // Down again: the owner hears of it after the pause, if it is down then.
        assert_eq!(desk.report(ProviderDown, "openai", Wrong).at(10), []);
        assert_eq!(desk.deadline(), Some(600));
        assert_eq!(desk.report(ProviderDown, "openai", Well).at(20), []);
        assert_eq!((desk.at(700), desk.deadline()), (vec![], None), "nobody heard that it was down");
        desk.report(ProviderDown, "openai", Wrong).report(ProviderDown, "house", Wrong);
        assert_eq!(desk.at(701).len(), 2, "both are down at once");
        assert_eq!(desk.report(ProviderDown, "spare", Wrong).at(800), []);
        // Another kind has a pause of its own.
        assert_eq!(desk.report(Quota, "openai", Wrong).at(801), wrong("openai"));
        assert_eq!(desk.at(701 + 600), wrong("spare"));
    }

    #[test]
    fn what_happens_often_is_counted_until_the_pause_is_over() {
        let mut desk = Desk::new();
        assert_eq!(desk.report(MessageFailed, "clinic", Happened).at(0), wrong("clinic"));
        for second in 1..5 {
            assert_eq!(desk.report(MessageFailed, "clinic", Happened).at(second), []);
        }
        assert_eq!(desk.deadline(), Some(600));
        assert_eq!(desk.at(600), [("clinic".to_owned(), false, 4)]);
        assert_eq!((desk.at(10_000), desk.deadline()), (vec![], None));
    }

    #[test]
    fn not_every_kind_has_an_all_clear_and_only_what_was_asked_for_is_news() {
        let mut desk = Desk::new();
        assert_eq!(desk.report(Quota, "openai", Wrong).at(0), wrong("openai"));
        assert_eq!(desk.report(Quota, "openai", Well).at(1), []);
        assert_eq!(desk.report(Quota, "openai", Wrong).at(700), wrong("openai"), "used up once more");
        desk.engine.when = vec![MessageFailed];
        assert_eq!(desk.report(ProviderDown, "openai", Wrong).at(701), []);
    }

    #[test]
    fn what_is_not_among_the_wrong_is_well() {
        let mut desk = Desk::new();
        desk.engine.only(ProviderDown, ["openai", "house"]);
        assert_eq!(desk.at(0).len(), 2);
        desk.engine.only(Quota, []);
        desk.engine.only(ProviderDown, ["house"]);
        assert_eq!(desk.at(1), well("openai"));
        desk.engine.only(ProviderDown, []);
        assert_eq!(desk.at(2), well("house"));
    }

    #[test]
    fn at_the_end_nothing_waits_for_a_pause() {
        let mut desk = Desk::new();
        desk.report(MessageFailed, "", Happened).at(0);
        desk.report(MessageFailed, "", Happened);
        let last = desk.engine.last_words(desk.start + Duration::from_secs(1));
        assert_eq!(last.len(), 1);
        assert!(desk.engine.last_words(desk.start).is_empty());
    }
}
