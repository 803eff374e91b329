//! The model's side of a session, against a server of this test.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use super::*;
use crate::assistant::Facts;
use crate::call::Event;
use crate::link::model::ModelStep;
use crate::link::now;
use crate::session::model::Model;

/// The model of a call whose provider is this server.
fn model_at(listener: &TcpListener) -> Model {
    let switchboard = switchboard();
    let facts = Facts::nobody("2026-03-03T14:05:00Z".parse().unwrap());
    let roster = switchboard.roster.borrow().clone();
    let mut plan = roster.by_name("clinic").unwrap().plan(&facts, &Nothing).unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    plan.provider = Arc::new(Provider { url, ..Provider::clone(&plan.provider) });
    Model::connecting(Arc::new(plan), switchboard)
}

#[tokio::test]
async fn a_provider_is_asked_again_when_it_wants_to_be() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut model = model_at(&listener);
    let busy = async || {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let answer = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 0.7\r\nContent-Length: 0\r\n\r\n";
        tcp.write_all(answer.as_bytes()).await.unwrap();
        (tcp, now())
    };
    let asked = async {
        let (_first, at) = busy().await;
        let (_second, again) = busy().await;
        again - at
    };
    let pause = tokio::select! {
        pause = asked => pause,
        () = async { loop { model.settle().await } } => unreachable!(),
    };
    assert!(pause >= Duration::from_millis(700), "{pause:?}");
}

#[tokio::test]
async fn the_call_learns_when_a_session_expires_that_was_ready_while_it_rang() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut model = model_at(&listener);
    let server = async {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(tcp).await.unwrap();
        let ends = std::time::SystemTime::now() + Duration::from_secs(600);
        let ends = ends.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let created = format!(r#"{{"type":"session.created","session":{{"expires_at":{ends}}}}}"#);
        socket.send(Message::Text(created.into())).await.unwrap();
        socket.next().await.unwrap().unwrap();
        socket.send(Message::Text(r#"{"type":"session.updated","session":{}}"#.into())).await.unwrap();
        std::future::pending::<()>().await;
    };
    let learns = async {
        // The phone rings until the session is there, and a little longer.
        while !model.is_ready() {
            model.settle().await;
        }
        poll_fn(|cx| Poll::Ready(pin!(model.settle()).poll(cx).is_pending())).await;
        let step = poll_fn(|cx| model.poll_step(cx)).await;
        let ModelStep::Event(Event::SessionExpires { at }) = step else { panic!("{step:?}") };
        let left = at - now();
        assert!(left > Duration::from_secs(500) && left <= Duration::from_secs(600), "{left:?}");
    };
    tokio::select! {
        () = learns => {}
        () = server => {}
    }
}
