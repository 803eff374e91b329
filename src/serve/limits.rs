//! Keeps the limits of a running server up to date.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::session::{Others, Switchboard};
use crate::store::Store;

/// How often others' calls are read. With what the writer waits, a call counts everywhere within 5 s.
const EVERY: Duration = Duration::from_secs(3);
/// How often at start, until the database is there.
const AT_START: Duration = Duration::from_millis(100);

/// Reads what other machines have counted, and this one before a restart. Without a store, this process counts alone.
pub(super) async fn follow(store: Option<Store>, switchboard: Arc<Switchboard>, stop: CancellationToken) {
    let (mut others, mut was_read) = (Others::default(), false);
    loop {
        let now = Timestamp::now();
        let is_limited = switchboard.look_at_limits(now);
        let pause = match &store {
            Some(store) if is_limited => {
                // The writer says so if the store cannot be asked.
                was_read |= others.read(store, switchboard.limits(), now).await.is_ok();
                if was_read { EVERY } else { AT_START }
            }
            // What happens until a file has limits is not followed.
            _ => {
                (others, was_read) = (Others::default(), false);
                EVERY
            }
        };
        if timeout(pause, stop.cancelled()).await.is_ok() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
