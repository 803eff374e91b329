//! *Messages*: what is on its way to owners, and sending it again.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use minijinja::{Value, context};

use super::Console;
use super::shown::moment;
use super::visit::{Posted, Visit};
use crate::store::Listed;

/// The newest that are listed.
const MOST: u32 = 200;

/// The list.
pub async fn page(State(console): State<Arc<Console>>, visit: Visit) -> Response {
    let found = match console.store() {
        Ok(store) => console.ask(store.messages(None, MOST)).await,
        Err(why) => Err(why),
    };
    let (rows, wrong) = match found {
        Ok(found) => (found, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    let count = |state: &str| rows.iter().filter(|message| message.state == state).count();
    let counts = context! {
        waiting => count("waiting"), delivered => count("delivered"), given_up => count("given_up"),
    };
    let rows: Vec<Value> = rows.into_iter().map(listed).collect();
    let values = context! { rows, wrong, counts, most => MOST };
    console.pages.page(StatusCode::OK, "Messages", "messages", Some(&visit), "messages.html", values)
}

fn listed(message: Listed) -> Value {
    context! {
        can_retry => message.state != "delivered",
        id => message.id,
        purpose => message.purpose,
        via => message.via,
        assistant => message.assistant,
        call => message.call,
        taken => moment(message.taken),
        state => message.state,
        attempts => message.attempts,
        next => message.next.map(moment),
        error => message.error,
    }
}

/// Tries one again, or all that were given up.
pub async fn retry(State(console): State<Arc<Console>>, posted: Posted) -> Response {
    let id = posted.field("id");
    let ids: Vec<String> = Some(id.to_owned()).filter(|id| !id.is_empty()).into_iter().collect();
    let retried = match console.store() {
        Ok(store) => console.ask(store.retry_messages(&ids)).await,
        Err(why) => Err(why),
    };
    match retried {
        Ok(_) => {
            console.tools.wake_messages();
            Redirect::to("/console/messages").into_response()
        }
        Err(why) => {
            let (status, title) = (StatusCode::SERVICE_UNAVAILABLE, "The store does not answer");
            console.pages.message(status, title, &why, &posted.visit)
        }
    }
}
