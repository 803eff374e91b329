//! What the store answered lately, so that a hundred open pages ask it no more than one does.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long a page does not ask again after no answer came. The next page would wait as long.
const REST: Duration = Duration::from_secs(10);

/// The last answer, or why there was none.
pub struct Lately<T>(Mutex<Option<(Instant, Result<T, String>)>>);

impl<T> Default for Lately<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Lately<T> {
    /// The last answer if it is younger than `age`, otherwise a new one. Who comes meanwhile waits for the same.
    ///
    /// # Errors
    /// Why there is none, as a sentence.
    pub async fn get(
        &self,
        age: Duration,
        question: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        let mut last = self.0.lock().await;
        if let Some((at, answer)) = &*last
            && at.elapsed() < if answer.is_ok() { age } else { REST }
        {
            return answer.clone();
        }
        let answer = question.await;
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::{advance, sleep};

    use super::*;

    const AGE: Duration = Duration::from_secs(3);

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_used_until_it_is_too_old() {
        let (lately, asked) = (Lately::default(), Cell::new(0));
        let question = async || {
            asked.set(asked.get() + 1);
            Ok(asked.get())
        };
        assert_eq!(lately.get(AGE, question()).await, Ok(1));
        advance(AGE - Duration::from_millis(1)).await;
        assert_eq!(lately.get(AGE, question()).await, Ok(1));
        advance(Duration::from_millis(1)).await;
        assert_eq!(lately.get(AGE, question()).await, Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn many_pages_wait_for_a_store_that_hangs_once_and_not_in_turn() {
        let (lately, began) = (Lately::<u32>::default(), Instant::now());
        let hangs = async || {
            sleep(AGE).await;
            Err("It hangs.".to_owned())
        };
        let ask = || lately.get(AGE, hangs());
        let answers = tokio::join!(ask(), ask(), ask(), ask());
        assert!(answers.0.is_err() && answers.3.is_err());
        assert_eq!(began.elapsed(), AGE);
        advance(REST - Duration::from_millis(1)).await;
        assert!(ask().await.is_err());
        assert_eq!(began.elapsed(), AGE + REST - Duration::from_millis(1));
        advance(Duration::from_millis(1)).await;
        assert_eq!(lately.get(AGE, async { Ok(7) }).await, Ok(7));
    }
}
