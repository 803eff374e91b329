//! A call's clock and its one timer.
//!
//! The clock stands still while the process does: a paused machine or a starved host must not count as a caller who
//! is silent or a model that does not answer. The timer fires at least every [`TICK`], so a wake-up that comes long
//! after the timer was due shows how long the process stood still.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::task::coop;
use tokio::time::{Sleep, sleep};

use crate::link;

/// How often the timer fires at least.
const TICK: Duration = Duration::from_secs(1);
/// How late a wake-up may be before the process counts as having stood still.
const LATE: Duration = Duration::from_millis(300);

/// See the module.
pub(super) struct Clock {
    sleep: Pin<Box<Sleep>>,
    /// When the timer fires, in the machine's time.
    due: Instant,
    /// The timer knows whom to wake.
    watched: bool,
    /// The last wake-up, in the machine's time.
    woken: Instant,
    /// How long the process stood still in all.
    stood_still: Duration,
}

impl Clock {
    pub fn new() -> Self {
        let woken = link::now();
        let due = woken + TICK;
        Self { sleep: Box::pin(sleep(TICK)), due, watched: false, woken, stood_still: Duration::ZERO }
    }

    /// The call's time; and how long the process has just stood still, if it has. Then nothing may be judged yet,
    /// because the timer can be seen before what waits in the sockets. Call it at each wake-up.
    pub fn wake(&mut self) -> (Instant, Option<Duration>) {
        self.wake_at(link::now())
    }

    /// The same if the time is known, because a frame was just read.
    pub fn wake_at(&mut self, now: Instant) -> (Instant, Option<Duration>) {
        let now = now.max(self.woken);
        // A wake-up after the timer was due shows that the process was running then.
        let late = now.saturating_duration_since(self.due.max(self.woken));
        self.woken = now;
        let stood_still = Some(late).filter(|late| *late > LATE);
        if let Some(late) = stood_still {
            self.stood_still += late;
            self.reset(now + TICK);
        }
        (now - self.stood_still, stood_still)
    }

    /// The timer fired, and in time.
    pub fn ticked(&mut self) {
        self.reset(link::now() + TICK);
    }

    /// Makes the timer fire when the first of these is due: a deadline in the call's time, and one in the machine's.
    pub fn arm(&mut self, in_call: Option<Instant>, outside: Option<Instant>) {
        let in_call = in_call.map(|due| due + self.stood_still);
        if let Some(due) = in_call.into_iter().chain(outside).min().filter(|due| *due < self.due) {
            // What is overdue is due now: a timer in the past would look like a standstill.
            self.reset(due.max(link::now()));
        }
    }

    /// Ready when the timer fires. It may be early, for a deadline that has moved.
    pub fn poll_fired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.watched && !self.sleep.is_elapsed() {
            return Poll::Pending;
        }
        // Without budget, a poll only asks to be called again.
        self.watched = coop::has_budget_remaining();
        self.sleep.as_mut().poll(cx)
    }

    fn reset(&mut self, due: Instant) {
        self.due = due;
        self.watched = false;
        self.sleep.as_mut().reset(due.into());
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_clock_stands_still_while_the_process_does() {
        let mut clock = Clock::new();
        let (began, _) = clock.wake();
        for second in 1..=5 {
            poll_fn(|cx| clock.poll_fired(cx)).await;
            assert_eq!(clock.wake(), (began + TICK * second, None), "a process that runs loses no time");
            clock.ticked();
        }
        // The timer was due after a second; nobody was woken for 20.
        advance(TICK * 20).await;
        poll_fn(|cx| clock.poll_fired(cx)).await;
        let after = began + TICK * 6;
        assert_eq!(clock.wake(), (after, Some(TICK * 19)));
        let due = after + Duration::from_millis(400);
        clock.arm(Some(due), None);
        poll_fn(|cx| clock.poll_fired(cx)).await;
        assert_eq!(clock.wake(), (due, None), "a deadline after the pause is as far as it was before");
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_at_which_a_frame_was_read_does_not_go_back() {
        let mut clock = Clock::new();
        let read = link::now();
        advance(TICK / 10).await;
        let (now, _) = clock.wake();
        assert_eq!(clock.wake_at(read), (now, None));
        advance(TICK / 10).await;
        assert_eq!(clock.wake_at(link::now()), (now + TICK / 10, None));
    }

    #[tokio::test(start_paused = true)]
    async fn an_overdue_deadline_is_no_standstill() {
        let mut clock = Clock::new();
        let (began, _) = clock.wake();
        clock.arm(None, Some(link::now() - TICK * 5));
        poll_fn(|cx| clock.poll_fired(cx)).await;
        let (now, stood_still) = clock.wake();
        assert!(now >= began && stood_still.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_waits_behind_the_sockets_is_no_standstill() {
        let mut clock = Clock::new();
        let mut last = clock.wake().0;
        // Frames come all the time, and nobody asks the timer.
        for _ in 0..20 {
            advance(TICK / 10).await;
            let (now, stood_still) = clock.wake();
            assert!(now > last && stood_still.is_none());
            last = now;
        }
    }
}
