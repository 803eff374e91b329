//! A process that delivers and can be killed, and a service that gets webhooks.

use std::collections::VecDeque;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::{PATIENCE, Places, letter};

const PLACES: &str = "DELIVERIES_TEST_PLACES";
const TAKE: &str = "DELIVERIES_TEST_TAKE";

/// This program again, as a process that only delivers.
pub struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts one, which takes this letter first.
    pub async fn start(places: &Places, take: Option<&str>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["process::deliver", "--exact", "--nocapture"]);
        command.env(PLACES, serde_json::to_string(places).unwrap());
        if let Some(id) = take {
            command.env(TAKE, id);
        }
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut process = Self { child, lines };
        while !process.line().await.contains("It delivers") {}
        process
    }

    async fn line(&mut self) -> String {
        timeout(PATIENCE, self.lines.next_line()).await.expect("a line").unwrap().expect("it runs")
    }

    /// kill -9.
    pub async fn kill(mut self) {
        self.child.start_kill().unwrap();
        self.child.wait().await.unwrap();
    }
}

/// The process: nothing unless it is one.
#[tokio::test]
async fn deliver() {
    let Ok(places) = std::env::var(PLACES) else { return };
    let places: Places = serde_json::from_str(&places).unwrap();
    let post = places.post(places.open().await).await;
    if let Ok(id) = std::env::var(TAKE) {
        post.take(letter(&id, places.mailbox())).await;
    }
    println!("It delivers");
    std::future::pending::<()>().await;
}

/// A request.
pub struct Received {
    pub id: String,
    pub body: Bytes,
}

/// Gets webhooks. It gives its answers in turn, and repeats the last one; 0 is none.
pub struct Webhooks {
    pub url: String,
    requests: mpsc::UnboundedReceiver<Received>,
    answers: Arc<Mutex<VecDeque<u16>>>,
}

type Desk = (mpsc::UnboundedSender<Received>, Arc<Mutex<VecDeque<u16>>>);

impl Webhooks {
    pub async fn start(answers: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (requests_tx, requests) = mpsc::unbounded_channel();
        let answers = Arc::new(Mutex::new(answers.iter().copied().collect()));
        let routes = Router::new().fallback(answer).with_state((requests_tx, Arc::clone(&answers)));
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { url, requests, answers }
    }

    pub fn answer(&self, status: u16) {
        *self.answers.lock().unwrap() = [status].into();
    }

    pub async fn next(&mut self) -> Received {
        timeout(PATIENCE, self.requests.recv()).await.expect("a request").unwrap()
    }

    pub fn is_idle(&mut self) -> bool {
        self.requests.try_recv().is_err()
    }
}

async fn answer(State((requests, answers)): State<Desk>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let status = {
        let mut answers = answers.lock().unwrap();
        if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0] }
    };
    let id = headers["webhook-id"].to_str().unwrap().to_owned();
    let _ = requests.send(Received { id, body });
    if status == 0 {
        std::future::pending::<()>().await;
    }
    StatusCode::from_u16(status).unwrap()
}
