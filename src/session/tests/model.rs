//! The model's side of a session, against a server of this test.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;

use super::*;
use crate::assistant::Facts;
use crate::call::Event;
use crate::link::model::ModelStep;
use crate::link::now;
use crate::session::model::Model;

#[tokio::test]
async fn the_call_learns_when_a_session_expires_that_was_ready_while_it_rang() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let switchboard = switchboard();
    let facts = Facts::nobody("2026-03-03T14:05:00Z".parse().unwrap());
    let roster = switchboard.roster.borrow().clone();
    let mut plan = roster.by_name("clinic").unwrap().plan(&facts, &Nothing).unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    plan.provider = Arc::new(Provider { url, ..Provider::clone(&plan.provider) });
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
        let mut model = Model::connecting(Arc::new(plan), switchboard.clone());
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
