//! kill -9 between any two steps.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, SqliteConnection};
use switchboard::notice::{Purpose, Via};
use switchboard::store::{Fate, Recipient};
use switchboard_simulator::twilio::RestFault;

use crate::process::{Process, Webhooks};
use crate::server::MailServer;
use crate::{PATIENCE, Places, letter, lines, states, twilio, until, until_state};

/// The database, beside those who deliver.
async fn database(places: &Places) -> SqliteConnection {
    let file = Path::new(&places.state).join("switchboard.db");
    SqliteConnectOptions::new().filename(file).busy_timeout(PATIENCE).connect().await.unwrap()
}

/// Moves the clock beyond every lease.
async fn leases_end(places: &Places) {
    let mut database = database(places).await;
    sqlx::query("UPDATE messages SET claimed_until_ms = 0").execute(&mut database).await.unwrap();
}

fn to(via: Via) -> Recipient {
    Recipient { assistant: "clinic".to_owned(), purpose: Purpose::Message, via }
}

#[tokio::test]
async fn an_email_arrives_again_with_the_same_id() {
    let state = tempfile::tempdir().unwrap();
    // It gets the message, and does not answer.
    let mut hangs = MailServer::start(&["--answers", "0"]).await;
    let places = Places { smtp: Some(hangs.port), ..Places::new(state.path()) };
    let first = Process::start(&places, Some("msg_1")).await;
    let sent = hangs.next().await;
    first.kill().await;

    let mut mail = MailServer::start(&[]).await;
    let places = Places { smtp: Some(mail.port), ..places };
    leases_end(&places).await;
    let _second = Process::start(&places, None).await;
    assert_eq!(mail.next().await["content"], sent["content"]);
    let store = places.open().await.unwrap();
    until_state(&store, "msg_1.email", "delivered").await;
    assert!(mail.is_idle().await);
}

#[tokio::test]
async fn a_webhook_is_called_again_with_the_same_id() {
    let state = tempfile::tempdir().unwrap();
    let mut hooks = Webhooks::start(&[0, 204]).await;
    let places = Places { webhook: Some(hooks.url.clone()), ..Places::new(state.path()) };
    let first = Process::start(&places, Some("msg_1")).await;
    let sent = hooks.next().await;
    first.kill().await;
    leases_end(&places).await;
    let _second = Process::start(&places, None).await;
    let again = hooks.next().await;
    assert_eq!((sent.id, sent.body), (again.id, again.body));
    until_state(&places.open().await.unwrap(), "msg_1", "delivered").await;
    assert!(hooks.is_idle());
}

#[tokio::test]
async fn a_text_message_is_sent_at_most_once() {
    let state = tempfile::tempdir().unwrap();
    let twilio = twilio().await;
    // It sends the text, and answers too late.
    twilio.plan("POST", 1, RestFault::Slow(Duration::from_secs(600)));
    let places = Places { twilio: Some(twilio.url().to_owned()), ..Places::new(state.path()) };
    let first = Process::start(&places, Some("msg_1")).await;
    assert!(twilio.until(PATIENCE, |requests| !requests.is_empty()).await);
    first.kill().await;
    leases_end(&places).await;
    let _second = Process::start(&places, None).await;
    let store = places.open().await.unwrap();
    until_state(&store, "msg_1.sms", "given_up").await;
    assert_eq!(states(&store).await[0].2.as_deref(), Some("unclear"));
    assert_eq!(twilio.messages().len(), 1);
}

#[tokio::test]
async fn a_text_message_that_was_certainly_not_sent_is_sent() {
    let state = tempfile::tempdir().unwrap();
    let twilio = twilio().await;
    let places = Places { twilio: Some(twilio.url().to_owned()), ..Places::new(state.path()) };
    // Nobody can be reached there.
    let nowhere = Places { twilio: Some("http://127.0.0.1:1".to_owned()), ..places.clone() };
    let first = Process::start(&nowhere, Some("msg_1")).await;
    let store = places.open().await.unwrap();
    until("an attempt failed", async || {
        states(&store).await.iter().any(|(_, _, error)| error.as_deref() == Some("sms.unreachable"))
    })
    .await;
    first.kill().await;
    // A process that died after it had claimed the message, before it sent it.
    store.hurry_messages().await.unwrap();
    leases_end(&places).await;
    let claimed = store.claim_messages(&to(Via::Sms), 1, Duration::from_secs(600)).await.unwrap();
    assert_eq!(claimed.len(), 1);
    leases_end(&places).await;
    let _second = Process::start(&places, None).await;
    until_state(&store, "msg_1.sms", "delivered").await;
    assert_eq!(twilio.messages().len(), 1);
}

/// What closes the call of a dead process puts its notification into the database, whatever became of it outside.
#[tokio::test]
async fn a_text_that_was_sent_without_a_database_is_not_sent_again_from_it() {
    let state = tempfile::tempdir().unwrap();
    let twilio = twilio().await;
    let places = Places { twilio: Some(twilio.url().to_owned()), ..Places::new(state.path()) };
    let away = Places { is_away: true, ..places.clone() };
    let first = Process::start(&away, Some("ntf_1")).await;
    until("it is sent", async || twilio.messages().len() == 1).await;
    first.kill().await;
    let store = places.open().await.unwrap();
    let again = letter("ntf_1", places.mailbox()).messages();
    assert!(store.put_messages(&again, &Fate::Waiting).await.unwrap());
    let _second = Process::start(&places, None).await;
    until_state(&store, "ntf_1.sms", "given_up").await;
    assert_eq!(states(&store).await[0].2.as_deref(), Some("unclear"));
    assert_eq!(twilio.messages().len(), 1);
}

#[tokio::test]
async fn a_line_is_written_once() {
    let state = tempfile::tempdir().unwrap();
    let places = Places { file: Some("messages.jsonl".to_owned()), ..Places::new(state.path()) };
    let path = state.path().join("messages.jsonl");
    // Whoever writes waits for this.
    let lock: File = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    lock.lock().unwrap();
    let first = Process::start(&places, Some("msg_1")).await;
    let store = places.open().await.unwrap();
    until("it is claimed", async || store.messages(None, 1).await.unwrap()[0].attempts == 1).await;
    // Killed before it writes: nothing is there.
    first.kill().await;
    assert!(lines(&places).is_empty());
    leases_end(&places).await;
    let second = Process::start(&places, None).await;
    until("it is claimed", async || store.messages(None, 1).await.unwrap()[0].attempts == 2).await;
    // It can write the line, but not that it did.
    let mut database = database(&places).await;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut database).await.unwrap();
    lock.unlock().unwrap();
    until("a line", async || lines(&places).len() == 1).await;
    second.kill().await;
    sqlx::raw_sql("ROLLBACK").execute(&mut database).await.unwrap();
    leases_end(&places).await;
    let _third = Process::start(&places, None).await;
    until_state(&store, "msg_1.file", "delivered").await;
    assert_eq!(lines(&places).len(), 1);
}

/// The same without a database: messages are in files.
#[tokio::test]
async fn what_is_in_files_outlives_its_process_as_well() {
    let state = tempfile::tempdir().unwrap();
    let (mut hangs, twilio) = (MailServer::start(&["--answers", "0"]).await, twilio().await);
    twilio.plan("POST", 1, RestFault::Slow(Duration::from_secs(600)));
    let places = Places {
        store: false,
        smtp: Some(hangs.port),
        twilio: Some(twilio.url().to_owned()),
        ..Places::new(state.path())
    };
    let first = Process::start(&places, Some("msg_1")).await;
    let sent = hangs.next().await;
    assert!(twilio.until(PATIENCE, |requests| !requests.is_empty()).await);
    first.kill().await;

    let mut mail = MailServer::start(&[]).await;
    let places = Places { smtp: Some(mail.port), ..places };
    let _second = Process::start(&places, None).await;
    assert_eq!(mail.next().await["content"], sent["content"]);
    let messages = state.path().join("messages");
    let files = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter(|entry| entry.path().is_file()).count()
    };
    until("nothing waits", async || files(&messages) == 0).await;
    assert_eq!(files(&messages.join("given-up")), 1, "the text message");
    assert_eq!(twilio.messages().len(), 1);
    assert!(mail.is_idle().await);
}
