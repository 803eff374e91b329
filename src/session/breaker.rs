//! Which providers are down, so that no ring waits for one of them.
//!
//! A provider that fails a few times in a row is down until it begins a session again: a task of its own tries, with
//! growing pauses. Meanwhile calls begin at the next endpoint of their plan.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use crate::assistant::plan::Plan;
use crate::link::model::probe;
use crate::observe::metrics;
use crate::provider::{Cause, Failure, Provider};

/// So many failures in a row, and a provider is down.
const FAILURES: u32 = 3;
/// Before the first attempt to reach a provider that is down. It doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What all calls know about the providers.
pub(super) struct Breakers {
    tls: Arc<ClientConfig>,
    /// By the provider's name.
    known: Mutex<BTreeMap<String, Breaker>>,
}

/// One provider.
struct Breaker {
    /// In a row, in connecting and in answering.
    failures: u32,
    /// Before the next attempt.
    pause: Duration,
    /// The account had no credit left, and no answer came since.
    no_credit: bool,
    /// Tries to reach the provider; `None`: it is up.
    probing: Option<AbortOnDropHandle<()>>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 0, pause: FIRST_PAUSE, no_credit: false, probing: None }
    }
}

impl Breakers {
    /// All providers are up.
    pub fn new(names: impl IntoIterator<Item = String>, tls: Arc<ClientConfig>) -> Self {
        let known: BTreeMap<String, Breaker> =
            names.into_iter().map(|name| (name, Breaker::default())).collect();
        known.keys().for_each(|name| metrics::provider_up(name, true));
        Self { tls, known: Mutex::new(known) }
    }

    /// The endpoints of a plan in the order in which a call tries them: those that are down come last.
    pub fn order(&self, plan: &Arc<Plan>) -> VecDeque<usize> {
        let known = self.known();
        let is_down = |endpoint: &usize| {
            known.get(&plan.at(*endpoint).provider.name).is_some_and(|breaker| breaker.probing.is_some())
        };
        let mut order: Vec<usize> = (0..plan.endpoints()).collect();
        order.sort_by_key(is_down);
        order.into()
    }

    /// Each provider's name, and whether it is up.
    pub fn standing(&self) -> BTreeMap<String, bool> {
        self.known().iter().map(|(name, breaker)| (name.clone(), breaker.probing.is_none())).collect()
    }

    /// Each provider's name, and whether its account has no credit left.
    pub fn out_of_credit(&self) -> BTreeMap<String, bool> {
        self.known().iter().map(|(name, breaker)| (name.clone(), breaker.no_credit)).collect()
    }

    /// The provider did not begin a session, lost one, or failed to answer: its own fault, and not that of a caller or
    /// a file.
    pub fn failed(self: &Arc<Self>, plan: &Plan, failure: &Failure) {
        let name = &plan.provider.name;
        let mut known = self.known();
        let breaker = known.entry(name.clone()).or_default();
        breaker.no_credit |= failure.cause == Some(Cause::Credit);
        breaker.failures = breaker.failures.saturating_add(1);
        if breaker.failures < FAILURES || breaker.probing.is_some() {
            return;
        }
        let probing = tokio::spawn(until_up(
            Arc::downgrade(self),
            self.tls.clone(),
            plan.provider.clone(),
            plan.model.clone(),
        ));
        breaker.probing = Some(AbortOnDropHandle::new(probing));
        metrics::provider_up(name, false);
        tracing::warn!(provider = name, failures = FAILURES, "The provider is down");
    }

    /// The provider has begun a session. If it does not answer in it, it is down again at once.
    pub fn connected(&self, provider: &str) {
        if let Some(breaker) = self.known().get_mut(provider)
            && breaker.probing.take().is_some()
        {
            breaker.failures = FAILURES - 1;
            is_up(provider);
        }
    }

    /// The provider has given a whole answer.
    pub fn answered(&self, provider: &str) {
        if let Some(breaker) = self.known().get_mut(provider)
            && std::mem::take(breaker).probing.is_some()
        {
            is_up(provider);
        }
    }

    /// How long to wait before the next attempt.
    fn next_pause(&self, provider: &str) -> Duration {
        let mut known = self.known();
        let breaker = known.entry(provider.to_owned()).or_default();
        let pause = breaker.pause;
        breaker.pause = (pause * 2).min(LONGEST_PAUSE);
        pause
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Breaker>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_up(provider: &str) {
    metrics::provider_up(provider, true);
    tracing::info!(provider, "The provider is back");
}

/// Begins a session again and again until one begins, and closes it.
async fn until_up(breakers: Weak<Breakers>, tls: Arc<ClientConfig>, provider: Arc<Provider>, model: String) {
    loop {
        let Some(pause) = breakers.upgrade().map(|breakers| breakers.next_pause(&provider.name)) else {
            return;
        };
        sleep(pause).await;
        match probe(&provider, &model, false, tls.clone()).await.outcome {
            Ok(()) => break,
            Err(error) => tracing::debug!(provider = provider.name, %error, "The provider is still down"),
        }
    }
    if let Some(breakers) = breakers.upgrade() {
        breakers.connected(&provider.name);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{plan, tls};
    use super::*;

    fn breakers() -> (Arc<Breakers>, Arc<Plan>) {
        let plan = plan("fallback: [openai/gpt-realtime-2.1-mini, house]\n");
        (Arc::new(Breakers::new(["openai".to_owned(), "house".to_owned()], tls())), plan)
    }

    fn fail(breakers: &Arc<Breakers>, plan: &Plan, times: u32) {
        (0..times).for_each(|_| breakers.failed(plan, &Failure::default()));
    }

    #[tokio::test]
    async fn a_provider_that_fails_in_a_row_is_tried_last() {
        let (breakers, plan) = breakers();
        fail(&breakers, &plan, FAILURES - 1);
        assert_eq!(breakers.order(&plan), [0, 1, 2]);
        breakers.answered("openai");
        fail(&breakers, &plan, FAILURES - 1);
        assert_eq!(breakers.order(&plan), [0, 1, 2], "an answer lies between");
        fail(&breakers, &plan, 1);
        assert_eq!(breakers.order(&plan), [2, 0, 1]);
        assert_eq!(breakers.standing(), [("house".to_owned(), true), ("openai".to_owned(), false)].into());
        fail(&breakers, plan.at(2), FAILURES);
        assert_eq!(breakers.order(&plan), [0, 1, 2], "all are down: as the file says");
        breakers.answered("openai");
        assert_eq!(breakers.order(&plan), [0, 1, 2]);
    }

    #[tokio::test]
    async fn a_provider_that_begins_sessions_but_gives_no_answer_is_down_again_at_once() {
        let (breakers, plan) = breakers();
        fail(&breakers, &plan, FAILURES);
        breakers.connected("openai");
        assert_eq!(breakers.order(&plan), [0, 1, 2]);
        fail(&breakers, &plan, 1);
        assert_eq!(breakers.order(&plan), [2, 0, 1]);
    }

    #[tokio::test]
    async fn an_account_without_credit_is_known_until_an_answer() {
        let (breakers, plan) = breakers();
        fail(&breakers, &plan, 1);
        assert!(!breakers.out_of_credit()["openai"]);
        breakers.failed(&plan, &Cause::Credit.into());
        breakers.connected("openai");
        assert!(breakers.out_of_credit()["openai"], "a session costs nothing yet");
        assert!(!breakers.out_of_credit()["house"]);
        breakers.answered("openai");
        assert!(!breakers.out_of_credit()["openai"]);
    }

    #[tokio::test]
    async fn attempts_to_reach_a_provider_become_rarer_until_it_answers() {
        let (breakers, plan) = breakers();
        let pauses: Vec<u64> = (0..6).map(|_| breakers.next_pause("openai").as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
        fail(&breakers, &plan, FAILURES);
        breakers.connected("openai");
        assert_eq!(breakers.next_pause("openai"), LONGEST_PAUSE, "a session is no answer");
        breakers.answered("openai");
        assert_eq!(breakers.next_pause("openai"), FIRST_PAUSE);
    }
}
