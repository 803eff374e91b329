//! Draining: no new calls; those under way finish, hear a goodbye, or are left.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::alerts::{AlertKind, State};
use super::{LAST_TOOLS, Server};
use crate::link::now;
use crate::session::Switchboard;
use crate::tool::Tools;

/// How long the goodbyes may take: 10 s to be heard, and the end of the sockets. They end when the drain time does.
const GOODBYES: Duration = Duration::from_secs(13);
/// The part of it in which a form that is not filled in is given up and its record written.
const LAST_FORMS: Duration = Duration::from_secs(1);
/// How long to wait for the last `/after-stream` requests once all streams are closed.
const LAST_QUESTIONS: Duration = Duration::from_secs(3);
/// How long after that Twilio's status reports are still accepted. Nothing depends on them.
const LAST_REPORTS: Duration = Duration::from_secs(1);
/// Twilio asks no more about a call that ended longer ago than this.
const RECENTLY: Duration = Duration::from_secs(5);
/// The least time for jobs that outlive their call, once the last call is over.
const LAST_JOBS: Duration = Duration::from_secs(10);
/// How long answers under way may take.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// How long the last records may take: half of it to be written, and half to be saved in files if the database is gone.
const LAST_RECORDS: Duration = Duration::from_secs(2);
/// How long work that cannot be cancelled, such as a DNS lookup, may delay the end of the process.
pub const LAST_THREADS: Duration = Duration::from_secs(1);

impl Server {
    pub(super) async fn drain(mut self) {
        // No call begins from here on that an edit could reach.
        self.watching.cancel();
        self.pages.cancel();
        self.tools.wake_messages();
        let began = now();
        let Ended { had_calls, all: all_calls } = end_calls(&self.switchboard, self.drain).await;
        let left = self.drain.saturating_sub(now() - began).max(LAST_JOBS);
        let uploads = self.uploads.take();
        let (_, all_jobs, _, _) = tokio::join!(
            answer_last_questions(&self.switchboard, had_calls),
            finish_jobs(&self.switchboard, &self.tools, left),
            async {
                if let Some(uploads) = uploads {
                    uploads.finish(LAST_JOBS).await
                }
            },
            timeout(LAST_TOOLS, self.tools.close())
        );
        tracing::info!("Drained");
        if !all_calls || !all_jobs {
            let details = if all_calls { "messages were not taken in time" } else { "calls were cut off" };
            self.alerts.reporter().report(AlertKind::DrainFailed, "", State::Happened, details);
        }
        self.stop.cancel();
        let all_ended = async {
            while self.listeners.join_next().await.is_some() {}
            while self.background.join_next().await.is_some() {}
        };
        // The store is still there.
        let _ = timeout(LAST_ANSWERS, async { tokio::join!(all_ended, self.alerts.close()) }).await;
        if let Some(records) = self.records {
            records.close(LAST_RECORDS / 2).await;
        }
        let _ = timeout(LAST_THREADS, self.switchboard.stop()).await;
    }
}

/// The longest that the process lives after the signal, if calls may go on for `drain`. Whatever kills it in the end,
/// such as Fly after `kill_timeout`, must wait for longer.
pub fn longest_end(drain: Duration) -> Duration {
    let last = (LAST_QUESTIONS + LAST_REPORTS).max(LAST_JOBS).max(LAST_TOOLS);
    drain.max(GOODBYES) + last + LAST_ANSWERS + LAST_RECORDS + LAST_THREADS * 2
}

/// How the calls ended.
struct Ended {
    had_calls: bool,
    /// None was cut off.
    all: bool,
}

/// Ends all calls within `time`, whose last part is for the goodbyes; they get it even if `time` is shorter.
async fn end_calls(switchboard: &Switchboard, time: Duration) -> Ended {
    switchboard.begin_draining();
    let calls = switchboard.calls();
    tracing::info!(calls, drain_secs = time.as_secs(), "Draining: no new calls");
    if switchboard.is_empty() {
        return Ended { had_calls: false, all: true };
    }
    let mut all = true;
    if timeout(time.saturating_sub(GOODBYES), switchboard.empty()).await.is_err() {
        let calls = switchboard.calls();
        // The sockets of a call that is over may still be closing.
        if calls > 0 {
            tracing::warn!(calls, "Saying goodbye to the remaining calls");
        }
        switchboard.say_goodbyes();
        if timeout(GOODBYES - LAST_FORMS, switchboard.empty()).await.is_err() {
            switchboard.end_forms();
        }
        if timeout(LAST_FORMS, switchboard.empty()).await.is_err() {
            tracing::error!(calls = switchboard.calls(), "Some calls did not end and are cut off");
            all = false;
        }
    }
    Ended { had_calls: true, all }
}

/// Twilio asks what follows each stream. A caller whose stream ended recently would hear an apology without an answer.
async fn answer_last_questions(switchboard: &Switchboard, had_calls: bool) {
    let _ = timeout(LAST_QUESTIONS, switchboard.all_asked(RECENTLY)).await;
    if had_calls {
        sleep(LAST_REPORTS).await;
    }
}

/// False: a message may be lost.
async fn finish_jobs(switchboard: &Switchboard, tools: &Tools, left: Duration) -> bool {
    let began = now();
    // A job that takes a message waits for its delivery.
    tools.hurry_messages();
    let all = timeout(left, switchboard.jobs_done()).await.is_ok();
    if !all {
        tracing::error!("Some messages were not taken in time");
    }
    tools.last_messages(left.saturating_sub(now() - began)).await;
    all
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;
    use crate::session::tests::leaving;
    use crate::settings::{Settings, Sources};

    /// Warnings and errors, as they are logged.
    #[derive(Clone, Default)]
    struct Warnings(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Warnings {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Warnings {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_call_that_goes_on_needs_a_goodbye() {
        for (is_over, lines) in [(true, 0), (false, 1)] {
            let warnings = Warnings::default();
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(tracing::Level::WARN)
                .with_writer(warnings.clone())
                .finish();
            let _guard = tracing::subscriber::set_default(subscriber);
            let (switchboard, call) = leaving(is_over);
            let began = now();
            let (Ended { had_calls, .. }, ()) =
                tokio::join!(end_calls(&switchboard, Duration::ZERO), async {
                    sleep(Duration::from_millis(50)).await;
                    drop(call);
                });
            assert!(had_calls);
            assert_eq!(now() - began, Duration::from_millis(50));
            let warnings = String::from_utf8(warnings.0.lock().unwrap().clone()).unwrap();
            assert_eq!(warnings.lines().count(), lines, "over: {is_over}: {warnings}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_does_not_end_is_cut_off_and_that_is_known() {
        let (switchboard, call) = leaving(false);
        let Ended { had_calls, all } = end_calls(&switchboard, Duration::ZERO).await;
        assert!(had_calls && !all);
        drop(call);
        let (switchboard, call) = leaving(false);
        drop(call);
        assert!(end_calls(&switchboard, Duration::ZERO).await.all);
    }

    #[tokio::test(start_paused = true)]
    async fn a_form_that_takes_too_long_is_given_up_within_the_time() {
        let (switchboard, form) = leaving(true);
        let given_up = switchboard.forms_ended();
        let began = now();
        tokio::join!(end_calls(&switchboard, Duration::ZERO), async {
            given_up.cancelled().await;
            drop(form);
        });
        assert_eq!(now() - began, GOODBYES - LAST_FORMS);
    }

    #[test]
    fn by_default_the_server_ends_before_fly_kills_it() {
        let drain = Settings::checked(&Sources::default()).unwrap().drain;
        assert!(drain > GOODBYES);
        // Fly kills 300 s after the signal at the latest.
        assert_eq!(longest_end(drain), Duration::from_secs(296));
    }
}
