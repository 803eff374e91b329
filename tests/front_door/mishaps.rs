//! Failures around tools in calls, and what the caller hears.

use std::time::Duration;

use switchboard::call::{Anomaly, EndReason};
use switchboard_simulator::caller::{DialOutcome, PhoneEvent, PhoneOptions};
use switchboard_simulator::model::{
    Fault, HostedCall, HostedServer, Hosting, ModelOptions, Reply, SessionLog,
};

use crate::harness::{Harness, finished, speech};
use crate::service::{Does, Service};
use crate::tools::{ANSWER, asked, clinic, goodbye, outputs, quick, requests, turn};

fn call() -> Reply {
    Reply::call("look_up", r#"{"what":"a"}"#)
}

fn has_said(line: &'static str) -> impl Fn(&[SessionLog]) -> bool {
    move |sessions| sessions.iter().flat_map(|session| &session.items).any(|item| item.line == line)
}

#[tokio::test]
async fn a_refused_or_unfinished_response_is_requested_again() {
    for (fault, asks, errors, anomaly) in [
        (Fault::RefuseResponse { nth: 1, code: "rate_limit_exceeded" }, 2, 1, Anomaly::ModelError),
        (
            Fault::ResponseIncomplete { nth: 1, reason: "max_output_tokens" },
            2,
            0,
            Anomaly::ModelFailedResponse,
        ),
    ] {
        let mut service = Service::open([ANSWER]).await;
        let replies = vec![call().then(Reply::say("Here it is.")), goodbye()];
        let options = ModelOptions { faults: vec![fault.clone()], ..quick(replies) };
        let mut harness = Harness::open(&clinic(&service.url, ""), options).await;
        let phone = harness.dial(harness.phone());
        assert!(phone.wait_for_stream(1).await);
        phone.say(speech(600));
        assert!(harness.model.until(Duration::from_secs(10), has_said("Here it is.")).await, "{fault:?}");
        assert!(phone.wait_until_quiet(Duration::from_millis(400)).await);
        phone.say(speech(600));
        finished(phone).await.assert_clean();
        let ended = harness.ended().await;
        assert_eq!(ended.reason, EndReason::AssistantEnded, "{fault:?}");
        assert!(ended.count(anomaly) > 0, "{fault:?}");
        assert_eq!(requests(&mut service), 1, "{fault:?}");
        let session = harness.session();
        assert_eq!(
            (asked(&session), session.errors.len()),
            (asks, errors),
            "{fault:?}: {:?}",
            session.errors
        );
        harness.quit().await;
    }
}

#[tokio::test]
async fn a_tool_call_that_the_caller_cuts_off_does_not_run() {
    let mut service = Service::open([ANSWER]).await;
    let reply = Reply::say("One moment.").and_call("look_up", r#"{"what":"a"}"#);
    let options = ModelOptions { call_takes: Duration::from_secs(3), ..quick(vec![reply, goodbye()]) };
    let mut harness = Harness::open(&clinic(&service.url, ""), options).await;
    let phone = harness.dial(harness.phone());
    assert!(phone.wait_for_stream(1).await);
    turn(&phone).await;
    phone.say(speech(600));
    finished(phone).await.assert_clean();
    assert_eq!(harness.ended().await.reason, EndReason::AssistantEnded);
    assert_eq!(requests(&mut service), 0);
    let session = harness.session();
    assert!(session.errors.is_empty(), "{:?}", session.errors);
    assert_eq!(session.responses[0].status, "cancelled");
    assert_eq!(outputs(&session).len(), 0, "an unfinished call has no result");
    harness.quit().await;
}

#[tokio::test]
async fn an_interruption_stops_the_calls_that_are_still_running() {
    let service = Service::open([ANSWER, Does::Hang]).await;
    let options = "stop_on_interruption: true\n    timeout: 60s\n    filler_after: 60s";
    let reply = Reply::say("Let me have a look.")
        .and_call("look_up", r#"{"what":"a"}"#)
        .and_call("look_up", r#"{"what":"b"}"#);
    let mut harness = Harness::open(&clinic(&service.url, options), quick(vec![reply, goodbye()])).await;
    let phone = harness.dial(harness.phone());
    assert!(phone.wait_for_stream(1).await);
    turn(&phone).await;
    let first = |sessions: &[SessionLog]| outputs(&sessions[0]).len() == 1;
    assert!(harness.model.until(Duration::from_secs(5), first).await, "one of them is answered");
    phone.say(speech(600));
    finished(phone).await.assert_clean();
    assert_eq!(harness.ended().await.reason, EndReason::AssistantEnded);
    let session = harness.session();
    assert!(session.errors.is_empty(), "{:?}", session.errors);
    let results = outputs(&session);
    assert!(results.len() == 2 && !results[1].contains("t-77"), "{results:?}");
    assert_eq!(asked(&session), 0, "the model answers the caller by itself");
    harness.quit().await;
}

#[tokio::test]
async fn a_hosted_tool_waits_for_the_callers_approval() {
    let file = r#"
numbers: ["+15550100001"]
instructions: You answer the phone.
greeting: { first: caller }
call_control: { end_call: true }
mcp: { crm: { url: "https://mcp.example.com/mcp", via: provider, approval: always } }
"#;
    let find = || Reply::default().and_hosted(HostedCall::new("crm", "find", "{}", "Example Dental"));
    let replies = vec![
        find().then_if("Ask the caller", Reply::say("Shall I really look that up for you?")),
        find().then(Reply::say("I found it.")),
        goodbye(),
    ];
    for approved_in_response in [false, true] {
        let hosting = Hosting {
            servers: vec![HostedServer::new("crm", &["find"])],
            approved_in_response,
            ..Hosting::default()
        };
        let mut harness = Harness::open(file, ModelOptions { hosting, ..quick(replies.clone()) }).await;
        let phone = harness.dial(harness.phone());
        assert!(phone.wait_for_stream(1).await);
        turn(&phone).await;
        assert!(harness.session().hosted.is_empty(), "nothing was approved");
        phone.say(speech(600));
        assert!(harness.model.until(Duration::from_secs(10), has_said("I found it.")).await);
        assert!(phone.wait_until_quiet(Duration::from_millis(400)).await);
        phone.say(speech(600));
        finished(phone).await.assert_clean();
        assert_eq!(harness.ended().await.reason, EndReason::AssistantEnded);
        let session = harness.session();
        assert!(session.errors.is_empty(), "{:?}", session.errors);
        let answers: Vec<_> = session.approvals.iter().map(|approval| approval.approved).collect();
        assert_eq!(answers, [Some(false), Some(true)]);
        assert_eq!(session.hosted.len(), 1);
        harness.quit().await;
    }
}

#[tokio::test]
async fn a_transfer_and_a_goodbye_work_next_to_another_tool() {
    let service = Service::open([ANSWER]).await;
    let people = r#"end_call: true, transfer_to: { reception: { number: "+15550100008", ring_for: 20s } }"#;
    let file = clinic(&service.url, "").replace("end_call: true", people);
    let leaves = call().and_call("transfer_call", r#"{"to":"reception"}"#);
    let says_so = Reply::say("I connect you now.");
    let bye = Reply::say("Goodbye.").and_call("look_up", r#"{"what":"b"}"#).and_call("end_call", "{}");
    let replies = vec![leaves.then(says_so), Reply::say("They are not there."), bye];
    let mut harness = Harness::open(&file, quick(replies)).await;
    let busy = DialOutcome { status: "busy".to_owned(), after: Duration::from_millis(200) };
    let mut phone =
        harness.dial(PhoneOptions { dials: vec![busy], status_callback: true, ..harness.phone() });
    assert!(phone.wait_for_stream(1).await);
    phone.say(speech(600));
    phone
        .wait_for(|event| matches!(event, PhoneEvent::Dialled(_)))
        .await
        .expect("it is announced, and leaves");
    assert!(phone.control().wait_for_reply(Duration::from_millis(300)).await, "the assistant continues");
    phone.say(speech(600));
    let record = finished(phone).await;
    record.assert_clean();
    assert_eq!(record.streams.len(), 2);
    assert_eq!(harness.ended().await.reason, EndReason::AssistantEnded);
    let session = harness.session();
    assert!(session.errors.is_empty(), "{:?}", session.errors);
    let said: Vec<&str> = session.items.iter().map(|item| item.line.as_str()).collect();
    assert_eq!(said, ["I connect you now.", "They are not there.", "Goodbye."]);
    harness.quit().await;
}
