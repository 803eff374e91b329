//! Tools in calls: what the model receives, in which order, and what the caller hears.

use std::time::{Duration, Instant};

use switchboard::call::{Anomaly, EndReason};
use switchboard_simulator::model::{
    ClientEvent, HostedCall, HostedServer, Hosting, ModelOptions, Reply, Script, SessionLog, Speech,
};

use crate::harness::{Harness, finished, logged, metrics, speech};
use crate::service::{Does, Service};

pub fn quick(replies: Vec<Reply>) -> ModelOptions {
    let script = Script { replies, ..Script::default() };
    ModelOptions {
        think: Duration::from_millis(50),
        script,
        speech: Speech::Tagged,
        ..ModelOptions::default()
    }
}

pub const ANSWER: Does = Does::Answer(200, r#"{"task": {"id": "t-77", "note": "Example Dental"}}"#);

/// The number of requests since the last time this was called.
pub fn requests(service: &mut Service) -> usize {
    std::iter::from_fn(|| service.try_next()).count()
}

/// An assistant with a tool that calls the service.
pub fn clinic(url: &str, options: &str) -> String {
    format!(
        r#"
numbers: ["+15550100001"]
instructions: You answer the phone.
greeting: {{ first: caller }}
call_control: {{ end_call: true }}
functions:
  look_up:
    description: Looks something up.
    parameters: {{ type: object, properties: {{ what: {{ type: string }} }} }}
    http: {{ url: "{url}/look" }}
    {options}
"#
    )
}

/// The caller speaks, and the assistant answers.
pub async fn turn(phone: &switchboard_simulator::caller::PhoneHandle) {
    phone.say(speech(600));
    assert!(phone.wait_until_playing_for(Duration::from_millis(10)).await, "the assistant speaks");
    assert!(phone.wait_until_quiet(Duration::from_millis(400)).await);
}

/// The tool results that the model received, in order.
pub fn outputs(session: &SessionLog) -> Vec<String> {
    let items = session.of_kind("conversation.item.create").map(|event| &event["item"]);
    let outputs = items.filter(|item| item["type"] == "function_call_output");
    outputs.map(|item| item["output"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The number of responses that the server asked for.
pub fn asked(session: &SessionLog) -> usize {
    session.of_kind("response.create").count()
}

#[tokio::test]
async fn two_calls_in_one_response_lead_to_one_response() {
    let mut service = Service::open([ANSWER]).await;
    let reply = Reply::say("One moment.")
        .and_call("look_up", r#"{"what":"a"}"#)
        .and_call("look_up", r#"{"what":"b"}"#)
        .then(Reply::say("Here they are."));
    let mut harness = Harness::open(&clinic(&service.url, ""), quick(vec![reply, goodbye()])).await;
    let phone = harness.dial(harness.phone());
    assert!(phone.wait_for_stream(1).await);
    turn(&phone).await;
    phone.say(speech(600));
    let record = finished(phone).await;
    record.assert_clean();
    let ended = harness.ended().await;
    assert_eq!(ended.reason, EndReason::AssistantEnded);
    assert_eq!(requests(&mut service), 2);
    let session = harness.session();
    assert!(session.errors.is_empty(), "{:?}", session.errors);
    assert_eq!(outputs(&session).len(), 2);
    assert_eq!(asked(&session), 1, "one for both results; the model starts turns by itself");
    harness.quit().await;
}

pub fn goodbye() -> Reply {
    Reply::say("You are welcome. Goodbye.").and_call("end_call", "{}")
}

#[tokio::test]
async fn a_hanging_tool_gets_one_filler_and_then_times_out() {
    let service = Service::open([Does::Hang]).await;
    let reply = Reply::call("look_up", r#"{"what":"a"}"#).then(Reply::say("That did not work."));
    let options = "timeout: 2s\n    filler_after: 300ms";
    let mut harness = Harness::open(&clinic(&service.url, options), quick(vec![reply, goodbye()])).await;
    let phone = harness.dial(harness.phone());
    assert!(phone.wait_for_stream(1).await);
    phone.say(speech(600));
    let given_up = |sessions: &[SessionLog]| sessions.iter().any(|session| !outputs(session).is_empty());
    assert!(harness.model.until(Duration::from_secs(10), given_up).await, "the model gets a result");
    assert!(phone.wait_until_quiet(Duration::from_millis(500)).await);
    phone.say(speech(600));
    finished(phone).await.assert_clean();
    let ended = harness.ended().await;
    assert_eq!(ended.reason, EndReason::AssistantEnded);
    assert_eq!(ended.count(Anomaly::ToolTimeout), 1);
    assert!(logged(&["outcome=\"timeout\""]), "the timeout is logged");
    assert!(metrics().contains("switchboard_tool_seconds_count{outcome=\"timeout\"}"), "{}", metrics());
    let session = harness.session();
    assert!(session.errors.is_empty(), "{:?}", session.errors);
    let fillers =
        session.of_kind("response.create").filter(|event| event["response"]["tool_choice"] == "none");
    assert_eq!(fillers.count(), 1);
    assert!(session.items.iter().any(|item| item.line == "That did not work."));
    harness.quit().await;
}

#[tokio::test]
async fn a_tool_that_needs_approval_does_not_run_without_it() {
    let mut service = Service::open([ANSWER]).await;
    let call = || Reply::call("look_up", r#"{"what":"a"}"#);
    let replies = vec![
        // The model calls it, has to ask, calls it again at once, and then asks.
        call().then(call()).then(Reply::say("Shall I really do that?")),
        // After the approval, it calls something else, and then what was approved.
        Reply::call("look_up", r#"{"what":"b"}"#).then(call()).then(Reply::say("It is done.")),
        goodbye(),
    ];
    let harness = Harness::open(&clinic(&service.url, "approval: always"), quick(replies)).await;
    let phone = harness.dial(harness.phone());
    assert!(phone.wait_for_stream(1).await);
    turn(&phone).await;
    assert_eq!(requests(&mut service), 0, "nothing was approved");
    turn(&phone).await;
    assert_eq!(requests(&mut service), 1);
    phone.say(speech(600));
    finished(phone).await.assert_clean();
    let session = harness.session();
    assert!(session.errors.is_empty(), "{:?}", session.errors);
    let results = outputs(&session);
    assert_eq!(results.len(), 4, "{results:?}");
    let ran: Vec<bool> = results.iter().map(|result| result.contains("t-77")).collect();
    assert_eq!(ran, [false, false, false, true], "{results:?}");
    harness.quit().await;
}

#[tokio::test]
async fn a_hosted_tool_is_followed_by_one_response_in_any_order() {
    for within_response in [true, false] {
        let file = r#"
numbers: ["+15550100001"]
instructions: You answer the phone.
greeting: { first: caller }
call_control: { end_call: true }
mcp: { crm: { url: "https://mcp.example.com/mcp", via: provider, token: "${CRM_TOKEN}" } }
"#;
        let reply = Reply::default()
            .and_hosted(
                HostedCall::new("crm", "find", "{}", "Example Dental").taking(Duration::from_millis(300)),
            )
            .then(Reply::say("I found it."));
        let mut options = quick(vec![reply, goodbye()]);
        options.hosting = Hosting {
            servers: vec![HostedServer::new("crm", &["find"])],
            within_response,
            ..Hosting::default()
        };
        let harness = Harness::with(file, &[], options, &[("CRM_TOKEN", "sk-simulated-crm")]).await;
        let phone = harness.dial(harness.phone());
        assert!(phone.wait_for_stream(1).await);
        turn(&phone).await;
        phone.say(speech(600));
        finished(phone).await.assert_clean();
        let session = harness.session();
        assert!(session.errors.is_empty(), "{:?}", session.errors);
        assert!(session.items.iter().any(|item| item.line == "I found it."));
        assert_eq!(asked(&session), 1);
        let update = &session.of_kind("session.update").next().unwrap()["session"];
        let tool = update["tools"].as_array().unwrap().iter().find(|tool| tool["type"] == "mcp").unwrap();
        assert_eq!(tool["authorization"], "sk-simulated-crm");
        assert_eq!(tool["require_approval"], "never");
        harness.quit().await;
    }
}

const HOSTED: &str = r#"
numbers: ["+15550100001"]
instructions: You answer the phone.
greeting: { first: caller }
call_control: { end_call: true }
mcp: { crm: { url: "https://mcp.example.com/mcp", via: provider } }
"#;

/// A model whose host keeps the response open while the tool runs for `seconds`.
fn open_while_hosted(seconds: u64) -> ModelOptions {
    let call = HostedCall::new("crm", "find", "{}", "Example Dental").taking(Duration::from_secs(seconds));
    let reply = Reply::default().and_hosted(call).then(Reply::say("I found it."));
    let servers = vec![HostedServer::new("crm", &["find"])];
    let hosting = Hosting { servers, within_response: true, ..Hosting::default() };
    ModelOptions { hosting, burst: 1.2, ..quick(vec![reply, goodbye()]) }
}

/// When a response outside the conversation was requested.
fn out_of_band(session: &SessionLog) -> Option<Instant> {
    let outside = |event: &&ClientEvent| event.event["response"]["conversation"] == "none";
    session.events.iter().find(outside).map(|event| event.at)
}

#[tokio::test]
async fn a_slow_hosted_tool_gets_a_filler_while_its_response_is_open() {
    let harness = Harness::open(HOSTED, open_while_hosted(5)).await;
    let phone = harness.dial(harness.phone());
    assert!(phone.wait_for_stream(1).await);
    turn(&phone).await;
    let found = |sessions: &[SessionLog]| sessions[0].items.iter().any(|item| item.line == "I found it.");
    assert!(harness.model.until(Duration::from_secs(15), found).await, "the assistant reports the result");
    assert!(phone.wait_until_playing_for(Duration::from_millis(100)).await, "it is heard");
    assert!(phone.wait_until_quiet(Duration::from_millis(400)).await);
    phone.say(speech(600));
    finished(phone).await.assert_clean();
    let session = harness.session();
    assert!(session.errors.is_empty(), "{:?}", session.errors);
    let said: Vec<&str> = session.items.iter().map(|item| item.line.as_str()).collect();
    assert_eq!(said, ["One moment, let me check that.", "I found it.", "You are welcome. Goodbye."]);
    let started = out_of_band(&session).expect("a response outside the conversation");
    assert!(started < session.hosted[0].ended.unwrap(), "while the tool runs");
    assert_eq!(asked(&session), 2, "the filler, and the response to the result");
    assert!(session.responses.iter().all(|response| response.status == "completed"));
    harness.quit().await;
}

#[tokio::test]
async fn the_caller_can_interrupt_a_filler_outside_the_conversation() {
    let mut harness = Harness::open(HOSTED, open_while_hosted(15)).await;
    let phone = harness.dial(harness.phone());
    assert!(phone.wait_for_stream(1).await);
    phone.say(speech(600));
    assert!(phone.wait_until_playing_for(Duration::from_millis(300)).await, "the filler plays");
    phone.say(speech(600));
    let record = finished(phone).await;
    record.assert_clean();
    assert_eq!(record.streams[0].clears.len(), 1);
    assert_eq!(harness.ended().await.reason, EndReason::AssistantEnded);
    let session = harness.session();
    assert!(session.errors.is_empty(), "{:?}", session.errors);
    assert_eq!(session.truncations, [], "the filler is not an item of the conversation");
    let stopped: Vec<&str> = session.responses.iter().map(|response| response.status.as_str()).collect();
    assert_eq!(stopped, ["cancelled", "cancelled", "completed"], "the waiting response and the filler");
    assert_eq!(session.of_kind("response.cancel").count(), 1, "the host cancels its own response");
    harness.quit().await;
}

/// Fifty calls at once wait for a tool that never answers, and each still hears the whole sentence before it. For the
/// latency of the audio, run `cargo bench --bench load -- --only tools`.
#[tokio::test]
async fn a_hanging_tool_in_fifty_calls_does_not_affect_the_audio() {
    let mut service = Service::open([Does::Hang]).await;
    let reply = Reply::say("Let me have a look at that for you, it will not be long.")
        .and_call("look_up", r#"{"what":"a"}"#);
    let mut harness =
        Harness::open(&clinic(&service.url, "timeout: 60s\n    filler_after: 60s"), quick(vec![reply])).await;
    let phones: Vec<_> = (0..50).map(|_| harness.dial(harness.phone())).collect();
    for phone in &phones {
        assert!(phone.wait_for_stream(1).await);
        phone.say(speech(600));
    }
    for phone in &phones {
        assert!(phone.wait_until_quiet(Duration::from_millis(800)).await);
    }
    for _ in &phones {
        service.next().await; // One request per call.
    }
    for phone in &phones {
        phone.hang_up();
    }
    for phone in phones {
        let record = finished(phone).await;
        record.assert_clean();
        let [stream] = &record.streams[..] else { panic!("{} streams", record.streams.len()) };
        assert!(stream.bytes_received > 8_000, "{}", stream.bytes_received);
        assert_eq!(stream.bytes_played, stream.bytes_received, "all of it is played");
        assert_eq!(harness.ended().await.reason, EndReason::CallerHungUp);
    }
    for session in harness.model.sessions() {
        assert!(session.errors.is_empty(), "{:?}", session.errors);
        assert_eq!(session.truncations.len(), 0);
    }
    harness.quit().await;
}
