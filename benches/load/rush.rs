//! Memory during and after a rush of short calls.

use std::sync::Arc;
use std::time::Duration;

use switchboard_simulator::caller::{Phone, PhoneOptions};
use switchboard_simulator::model::{ModelOptions, ModelServer};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::calls::ASSISTANT;
use crate::server::{Server, TOKEN, resident};

/// Calls at once.
const AT_ONCE: usize = 50;

/// Resident memory, in KiB, before the first of `calls` short calls, after the last one, and `later`.
pub async fn measure(calls: usize, later: Duration) -> anyhow::Result<[u64; 3]> {
    let model = ModelServer::start(ModelOptions::default()).await?;
    let server = Server::start(&model.url(), ASSISTANT, AT_ONCE * 2)?;
    let before = resident(server.pid())?;
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut phones = JoinSet::new();
    for _ in 0..calls {
        let place = room.clone().acquire_owned().await?;
        let mut options = PhoneOptions::new(server.url(), TOKEN.to_owned());
        options.keep_audio = false;
        phones.spawn(async move {
            let phone = Phone::dial(options);
            phone.wait_for_stream(1).await;
            phone.hang_up();
            phone.finished().await;
            drop(place);
        });
    }
    phones.join_all().await;
    let after = resident(server.pid())?;
    sleep(later).await;
    let at_last = resident(server.pid())?;
    drop(server);
    model.stop().await;
    Ok([before, after, at_last])
}
