//! An HTTP service for tools: it answers as configured and records the requests.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::harness::PATIENCE;

/// A recorded request.
pub struct Came {
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Came {
    pub fn header(&self, name: &str) -> String {
        self.headers[name].to_str().unwrap().to_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// How it treats each request in turn; the last entry repeats.
#[derive(Debug, Clone, Copy)]
pub enum Does {
    Answer(u16, &'static str),
    /// Never answers.
    Hang,
}

pub struct Service {
    pub url: String,
    came: mpsc::UnboundedReceiver<Came>,
    does: Arc<Mutex<VecDeque<Does>>>,
    serving: JoinHandle<()>,
}

#[derive(Clone)]
struct Desk {
    came: mpsc::UnboundedSender<Came>,
    does: Arc<Mutex<VecDeque<Does>>>,
}

impl Service {
    pub async fn open(does: impl IntoIterator<Item = Does>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (came_tx, came) = mpsc::unbounded_channel();
        let does = Arc::new(Mutex::new(does.into_iter().collect()));
        let desk = Desk { came: came_tx, does: Arc::clone(&does) };
        let routes = Router::new().fallback(answer).with_state(desk);
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { url, came, does, serving }
    }

    /// Sets how it treats all further requests.
    pub fn does(&self, does: Does) {
        *self.does.lock().unwrap() = VecDeque::from([does]);
    }

    pub async fn next(&mut self) -> Came {
        timeout(PATIENCE, self.came.recv()).await.expect("a request comes").unwrap()
    }

    pub fn try_next(&mut self) -> Option<Came> {
        self.came.try_recv().ok()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(State(desk): State<Desk>, headers: HeaderMap, body: Bytes) -> (StatusCode, &'static str) {
    let does = {
        let mut does = desk.does.lock().unwrap();
        if does.len() > 1 { does.pop_front() } else { does.front().copied() }
    };
    let _ = desk.came.send(Came { headers, body });
    match does.expect("its behavior is configured") {
        Does::Answer(status, text) => (StatusCode::from_u16(status).unwrap(), text),
        Does::Hang => std::future::pending().await,
    }
}
