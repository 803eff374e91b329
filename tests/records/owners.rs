//! What reaches the owner of a call whose process is killed right after the call's end: one notification, in the owner's
//! language, and the form once if there is one.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};

use serde_json::Value;
use sqlx::SqliteConnection;
use switchboard_simulator::model::{Aim, Fault, Moment, Point, Trouble, Which};

use super::*;

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const WISH: &str = "Ich möchte übermorgen einen Termin, es ist dringend.";

/// When the process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Killed {
    /// The call has ended, and the model fills in the form.
    BeforeForm,
    /// The form is in the record.
    WithForm,
    /// The notification is taken, and cannot be delivered yet.
    BeforeDelivery,
    /// The notification is in the file.
    Delivered,
    /// The same, while the database stands still, so that it knows of nothing.
    DeliveredWithoutDatabase,
}

/// A model that understands one sentence.
async fn german(killed: Killed) -> ModelServer {
    let mute = Fault::always(Moment::Response(Which::For(Aim::Form), Point::Created), Trouble::Mute);
    let options = ModelOptions {
        think: ms(100),
        speech: Speech::Tagged,
        script: Script {
            replies: vec![Reply::say("Gern. Einen Moment, bitte.").to(WISH)],
            ..Script::default()
        },
        faults: if killed == Killed::BeforeForm { vec![mute] } else { Vec::new() },
        ..ModelOptions::default()
    };
    ModelServer::start(options).await.unwrap()
}

fn assistant(webhook: &str) -> String {
    format!(
        "numbers: [\"+15550100001\"]\nlanguage: de-DE\ntimezone: Europe/Berlin\n\
         instructions: Du gehst ans Telefon.\ngreeting: {{ say: \"Praxis Beispiel, guten Tag!\" }}\n\
         notify: {{ to: {{ file: anrufe.jsonl }}, when: always }}\n\
         after_call: {{ summary: true, fields: {{ dringend: {{ type: boolean }} }}, \
         webhook: {{ url: \"{webhook}\", secret: \"{SECRET}\" }} }}\n"
    )
}

/// The owner's file.
fn notifications(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("state/anrufe.jsonl")).unwrap_or_default();
    // A line under way is not there yet.
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let look = async {
        while !is_so().await {
            sleep(ms(5)).await;
        }
    };
    timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("{what}"));
}

async fn connect(folder: &Path) -> SqliteConnection {
    let file = folder.join("state/switchboard.db");
    SqliteConnectOptions::new().filename(file).busy_timeout(PATIENCE).connect().await.unwrap()
}

async fn count(database: &mut SqliteConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(database).await.unwrap()
}

/// The caller states a wish and hangs up. `held`: the database stands still from the greeting on.
async fn call(server: &Server, place: &Place, held: Option<&mut SqliteConnection>) -> String {
    let options = server.phone();
    let sid = options.call_sid.clone();
    let phone = Phone::dial(options);
    assert!(phone.wait_until_playing_for(ms(100)).await, "the greeting plays");
    if let Some(database) = held {
        record(place, &sid, |_| true).await;
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(database).await.unwrap();
    }
    assert!(phone.wait_until_quiet(ms(300)).await, "the greeting is over");
    phone.say(speech(600));
    assert!(phone.wait_until_playing_for(ms(200)).await, "the answer plays");
    phone.hang_up();
    phone.finished().await.assert_clean();
    sid
}

async fn a_killed_process_leaves_one_notification(killed: Killed) {
    let (url, mut came, status) = owner().await;
    status.store(200, Ordering::Relaxed);
    let (folder, model) = (tempfile::tempdir().unwrap(), german(killed).await);
    let folder = folder.path();
    std::fs::create_dir_all(folder.join("assistants")).unwrap();
    std::fs::write(folder.join("assistants/clinic.yaml"), assistant(&url)).unwrap();
    let mut server = Server::start(folder, &model, &[]).await;
    let place = database(folder);
    server.logged("The store is open").await;
    let mut beside = connect(folder).await;
    let lock: Option<File> = (killed == Killed::BeforeDelivery).then(|| {
        let path = folder.join("state/anrufe.jsonl");
        let file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.lock().unwrap();
        file
    });
    let without_database = killed == Killed::DeliveredWithoutDatabase;
    let sid = call(&server, &place, without_database.then_some(&mut beside)).await;
    match killed {
        Killed::BeforeForm => {
            record(&place, &sid, |record| record.reason.is_some()).await;
            let asks = |session: &SessionLog| session.responses.iter().any(|one| one.aim == Aim::Form);
            assert!(model.until(PATIENCE, |sessions| sessions.iter().any(asks)).await);
        }
        Killed::WithForm => {
            let sql = "SELECT count(*) FROM calls JOIN records ON call_id = id WHERE record LIKE '%übermorgen%' \
                       UNION ALL SELECT count(*) FROM entries WHERE body LIKE '%\"dringend\":true%' ORDER BY 1 DESC LIMIT 1";
            until("the form is in the database", async || count(&mut beside, sql).await > 0).await;
        }
        Killed::BeforeDelivery => {
            let sql = "SELECT count(*) FROM messages WHERE purpose = 'notification'";
            until("it is taken", async || count(&mut beside, sql).await > 0).await;
        }
        Killed::Delivered | Killed::DeliveredWithoutDatabase => {
            until("a line", async || !notifications(folder).is_empty()).await;
        }
    }
    server.kill().await;
    if without_database {
        sqlx::raw_sql("ROLLBACK").execute(&mut beside).await.unwrap();
    }
    drop(lock);
    // Nobody waits until what it was about to deliver is free again.
    sqlx::query("UPDATE messages SET claimed_until_ms = 0").execute(&mut beside).await.unwrap();

    let mut next = Server::start(folder, &model, &[]).await;
    until("a line", async || !notifications(folder).is_empty()).await;
    let open = "SELECT count(*) FROM calls WHERE owner IS NOT NULL";
    let waits = "SELECT count(*) FROM messages WHERE state <> 'delivered'";
    until("nothing is left to do", async || {
        count(&mut beside, open).await == 0 && count(&mut beside, waits).await == 0
    })
    .await;
    next.end().await;
    assert_eq!(std::fs::read_dir(folder.join("state/messages")).map_or(0, Iterator::count), 0);

    let all = notifications(folder);
    assert_eq!(all.len(), 1, "{killed:?}: {all:#?}");
    let (id, data) = (all[0]["id"].as_str().unwrap(), &all[0]["data"]);
    let record = record(&place, &sid, |record| record.reason.is_some()).await;
    assert_eq!(id, format!("ntf_{}", record.id), "{killed:?}");
    assert_eq!((&data["caller"], &data["call"]), (&Value::from("+15550100100"), &Value::from(sid)));
    assert_eq!(data["reason"], "caller.hung_up", "{killed:?}");
    assert_eq!(data["reason_in_words"], "der Anrufer hat aufgelegt", "{killed:?}");
    let has_form = killed != Killed::BeforeForm;
    let is_quoted = |summary: &Value| summary.as_str().is_some_and(|text| text.ends_with(WISH));
    assert_eq!(is_quoted(&data["summary"]), has_form, "{killed:?}: {data:#}");
    assert_eq!(data["fields"]["dringend"].as_bool(), has_form.then_some(true), "{killed:?}");

    // A webhook may be called again, with the same id.
    let forms: Vec<Value> = std::iter::from_fn(|| came.try_recv().ok()).collect();
    let ids: BTreeSet<&str> = forms.iter().map(|form| form["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), usize::from(has_form), "{killed:?}: {forms:#?}");
    assert!(forms.iter().all(|form| is_quoted(&form["data"]["summary"])), "{forms:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_hears_once_of_a_call_whose_process_dies_before_the_form() {
    a_killed_process_leaves_one_notification(Killed::BeforeForm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_hears_once_of_a_call_whose_process_dies_with_the_form() {
    a_killed_process_leaves_one_notification(Killed::WithForm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_hears_once_of_a_call_whose_process_dies_before_it_delivers() {
    a_killed_process_leaves_one_notification(Killed::BeforeDelivery).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_hears_once_of_a_call_whose_process_dies_when_it_has_delivered() {
    a_killed_process_leaves_one_notification(Killed::Delivered).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_hears_once_of_a_call_whose_process_dies_without_a_database() {
    a_killed_process_leaves_one_notification(Killed::DeliveredWithoutDatabase).await;
}
