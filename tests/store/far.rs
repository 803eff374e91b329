//! A PostgreSQL that is 15 ms away.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use switchboard::secret::Secret;
use switchboard::store::{Filter, Place, Store};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};

use super::calls::{Call, start};
use super::cases::until;

/// Half of the way there and back.
const DELAY: Duration = Duration::from_micros(7_500);
const CALLS: u32 = 1_000;

/// Passes on what comes, late. Counts how often the client sent something.
async fn proxy(socket: PathBuf) -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            client.set_nodelay(true).unwrap();
            let server = UnixStream::connect(&socket).await.unwrap();
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            tokio::spawn(pass_on(from_client, to_server, count.clone()));
            tokio::spawn(pass_on(from_server, to_client, Arc::default()));
        }
    });
    (port, sent)
}

async fn pass_on(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, count: Arc<AtomicU64>) {
    let mut buffer = vec![0; 256 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        count.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(DELAY).await;
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// A thousand calls a minute leave time for ten times as many: it is the way there and back that takes the time, so
/// these are counted.
pub async fn keeps_up(near: &Place, socket: &Path, name: &str) {
    let (port, sent) = proxy(socket.to_owned()).await;
    let far = Place::Postgres(Secret::new(format!("postgres://postgres@127.0.0.1:{port}/{name}")));
    let (records, store, closer) = start(&far);
    until(async || store.status().ok()).await;
    let before = sent.load(Ordering::Relaxed);
    let began = std::time::Instant::now();
    for minute in 0..CALLS {
        let call = Call::at(minute);
        call.ring(&records);
        call.say(&records, 1_000, "Good morning, is Saturday free?");
    }
    let near = Store::open(near).await.unwrap();
    until(async || {
        (near.list(&Filter::default(), CALLS).await.unwrap().len() == CALLS as usize).then_some(())
    })
    .await;
    for minute in 0..CALLS {
        Call::at(minute).end(&records, "caller.hung_up");
    }
    let ended = Filter { reason: Some("caller.hung_up".to_owned()), ..Filter::default() };
    until(async || (near.list(&ended, CALLS).await.unwrap().len() == CALLS as usize).then_some(())).await;
    let (ways, took) = (sent.load(Ordering::Relaxed) - before, began.elapsed());
    eprintln!("{CALLS} calls: {ways} times to the database and back, {took:?}");
    assert!(ways < 1_000, "{ways} times to the database and back");
    closer.close(Duration::from_secs(20)).await;
}
