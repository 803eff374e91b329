//! The time of a test whose server and simulators share one thread: it passes up to twenty times as fast as a clock's, and
//! stands still while the machine is busy with something else.
//!
//! So no test waits for its calls, and none depends on how fast the machine is. What a test measures in this time is
//! what the program and the simulators decide, and not what the processor adds. Children of the process and other
//! threads live in the time of the clock; tests with such ends keep it, too.

use std::cell::RefCell;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{JoinHandle, yield_now};

/// Time passes in steps of this length.
const STEP: Duration = Duration::from_millis(1);
/// The least time for one step, on the clock.
const PACE: Duration = Duration::from_micros(50);
/// How often at least the sockets are looked at in one step. A message needs one look for each socket on its way.
const LOOKS: u32 = 8;

/// Keeps the time of this runtime passing. When the last one is dropped, the clock's time goes on.
#[derive(Debug)]
pub struct Pace(JoinHandle<()>);

thread_local! {
    static CURRENT: RefCell<Weak<Pace>> = const { RefCell::new(Weak::new()) };
}

impl Pace {
    /// `None` on several threads, where the clock's time stays.
    pub fn keep() -> Option<Arc<Self>> {
        if Handle::current().runtime_flavor() != RuntimeFlavor::CurrentThread {
            return None;
        }
        CURRENT.with_borrow_mut(|current| {
            if let Some(pace) = current.upgrade() {
                return Some(pace);
            }
            tokio::time::pause();
            let pace = Arc::new(Self(tokio::spawn(pass())));
            *current = Arc::downgrade(&pace);
            Some(pace)
        })
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.0.abort();
        tokio::time::resume();
    }
}

async fn pass() {
    loop {
        let began = std::time::Instant::now();
        let mut looks = 0;
        // This task is always ready, so the runtime never waits, and never moves the time by itself.
        while looks < LOOKS || began.elapsed() < PACE {
            yield_now().await;
            looks += 1;
        }
        tokio::time::advance(STEP).await;
    }
}
